"""Writes a data set that was read on disk as files that read back as the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .disk_data import DiskData
from .disk_features import DiskFeatures
from .id_columns import IdColumn, Texts, TextsOf
from .saving import free_prefix
from .writing import PARTS, LazyColumn, save_pieces, write_columns


def save_disk_data(data: DiskData, name: str, folder: Path) -> list[str]:
    """Write interactions by part, triples, links and features; see `save_split_data`.

    Args:
        data: What was read, with or without noise.
        name: Data set name in the file names.
        folder: Where to write.

    Returns:
        Names of the files.
    """
    written = []
    fields = {data.config["USER_ID_FIELD"]: 0, data.config["ITEM_ID_FIELD"]: 1}
    texts: Sequence[Texts] = (lambda ids: data.users.texts(ids - 1), _lookup(data.items))
    for part, rows in zip(PARTS, data.parts, strict=True):
        if len(rows):
            written.append(f"{name}.{part}.inter")
            columns = {
                f"{field}:token": IdColumn(rows, fields[field], texts[fields[field]])
                for field in data.columns
            }
            write_columns(folder / written[-1], columns)
    if len(data.graph.triples):
        written += _save_graph(data, name, folder)
    for modality, features in data.features.items():
        written += _save_modality(data, features, f"{name}.{modality}", folder)
    return written


def _lookup(tokens: np.ndarray) -> Texts:
    return lambda ids: tokens[ids].tolist()


def _entity_texts(data: DiskData) -> Texts:
    """Return what gives the labels of entities; see `saving.entity_labels`."""
    graph, n_items = data.graph, len(data.items)
    kept = np.zeros(len(graph.entities), dtype=bool)
    kept[graph.others] = True
    others = (
        text
        for start, texts in graph.entities.pieces()
        for text in np.array(texts, dtype=object)[kept[start : start + len(texts)]]
    )
    prefix = free_prefix(others, set(data.items[1:].tolist()))

    def texts(ids: np.ndarray) -> list[str]:
        of_item = ids < n_items
        found = np.empty(len(ids), dtype=object)
        found[of_item] = [f"{prefix}{token}" for token in data.items[ids[of_item]]]
        numbers = graph.others[ids[~of_item].astype(np.int64) - n_items]
        found[~of_item] = graph.entities.texts(numbers) if len(numbers) else []
        return found.tolist()

    return texts


def _save_graph(data: DiskData, name: str, folder: Path) -> list[str]:
    entities, triples = _entity_texts(data), data.graph.triples
    relations = np.array(["[PAD]", *data.graph.relations], dtype=object)
    columns: Mapping[str, LazyColumn] = {
        "head_id:token": IdColumn(triples, 0, entities),
        "relation_id:token": IdColumn(triples, 1, _lookup(relations)),
        "tail_id:token": IdColumn(triples, 2, entities),
    }
    linked = np.flatnonzero(data.graph.linked)
    links = {
        "item_id:token": data.items[linked],
        "entity_id:token": np.array(entities(linked), dtype=object),
    }
    write_columns(folder / f"{name}.kg", columns)
    write_columns(folder / f"{name}.link", links)
    return [f"{name}.kg", f"{name}.link"]


def _save_modality(data: DiskData, features: DiskFeatures, stem: str, folder: Path) -> list[str]:
    rows = np.flatnonzero(features.observed)
    exact = True
    with np.errstate(over="ignore"):
        for piece in features.pieces(rows, f"look through {stem}.npy"):
            exact = exact and bool((piece.astype(np.float16).astype(np.float32) == piece).all())
    dtype = np.dtype(np.float16 if exact else np.float32)
    names = TextsOf(rows, data.items)
    save_pieces(
        folder, stem, features.pieces(rows, f"write {stem}.npy"), features.dim, dtype, names
    )
    return [f"{stem}.npy", f"{stem}.ids"]

"""Writes a data set that was read and split as files that read back as the same data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .writing import PARTS, save_features, write_columns

if TYPE_CHECKING:
    from recbole_slif.data.loaders import SplitData


def save_split_data(data: SplitData, name: str, folder: Path) -> list[str]:
    """Write interactions by part, triples, links and features.

    Items and users keep their tokens. An item's entity is called after the item, since two items
    linked to one entity have triples of their own here; other entities keep their tokens. Columns
    of sequences are left out.

    Args:
        data: What was read, with or without noise.
        name: Data set name in the file names.
        folder: Where to write.

    Returns:
        Names of the files.
    """
    dataset = data.dataset
    written = []
    for part, of_part in zip(PARTS, data.parts, strict=True):
        columns = _interaction_columns(dataset, of_part.inter_feat)
        if len(next(iter(columns.values()))):
            written.append(f"{name}.{part}.inter")
            write_columns(folder / written[-1], columns)
    if dataset.knowledge.n_triples:
        written += _save_graph(dataset, name, folder)
    for modality, features in dataset.features.items():
        written += _save_modality(dataset, features, f"{name}.{modality}", folder)
    return written


def item_tokens(dataset: Any) -> np.ndarray:
    """Return item id -> token, `[n_items]`, [PAD] first."""
    return np.asarray(dataset.field2id_token[dataset.iid_field]).astype(object)


def _interaction_columns(dataset: Any, feat: Any) -> dict[str, np.ndarray]:
    columns = {}
    for field in feat:
        kind = dataset.field2type[field].value
        values = feat[field].numpy()
        if kind == "token":
            tokens = np.asarray(dataset.field2id_token[field]).astype(object)
            # An empty cell has been id 0, [PAD].
            tokens[0] = ""
            columns[f"{field}:token"] = tokens[values]
        elif kind == "float":
            columns[f"{field}:float"] = values.astype(np.float64)
    return columns


def entity_labels(dataset: Any) -> np.ndarray:
    """Return entity id -> token for the files: `item=TOKEN` for items, others as they are."""
    items = item_tokens(dataset)
    labels = np.asarray(dataset.knowledge.entity_tokens).astype(object)
    prefix = free_prefix(labels[len(items) :].tolist(), set(items[1:].tolist()))
    labels[: len(items)] = [f"{prefix}{token}" for token in items]
    return labels


def free_prefix(others: Iterable[str], items: Collection[str]) -> str:
    """Return `item=` with so many underscores before it that no entity is called like an item.

    Args:
        others: Tokens of the entities that are no item.
        items: Tokens of the items, looked up in.
    """
    taken = set()
    for token in others:
        before, mark, item = token.partition("item=")
        if mark and item in items and not before.strip("_"):
            taken.add(len(before))
    return "_" * next(count for count in range(len(taken) + 1) if count not in taken) + "item="


def _save_graph(dataset: Any, name: str, folder: Path) -> list[str]:
    graph, labels = dataset.knowledge, entity_labels(dataset)
    relations = np.asarray(graph.relation_tokens).astype(object)
    triples: Mapping[str, np.ndarray] = {
        "head_id:token": labels[graph.heads],
        "relation_id:token": relations[graph.relations],
        "tail_id:token": labels[graph.tails],
    }
    linked = np.flatnonzero(graph.linked)
    links = {
        "item_id:token": item_tokens(dataset)[linked],
        "entity_id:token": labels[linked],
    }
    write_columns(folder / f"{name}.kg", triples)
    write_columns(folder / f"{name}.link", links)
    return [f"{name}.kg", f"{name}.link"]


def _save_modality(dataset: Any, features: Any, stem: str, folder: Path) -> list[str]:
    there = features.presence if features.observed is None else features.observed
    rows = np.flatnonzero(there)
    matrix = features.matrix[rows]
    with np.errstate(over="ignore"):
        half = matrix.astype(np.float16)
    exact = bool((half.astype(np.float32) == matrix).all())
    save_features(folder, stem, half if exact else matrix, item_tokens(dataset)[rows].tolist())
    return [f"{stem}.npy", f"{stem}.ids"]

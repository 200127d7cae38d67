"""Both ways between RecBole's vectors of items (`.itememb`) and feature files."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.data.locate import feature_files
from recbole_slif.data.validate import open_matrix, read_ids
from recbole_slif.errors import DataError

from . import faults as fault_log
from .convert import copy_atomic_files
from .faults import Faults
from .item_spool import ItemSpool
from .reviews import read_cells
from .writing import save_pieces, write_rows

_SUFFIXES = ("inter", "train.inter", "valid.inter", "test.inter", "kg", "link", "item", "user")
_BAD = "lines whose vector holds something else than finite numbers"
_DIM = "lines whose vector has another length"
_TWICE = "lines of an item that already has a line"


def from_recbole(options: argparse.Namespace, faults: Faults) -> dict[str, Any]:
    """Turn `NAME.itememb` into `NAME.<modality>.npy` and copy the other atomic files.

    The most frequent length of a vector is the dimension (the longer one of two), so that no
    single line decides it.

    Raises:
        DataError: There is no such file, or it holds no vector.
    """
    path = options.folder / f"{options.name}.{options.suffix}"
    with ItemSpool(options.out / f".{options.name}.vectors.partial") as spool:
        _read_vectors(path, spool, faults)
        dim, bad = _dimension(path, spool)
        for number in sorted(bad):
            faults.add(_DIM, path, number)
        fault_log.refuse(faults, options)
        stem = f"{options.name}.{options.modality}"
        written = copy_atomic_files(options, _SUFFIXES)
        items = [item for item, vector in _vectors(spool, "find items") if len(vector) == dim]
        rows = (vector for _, vector in _vectors(spool, stem) if len(vector) == dim)
        pieces = (vector[None] for vector in rows)
        save_pieces(options.out, stem, pieces, dim, np.dtype(np.float32), items)
    written += [f"{stem}.npy", f"{stem}.ids"]
    return {"items with vectors": len(items), "dimensions": dim, "files": ", ".join(written)}


def _read_vectors(path: Path, spool: ItemSpool, faults: Faults) -> None:
    """Take the usable lines into the spool: the vector as text, and its line number."""
    lines = read_cells(path, "\t", "utf-8", faults)
    _, head = next(lines, (1, []))
    if len(head) != 2 or not head[1].endswith(":float_seq"):
        raise DataError(
            f"{path}: line 1: the header must be like `iid:token<TAB>item_emb:float_seq`"
        )
    for number, (item, text) in lines:
        item = item.strip()
        try:
            vector = _parsed(text)
        except ValueError:
            vector = np.array([np.nan], dtype=np.float32)
        if item and np.isfinite(vector).all():
            spool.add(item, [text, str(number)], path, number)
        else:
            faults.add(_BAD, path, number)
    spool.finish()
    spool.sort(faults, _TWICE)


def _parsed(text: str) -> np.ndarray:
    return np.array(text.split(), dtype=np.float32)


def _first(entries: list[list[str]]) -> list[str]:
    """Return the entry whose vector comes first as text."""
    return min(entries, key=lambda cells: (cells[0], int(cells[1])))


def _vectors(spool: ItemSpool, what: str) -> Iterator[tuple[str, np.ndarray]]:
    for item, (text, _) in spool.rows(what, _first):
        yield item, _parsed(text)


def _dimension(path: Path, spool: ItemSpool) -> tuple[int, list[int]]:
    """Return the most frequent length of a vector, and the lines of the others."""
    lengths = Counter[int]()
    lines: dict[int, list[int]] = {}
    for _, (text, number) in spool.rows("compare lengths", _first):
        length = len(text.split())
        lengths[length] += 1
        lines.setdefault(length, []).append(int(number))
    if not any(lengths):
        raise DataError(f"{path}: no vectors; each line is an item id, a tab and numbers")
    dim = max(lengths, key=lambda length: (lengths[length], length))
    return dim, [number for length in lines if length != dim for number in lines[length]]


def to_recbole(options: argparse.Namespace, faults: Faults) -> dict[str, Any]:
    """Turn feature files into one file of vectors each and copy the atomic files.

    With one modality the file is `NAME.itememb`, with several `NAME.<modality>emb`. Items without
    features have no line. RecBole's keys for them are printed.

    Raises:
        DataError: There are no feature files, or one is malformed or lacks `.ids`.
    """
    found = feature_files([options.folder], options.name, None)
    if not found:
        raise DataError(f"{options.folder}: no {options.name}.<modality>.npy to convert")
    features = {modality: _opened(path) for modality, path in found.items()}
    written = copy_atomic_files(options, _SUFFIXES)
    counts: dict[str, Any] = {}
    suffixes, columns = [], []
    for modality, stored in features.items():
        suffix = options.suffix if len(found) == 1 else f"{modality}emb"
        name = f"{options.name}.{suffix}"
        header = [f"{modality}_iid:token", f"{modality}_emb:float_seq"]
        counts[f"items with {modality}"] = write_rows(options.out / name, header, _rows(*stored))
        written.append(name)
        suffixes.append(suffix)
        columns.append(f"{suffix}: [{modality}_iid, {modality}_emb]")
    aliases = ", ".join(f"{modality}_iid" for modality in found)
    print("keys for RecBole:")
    print(f"  additional_feat_suffix: [{', '.join(suffixes)}]")
    print(f"  load_col: {{inter: [user_id, item_id], {', '.join(columns)}}}")
    print(f"  alias_of_item_id: [{aliases}]")
    return {**counts, "files": ", ".join(written)}


def _opened(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix of a feature file and the items of its rows."""
    matrix, ids = open_matrix(path), path.with_suffix(".ids")
    if not ids.is_file():
        raise DataError(f"{path}: no {ids.name} beside it; write one item token a line")
    return matrix, read_ids(ids, len(matrix))


def _rows(matrix: np.ndarray, items: np.ndarray) -> Iterator[tuple[str, str]]:
    """Yield item and vector of each row that is not NaN; numbers read back to the same float32."""
    for item, row in zip(items, matrix, strict=True):
        if not np.isnan(row).any():
            yield str(item), " ".join(map(str, np.asarray(row, dtype=np.float32).tolist()))

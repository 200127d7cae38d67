"""Both ways between RecBole's vectors of items (`.itememb`) and feature files."""

from __future__ import annotations

import argparse
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.data.locate import feature_files
from recbole_slif.data.validate import check_rows, open_matrix, read_ids
from recbole_slif.errors import DataError

from . import faults as fault_log
from .convert import copy_atomic_files
from .faults import Faults
from .item_spool import Cells, ItemSpool
from .progress import bar
from .reading import read_atomic
from .writing import save_pieces, write_rows

_SUFFIXES = ("inter", "train.inter", "valid.inter", "test.inter", "kg", "link", "item", "user")
_BAD = "lines whose vector is empty or holds something else than finite numbers"
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
        lines = _read_vectors(path, spool, faults)
        if not lines:
            raise DataError(f"{path}: no vectors; each line is an item id, a tab and numbers")
        dim = max(lines, key=lambda length: (len(lines[length]), length))
        for number in sorted(n for length in lines if length != dim for n in lines[length]):
            faults.add(_DIM, path, number)
        fault_log.refuse(faults, options)
        stem = f"{options.name}.{options.modality}"
        written = copy_atomic_files(options, _SUFFIXES)
        items = [item for item, _ in _vectors(spool, dim, "find items")]
        pieces = (vector[None] for _, vector in _vectors(spool, dim, stem))
        save_pieces(options.out, stem, pieces, dim, np.dtype(np.float32), items)
    written += [f"{stem}.npy", f"{stem}.ids"]
    return {"items with vectors": len(items), "dimensions": dim, "files": ", ".join(written)}


def _read_vectors(path: Path, spool: ItemSpool, faults: Faults) -> dict[int, array[int]]:
    """Take the usable lines into the spool, the vector as text; return lines by its length."""
    lines = read_atomic(path, faults)
    _, head = next(lines, (1, []))
    if len(head) != 2 or not head[1].endswith(":float_seq"):
        raise DataError(
            f"{path}: line 1: the header must be like `iid:token<TAB>item_emb:float_seq`"
        )
    found: dict[int, array[int]] = {}
    for number, (item, text) in lines:
        item = item.strip()
        try:
            vector = _parsed(text)
        except ValueError:
            vector = np.array([np.nan], dtype=np.float32)
        if item and len(vector) and np.isfinite(vector).all():
            spool.add(item, [text], path, number)
            found.setdefault(len(vector), array("q")).append(number)
        else:
            faults.add(_BAD, path, number)
    spool.finish()
    spool.sort(faults, _TWICE)
    return found


def _parsed(text: str) -> np.ndarray:
    return np.array(text.split(), dtype=np.float32)


def _vectors(spool: ItemSpool, dim: int, what: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each item and its vector; of several of that length the one that is first as text."""

    def choose(entries: list[Cells]) -> Cells:
        return min(entries, key=lambda cells: (len(cells[0].split()) != dim, cells[0]))

    for item, (text,) in spool.rows(what, choose):
        vector = _parsed(text)
        if len(vector) == dim:
            yield item, vector


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
        counts[f"items with {modality}"] = write_rows(
            options.out / name, header, _rows(*stored, name)
        )
        written.append(name)
        suffixes.append(suffix)
        columns.append(f"{suffix}: [{modality}_iid, {modality}_emb]")
    aliases = ", ".join(f"{modality}_iid" for modality in found)
    print("keys for RecBole:")
    print(f"  additional_feat_suffix: [{', '.join(suffixes)}]")
    print(f"  load_col: {{inter: [user_id, item_id], {', '.join(columns)}}}")
    print(f"  alias_of_item_id: [{aliases}]")
    return {**counts, "files": ", ".join(written)}


def _opened(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the matrix of a feature file, the items of its rows, and which hold features."""
    matrix, ids = open_matrix(path), path.with_suffix(".ids")
    if not ids.is_file():
        raise DataError(f"{path}: no {ids.name} beside it; write one item token a line")
    items = read_ids(ids, len(matrix))
    with bar(matrix.nbytes, path.name) as shown:
        return matrix, items, check_rows(path, matrix, items, Counter(), shown.update)


def _rows(
    matrix: np.ndarray, items: np.ndarray, present: np.ndarray, what: str
) -> Iterator[tuple[str, str]]:
    """Yield item and vector of each row that is there; numbers read back to the same float32.

    Items come shorter ones first, then by alphabet, whatever the order of rows.
    """
    names = items.tolist()
    places = sorted(np.flatnonzero(present), key=lambda place: (len(names[place]), names[place]))
    with bar(len(places), what, unit="row") as shown:
        for place in places:
            row = np.asarray(matrix[place], dtype=np.float32)
            yield names[place], " ".join(map(str, row.tolist()))
            shown.update(1)

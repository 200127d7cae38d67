"""Both ways between RecBole's vectors of items (`.itememb`) and feature files."""

from __future__ import annotations

import argparse
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
from .reviews import read_cells
from .tokens import canonical
from .writing import save_features, write_rows

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
    vectors = _read_vectors(path, faults)
    lengths = sorted(len(vector) for _, vector in vectors.values())
    if not lengths or not lengths[-1]:
        raise DataError(f"{path}: no vectors; each line is an item id, a tab and numbers")
    dim = max(set(lengths), key=lambda length: (lengths.count(length), length))
    for item, (number, vector) in list(vectors.items()):
        if len(vector) != dim:
            faults.add(_DIM, path, number)
            del vectors[item]
    fault_log.refuse(faults, options)
    items = canonical(vectors)
    stem = f"{options.name}.{options.modality}"
    written = copy_atomic_files(options, _SUFFIXES)
    matrix = np.stack([vectors[item][1] for item in items])
    save_features(options.out, stem, matrix, items)
    written += [f"{stem}.npy", f"{stem}.ids"]
    return {"items with vectors": len(items), "dimensions": dim, "files": ", ".join(written)}


def _read_vectors(path: Path, faults: Faults) -> dict[str, tuple[int, np.ndarray]]:
    """Return item -> line number and vector; of an item's lines the first by text counts."""
    found: dict[str, tuple[int, np.ndarray]] = {}
    texts: dict[str, str] = {}
    lines = read_cells(path, "\t", "utf-8", faults)
    _, head = next(lines, (1, []))
    if len(head) != 2 or not head[1].endswith(":float_seq"):
        raise DataError(
            f"{path}: line 1: the header must be like `iid:token<TAB>item_emb:float_seq`"
        )
    for number, (item, text) in lines:
        item = item.strip()
        try:
            vector = np.array(text.split(), dtype=np.float32)
        except ValueError:
            vector = np.array([np.nan], dtype=np.float32)
        if not item or not np.isfinite(vector).all():
            faults.add(_BAD, path, number)
            continue
        if item in texts:
            faults.add(_TWICE, path, number)
        if item not in texts or text < texts[item]:
            texts[item], found[item] = text, (number, vector)
    return found


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
    written = copy_atomic_files(options, _SUFFIXES)
    counts: dict[str, Any] = {}
    suffixes, columns = [], []
    for modality, path in found.items():
        suffix = options.suffix if len(found) == 1 else f"{modality}emb"
        name = f"{options.name}.{suffix}"
        header = [f"{modality}_iid:token", f"{modality}_emb:float_seq"]
        counts[f"items with {modality}"] = write_rows(options.out / name, header, _rows(path))
        written.append(name)
        suffixes.append(suffix)
        columns.append(f"{suffix}: [{modality}_iid, {modality}_emb]")
    aliases = ", ".join(f"{modality}_iid" for modality in found)
    print("keys for RecBole:")
    print(f"  additional_feat_suffix: [{', '.join(suffixes)}]")
    print(f"  load_col: {{inter: [user_id, item_id], {', '.join(columns)}}}")
    print(f"  alias_of_item_id: [{aliases}]")
    return {**counts, "files": ", ".join(written)}


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    """Yield item and vector of each row that is not NaN; numbers read back to the same float32."""
    matrix, ids = open_matrix(path), path.with_suffix(".ids")
    if not ids.is_file():
        raise DataError(f"{path}: no {ids.name} beside it; write one item token a line")
    for item, row in zip(read_ids(ids, len(matrix)), matrix, strict=True):
        if not np.isnan(row).any():
            yield str(item), " ".join(map(str, np.asarray(row, dtype=np.float32).tolist()))

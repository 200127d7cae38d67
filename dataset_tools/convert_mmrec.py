"""Both ways between MMRec's data folders and this package's files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_slif.data.features import load_features
from recbole_slif.data.locate import feature_files, interaction_files
from recbole_slif.data.tables import read_table
from recbole_slif.data.validate import open_matrix
from recbole_slif.errors import DataError

from . import faults as fault_log
from .faults import Faults
from .reviews import column_places, read_cells
from .tokens import canonical
from .writing import atomic, save_features, write_columns, write_rows

PARTS = ("train", "valid", "test")
FEATURES = {"visual": "image_feat.npy", "text": "text_feat.npy"}
_COLUMNS = ["userID", "itemID", "x_label"]
_NOT_NUMBERS = "lines whose user, item or x_label is no whole number"
_LABEL = "lines whose x_label is not 0, 1 or 2"


def from_mmrec(options: argparse.Namespace, faults: Faults) -> dict[str, Any]:
    """Turn an MMRec folder into our files: `x_label` 0, 1, 2 become train, valid and test.

    Raises:
        DataError: A file is missing or malformed, or a feature file lacks rows.
    """
    path = options.folder / f"{options.name}.inter"
    found, repeated = _read_labelled(path, faults)
    tokens = {
        "user": _mapping(options, "u_id_mapping.csv", "userID", found[:, 0], faults),
        "item": _mapping(options, "i_id_mapping.csv", "itemID", found[:, 1], faults),
    }
    matrices = {
        modality: open_matrix(options.folder / name)
        for modality, name in FEATURES.items()
        if (options.folder / name).is_file()
    }
    for modality, matrix in matrices.items():
        if len(matrix) <= found[:, 1].max():
            raise DataError(
                f"{options.folder / FEATURES[modality]}: {len(matrix)} rows, but item "
                f"{found[:, 1].max()} needs row {found[:, 1].max()}; the row number is the item id"
            )
    fault_log.refuse(faults, options)
    counts: dict[str, Any] = {"repeated lines left out": repeated}
    written = []
    for label, part in enumerate(PARTS):
        rows = found[found[:, 2] == label]
        counts[part] = len(rows)
        if len(rows):
            written.append(f"{options.name}.{part}.inter")
            columns = {
                "user_id:token": tokens["user"][rows[:, 0]],
                "item_id:token": tokens["item"][rows[:, 1]],
            }
            write_columns(options.out / written[-1], columns)
    items = np.unique(found[:, 1])
    for modality, matrix in matrices.items():
        stem = f"{options.name}.{modality}"
        counts[f"{modality}: rows of items without interactions left out"] = len(matrix) - len(
            items
        )
        save_features(options.out, stem, np.asarray(matrix[items]), tokens["item"][items].tolist())
        written += [f"{stem}.npy", f"{stem}.ids"]
    counts |= {"users": len(np.unique(found[:, 0])), "items": len(items)}
    return {**counts, "files": ", ".join(written)}


def _read_labelled(path: Path, faults: Faults) -> tuple[np.ndarray, int]:
    """Return distinct `[n, 3]` rows of user, item and label, ascending, and the repeated ones."""
    lines = read_cells(path, "\t", "utf-8", faults)
    _, head = next(lines, (1, []))
    places = column_places(path, head, _COLUMNS)
    found = []
    for number, cells in lines:
        row = [cells[place].strip() for place in places]
        if not all(cell.isdigit() and len(cell) < 10 for cell in row):
            faults.add(_NOT_NUMBERS, path, number)
        elif row[2] not in ("0", "1", "2"):
            faults.add(_LABEL, path, number)
        else:
            found.append([int(cell) for cell in row])
    if not found:
        raise DataError(f"{path}: no interactions with userID, itemID and x_label")
    rows = np.array(found, dtype=np.int64)
    distinct = np.unique(rows, axis=0)
    return distinct, len(rows) - len(distinct)


def _mapping(
    options: argparse.Namespace, name: str, column: str, used: np.ndarray, faults: Faults
) -> np.ndarray:
    """Return id -> token: the id itself, or the original one of a mapping file."""
    tokens = np.arange(int(used.max()) + 1).astype(str).astype(object)
    if not options.original_ids:
        return tokens
    path = options.folder / name
    lines = read_cells(path, "\t", "utf-8", faults)
    _, head = next(lines, (1, []))
    (place,) = column_places(path, head, [column])
    other = next((at for at in range(len(head)) if at != place), place)
    known: dict[int, str] = {}
    for number, cells in lines:
        if cells[place].strip().isdigit() and cells[other].strip():
            known.setdefault(int(cells[place]), cells[other].strip())
        else:
            faults.add("lines without an id and what it was", path, number)
    for number in np.unique(used).tolist():
        if number not in known:
            raise DataError(f"{path}: no line for {column} {number}; leave out --original-ids")
        tokens[number] = known[number]
    if len(set(known.values())) != len(known):
        raise DataError(f"{path}: two ids have one original id; leave out --original-ids")
    return tokens


def to_mmrec(options: argparse.Namespace, faults: Faults) -> dict[str, Any]:
    """Turn our files into an MMRec folder; users and items are numbered in canonical order.

    Raises:
        DataError: There is no split in files, or a feature file is malformed.
    """
    frame = _read_parts(options)
    users, items = (canonical(set(frame[name])) for name in ("user_id", "item_id"))
    user_id = {token: number for number, token in enumerate(users)}
    item_id = {token: number for number, token in enumerate(items)}
    columns = {
        "userID": frame["user_id"].map(user_id).to_numpy(),
        "itemID": frame["item_id"].map(item_id).to_numpy(),
        "x_label": frame["label"].to_numpy(),
    }
    order = np.lexsort((columns["itemID"], columns["userID"], columns["x_label"]))
    written = [f"{options.name}.inter", "u_id_mapping.csv", "i_id_mapping.csv"]
    write_columns(options.out / written[0], {key: col[order] for key, col in columns.items()})
    for name, head, tokens in (
        (written[1], ["user_id", "userID"], users),
        (written[2], ["item_id", "itemID"], items),
    ):
        write_rows(options.out / name, head, ((t, str(n)) for n, t in enumerate(tokens)))
    counts: dict[str, Any] = {"users": len(users), "items": len(items)}
    counts["interactions"] = len(frame)
    found = feature_files([options.folder], options.name, None)
    for modality, path in found.items():
        target = FEATURES.get(modality, f"{modality}_feat.npy")
        matrix, absent = _full_matrix(path, items, options.missing)
        with atomic(options.out / target) as file:
            np.save(file, matrix, allow_pickle=False)
        counts[f"{modality}: items without features, filled with the {options.missing}"] = absent
        written.append(target)
    return {**counts, "files": ", ".join(written)}


def _read_parts(options: argparse.Namespace) -> pd.DataFrame:
    files = interaction_files(options.folder, options.name)
    if "train" not in files or "test" not in files:
        raise DataError(
            f"{options.folder}: MMRec needs a split; no {options.name}.train.inter and .test.inter "
            "(`interactions --split` makes one)"
        )
    frames = []
    for label, part in enumerate(PARTS):
        if part in files:
            table = read_table(files[part], required=["user_id", "item_id"]).frame
            frames.append(table[["user_id", "item_id"]].assign(label=label))
    # A pair in two parts belongs to the earlier one, as in training here.
    return pd.concat(frames, ignore_index=True).drop_duplicates(["user_id", "item_id"])


def _full_matrix(path: Path, items: list[str], missing: str) -> tuple[np.ndarray, int]:
    """Return `[n_items, dim]` float32 with filled rows, and how many were filled."""
    from collections import Counter

    tokens = np.array(["[PAD]", *items], dtype=object)
    loaded = load_features(path, tokens, missing, Counter())
    return loaded.matrix[1:], len(items) - loaded.n_observed

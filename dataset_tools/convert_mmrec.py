"""Both ways between MMRec's data folders and this package's files."""

from __future__ import annotations

import argparse
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.data.locate import feature_files, interaction_files
from recbole_slif.data.validate import open_matrix
from recbole_slif.errors import DataError

from . import faults as fault_log
from .atomic_pieces import pieces_of
from .disk_features import shown_rows
from .faults import Faults
from .id_columns import IdColumn, Texts
from .loading import Scratch, scratch_place
from .number_file import NumberFile, NumberWriter, new_rows, sort_numbers
from .numbered_rows import NumberedRows
from .progress import bar
from .reviews import column_places, read_cells
from .token_order import SortedTokens
from .writing import (
    PARTS,
    atomic,
    refuse_other_split,
    save_pieces,
    write_columns,
    write_matrix_head,
    write_rows,
)

FEATURES = {"visual": "image_feat.npy", "text": "text_feat.npy"}
# Rows that are read or written at once.
_ROWS = 1 << 12
_COLUMNS = ["userID", "itemID", "x_label"]
_NOT_NUMBERS = "lines whose user, item or x_label is no whole number"
_LABEL = "lines whose x_label is not 0, 1 or 2"


def from_mmrec(options: argparse.Namespace, faults: Faults) -> dict[str, Any]:
    """Turn an MMRec folder into our files: `x_label` 0, 1, 2 become train, valid and test.

    Raises:
        DataError: A file is missing or malformed, a feature file lacks rows, or a part of another
            split is there.
    """
    path = options.folder / f"{options.name}.inter"
    with Scratch(scratch_place(options.out)) as scratch:
        parts, repeated = _read_labelled(path, scratch.folder, faults)
        users, items = (_distinct(parts, column, scratch.folder) for column in (0, 1))
        texts = {
            "user": _mapping(options, "u_id_mapping.csv", "userID", users, faults),
            "item": _mapping(options, "i_id_mapping.csv", "itemID", items, faults),
        }
        matrices = {
            modality: open_matrix(options.folder / name)
            for modality, name in FEATURES.items()
            if (options.folder / name).is_file()
        }
        for modality, matrix in matrices.items():
            if len(matrix) <= items[-1]:
                raise DataError(
                    f"{options.folder / FEATURES[modality]}: {len(matrix)} rows, but item "
                    f"{items[-1]} needs row {items[-1]}; the row number is the item id"
                )
        fault_log.refuse(faults, options)
        written_parts = [part for part, rows in zip(PARTS, parts, strict=True) if len(rows)]
        refuse_other_split(options.out, options.name, written_parts)
        counts: dict[str, Any] = {"repeated lines left out": repeated}
        written = []
        for part, rows in zip(PARTS, parts, strict=True):
            counts[part] = len(rows)
            if len(rows):
                written.append(f"{options.name}.{part}.inter")
                columns = {
                    "user_id:token": IdColumn(rows, 0, texts["user"]),
                    "item_id:token": IdColumn(rows, 1, texts["item"]),
                }
                write_columns(options.out / written[-1], columns)
        for modality, matrix in matrices.items():
            stem = f"{options.name}.{modality}"
            left = len(matrix) - len(items)
            counts[f"{modality}: rows of items without interactions left out"] = left
            pieces = _rows_of(matrix, items, f"write {stem}.npy")
            names = texts["item"](items)
            save_pieces(options.out, stem, pieces, matrix.shape[1], matrix.dtype, names)
            written += [f"{stem}.npy", f"{stem}.ids"]
    counts |= {"users": len(users), "items": len(items)}
    return {**counts, "files": ", ".join(written)}


def _read_labelled(path: Path, scratch: Path, faults: Faults) -> tuple[list[NumberFile], int]:
    """Return distinct rows `(user, item, label)`, sorted, of each label; and the repeated ones."""
    lines = read_cells(path, "\t", "utf-8", faults)
    _, head = next(lines, (1, []))
    places = column_places(path, head, _COLUMNS)
    waiting = array("I")
    with NumberWriter(scratch / "rows") as out:
        for number, cells in lines:
            row = [cells[place].strip() for place in places]
            if not all(cell.isdecimal() and len(cell) < 10 for cell in row):
                faults.add(_NOT_NUMBERS, path, number)
            elif row[2] not in ("0", "1", "2"):
                faults.add(_LABEL, path, number)
            else:
                waiting.extend(map(int, row))
            if len(waiting) >= 3 * _ROWS:
                out.write(np.array(waiting).reshape(-1, 3))
                waiting = array("I")
        out.write(np.array(waiting, dtype=np.uint32).reshape(-1, 3))
    if not out.size:
        raise DataError(f"{path}: no interactions with userID, itemID and x_label")
    ordered = sort_numbers(NumberFile(out.path), scratch / "ordered", "interactions")
    files = [NumberWriter(scratch / part) for part in PARTS]
    for rows, new, _ in new_rows(ordered.chunks("leave out repeated lines")):
        for label, file in enumerate(files):
            file.write(rows[new & (rows[:, 2] == label)])
    for file in files:
        file.close()
    ordered.path.unlink()
    return [NumberFile(file.path) for file in files], out.size - sum(file.size for file in files)


def _distinct(files: Sequence[NumberFile], column: int, scratch: Path) -> np.ndarray:
    """Return the distinct numbers of a column, ascending."""
    with NumberWriter(scratch / "column") as out:
        for file in files:
            for rows in file.chunks("look for ids"):
                numbers = np.unique(rows[:, column])
                out.write(*(numbers, np.zeros(len(numbers)), np.zeros(len(numbers))))
    ordered = sort_numbers(NumberFile(out.path), scratch / "sorted column", "ids")
    return np.concatenate([rows[new, 0] for rows, new, _ in new_rows(ordered.chunks("take ids"))])


def _mapping(
    options: argparse.Namespace, name: str, column: str, used: np.ndarray, faults: Faults
) -> Texts:
    """Return what gives the tokens of ids: the ids themselves, or those of a mapping file."""
    if not options.original_ids:
        return numerals
    path = options.folder / name
    lines = read_cells(path, "\t", "utf-8", faults)
    _, head = next(lines, (1, []))
    (place,) = column_places(path, head, [column])
    other = next((at for at in range(len(head)) if at != place), place)
    known: dict[int, str] = {}
    for number, cells in lines:
        own, original = cells[place].strip(), cells[other].strip()
        if not own.isdecimal() or not original:
            faults.add("lines without an id and what it was", path, number)
            continue
        if int(own) in known:
            faults.add("lines of an id that already has a line", path, number)
            original = min(original, known[int(own)])
        known[int(own)] = original
    for number in used.tolist():
        if number not in known:
            raise DataError(f"{path}: no line for {column} {number}; leave out --original-ids")
    if len(set(known.values())) != len(known):
        raise DataError(f"{path}: two ids have one original id; leave out --original-ids")
    return lambda ids: [known[number] for number in ids.tolist()]


def numerals(ids: np.ndarray) -> list[str]:
    """Return numbers as texts."""
    return [str(number) for number in ids.tolist()]


def to_mmrec(options: argparse.Namespace, faults: Faults) -> dict[str, Any]:
    """Turn our files into an MMRec folder; users and items are numbered in canonical order.

    Raises:
        DataError: There is no split in files, or a feature file is malformed.
    """
    with Scratch(scratch_place(options.out)) as scratch:
        rows, tokens = _read_parts(options, scratch.folder)
        items = np.array(
            ["[PAD]", *(text for _, texts in tokens["item"].pieces() for text in texts)],
            dtype=object,
        )
        features = {
            modality: shown_rows(path, items, options.missing, Counter())
            for modality, path in feature_files([options.folder], options.name, None).items()
        }
        written = [f"{options.name}.inter", "u_id_mapping.csv", "i_id_mapping.csv"]
        columns = {
            "userID": IdColumn(rows, 1, numerals),
            "itemID": IdColumn(rows, 2, numerals),
            "x_label": IdColumn(rows, 0, numerals),
        }
        write_columns(options.out / written[0], columns)
        for name, head, kind in (
            (written[1], ["user_id", "userID"], "user"),
            (written[2], ["item_id", "itemID"], "item"),
        ):
            numbered = (
                (text, str(start + place))
                for start, texts in tokens[kind].pieces()
                for place, text in enumerate(texts)
            )
            write_rows(options.out / name, head, numbered)
        counts: dict[str, Any] = {"users": len(tokens["user"]), "items": len(tokens["item"])}
        counts["interactions"] = len(rows)
    for modality, (stored, rows_of_items, present) in features.items():
        target = FEATURES.get(modality, f"{modality}_feat.npy")
        absent = _fill(
            *(stored, rows_of_items[1:], present[1:]), options.missing, options.out / target
        )
        counts[f"{modality}: items without features, filled with the {options.missing}"] = absent
        written.append(target)
    return {**counts, "files": ", ".join(written)}


def _read_parts(
    options: argparse.Namespace, scratch: Path
) -> tuple[NumberFile, dict[str, SortedTokens]]:
    """Return rows `(label, user, item)`, sorted, and the tokens of users and items."""
    files = interaction_files(options.folder, options.name)
    if "train" not in files or "test" not in files:
        raise DataError(
            f"{options.folder}: MMRec needs a split; no {options.name}.train.inter and .test.inter "
            "(`interactions --split` makes one)"
        )
    store = NumberedRows(scratch, "interactions", ("user", "item", None))
    fields = ["user_id", "item_id"]
    try:
        for label, part in enumerate(PARTS):
            for table in pieces_of(files[part], fields) if part in files else ():
                users, items = (table.frame[field].tolist() for field in fields)
                store.add((users, items, np.full(len(users), label)))
        rows, tokens = store.finish()
    finally:
        store.close()
    ordered = sort_numbers(rows, scratch / "ordered", "interactions")
    with NumberWriter(scratch / "labelled") as out:
        # A pair in two parts belongs to the earlier one, as in training here.
        for part_rows, _, first in new_rows(ordered.chunks("leave out repeated pairs")):
            out.write(part_rows[first][:, (2, 0, 1)])
    ordered.path.unlink()
    return sort_numbers(NumberFile(out.path), scratch / "by label", "parts"), tokens


def _fill(
    stored: np.ndarray, rows: np.ndarray, present: np.ndarray, missing: str, target: Path
) -> int:
    """Write `[n_items, dim]` float32 with filled rows; return how many were filled.

    Args:
        stored: `[m, dim]`, the feature file.
        rows: `[n_items]` row of each item there.
        present: `[n_items]` bool, which items have one.
        missing: `mean` or `zero`.
        target: The `.npy` file.
    """
    dim = stored.shape[1]
    filling = np.zeros(dim, dtype=np.float32)
    if missing == "mean":
        total = np.zeros(dim)
        for piece in _rows_of(stored, rows[present], f"add up {target.name}"):
            piece = piece.astype(np.float32)
            # One row after the other, as a sum over the whole adds them.
            total = np.add.reduce(np.vstack([total, piece]), axis=0, dtype=np.float64)
        filling = (total / int(present.sum())).astype(np.float32)
    head = ((len(rows), dim), np.dtype(np.float32))
    with atomic(target) as file, bar(4 * len(rows) * dim, f"write {target.name}") as shown:
        write_matrix_head(file, *head)
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            block = np.tile(filling, (len(rows[part]), 1))
            block[present[part]] = stored[rows[part][present[part]]]
            file.write(block.tobytes())
            shown.update(block.nbytes)
    return len(rows) - int(present.sum())


def _rows_of(stored: np.ndarray, rows: np.ndarray, what: str) -> Iterator[np.ndarray]:
    """Yield rows of a matrix, some at a time, with a bar of bytes."""
    with bar(len(rows) * stored.shape[1] * stored.dtype.itemsize, what) as shown:
        for start in range(0, len(rows), _ROWS):
            found = stored[rows[start : start + _ROWS]]
            yield found
            shown.update(found.nbytes)

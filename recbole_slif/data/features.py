"""Item features by modality, each a matrix with the mask of items that have it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recbole_slif.data.validate import check_rows, open_matrix, read_ids, rows_by_position
from recbole_slif.errors import ConfigError, DataError

FILLINGS = ("mask", "zero", "mean")


@dataclass(frozen=True)
class ModalityFeatures:
    """Raw features of one modality, in the order of the data set's item ids.

    Attributes:
        matrix: `[n_items, dim]` float32; row 0 is [PAD]. Rows of absent items are zero.
        presence: `[n_items]` bool; False where models must mask the modality.
        n_observed: Items whose features were in the file, before any filling.
        observed: `[n_items]` bool, these items; None where they are those of `presence`.
    """

    matrix: np.ndarray
    presence: np.ndarray
    n_observed: int
    observed: np.ndarray | None = None


def load_features(
    path: Path, item_tokens: np.ndarray, missing: str, notes: Counter[str]
) -> ModalityFeatures:
    """Load one modality and put its rows in the order of the items.

    Args:
        path: `[rows, dim]` `.npy` file; `.ids` beside it names the item of each row.
        item_tokens: `[n_items]` tokens in id order, [PAD] first.
        missing: What an item without features gets: `mask` (left out), `zero` or `mean` (filled
            and treated as present; SLIFMR_READING's option for Table I's items without images).
        notes: Receives counts of what was put right.

    Raises:
        DataError: The file is malformed or has no item of this data set.
        ConfigError: `missing` is none of `mask`, `zero`, `mean`.
    """
    stored, rows, presence = find_rows(path, item_tokens, missing, notes)
    matrix = np.zeros((len(item_tokens), stored.shape[1]), dtype=np.float32)
    matrix[presence] = stored[rows[presence]]
    return fill_absent(matrix, presence, missing)


def find_rows(
    path: Path,
    item_tokens: np.ndarray,
    missing: str,
    notes: Counter[str],
    tell: Callable[[int], object] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check a feature file and find the row of each item, without reading it whole.

    Args:
        path: See `load_features`, as for the other arguments.
        item_tokens: .
        missing: .
        notes: .
        tell: Receives the bytes of each block that was looked at.

    Returns:
        The mapped matrix; `[n_items]` row of each item, -1 for none; `[n_items]` bool, whether
        that row holds features.

    Raises:
        DataError: See `load_features`.
        ConfigError: See `load_features`.
    """
    if missing not in FILLINGS:
        raise ConfigError(f"missing: '{missing}' is none of {', '.join(FILLINGS)}")
    stored = open_matrix(path)
    rows, names = _row_of_item(path, item_tokens, len(stored), notes)
    present_row = check_rows(path, stored, names, notes, tell)
    presence = rows >= 0
    presence[presence] = present_row[rows[presence]]
    if not presence.any():
        raise DataError(
            f"{path}: every item of the data set lacks features here (rows of NaN); correct the "
            "file or leave this modality out of the key `modalities`"
        )
    return stored, rows, presence


def _row_of_item(
    path: Path, item_tokens: np.ndarray, n_rows: int, notes: Counter[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the row of each item, `[n_items]` with -1 for none, and each row's token `[rows]`."""
    ids_path = path.with_suffix(".ids")
    rows = np.full(len(item_tokens), -1, dtype=np.int64)
    if not ids_path.is_file():
        rows[1:] = rows_by_position(path, item_tokens[1:], n_rows)
        return rows, np.arange(n_rows).astype(str)
    names = read_ids(ids_path, n_rows)
    row_of = {token: row for row, token in enumerate(names)}
    rows[1:] = [row_of.get(token, -1) for token in item_tokens[1:]]
    used = int((rows >= 0).sum())
    notes["rows of items that the data set does not have"] += n_rows - used
    if not used:
        raise DataError(
            f"{ids_path}: none of its {n_rows} tokens is an item of the data set (items look like "
            f"'{item_tokens[-1]}', rows like '{next(iter(row_of), '')}'); use the item tokens of "
            "the .inter file"
        )
    return rows, names


def fill_absent(matrix: np.ndarray, presence: np.ndarray, missing: str) -> ModalityFeatures:
    """Treat absent items as the key `missing` says.

    Args:
        matrix: `[n_items, dim]` zero in rows of absent items; filled in place.
        presence: `[n_items]` bool, False for [PAD].
        missing: one of `FILLINGS`.
    """
    observed = int(presence.sum())
    if missing == "mask":
        return ModalityFeatures(matrix, presence, observed)
    if missing == "mean":
        absent = ~presence
        absent[0] = False
        matrix[absent] = matrix[presence].mean(axis=0, dtype=np.float64).astype(np.float32)
    everyone = np.ones(len(matrix), dtype=bool)
    everyone[0] = False
    return ModalityFeatures(matrix, everyone, observed, presence)


def choose_modalities(
    found: dict[str, Path], wanted: Sequence[str] | str | None, name: str, folder: Path
) -> dict[str, Path]:
    """Return the feature files to load, in the order of the key `modalities`.

    Args:
        found: Modality to file, all that exist.
        wanted: The key `modalities`; None takes all, by name.
        name: The data set's name, for the error.
        folder: Where it lies, for the error.

    Raises:
        DataError: A wanted modality has no file.
        ConfigError: `modalities` is not a list of names, or names one twice.
    """
    if wanted is None:
        return dict(sorted(found.items()))
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if len(set(map(str, names))) != len(names) or not all(isinstance(n, str) for n in names):
        raise ConfigError(f"modalities: {wanted!r} must be a list of distinct names")
    for modality in names:
        if modality not in found:
            have = ", ".join(sorted(found)) or "none"
            raise DataError(
                f"modalities: no {name}.{modality}.npy in {folder} or feature_path (found: {have});"
                " add the file, set feature_path, or change the key (docs/DATASETS.md)"
            )
    return {modality: found[modality] for modality in names}

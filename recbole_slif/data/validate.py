"""Checks of feature files: `.npy` matrices and the `.ids` that name their rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recbole_slif.errors import DataError

_BLOCK_ROWS = 8192


def open_matrix(path: Path) -> np.ndarray:
    """Map a feature matrix `[rows, dim]` of float16, float32 or float64; never unpickles.

    Raises:
        DataError: Not a readable `.npy` file, not 2-D, or not of a floating type.
    """
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if head.startswith(b"PK"):
        raise DataError(f"{path}: an archive, not one .npy array; save it with np.save")
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses a torn header as Python and fails in many ways
        if b"'|O" in head:
            raise DataError(
                f"{path}: holds Python objects, which are never unpickled; save the matrix with "
                "np.save as float16, float32 or float64"
            ) from error
        raise DataError(f"{path}: not a complete .npy file; write it again with np.save") from error
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise DataError(
            f"{path}: shape {matrix.shape}; a feature file must be [rows, dim], neither of them 0"
        )
    if matrix.dtype not in (np.float16, np.float32, np.float64):
        raise DataError(
            f"{path}: dtype {matrix.dtype}; save the matrix as float16, float32 or float64"
        )
    return matrix


def read_ids(path: Path, n_rows: int) -> np.ndarray:
    """Read the item token of each row, `[n_rows]` str objects.

    Raises:
        DataError: Not text, wrong number of lines, an empty or a repeated token.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as UTF-8 text; one item token a line") from error
    # Not splitlines(): a token may hold one of the rarer line separators of Unicode.
    lines = [line.strip() for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) != n_rows:
        raise DataError(
            f"{path}: {len(lines)} tokens for {n_rows} rows of the .npy beside it; "
            "the two must be written together, one token a line in row order"
        )
    first: dict[str, int] = {}
    for number, token in enumerate(lines, start=1):
        if not token or "\0" in token:
            raise DataError(f"{path}: line {number}: empty or NUL token; name the row's item")
        if token in first:
            raise DataError(
                f"{path}: line {number}: token '{token}' was already on line {first[token]}; "
                "keep one row per item"
            )
        first[token] = number
    return np.array(lines, dtype=object)


def rows_by_position(path: Path, item_tokens: np.ndarray, n_rows: int) -> np.ndarray:
    """Return the row of each item when there is no `.ids` file: the token is the row number.

    Args:
        path: The `.npy` file, for the error.
        item_tokens: `[n]` tokens of the data set's items, [PAD] not among them.
        n_rows: Rows of the matrix.

    Raises:
        DataError: A token is not an integer in `0 .. n_rows - 1`.
    """
    ids = path.with_suffix(".ids").name
    rows = np.full(len(item_tokens), -1, dtype=np.int64)
    for index, token in enumerate(item_tokens):
        plain = len(token) < 19 and token.isascii() and token.isdigit()
        plain = plain and str(int(token)) == token
        if not plain or int(token) >= n_rows:
            raise DataError(
                f"{path}: no {ids} beside it, so item tokens must be row numbers 0..{n_rows - 1}, "
                f"but the data has item '{token}'; write {ids} with one item token a line"
            )
        rows[index] = int(token)
    return rows


def check_rows(
    path: Path,
    matrix: np.ndarray,
    names: np.ndarray,
    notes: Counter[str],
    tell: Callable[[int], object] | None = None,
) -> np.ndarray:
    """Tell rows that hold features from rows of NaN, and refuse half-broken ones.

    Args:
        path: The `.npy` file, for the error.
        matrix: `[rows, dim]`.
        names: `[rows]` item token of each row.
        notes: Receives the number of all-NaN and of all-zero rows.
        tell: Receives the bytes of each block that was looked at.

    Returns:
        `[rows]` bool, False for a row of NaN (a missing modality).

    Raises:
        DataError: A row mixes numbers with NaN or infinity, or does not fit float32.
    """
    present = np.empty(len(matrix), dtype=bool)
    zero = 0
    for start in range(0, len(matrix), _BLOCK_ROWS):
        # float64 values beyond float32 become infinite here and are refused with the others.
        with np.errstate(over="ignore"):
            block = np.asarray(matrix[start : start + _BLOCK_ROWS]).astype(np.float32)
        missing = np.isnan(block).all(axis=1)
        broken = np.flatnonzero(~np.isfinite(block).all(axis=1) & ~missing)
        if len(broken):
            row = start + int(broken[0])
            raise DataError(
                f"{path}: row {row} (item '{names[row]}') holds NaN, infinity or a number beyond "
                "float32; use a whole row of NaN, or leave the row out, where features are missing"
            )
        present[start : start + len(block)] = ~missing
        zero += int((block == 0).all(axis=1).sum())
        if tell:
            tell(len(block) * matrix.shape[1] * matrix.dtype.itemsize)
    notes["rows of NaN read as missing"] += int((~present).sum())
    notes["rows of zeros kept"] += zero
    return present

"""Writes files so that each is complete or not there: tables, feature matrices, JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from recbole_slif.errors import DataError

_ROWS = 1 << 16


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes its name only once it is whole and on disk.

    A stop in the middle leaves `.NAME.partial`, which the next run overwrites.

    Raises:
        DataError: The file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path} cannot be written ({error.strerror or error})") from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text, complete or not at all."""
    with atomic(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON that equal content always turns into equal bytes."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n")


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """Write an atomic file row by row.

    Args:
        path: The file.
        header: `field:type` cells.
        rows: Cells of each line; they hold no tab and no line end (see `clean_cell`).

    Returns:
        The number of rows.
    """
    count = 0
    with atomic(path) as file:
        file.write(("\t".join(header) + "\n").encode("utf-8"))
        lines: list[str] = []
        for row in rows:
            lines.append("\t".join(row))
            count += 1
            if len(lines) >= _ROWS:
                file.write(("\n".join(lines) + "\n").encode("utf-8"))
                lines.clear()
        if lines:
            file.write(("\n".join(lines) + "\n").encode("utf-8"))
    return count


class LazyColumn(Protocol):
    """A column whose cells are made when they are written."""

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def cells(self, start: int, stop: int) -> list[str]:
        """Return the cells of rows `start` to `stop`."""
        ...


def write_columns(path: Path, columns: Mapping[str, np.ndarray | LazyColumn]) -> int:
    """Write an atomic file from columns.

    Args:
        path: The file.
        columns: `field:type` to `[n]` values: texts, whole numbers, floats, of which NaN becomes
            an empty cell and whole ones lose the point, or a column that makes its own cells.

    Returns:
        The number of rows.
    """
    values = list(columns.values())
    size = len(values[0]) if values else 0

    def rows() -> Iterator[Sequence[str]]:
        for start in range(0, size, _ROWS):
            chunk = [_cells(column, start, start + _ROWS) for column in values]
            yield from zip(*chunk, strict=True)

    return write_rows(path, list(columns), rows())


def _cells(column: np.ndarray | LazyColumn, start: int, stop: int) -> list[str]:
    if not isinstance(column, np.ndarray):
        return column.cells(start, stop)
    values = column[start:stop].tolist()
    if column.dtype.kind != "f":
        return [str(value) for value in values]
    return [number_cell(value) for value in values]


def number_cell(value: float) -> str:
    """Return a number as a cell: empty for NaN, `4` for 4.0, the shortest exact text otherwise."""
    if value != value:
        return ""
    return str(int(value)) if value.is_integer() else repr(value)


def clean_cell(text: str) -> str:
    """Return a text as one cell: runs of blanks, tabs, line ends and NUL become one blank."""
    return " ".join(text.replace("\0", " ").split())


def save_features(
    folder: Path, stem: str, matrix: np.ndarray, tokens: Sequence[str] | np.ndarray
) -> Path:
    """Write `STEM.npy` and `STEM.ids`, both whole before one takes its name.

    Args:
        folder: Made if missing.
        stem: `NAME.<modality>`.
        matrix: `[n, dim]`.
        tokens: `[n]` item tokens in row order.

    Returns:
        The `.npy` file.

    Raises:
        DataError: The folder cannot be written.
    """
    target = folder / f"{stem}.npy"
    with atomic(target) as file:
        np.save(file, matrix, allow_pickle=False)
        write_text(folder / f"{stem}.ids", "".join(f"{token}\n" for token in tokens))
    return target

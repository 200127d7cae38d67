"""Writes files so that each is complete or not there: tables, feature matrices, JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from recbole_slif.errors import DataError

from .progress import bar

PARTS = ("train", "valid", "test")
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


def inter_name(name: str, part: str) -> str:
    """Return the file name of a data set's interactions, of a part or of none."""
    return ".".join(word for word in (name, part, "inter") if word)


def refuse_other_split(folder: Path, name: str, parts: Collection[str]) -> None:
    """Stop where interactions of another split lie, which would be read beside the new ones.

    Args:
        folder: To write to.
        name: The data set's.
        parts: Of `train`, `valid` and `test`, those that are to be written; one empty text for
            interactions that are not split.

    Raises:
        DataError: There is a file of another part.
    """
    for part in ("", *PARTS):
        path = folder / inter_name(name, part)
        if part not in parts and path.exists():
            raise DataError(
                f"{path}: is there from another split and would be read beside the new files; "
                "remove it or choose another --out"
            )


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
        with bar(size, f"write {path.name}", unit="row") as shown:
            for start in range(0, size, _ROWS):
                chunk = [_cells(column, start, start + _ROWS) for column in values]
                yield from zip(*chunk, strict=True)
                shown.update(len(chunk[0]))

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
    return save_pieces(folder, stem, [matrix], matrix.shape[1], matrix.dtype, tokens)


def save_pieces(
    folder: Path,
    stem: str,
    pieces: Iterable[np.ndarray],
    dim: int,
    dtype: np.dtype,
    tokens: Collection[str] | np.ndarray,
) -> Path:
    """Write features that are never in memory at once; see `save_features`.

    Args:
        folder: Made if missing.
        stem: `NAME.<modality>`.
        pieces: `[m, dim]` each, of another number type if need be; together `len(tokens)` rows.
        dim: Numbers of a row.
        dtype: Of the file.
        tokens: Item tokens in row order.
    """
    target = folder / f"{stem}.npy"
    with atomic(target) as file:
        write_matrix_head(file, (len(tokens), dim), dtype)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype=dtype).tobytes())
        with atomic(folder / f"{stem}.ids") as names:
            names.writelines(f"{token}\n".encode() for token in tokens)
    return target


def write_matrix_head(file: IO[bytes], shape: tuple[int, int], dtype: np.dtype) -> None:
    """Write what stands before the numbers in an `.npy` file, as `numpy.save` does."""
    head = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(file, head)

"""Interactions as records of numbers in files, read in pieces; columns of them as cells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .progress import bar
from .token_order import SortedTokens
from .writing import number_cell

ROW = np.dtype([("user", "<u4"), ("item", "<u4"), ("rating", "<f8"), ("time", "<f8")])
CHUNK = 1 << 18


class RowFile:
    """A file of `ROW` records.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size // ROW.itemsize

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.size

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop`, `[n]` of `ROW`."""
        count = max(min(stop, self.size) - start, 0)
        return np.fromfile(self.path, dtype=ROW, count=count, offset=start * ROW.itemsize)

    def chunks(self, what: str) -> Iterator[np.ndarray]:
        """Yield all rows in pieces, with a bar of bytes.

        Args:
            what: What is done with them, for the bar.
        """
        with bar(self.size * ROW.itemsize, what) as shown:
            for start in range(0, self.size, CHUNK):
                rows = self.read(start, start + CHUNK)
                yield rows
                shown.update(rows.nbytes)


class RowWriter:
    """Writes a file of rows in a `with` block.

    Args:
        path: The file, made afresh.
        size: Rows of an earlier run that stay.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path, self.size = path, size
        self._file = path.open("r+b" if size else "wb")
        self._file.seek(size * ROW.itemsize)
        self._file.truncate()

    def __enter__(self) -> RowWriter:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file, which stays; done twice, it changes nothing."""
        self._file.close()

    def write(self, rows: np.ndarray) -> None:
        """Append `[n]` rows of `ROW`."""
        self._file.write(rows.tobytes())
        self.size += len(rows)

    def flush(self) -> None:
        """Hand what was written to the system, so that a kill cannot lose it."""
        self._file.flush()


class TokenColumn:
    """A column of tokens, made into texts only where it is written.

    Args:
        rows: The rows.
        field: `user` or `item`.
        tokens: The text of each number.
    """

    def __init__(self, rows: RowFile, field: str, tokens: SortedTokens) -> None:
        self._rows, self._field, self._tokens = rows, field, tokens

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def cells(self, start: int, stop: int) -> list[str]:
        """Return the tokens of rows `start` to `stop`."""
        return self._tokens.texts(self._rows.read(start, stop)[self._field])


class NumberColumn:
    """A column of numbers, read only where it is written.

    Args:
        rows: The rows.
        field: `rating` or `time`.
    """

    def __init__(self, rows: RowFile, field: str) -> None:
        self._rows, self._field = rows, field

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def cells(self, start: int, stop: int) -> list[str]:
        """Return the numbers of rows `start` to `stop`."""
        return [number_cell(value) for value in self._rows.read(start, stop)[self._field].tolist()]

"""Millions of interactions on disk, as numbers: tokens are read back for those that stay.

A token is kept as two independent hashes, of which the second proves the first: memory does not
grow with the number of distinct ids.
"""

from __future__ import annotations

import shutil
import zlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from recbole_slif.errors import DataError

from .token_table import TokenTable

_FLUSH = 1 << 17
_COLUMNS = {
    "user": "q",
    "item": "q",
    "user_check": "I",
    "item_check": "I",
    "rating": "d",
    "time": "d",
}


class RowStore:
    """Rows of user, item, rating and time in a folder that lives as long as the `with` block.

    Args:
        folder: Made afresh; what a killed run left there is removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: list[tuple[str, str, float, float]] = []
        self._files: dict[str, IO[bytes]] = {}
        self.size = 0

    def __enter__(self) -> RowStore:
        """Make the folder."""
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            names = (*_COLUMNS, "user_token", "item_token")
            self._files = {name: (self._folder / name).open("wb") for name in names}
        except OSError as error:
            raise DataError(f"{self._folder}: cannot be made ({error.strerror})") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the folder."""
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, user: str, item: str, rating: float, time: float) -> None:
        """Append a row; tokens hold no tab and no line end."""
        self._rows.append((user, item, rating, time))
        self.size += 1
        if len(self._rows) >= _FLUSH:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        user, item, rating, time = zip(*self._rows, strict=True)
        columns: dict[str, Iterable[Any]] = {"rating": rating, "time": time}
        for name, tokens in (("user", user), ("item", item)):
            columns[name] = map(hash, tokens)
            columns[f"{name}_check"] = map(zlib.crc32, map(str.encode, tokens))
            self._files[f"{name}_token"].write(("\n".join(tokens) + "\n").encode())
        for name, values in columns.items():
            array(_COLUMNS[name], values).tofile(self._files[name])
        self._rows.clear()

    def finish(self) -> None:
        """Write what is still in memory; no row can be added afterwards."""
        self._flush()
        for file in self._files.values():
            file.close()

    def column(self, name: str) -> np.ndarray:
        """Return `rating` or `time`, `[size]` float64."""
        return np.fromfile(self._folder / name, dtype=np.dtype(_COLUMNS[name]))

    def codes(self, name: str) -> np.ndarray:
        """Number the distinct tokens of `user` or `item`.

        Returns:
            `[size]` int32; the numbers are of no further meaning.

        Raises:
            DataError: Two tokens have one hash: about one run in a million with six million ids.
        """
        hashes = self.column(name)
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = hashes[1:] != hashes[:-1]
        del hashes
        check = self.column(f"{name}_check")[order]
        if (check[1:] != check[:-1])[~new[1:]].any():
            raise DataError(f"two {name} ids have one hash; run the command again")
        del check
        codes = np.empty(len(order), dtype=np.int32)
        codes[order] = np.cumsum(new, dtype=np.int32) - np.int32(1)
        return codes

    def tokens(self, name: str, rows: np.ndarray) -> TokenTable:
        """Return the `user` or `item` token of some rows.

        Args:
            name: `user` or `item`.
            rows: `[n]` ascending row numbers.
        """
        return TokenTable(self._lines(name, rows))

    def _lines(self, name: str, rows: np.ndarray) -> Iterator[str]:
        with (self._folder / f"{name}_token").open(encoding="utf-8", newline="\n") as file:
            lines = enumerate(file)
            for start in range(0, len(rows), _FLUSH):
                for row in rows[start : start + _FLUSH].tolist():
                    yield next(line for number, line in lines if number == row)[:-1]

"""Millions of distinct tokens as bytes of one buffer, where Python texts would not fit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_CHUNK = 1 << 17


class TokenTable:
    """Tokens by number.

    Args:
        tokens: Texts without NUL.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        buffer = bytearray()
        widths: list[np.ndarray] = []
        lengths: list[np.ndarray] = []
        for chunk in _chunks(tokens):
            encoded = [token.encode() for token in chunk]
            buffer += b"".join(encoded)
            widths.append(np.fromiter(map(len, encoded), dtype=np.int32, count=len(chunk)))
            lengths.append(np.fromiter(map(len, chunk), dtype=np.int32, count=len(chunk)))
        self._bytes = bytes(buffer)
        self._width = np.concatenate([np.empty(0, np.int32), *widths])
        self._length = np.concatenate([np.empty(0, np.int32), *lengths])
        self._start = np.cumsum(self._width, dtype=np.int64) - self._width

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self._width)

    def texts(self, numbers: np.ndarray) -> list[str]:
        """Return the tokens of some numbers `[n]`."""
        whole = self._bytes
        starts, ends = self._start[numbers], self._start[numbers] + self._width[numbers]
        return [
            whole[start:end].decode()
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]

    def ranks(self) -> np.ndarray:
        """Return the place of each token by length in characters, then alphabet, `[n]` int32."""
        rank = np.empty(len(self), dtype=np.int32)
        done = 0
        for length in np.unique(self._length):
            numbers = np.flatnonzero(self._length == length)
            # UTF-8 sorts as its characters do. What fills a shorter one up never decides: none
            # of two texts of one length in characters begins with the other.
            order = np.argsort(self._fixed(numbers), kind="stable")
            rank[numbers[order]] = np.arange(done, done + len(numbers), dtype=np.int32)
            done += len(numbers)
        return rank

    def _fixed(self, numbers: np.ndarray) -> np.ndarray:
        """Return tokens as byte strings of one width, shorter ones filled up, `[n]`."""
        width = int(self._width[numbers].max())
        source = np.frombuffer(self._bytes, dtype=np.uint8)
        fixed = np.empty((len(numbers), width), dtype=np.uint8)
        for first in range(0, len(numbers), _CHUNK):
            chosen = numbers[first : first + _CHUNK]
            column = np.arange(width)
            inside = column < self._width[chosen][:, None]
            places = np.where(inside, self._start[chosen][:, None] + column, 0)
            fixed[first : first + _CHUNK] = source[places]
        return fixed.view(f"S{width}").reshape(-1)


def _chunks(tokens: Iterable[str]) -> Iterable[list[str]]:
    chunk: list[str] = []
    for token in tokens:
        chunk.append(token)
        if len(chunk) >= _CHUNK:
            yield chunk
            chunk = []
    yield chunk


class TokenColumn:
    """A column of tokens, made into texts only where it is read.

    Args:
        table: The distinct tokens.
        numbers: `[n]` number of each row's token.
    """

    def __init__(self, table: TokenTable, numbers: np.ndarray) -> None:
        self._table, self._numbers = table, numbers

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._numbers)

    def take(self, rows: np.ndarray) -> TokenColumn:
        """Return the column of some of its rows `[n]`."""
        return TokenColumn(self._table, self._numbers[rows])

    def cells(self, start: int, stop: int) -> list[str]:
        """Return the tokens of rows `start` to `stop`."""
        return self._table.texts(self._numbers[start:stop])

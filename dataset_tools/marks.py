"""A bit for each of many numbers: sets of ids, whatever their number, in little memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

_WORD = 64
# Words that are looked through at once, 2^18 numbers.
_PIECE = 1 << 12
_ONES = np.array([number.bit_count() for number in range(256)], dtype=np.uint8)


class Marks:
    """A bit for each of many numbers.

    Args:
        size: Numbers lie below it.

    Attributes:
        size: The same.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._words = np.zeros(-(-size // _WORD), dtype="<u8")
        self._before: np.ndarray | None = None

    @classmethod
    def load(cls, path: Path, size: int) -> Marks:
        """Return those that `save` wrote."""
        found = cls(size)
        found._words = np.fromfile(path, dtype="<u8")
        return found

    def save(self, path: Path) -> None:
        """Write them to a file."""
        self._words.tofile(path)

    def add(self, numbers: np.ndarray) -> None:
        """Mark `[n]` numbers."""
        np.bitwise_or.at(self._words, numbers // _WORD, _bit(numbers))
        self._before = None

    def add_new(self, numbers: np.ndarray) -> np.ndarray:
        """Mark `[n]` numbers; return which of them occur for the first time, here and before."""
        new = np.zeros(len(numbers), dtype=bool)
        new[np.unique(numbers, return_index=True)[1]] = True
        new &= ~self.of(numbers)
        self.add(numbers)
        return new

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """Return whether each of `[n]` numbers is marked; one beyond the size is not."""
        if not len(self._words):
            return np.zeros(len(numbers), dtype=bool)
        words = self._words[np.minimum(numbers // _WORD, len(self._words) - 1)]
        return ((words & _bit(numbers)) != 0) & (numbers < self.size)

    def count(self, since: int = 0) -> int:
        """Return how many numbers are marked, from one on."""
        if since >= self.size:
            return 0
        rest = self._words[since // _WORD :]
        total = sum(int(_ones(rest[at : at + _PIECE]).sum()) for at in range(0, len(rest), _PIECE))
        return total - int(_ones(rest[:1] & (_bit(np.array([since])) - np.uint64(1)))[0])

    def places(self, numbers: np.ndarray) -> np.ndarray:
        """Return the place of each of `[n]` marked numbers among all of them, `[n]`."""
        if self._before is None:
            self._before = np.zeros(len(self._words) + 1, dtype=np.uint32)
            for at in range(0, len(self._words), _PIECE):
                sums = np.cumsum(_ones(self._words[at : at + _PIECE]), dtype=np.uint32)
                self._before[at + 1 : at + 1 + len(sums)] = self._before[at] + sums
        words = numbers // _WORD
        lower = self._words[words] & (_bit(numbers) - np.uint64(1))
        return self._before[words] + _ones(lower)

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield the marked numbers in order, some at a time, `[n]` int64."""
        for at in range(0, len(self._words), _PIECE):
            bits = np.unpackbits(self._words[at : at + _PIECE].view(np.uint8), bitorder="little")
            found = np.flatnonzero(bits) + at * _WORD
            if len(found):
                yield found


def _bit(numbers: np.ndarray) -> np.ndarray:
    return np.uint64(1) << (numbers % _WORD).astype(np.uint64)


def _ones(words: np.ndarray) -> np.ndarray:
    """Return how many bits of each word are set, `[n]`."""
    return _ONES[words.view(np.uint8)].reshape(-1, 8).sum(axis=1, dtype=np.uint8)

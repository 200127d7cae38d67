"""Keeps found triples on disk as records of 20 bytes, so that memory does not grow with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recbole_slif.errors import DataError

from ..journal import hold
from ..progress import bar
from .scan import Found

RECORD = np.dtype([("head", "<u8"), ("relation", "<u4"), ("tail", "<u8")])
CHUNK = 1 << 20
_BASE = "http://rdf.freebase.com/ns/"
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MASKS = np.array([(1 << (8 * n)) - 1 for n in range(9)], dtype=np.uint64)


class Relations:
    """Numbers relations as they appear.

    Attributes:
        names: Names in order of number; Freebase's without its address before them.
    """

    def __init__(self, names: list[str] | None = None) -> None:
        self.names = list(names or [])
        self._number = {name: number for number, name in enumerate(self.names)}

    def codes(self, text: np.ndarray, found: Found) -> np.ndarray:
        """Return `[n]` uint32 numbers of the relations that a block's triples have."""
        starts, lengths = found.relation_starts, found.relation_ends - found.relation_starts
        if not len(starts):
            return np.empty(0, dtype=np.uint32)
        first, which = _distinct(_words(text, starts, lengths), lengths)
        numbers = [
            self._of(text[starts[row] : starts[row] + lengths[row]].tobytes())
            for row in first.tolist()
        ]
        return np.array(numbers, dtype=np.uint32)[which]

    def _of(self, word: bytes) -> int:
        name = word.decode("utf-8", "replace").removeprefix(_BASE)
        number = self._number.get(name)
        if number is None:
            number = self._number[name] = len(self.names)
            self.names.append(name)
        return number


def _words(text: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return `[n, w]` uint64: each text in words of eight bytes, zero after its end."""
    width = -(-int(lengths.max()) // 8)
    view = np.ndarray((len(text) - 7,), "<u8", text.data, strides=(1,))
    words = np.empty((len(starts), width), dtype=np.uint64)
    for place in range(width):
        at = np.minimum(starts + 8 * place, len(view) - 1)
        words[:, place] = view[at] & _MASKS[np.clip(lengths - 8 * place, 0, 8)]
    return words


def _distinct(words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each distinct text and, `[n]`, which of them each row is.

    Rows are told apart by a hash first; should two texts share one, all is compared in full.
    """
    mixed = lengths.astype(np.uint64)
    for place in range(words.shape[1]):
        mixed = (mixed ^ words[:, place]) * _FACTOR
        mixed ^= mixed >> np.uint64(32)
    _, first, which = np.unique(mixed, return_index=True, return_inverse=True)
    if not np.array_equal(words[first[which]], words):
        _, first, which = np.unique(words, axis=0, return_index=True, return_inverse=True)
    return first, which.ravel()


class Spill:
    """A growing file of records; what was not confirmed by a saved state is cut off.

    Args:
        path: The file.
        records: How many of its records count.
    """

    def __init__(self, path: Path, records: int) -> None:
        self.path, self.records = path, records
        size = records * RECORD.itemsize
        try:
            self._file = path.open("r+b" if path.exists() else "w+b")
            hold(self._file, path.parent)
            # Before it is cut: a file that is too short would grow by zeros.
            short = self._file.seek(0, os.SEEK_END) < size
            if not short:
                self._file.truncate(size)
                self._file.seek(size)
        except OSError as error:
            raise DataError(f"{path} cannot be written ({error.strerror})") from error
        if short:
            self._file.close()
            raise DataError(f"{path} is shorter than its state says; remove the folder of it")

    def add(self, heads: np.ndarray, relations: np.ndarray, tails: np.ndarray) -> None:
        """Append `[n]` triples of keys and relation numbers."""
        rows = np.empty(len(heads), dtype=RECORD)
        rows["head"], rows["relation"], rows["tail"] = heads, relations, tails
        try:
            self._file.write(rows.tobytes())
        except OSError as error:
            raise DataError(f"{self.path} cannot be written ({error.strerror})") from error
        self.records += len(rows)

    def sync(self) -> None:
        """Make sure that all records are on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, what: str, start: int = 0, end: int | None = None) -> Iterator[np.ndarray]:
        """Yield records in chunks of `CHUNK`, with a bar of bytes.

        Args:
            what: What is done with them, for the bar.
            start: The first.
            end: Behind the last; None takes all.
        """
        self._file.flush()
        end = self.records if end is None else end
        total = (end - start) * RECORD.itemsize
        with self.path.open("rb") as file, bar(total, what) as shown:
            file.seek(start * RECORD.itemsize)
            for at in range(start, end, CHUNK):
                size = min(CHUNK, end - at) * RECORD.itemsize
                yield np.frombuffer(file.read(size), dtype=RECORD)
                shown.update(size)

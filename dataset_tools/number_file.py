"""Rows of three numbers in files: sorted on disk, read in whole groups, drawn from at random."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from .progress import bar
from .sorted_runs import merged_runs

_ROW_BYTES = 12
CHUNK = 1 << 18
# Rows that are sorted at once, and rows in memory while runs are merged.
_SORTED, _MERGED, _LEAST_PIECE = 1 << 20, 1 << 20, 1 << 8


class NumberFile:
    """A file of rows `[n, 3]` of uint32.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size // _ROW_BYTES

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.size

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop`, `[n, 3]`."""
        count = 3 * max(min(stop, self.size) - start, 0)
        found = np.fromfile(self.path, dtype="<u4", count=count, offset=start * _ROW_BYTES)
        return found.reshape(-1, 3)

    def chunks(self, what: str) -> Iterator[np.ndarray]:
        """Yield all rows in pieces, with a bar of bytes.

        Args:
            what: What is done with them, for the bar.
        """
        with bar(self.size * _ROW_BYTES, what) as shown:
            for start in range(0, self.size, CHUNK):
                rows = self.read(start, start + CHUNK)
                yield rows
                shown.update(rows.nbytes)

    def groups(self, what: str) -> Iterator[np.ndarray]:
        """Yield the rows, sorted by the first number, in pieces that end where a group of it does.

        Args:
            what: What is done with them, for the bar.
        """
        rest: list[np.ndarray] = []
        for part in self.chunks(what):
            edge = int(np.searchsorted(part[:, 0], part[-1, 0]))
            if edge or (rest and rest[-1][-1, 0] != part[0, 0]):
                whole = np.concatenate([*rest, part[:edge]])
                if len(whole):
                    yield whole
                rest = []
            rest.append(part[edge:])
        if rest:
            yield np.concatenate(rest)


class NumberWriter:
    """Writes a file of rows in a `with` block.

    Args:
        path: The file, made afresh.
        size: Rows of an earlier run that stay.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path, self.size = path, size
        self._file = path.open("r+b" if size else "wb")
        self._file.seek(size * _ROW_BYTES)
        self._file.truncate()

    def __enter__(self) -> NumberWriter:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file, which stays; done twice, it changes nothing."""
        self._file.close()

    def write(self, *columns: np.ndarray) -> None:
        """Append rows, given as `[n, 3]` or as three columns `[n]`."""
        rows = columns[0] if len(columns) == 1 else np.stack(columns, axis=1)
        self._file.write(rows.astype("<u4").tobytes())
        self.size += len(rows)


def sort_numbers(source: NumberFile, target: Path, what: str) -> NumberFile:
    """Sort a file by its first, second and third column; the source is removed.

    Args:
        source: Rows in any order.
        target: The sorted file.
        what: What they are, for the bar.
    """
    runs = target.with_name(f"{target.name}.runs")
    ends = []
    with NumberWriter(runs) as out, bar(len(source) * _ROW_BYTES, f"sort {what}") as shown:
        for start in range(0, len(source), _SORTED):
            rows = source.read(start, start + _SORTED)
            out.write(_in_order(rows))
            ends.append(out.size)
            shown.update(rows.nbytes)
    source.path.unlink()
    if len(ends) < 2:
        runs.replace(target)
        return NumberFile(target)
    found = _merge(runs, ends, target, what, _in_order)
    runs.unlink()
    return found


def distinct_runs(columns: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield rows, given as three columns `[n]`, in sorted runs without repeated rows.

    `merge_distinct` brings them together.
    """
    for start in range(0, len(columns[0]), _SORTED):
        yield _distinct(np.stack([part[start : start + _SORTED] for part in columns], axis=1))


def merge_distinct(runs: Path, ends: Sequence[int], target: Path, what: str) -> NumberFile:
    """Merge runs into one sorted file without repeated rows; the runs stay.

    Args:
        runs: Those of `distinct_runs`, one behind the other.
        ends: Number behind each run's last row.
        target: The sorted file.
        what: What the rows are, for the bar.
    """
    return _merge(runs, ends, target, what, _distinct)


def _merge(
    runs: Path,
    ends: Sequence[int],
    target: Path,
    what: str,
    arranged: Callable[[np.ndarray], np.ndarray],
) -> NumberFile:
    piece = max(_MERGED // len(ends), _LEAST_PIECE)
    waiting = merged_runs(NumberFile(runs), ends, piece, _last_row, _count_up_to)
    with NumberWriter(target) as out, bar(ends[-1] * _ROW_BYTES, f"merge {what}") as shown:
        for parts in waiting:
            rows = np.concatenate(parts)
            out.write(arranged(rows))
            shown.update(rows.nbytes)
    return NumberFile(target)


def _in_order(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort((rows[:, 2], _first_two(rows)))]


def _distinct(rows: np.ndarray) -> np.ndarray:
    rows = _in_order(rows)
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return rows[new]


def _first_two(rows: np.ndarray) -> np.ndarray:
    return rows[:, 0].astype(np.uint64) << np.uint64(32) | rows[:, 1]


def _last_row(rows: np.ndarray) -> tuple[int, ...]:
    return tuple(rows[-1].tolist())


def _count_up_to(rows: np.ndarray, edge: tuple[int, ...]) -> int:
    keys, key = _first_two(rows), np.uint64(edge[0] << 32 | edge[1])
    low, high = np.searchsorted(keys, key), np.searchsorted(keys, key, side="right")
    return int(low + np.searchsorted(rows[low:high, 2], edge[2], side="right"))


def new_rows(chunks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Tell, in sorted rows, the first ones of each row and of each pair of the first two numbers.

    Yields:
        Rows `[n, 3]`; `[n]` bool, the first of equal rows; `[n]` bool, the first of a pair.
    """
    last: np.ndarray | None = None
    for rows in chunks:
        other = np.ones(rows.shape, dtype=bool)
        other[1:] = rows[1:] != rows[:-1]
        if last is not None:
            other[0] = rows[0] != last
        pair = other[:, 0] | other[:, 1]
        yield rows, pair | other[:, 2], pair
        last = rows[-1]


def counts_of(file: NumberFile, columns: Sequence[int], size: int, what: str) -> np.ndarray:
    """Return how often each number below `size` occurs in some columns, `[size]` int64."""
    found = np.zeros(size, dtype=np.int64)
    for rows in file.chunks(what):
        for column in columns:
            numbers, times = np.unique(rows[:, column], return_counts=True)
            found[numbers] += times
    return found


class GroupCursor:
    """Reads a file sorted by the first number up to one group after the other.

    Args:
        file: The rows.
    """

    def __init__(self, file: NumberFile) -> None:
        self._file, self._at = file, 0
        self._rows = np.empty((0, 3), dtype="<u4")

    def until(self, first: int) -> np.ndarray:
        """Return the next rows whose first number lies below `first`."""
        parts: Sequence[np.ndarray] = [self._rows]
        while self._at < len(self._file) and (not len(parts[-1]) or parts[-1][-1, 0] < first):
            parts = [*parts, self._file.read(self._at, self._at + CHUNK)]
            self._at += CHUNK
        rows = np.concatenate(parts)
        place = int(np.searchsorted(rows[:, 0], first))
        self._rows = rows[place:].copy()
        return rows[:place]


def random_order(path: Path, count: int, generator: np.random.Generator) -> np.ndarray:
    """Return what `generator.permutation(count)` would, mapped from a file.

    The system may put its pages out of memory whenever it wants to.

    Args:
        path: The file, made afresh; it is there as long as the caller leaves it.
        count: How many numbers.
        generator: Of the draw.
    """
    if not count:
        return np.empty(0, dtype=np.int64)
    order = np.memmap(path, dtype=np.int64, mode="w+", shape=(count,))
    for start in range(0, count, CHUNK):
        order[start : start + CHUNK] = np.arange(start, min(start + CHUNK, count))
    plain = np.asarray(order)
    generator.shuffle(plain)
    return plain

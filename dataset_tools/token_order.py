"""Sorts the distinct tokens of millions of rows on disk, shorter ones first, then by alphabet.

Rows come in batches. The distinct tokens of a batch are written as a sorted run, and the runs are
merged in pieces, so that memory grows with neither the rows nor their tokens.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import IO

import numpy as np

from recbole_slif.errors import DataError

from .progress import bar

# Bytes of tokens in memory while runs are merged, shared by them.
_MERGED_BYTES = 8 << 20
_LEAST_PIECE = 1 << 10
# Every so many tokens their place in the file is kept in memory.
_STEP = 64
# Tokens that are not asked for are read with those beside them up to these limits.
_GAP, _READ_BYTES = 4, 1 << 20
_MOST = (1 << 32) - 1
# A batch ends at so many tokens, or so many characters of them.
BATCH, BATCH_CHARS = 1 << 17, 16 << 20
# Tokens that are looked through at once.
PIECE = 1 << 18


def _key(token: str) -> tuple[int, str]:
    return len(token), token


class TokenSorter:
    """Takes batches of tokens and numbers all distinct ones in their order.

    Args:
        folder: For its files.
        name: What the tokens are; begins the files' names.
        batches: `(bytes, distinct tokens)` of each batch of an earlier run, which stay.
    """

    def __init__(self, folder: Path, name: str, batches: Sequence[tuple[int, int]] = ()) -> None:
        self._folder, self.name = folder, name
        self._ends = [0, *accumulate(size for size, _ in batches)]
        self._firsts = [0, *accumulate(distinct for _, distinct in batches)]
        path = folder / f"{name}.runs"
        self._file = path.open("r+b" if batches and path.is_file() else "w+b")
        self._file.seek(self._ends[-1])
        self._file.truncate()

    def add(self, tokens: Sequence[str]) -> np.ndarray:
        """Take a batch.

        Args:
            tokens: Texts without line ends.

        Returns:
            `[n]` uint32 place of each among the sorted distinct tokens of the batch.
        """
        distinct = sorted(set(tokens))
        distinct.sort(key=len)
        self._file.write(("\n".join(distinct) + "\n").encode())
        self._ends.append(self._file.tell())
        self._firsts.append(self._firsts[-1] + len(distinct))
        places = {token: place for place, token in enumerate(distinct)}
        return np.fromiter(map(places.__getitem__, tokens), dtype=np.uint32, count=len(tokens))

    def last(self) -> tuple[int, int]:
        """Return bytes and distinct tokens of the last batch, once a kill cannot lose them."""
        self._file.flush()
        return self._ends[-1] - self._ends[-2], self._firsts[-1] - self._firsts[-2]

    def merge(self) -> SortedTokens:
        """Bring all batches together; none can be added afterwards. `drop` comes next.

        Raises:
            DataError: There are more distinct tokens than 32 bits can number.
        """
        self._file.flush()
        runs = len(self._firsts) - 1
        piece = max(_MERGED_BYTES // max(runs, 1), _LEAST_PIECE)
        waiting = [
            _Run(self._file, start, end, first, piece)
            for start, end, first in zip(self._ends, self._ends[1:], self._firsts, strict=False)
        ]
        total = self._ends[-1]
        path = self._folder / f"{self.name}.tokens"
        with (
            path.open("wb") as out,
            (self._folder / f"{self.name}.ranks").open("wb") as ranks,
            bar(total, f"sort {self.name}s") as shown,
        ):
            merged = _Merged(out)
            while waiting := [run for run in waiting if run.fill()]:
                shown.update(_merge_once(waiting, merged, ranks))
        return SortedTokens(path, merged.count, merged.offsets)

    def drop(self) -> None:
        """Remove the runs, which are merged."""
        self.close()
        (self._folder / f"{self.name}.runs").unlink(missing_ok=True)

    def ranks(self, batch: int) -> np.ndarray:
        """Return, after `merge`, the number of each distinct token of a batch, `[n]` uint32."""
        first, end = self._firsts[batch : batch + 2]
        path = self._folder / f"{self.name}.ranks"
        return np.fromfile(path, dtype=np.uint32, count=end - first, offset=4 * first)

    def close(self) -> None:
        """Close the file of runs."""
        self._file.close()


class NumberedTokens:
    """The tokens of rows, taken one by one; in the end each row has the number of its token.

    Args:
        folder: For its files.
        name: What the tokens are; begins the files' names.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._sorter = TokenSorter(folder, name)
        self._waiting: list[str] = []
        self._chars = 0
        self._places: list[np.ndarray] = []

    def add(self, token: str) -> None:
        """Take the token of the next row."""
        self._waiting.append(token)
        self._chars += len(token)
        if len(self._waiting) >= BATCH or self._chars >= BATCH_CHARS:
            self._flush()

    def _flush(self) -> None:
        self._places.append(self._sorter.add(self._waiting))
        self._waiting, self._chars = [], 0

    def finish(self) -> tuple[SortedTokens, np.ndarray]:
        """Return the distinct tokens and `[n]` uint32, the number of each row's; the end of it."""
        if self._waiting:
            self._flush()
        tokens = self._sorter.merge()
        self._sorter.drop()
        parts = [self._sorter.ranks(batch)[place] for batch, place in enumerate(self._places)]
        self._places.clear()
        return tokens, np.concatenate([np.empty(0, dtype=np.uint32), *parts])

    def close(self) -> None:
        """Close the file of runs."""
        self._sorter.close()


def _merge_once(runs: Sequence[_Run], merged: _Merged, ranks: IO[bytes]) -> int:
    """Move what no unread token can precede; return how many bytes of runs that was."""
    edges = [_key(run.tokens[-1]) for run in runs if not run.ended]
    edge = min(edges) if edges else None
    firsts = [run.first for run in runs]
    parts = [run.take(edge) for run in runs]
    # The parts are sorted already, of which sorting makes use.
    distinct = sorted(dict.fromkeys(chain.from_iterable(parts)))
    distinct.sort(key=len)
    number = dict(zip(distinct, range(merged.count, merged.count + len(distinct)), strict=True))
    merged.write(distinct)
    for first, part in zip(firsts, parts, strict=True):
        found = np.fromiter(map(number.__getitem__, part), dtype=np.uint32, count=len(part))
        ranks.seek(4 * first)
        ranks.write(found.tobytes())
    return sum(len(token.encode()) + 1 for token in chain.from_iterable(parts))


class _Run:
    """The sorted tokens of one batch, read in pieces.

    Attributes:
        tokens: Those in memory.
        first: Number of the first of them among the tokens of all runs.
        ended: Whether no others are on disk.
    """

    def __init__(self, file: IO[bytes], start: int, end: int, first: int, piece: int) -> None:
        self._file, self._at, self._end, self._piece = file, start, end, piece
        self._few = 0
        self.tokens: list[str] = []
        self.first, self.ended = first, start == end

    def fill(self) -> bool:
        """Read on where few tokens are left; return whether there are any."""
        if not self.ended and len(self.tokens) <= self._few:
            self._file.seek(self._at)
            data = self._file.read(min(self._piece, self._end - self._at))
            if not data.endswith(b"\n"):
                data = data[: data.rfind(b"\n") + 1] or data + self._file.readline()
            self._at += len(data)
            self.ended = self._at == self._end
            fresh = data.decode().split("\n")[:-1]
            self.tokens += fresh
            self._few = len(fresh) // 2
        return bool(self.tokens)

    def take(self, edge: tuple[int, str] | None) -> list[str]:
        """Remove and return the tokens up to one; all for None."""
        place = len(self.tokens)
        if edge is not None:
            place = bisect_right(self.tokens, edge, key=_key)
        taken = self.tokens[:place]
        del self.tokens[:place]
        self.first += place
        return taken


class _Merged:
    """Writes sorted tokens and notes where every `_STEP`-th begins."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._size = file, 0
        self.count = 0
        self.offsets = array("q")

    def write(self, tokens: Sequence[str]) -> None:
        """Append tokens."""
        if self.count + len(tokens) > _MOST:
            raise DataError(f"more than {_MOST:,} distinct ids; split the input")
        lines = [f"{token}\n".encode() for token in tokens]
        self._file.write(b"".join(lines))
        ends = self._size + np.cumsum([0, *map(len, lines)])
        self.offsets.frombytes(ends[-self.count % _STEP : -1 : _STEP].astype(np.int64).tobytes())
        self.count += len(tokens)
        self._size = int(ends[-1])


class SortedTokens:
    """Distinct tokens in their order, in a file.

    Args:
        path: One token a line.
        count: How many.
        offsets: Where every `_STEP`-th begins.
    """

    def __init__(self, path: Path, count: int, offsets: array[int]) -> None:
        self._path, self._count, self._offsets = path, count, offsets

    def save(self) -> None:
        """Write the offsets beside the tokens, for `load`."""
        np.frombuffer(self._offsets, dtype=np.int64).tofile(self._path.with_suffix(".offsets"))

    @classmethod
    def load(cls, path: Path, count: int) -> SortedTokens:
        """Return tokens that an earlier run has merged and saved."""
        offsets = array("q")
        offsets.frombytes(path.with_suffix(".offsets").read_bytes())
        return cls(path, count, offsets)

    @classmethod
    def of_lines(cls, path: Path) -> SortedTokens:
        """Return the lines of a file, in whatever order, for `texts` and `pieces`."""
        offsets, count, size = array("q", [0]), 0, 0
        with path.open("rb") as file:
            while data := file.read(_READ_BYTES):
                begins = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n")) + size + 1
                offsets.frombytes(begins[-(count + 1) % _STEP :: _STEP].astype(np.int64).tobytes())
                count, size = count + len(begins), size + len(data)
        return cls(path, count, offsets)

    def __len__(self) -> int:
        """Return the number of tokens."""
        return self._count

    def texts(self, numbers: np.ndarray) -> list[str]:
        """Return the tokens of some numbers `[n]`."""
        wanted, which = np.unique(numbers.astype(np.int64), return_inverse=True)
        found: list[str] = []
        with self._path.open("rb") as file:
            for first, last in self._stretches(np.unique(wanted // _STEP).tolist()):
                low, high = first * _STEP, (last + 1) * _STEP
                file.seek(self._offsets[first])
                lines = file.read(self._end(last) - self._offsets[first]).decode().split("\n")
                chosen = wanted[np.searchsorted(wanted, low) : np.searchsorted(wanted, high)]
                found += [lines[number] for number in (chosen - low).tolist()]
        return [found[place] for place in which.tolist()]

    def pieces(self) -> Iterator[tuple[int, list[str]]]:
        """Yield all tokens in order, some at a time, with the number of the first."""
        for start in range(0, self._count, PIECE):
            yield start, self.texts(np.arange(start, min(start + PIECE, self._count)))

    def _end(self, group: int) -> int:
        if group + 1 < len(self._offsets):
            return self._offsets[group + 1]
        return self._path.stat().st_size

    def _stretches(self, groups: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yield first and last of groups of `_STEP` tokens that are read at once."""
        if not groups:
            return
        first = last = groups[0]
        for group in groups[1:]:
            size = self._end(group) - self._offsets[first]
            if group - last > _GAP or size > _READ_BYTES:
                yield first, last
                first = group
            last = group
        yield first, last

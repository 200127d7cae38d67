"""What is done to interactions as numbers: one per pair, iterative k-core, splits per user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recbole_slif.data.protocol import parts_by_rank

from .journal import Journal
from .row_file import ROW, RowFile, RowWriter


def best_rows(pair: np.ndarray, rating: np.ndarray, time: np.ndarray, latest: bool) -> np.ndarray:
    """Choose one row for each pair of user and item.

    The latest (or earliest) stays; rows of one time are settled by the higher rating, and a row
    with time or rating comes before one without, so that the order of rows decides nothing.

    Args:
        pair: `[n]` number of each row's pair.
        rating: `[n]`, NaN for none.
        time: `[n]`, NaN for none.
        latest: False keeps the earliest.

    Returns:
        Row numbers, in the order of pairs.
    """
    order = np.lexsort((-rating, -time if latest else time, pair))
    pair = pair[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = pair[1:] != pair[:-1]
    return order[first]


class Core(NamedTuple):
    """What is left of a k-core.

    Attributes:
        rows: The rows, in the order in which they were.
        rounds: How often rows had to be removed.
        users: Users that are left.
        items: Items that are left.
    """

    rows: RowFile
    rounds: int
    users: int
    items: int


class CappedCounts:
    """How often each number occurs, up to the limit that matters: a byte for each where it fits.

    Args:
        size: Numbers lie below it.
        least: What a number has to reach.
    """

    def __init__(self, size: int, least: int) -> None:
        self._least = least
        self._values = np.zeros(size, dtype=np.uint8 if least < 256 else np.uint32)

    def add(self, numbers: np.ndarray) -> None:
        """Count `[n]` numbers."""
        found, times = np.unique(numbers, return_counts=True)
        self._values[found] = np.minimum(self._values[found] + times, self._least)

    def enough(self, numbers: np.ndarray) -> np.ndarray:
        """Return whether each of `[n]` numbers occurs often enough."""
        return self._values[numbers] >= self._least

    def few(self) -> int:
        """Return how many numbers occur, but not often enough."""
        return self.met() - int(np.count_nonzero(np.greater_equal(self._values, self._least)))

    def met(self) -> int:
        """Return how many numbers occur at all."""
        return int(np.count_nonzero(self._values))


def k_core(
    rows: RowFile,
    n_users: int,
    n_items: int,
    least: tuple[int, int],
    folder: Path,
    journal: Journal | None = None,
) -> Core:
    """Drop users and items with too few interactions until none is left.

    The rows are read once a round; memory holds four bytes for each user and item, two counts
    of it and of the next round.

    Args:
        rows: Distinct pairs.
        n_users: Users lie below it; each occurs.
        n_items: Items lie below it; each occurs.
        least: Interactions that each user and each item keeps.
        folder: For two files, one of which is what is left.
        journal: Receives the rounds that are done; those of a killed run are not done again.
    """
    if max(least) <= 1:
        return Core(rows, 0, n_users, n_items)

    def fresh() -> list[CappedCounts]:
        return [
            CappedCounts(size, limit) for size, limit in zip((n_users, n_items), least, strict=True)
        ]

    journal = journal or Journal(folder / "no journal", {})
    rounds = 0
    done = journal.last("round")
    if done:
        rows, rounds = RowFile(folder / _core_file(done["round"])), done["round"]
    counts = fresh()
    for part in rows.chunks("count"):
        _count(counts, part)
    while True:
        left = fresh()
        with RowWriter(folder / _core_file(rounds + 1)) as out:
            for part in rows.chunks(f"core, round {rounds + 1}"):
                part = part[counts[0].enough(part["user"]) & counts[1].enough(part["item"])]
                out.write(part)
                _count(left, part)
        if out.size == len(rows):
            return Core(rows, rounds, counts[0].met(), counts[1].met())
        rows, counts, rounds = RowFile(out.path), left, rounds + 1
        journal.add([_core_file(rounds)], [_core_file(rounds - 1)], round=rounds)


def _core_file(rounds: int) -> str:
    """Return where the rows lie that are left after so many rounds."""
    return f"core{rounds % 2}"


def _count(counts: Sequence[CappedCounts], rows: np.ndarray) -> None:
    counts[0].add(rows["user"])
    counts[1].add(rows["item"])


def ratio_cuts(count: int, ratios: Sequence[float]) -> list[int]:
    """Return where validation and test begin among `count` interactions, rounded as RecBole does.

    Parts are rounded down, but validation and test get one where they would get none and train
    can spare it, test first.
    """
    total = sum(ratios)
    shares = [ratio / total for ratio in ratios]
    sizes = [int(share * count) for share in shares]
    sizes[0] = count - sum(sizes[1:])
    for part in range(len(sizes) - 1, 0, -1):
        if sizes[0] <= 1:
            break
        if 0 < shares[part] * count < 1:
            sizes[part] += 1
            sizes[0] -= 1
    return np.cumsum(sizes)[:-1].tolist()


def leave_one_out_cuts(count: int) -> list[int]:
    """Return where validation and test begin: one each, test first, train keeps one at least."""
    return [max(count - 2, 1), max(count - 1, 1)]


def split(
    rows: RowFile, by_time: bool, seed: int, ratios: Sequence[float] | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Split each user's interactions; the rows of one user are in memory at once.

    Args:
        rows: Interactions in canonical order (by user, then item).
        by_time: Split in the order of time (equal times: by item); False draws at random, as the
            protocol `ratio_811` draws from the same seed.
        seed: Of the draw.
        ratios: Of train, validation and test; None leaves one out for each of the latter.

    Yields:
        Rows of whole users, and `[n]` the part of each: 0 train, 1 valid, 2 test.
    """

    def cut(count: int) -> list[int]:
        return leave_one_out_cuts(count) if ratios is None else ratio_cuts(count, ratios)

    generator = np.random.default_rng(seed)
    for part in _whole_users(rows):
        keys = part["time"] if by_time else generator.random(len(part))
        yield part, parts_by_rank(part["user"].astype(np.int64), keys, cut)


def _whole_users(rows: RowFile) -> Iterator[np.ndarray]:
    """Yield rows in pieces that end where a user does."""
    rest = np.empty(0, dtype=ROW)
    for part in rows.chunks("split"):
        rest = np.concatenate([rest, part])
        edge = int(np.searchsorted(rest["user"], rest["user"][-1]))
        if edge:
            yield rest[:edge]
            rest = rest[edge:]
    yield rest

"""What is done to interactions as numbers: one per pair, iterative k-core, splits per user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recbole_slif.data.protocol import ratio_split


def distinct_pairs(
    users: np.ndarray, items: np.ndarray, rating: np.ndarray, time: np.ndarray, latest: bool
) -> np.ndarray:
    """Choose one row for each pair of user and item.

    The latest (or earliest) stays; rows of one time are settled by the higher rating, and a row
    with time or rating comes before one without, so that the order of rows decides nothing.

    Args:
        users: `[n]` numbers.
        items: `[n]` numbers.
        rating: `[n]`, NaN for none.
        time: `[n]`, NaN for none.
        latest: False keeps the earliest.

    Returns:
        Ascending row numbers.
    """
    pair = users.astype(np.int64) * (int(items.max(initial=0)) + 1) + items
    order = np.lexsort((-rating, -time if latest else time, pair))
    pair = pair[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = pair[1:] != pair[:-1]
    return np.sort(order[first])


class Core(NamedTuple):
    """What is left of a k-core.

    Attributes:
        rows: Ascending row numbers.
        rounds: How often rows had to be removed.
    """

    rows: np.ndarray
    rounds: int


def k_core(users: np.ndarray, items: np.ndarray, user_min: int, item_min: int) -> Core:
    """Drop users and items with too few interactions until none is left.

    Args:
        users: `[n]` numbers from 0, of distinct pairs.
        items: `[n]` numbers from 0.
        user_min: Interactions each user keeps at least.
        item_min: Interactions each item keeps at least.
    """
    rows = np.arange(len(users))
    rounds = 0
    while len(rows):
        here, there = users[rows], items[rows]
        keep = (np.bincount(here)[here] >= user_min) & (np.bincount(there)[there] >= item_min)
        if keep.all():
            break
        rows = rows[keep]
        rounds += 1
    return Core(rows, rounds)


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
    users: np.ndarray,
    time: np.ndarray | None,
    seed: int,
    ratios: Sequence[float] | None,
) -> list[np.ndarray]:
    """Split each user's interactions.

    Args:
        users: `[n]` user of each interaction in canonical order (by user, then item).
        time: `[n]` to split in the order of time (equal times: by item); None draws at random, as
            the protocol `ratio_811` draws from the same seed.
        seed: Of the draw.
        ratios: Of train, validation and test; None leaves one out for each of the latter.

    Returns:
        Three ascending index arrays: train, valid, test.
    """

    def cut(count: int) -> list[int]:
        return leave_one_out_cuts(count) if ratios is None else ratio_cuts(count, ratios)

    if time is None:
        return ratio_split(users, seed, cut)
    order = np.lexsort((time, users))
    _, start, counts = np.unique(users[order], return_index=True, return_counts=True)
    rank = np.arange(len(users)) - np.repeat(start, counts)
    cuts = {int(count): cut(int(count)) for count in np.unique(counts)}
    first = np.repeat([cuts[int(count)][0] for count in counts], counts)
    second = np.repeat([cuts[int(count)][1] for count in counts], counts)
    part = np.empty(len(users), dtype=np.int64)
    part[order] = (rank >= first).astype(np.int64) + (rank >= second)
    return [np.flatnonzero(part == phase) for phase in range(3)]

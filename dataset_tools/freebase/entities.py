"""Sets of entities as sorted arrays of keys: the ends of found triples, and what is new in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recbole_slif.errors import DataError

from .spill import Spill

_PENDING = 8 << 20


def distinct_ends(spill: Spill, start: int, end: int, limit: int) -> np.ndarray:
    """Return the sorted keys of all heads and tails of some records.

    Raises:
        DataError: There are more than `limit`.
    """
    merged = np.empty(0, dtype=np.uint64)
    pending: list[np.ndarray] = []
    held = 0
    for rows in spill.read("gather entities", start, end):
        pending.append(np.unique(np.concatenate([rows["head"], rows["tail"]])))
        held += len(pending[-1])
        if held > max(_PENDING, len(merged) // 2):
            merged = _merge(merged, pending, limit)
            pending, held = [], 0
    return _merge(merged, pending, limit)


def _merge(merged: np.ndarray, pending: list[np.ndarray], limit: int) -> np.ndarray:
    together = np.concatenate([merged, *pending])
    together.sort()
    kept = np.ones(len(together), dtype=bool)
    kept[1:] = together[1:] != together[:-1]
    merged = together[kept]
    if len(merged) > limit:
        raise DataError(
            f"more than {limit:,} entities lie around the linked ones, too many for the memory; "
            "take fewer --hops, --roles head, leave out relations with --drop-relations, or raise "
            "--max-entities (about 24 bytes each)"
        )
    return merged


def without(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return those of `keys` that are not in `known`; both sorted."""
    return keys[~contains(known, keys)]


def contains(known: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return `[n]` bool, whether each key is in the sorted `known`."""
    if not len(known):
        return np.zeros(len(keys), dtype=bool)
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return known[at] == keys


def slices(size: int, step: int) -> Iterator[slice]:
    """Yield slices that cover `size` rows."""
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))

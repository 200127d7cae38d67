"""Users and items as sorted arrays: who met what in which part of the split."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np


def _sorted_distinct(keys: np.ndarray) -> np.ndarray:
    """Return the distinct `keys`, ascending.

    numpy's `unique` goes through a hash table, 5 to 10 times the time of its sort.
    """
    if (keys[1:] > keys[:-1]).all():
        return keys
    keys = np.sort(keys)
    first = np.append(True, keys[1:] != keys[:-1])
    return keys[first]


def slice_rows(
    indptr: np.ndarray, values: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return `(position in rows, value)` of all entries of the given rows of a CSR, row by row."""
    starts = indptr[rows]
    counts = indptr[rows + 1] - starts
    position = np.repeat(np.arange(len(rows)), counts)
    within = np.arange(len(position)) - np.repeat(np.cumsum(counts) - counts, counts)
    return position, values[starts[position] + within]


class PairTable:
    """Distinct (row, value) pairs, sorted, with exact draws from what a row does not have.

    Rows are users (or head entities), values are items (or entities). Value 0 is [PAD]: it is
    never a candidate.

    Args:
        rows: `[n]` ids below `n_rows`.
        values: `[n]` ids in `1 .. n_values - 1`.
        n_rows: Number of rows.
        n_values: Number of values, [PAD] included.
    """

    def __init__(self, rows: np.ndarray, values: np.ndarray, n_rows: int, n_values: int) -> None:
        self.n_rows, self.n_values = n_rows, n_values
        self.keys = _sorted_distinct(rows.astype(np.int64) * n_values + values)
        self.rows, self.values = np.divmod(self.keys, n_values)
        self.counts = np.bincount(self.rows, minlength=n_rows)
        self.indptr = np.concatenate([[0], np.cumsum(self.counts)])

    def has(self, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return `[n]` bool, whether each pair is in the table."""
        if not len(self.keys):
            return np.zeros(len(rows), dtype=bool)
        wanted = rows * self.n_values + values
        where = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return self.keys[where] == wanted

    def slice_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return `(position in rows, value)` of all pairs of the given rows, row by row."""
        return slice_rows(self.indptr, self.values, rows)

    @cached_property
    def _gap_keys(self) -> np.ndarray:
        # Candidates of the same row below each of its values; ascending within a row.
        below = self.values - 1 - (np.arange(len(self.values)) - self.indptr[self.rows])
        return self.rows * self.n_values + below

    def draw_absent(self, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw for each row one value that it does not have, uniformly and without rejection.

        Args:
            rows: `[n]` rows, each lacking at least one value.
            generator: Source of the draws.

        Returns:
            `[n]` int64 values.
        """
        return self.absent(rows, generator.integers(0, self.n_absent(rows)))

    def n_absent(self, rows: np.ndarray) -> np.ndarray:
        """Return how many values each row does not have, `[n]`."""
        return self.n_values - 1 - self.counts[rows]

    def absent(self, rows: np.ndarray, ranks: np.ndarray) -> np.ndarray:
        """Return one value that each row does not have.

        The r-th candidate of a row is r + 1 + the number of its values that lie at or below it,
        which one binary search finds.

        Args:
            rows: `[n]` rows.
            ranks: `[n]` place among the row's candidates, `0 .. n_absent(row) - 1`.

        Returns:
            `[n]` int64 values.
        """
        passed = np.searchsorted(self._gap_keys, rows * self.n_values + ranks, side="right")
        return ranks + 1 + passed - self.indptr[rows]


class SplitPairs:
    """The pairs of train, valid and test, and what evaluation masks and counts.

    Args:
        parts: `(users, items)` of train, valid and test.
        n_users: Number of user ids, [PAD] included.
        n_items: Number of item ids, [PAD] included.
    """

    PHASES = ("train", "valid", "test")

    def __init__(
        self, parts: Sequence[tuple[np.ndarray, np.ndarray]], n_users: int, n_items: int
    ) -> None:
        self._parts = dict(zip(self.PHASES, parts, strict=True))
        self._shape = (n_users, n_items)
        self._tables: dict[tuple[str, ...], PairTable] = {}

    def table(self, *phases: str) -> PairTable:
        """Return the pairs of the given phases together."""
        if phases not in self._tables:
            users, items = (
                np.concatenate([np.empty(0, np.int64), *(self._parts[p][side] for p in phases)])
                for side in (0, 1)
            )
            self._tables[phases] = PairTable(users, items, *self._shape)
        return self._tables[phases]

    def n_lines(self) -> np.ndarray:
        """Return `[n_users]` interactions of each user in all phases, repeated ones counted."""
        n_users = self._shape[0]
        return sum(
            (np.bincount(users, minlength=n_users) for users, _ in self._parts.values()),
            np.zeros(n_users, dtype=np.int64),
        )

    def used(self, phase: str) -> PairTable:
        """Return the pairs up to and including a phase: what is no negative there."""
        return self.table(*self.PHASES[: self.PHASES.index(phase) + 1])

    def before(self, phase: str) -> PairTable:
        """Return the pairs of the earlier phases: what evaluation of `phase` masks."""
        return self.table(*self.PHASES[: self.PHASES.index(phase)])

    def history(self, phase: str) -> tuple[np.ndarray, np.ndarray]:
        """Return `indptr [n_users + 1]` and `items`: each user's pairs of the earlier phases."""
        table = self.before(phase)
        return table.indptr, table.values

    def positives(self, phase: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the users with pairs in a phase, ascending, and their items.

        Returns:
            `users [n]`, `indptr [n + 1]`, `items [n_pairs]`; user `users[k]` has
            `items[indptr[k]:indptr[k + 1]]`, ascending.
        """
        table = self.table(phase)
        users = np.flatnonzero(table.counts)
        indptr = np.concatenate([[0], np.cumsum(table.counts[users])])
        return users, indptr, table.values

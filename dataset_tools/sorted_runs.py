"""Merges sorted stretches of a file of rows in pieces, so that few rows are in memory at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

_Key = TypeVar("_Key", bound=Any)


class RowSource(Protocol):
    """A file whose rows are read by their numbers."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop`."""


def merged_runs(
    source: RowSource,
    ends: Sequence[int],
    piece: int,
    last_key: Callable[[np.ndarray], _Key],
    count_up_to: Callable[[np.ndarray, _Key], int],
) -> Iterator[list[np.ndarray]]:
    """Read sorted runs side by side, so far that no row left can come before one that is given.

    Args:
        source: The rows.
        ends: Number behind each run's last row; the first run begins at 0.
        piece: Rows of each run that are read at once.
        last_key: Gives the key of the last of some rows; keys are ordered as the rows are.
        count_up_to: Gives how many of some sorted rows come no later than a key.

    Yields:
        Rows of each run that is not through, which the caller puts in order.
    """
    runs = [_Run(source, start, end, piece) for start, end in zip([0, *ends], ends, strict=False)]
    while runs := [run for run in runs if run.fill()]:
        edges = [last_key(run.rows) for run in runs if not run.ended]
        edge = min(edges) if edges else None
        yield [
            run.take(len(run.rows) if edge is None else count_up_to(run.rows, edge)) for run in runs
        ]


class _Run:
    """A stretch of sorted rows, read in pieces.

    Attributes:
        rows: Those in memory.
        ended: Whether no others are on disk.
    """

    def __init__(self, source: RowSource, start: int, end: int, piece: int) -> None:
        self._source, self._at, self._end, self._piece = source, start, end, piece
        self.rows = source.read(start, start)
        self.ended = start == end

    def fill(self) -> bool:
        """Read on where few rows are left; return whether there are any."""
        if not self.ended and 2 * len(self.rows) <= self._piece:
            stop = min(self._at + self._piece, self._end)
            self.rows = np.concatenate([self.rows, self._source.read(self._at, stop)])
            self._at = stop
            self.ended = stop == self._end
        return bool(len(self.rows))

    def take(self, count: int) -> np.ndarray:
        """Remove and return the first rows."""
        taken, self.rows = self.rows[:count], self.rows[count:].copy()
        return taken

"""Ranges of numbers that hold about equally many of them, as values of an attribute."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np


class Ranges:
    """Ranges of numbers, named by their ends; a number at an inner end belongs to the upper one.

    Args:
        edges: Their ends, ascending; none where there are no numbers.
    """

    def __init__(self, edges: Sequence[float]) -> None:
        self._inner = list(edges[1:-1])
        ends = zip([*edges[:1], *self._inner], [*self._inner, *edges[-1:]], strict=True)
        self._names = [f"{low:g}..{high:g}" for low, high in ends]

    def of(self, cell: str) -> list[str]:
        """Return the range of a cell; none where it holds no number."""
        value = number_of(cell)
        if not math.isfinite(value):
            return []
        return [self._names[bisect_right(self._inner, value)]]


def edges_of(numbers: array[float], count: int) -> list[float]:
    """Return the ends of ranges.

    Args:
        numbers: `[n]`, finite.
        count: How many ranges, or fewer where many numbers are equal.
    """
    if not numbers:
        return []
    shares = np.linspace(0, 1, count + 1)
    return np.unique(np.quantile(np.frombuffer(numbers), shares)).tolist()


def number_of(cell: str) -> float:
    """Return the number in a cell, NaN where there is none."""
    try:
        return float(cell)
    except ValueError:
        return math.nan

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
        names = _names_of(edges)
        lows, highs = [*names[:1], *names[1:-1]], [*names[1:-1], *names[-1:]]
        self._names = [f"{low}..{high}" for low, high in zip(lows, highs, strict=True)]

    def of(self, cell: str) -> list[str]:
        """Return the range of a cell; none where it holds no number."""
        value = number_of(cell)
        if not math.isfinite(value):
            return []
        return [self._names[bisect_right(self._inner, value)]]


def _names_of(edges: Sequence[float]) -> list[str]:
    """Return each end as text, with six digits or as many as tell them apart."""
    for digits in range(6, 18):
        names = [f"{edge:.{digits}g}" for edge in edges]
        if len(set(names)) == len(edges):
            break
    return names


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

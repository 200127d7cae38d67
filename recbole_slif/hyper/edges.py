"""Best values at an end of what was searched: better ones may lie beyond it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recbole_slif.hyper.space import Parameter

_NEAR = 0.05  # share of a range's width that counts as its end


def edge_notes(
    parameters: Sequence[Parameter],
    best: Mapping[str, Any],
    allowed: Callable[[str, Any], bool],
) -> list[str]:
    """Name the searched keys whose best value is the smallest or largest of its space.

    Args:
        parameters: what was searched.
        best: the best trial's settings.
        allowed: tells whether a key may have a value; an end that is the key's own limit is none.

    Returns:
        A line for each such key. Choices that are not all numbers have no ends.
    """
    notes = []
    for parameter in parameters:
        name, value = parameter.name, best[parameter.name]
        way = _end(parameter, value)
        if way and any(allowed(name, further) for further in _beyond(value, way)):
            end, more = ("largest", "larger") if way > 0 else ("smallest", "smaller")
            notes.append(f"{name}: {value:g} is the {end} that was searched; try {more} values")
    return notes


def _end(parameter: Parameter, value: Any) -> int:
    """Return 1 for a value at the upper end, -1 at the lower one, 0 between and for no number."""
    if parameter.kind == "choice":
        if not all(map(_is_number, parameter.values)):
            return 0
        low, high, place, margin = min(parameter.values), max(parameter.values), value, 0.0
    else:
        logarithmic = parameter.kind == "loguniform"
        low, high = parameter.values[:2] if logarithmic else parameter.ends()
        place = math.log(value) if logarithmic else value
        margin = _NEAR * (high - low)
    if low == high:
        return 0
    return int(place >= high - margin) - int(place <= low + margin)


def _beyond(value: float, way: int) -> tuple[float, float]:
    """Return the next number, and the next one of a key that takes whole numbers alone."""
    return math.nextafter(value, way * math.inf), value + way


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""Runs that ended before their ranking loss had moved: patience ran out before learning began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

RANKING_LOSS = "bpr"
_LEAST_FALL = 0.01  # share of the first epoch's value; a model that learns loses more
_LEAST_EPOCHS = 5


def stood_still(history: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether the ranking loss is where it began.

    Rows near zero give every pair the same score, a loss of ln 2 and gradients near zero, and a
    strong second loss can hold a model there for longer than the patience of early stopping.

    Args:
        history: the entries of a run's epochs in their order, each with its `loss`: named parts, of
            which `bpr` is looked at, or the only part as a number.

    Returns:
        True if no epoch's loss is 1 % below the first one's; False for fewer than five epochs and
        where the ranking loss cannot be told from others.
    """
    values = [_ranking(entry.get("loss")) for entry in history]
    known = [value for value in values if value is not None]
    if len(known) < max(_LEAST_EPOCHS, len(values)):
        return False
    return known[0] > 0 and min(known) > (1.0 - _LEAST_FALL) * known[0]


def _ranking(loss: Any) -> float | None:
    part = loss.get(RANKING_LOSS) if isinstance(loss, Mapping) else loss
    return float(part) if isinstance(part, Real) else None

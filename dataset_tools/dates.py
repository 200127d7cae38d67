"""Ratings, dates and times in raw lines as numbers."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

# As seconds they lie beyond the year 5100, so such times count milliseconds or less.
_NO_SECONDS = 1e11


def number_of(value: Any) -> float:
    """Return a number, NaN for none.

    Raises:
        ValueError: It is no finite number.
        TypeError: It is of another kind.
        OverflowError: It is beyond a float.
    """
    if value is None or value == "":
        return math.nan
    number = float(value)
    if not math.isfinite(number) or isinstance(value, bool):
        raise ValueError(value)
    return number


def time_of(value: Any) -> float:
    """Return a time as seconds since 1970, NaN for none.

    Numbers count seconds, or milli-, micro- or nanoseconds where they are too large for that.

    Raises:
        ValueError: It is no finite number and no date; see `number_of`.
        TypeError: It is of another kind.
        OverflowError: It is beyond a float.
    """
    if isinstance(value, str) and not value.isdecimal():
        return _time_in(value)
    return _seconds(number_of(value))


def _seconds(number: float) -> float:
    while abs(number) >= _NO_SECONDS:
        number /= 1000
    return number


@lru_cache(maxsize=1 << 16)
def _time_in(text: str) -> float:
    text = text.strip()
    if not text:
        return math.nan
    try:
        return _seconds(number_of(text))
    except ValueError:
        return seconds_of(text)


def seconds_of(text: str) -> float:
    """Return seconds since 1970 of an ISO date or date and time; without zone it is UTC.

    Raises:
        ValueError: It is none.
    """
    # Python 3.10 does not know the Z of UTC.
    moment = datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith("Z") else text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.timestamp()

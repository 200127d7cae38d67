"""Reads JSON of unknown origin, and writes text that no spreadsheet calculates."""

from __future__ import annotations

import json
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def read_json(text: str | bytes) -> Any:
    """Read JSON.

    Raises:
        ValueError: it is none, or is nested so deep that reading it gives up.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def sheet_cell(value: Any) -> Any:
    """Return a cell of CSV; a text that a spreadsheet would calculate gets an apostrophe."""
    if not isinstance(value, str) or not value.startswith(_FORMULA) or _is_number(value):
        return value
    return f"'{value}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

"""One sentence per item, from an `.item` file or from raw JSON lines of Amazon or Yelp."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_slif.data.tables import read_table
from recbole_slif.errors import DataError

from .attributes import plain_text
from .faults import Faults
from .records import read_records
from .tokens import canonical

# Item id and columns; `region` is made of city and state.
RAW = {
    "amazon": ("asin", ["title", "description", "categories", "brand"]),
    "yelp": ("business_id", ["name", "region", "stars", "categories"]),
    "json": ("item_id", []),
}
_TWICE = "lines of an item that already has a line"
_EMPTY = "items without any text"


def item_sentences(
    path: Path,
    item_field: str,
    columns: Sequence[str] | None,
    longest: int = 0,
    faults: Faults | None = None,
) -> tuple[list[str], list[str]]:
    """Return item tokens, shorter ones first, then by alphabet, and one sentence for each.

    Columns are joined by `. `; empty cells leave no trace.

    Args:
        path: An `.item` file.
        item_field: Its column of item ids.
        columns: Columns in order; None takes all others.
        longest: Characters of a sentence at most; 0 for no limit.
        faults: Receives items that occur twice and items without text.

    Raises:
        DataError: The file is malformed, lacks a column, or an item has no text at all.
    """
    faults = faults or Faults()
    frame = read_table(path, required=[item_field]).frame
    chosen = list(columns) if columns else [str(name) for name in frame if name != item_field]
    for name in chosen:
        if name not in frame:
            have = ", ".join(str(column) for column in frame if column != item_field)
            raise DataError(f"--columns: {path.name} has no column '{name}'; it has {have}")
    cells = [_as_text(frame[name]) for name in chosen]
    found: dict[str, str] = {}
    rows = zip(frame[item_field], zip(*cells, strict=True), strict=True)
    for line, (token, row) in enumerate(rows, start=2):
        _put(found, token, _joined(row, longest), (path, line), faults)
    return _ordered(found, f"{path}: columns {', '.join(chosen)}", faults)


def raw_sentences(
    paths: Sequence[Path],
    item_field: str,
    columns: Sequence[str],
    longest: int,
    known: Collection[str] | None,
    faults: Faults,
) -> tuple[list[str], list[str]]:
    """Return item tokens and one sentence for each, as `item_sentences`, from JSON lines.

    Args:
        paths: JSON lines, plain or packed.
        item_field: Key of the item's id.
        columns: Keys, in the order in which they are joined.
        longest: Characters of a sentence at most; 0 for no limit.
        known: Items to take; None takes all.
        faults: Receives what cannot be read.

    Raises:
        DataError: A file cannot be read, or no item has text.
    """
    found: dict[str, str] = {}
    for path in paths:
        for line, token, record in read_records(path, item_field, faults):
            if known is None or token in known:
                row = [_value(record, name) for name in columns]
                _put(found, token, _joined(row, longest), (path, line), faults)
    return _ordered(found, f"{paths[0]}: keys {', '.join(columns)}", faults)


def _put(
    found: dict[str, str], token: str, sentence: str, where: tuple[Path, int], faults: Faults
) -> None:
    """Keep an item's sentence; of several the first by alphabet that is not empty."""
    if token in found:
        faults.add(_TWICE, *where)
        sentence = min(filter(None, (sentence, found[token])), default="")
    found[token] = sentence


def _ordered(found: dict[str, str], source: str, faults: Faults) -> tuple[list[str], list[str]]:
    tokens = canonical(token for token, sentence in found.items() if sentence)
    if not tokens:
        raise DataError(f"{source} are empty for every item")
    empty = len(found) - len(tokens)
    if empty:
        faults.add(_EMPTY, source.partition(": ")[0], count=empty)
    return tokens, [found[token] for token in tokens]


def _joined(parts: Sequence[str], longest: int) -> str:
    sentence = ". ".join(part for part in parts if part)
    if not longest or len(sentence) <= longest:
        return sentence
    cut = sentence[: longest + 1].rpartition(" ")[0]
    return cut or sentence[:longest]


def _as_text(column: pd.Series) -> list[str]:
    if column.dtype.kind == "f":
        return ["" if np.isnan(number) else f"{number:g}" for number in column]
    return [plain_text(str(cell)) for cell in column]


def _value(record: dict[str, Any], name: str) -> str:
    if name == "region" and "region" not in record:
        return ", ".join(filter(None, (_flat(record.get(key)) for key in ("city", "state"))))
    return _flat(record.get(name))


def _flat(value: Any) -> str:
    """Return a JSON value as text: nested lists become one list, each entry once."""
    if isinstance(value, str):
        return plain_text(value.encode("utf-8", "replace").decode())
    if isinstance(value, bool) or value is None or isinstance(value, dict):
        return ""
    if isinstance(value, int | float):
        return f"{value:g}"
    parts: dict[str, None] = {}
    waiting = [value]
    while waiting:  # a loop, for lists nested without end
        entry = waiting.pop(0)
        if isinstance(entry, list | tuple):
            waiting[:0] = entry
        elif part := _flat(entry):
            parts[part] = None
    return ", ".join(parts)

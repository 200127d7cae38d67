"""One sentence per item, from an `.item` file or from raw JSON lines of Amazon or Yelp."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.data.tables import parse_header
from recbole_slif.errors import DataError

from .attributes import plain_text
from .batches import take_text
from .faults import Faults
from .item_spool import ItemSpool
from .reading import read_atomic
from .records import read_records
from .token_order import NumberedTokens

# Item id and columns; `region` is made of city and state. Amazon's categories are one of two keys,
# by the year of the dump, and so is the brand.
RAW = {
    "amazon": ("asin", ["title", "description", "categories", "category", "brand", "store"]),
    "yelp": ("business_id", ["name", "region", "stars", "categories"]),
    "json": ("item_id", []),
}
_TWICE = "lines of an item that already has a line"
_EMPTY = "items without any text"
# Columns of the .item that `release` writes: ids, which say nothing as texts.
_IDS = ("original_id", "freebase_id")


class Sentences:
    """One sentence for each item that has any, on disk, in the order in which they are encoded.

    Sentences of similar length stand together: shorter ones first, then by alphabet. Memory holds
    twelve bytes for each.

    Args:
        folder: For their files.

    Attributes:
        digest: Hash of all sentences in the order of items.
        order: `[n]` number of the item of each sentence, in the order of encoding.
    """

    def __init__(self, folder: Path) -> None:
        self._sentences = NumberedTokens(folder, "sentence")
        self._hash = hashlib.sha256()

    def add(self, sentence: str) -> None:
        """Append the sentence of the next item; it holds no line end."""
        take_text(self._hash, sentence)
        self._sentences.add(sentence)

    def finish(self) -> Sentences:
        """Bring them into order; none can be added afterwards."""
        self._texts, self._ranks = self._sentences.finish()
        self.order = np.argsort(self._ranks, kind="stable")
        self.digest = self._hash.hexdigest()
        return self

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._ranks)

    def texts(self, rows: np.ndarray) -> list[str]:
        """Return the sentences of items `[m]`."""
        return self._texts.texts(self._ranks[rows])

    def close(self) -> None:
        """Close its file."""
        self._sentences.close()


def put_items(
    spool: ItemSpool,
    path: Path,
    item_field: str,
    columns: Sequence[str] | None,
    longest: int,
    faults: Faults,
) -> str:
    """Put a sentence for each line of an `.item` file into the spool.

    Columns are joined by `. `; empty cells leave no trace. Original ids of a release are no texts
    unless `columns` names them.

    Args:
        spool: Receives them.
        path: The file.
        item_field: Its column of item ids.
        columns: Columns in order; None takes all others.
        longest: Characters of a sentence at most; 0 for no limit.
        faults: Receives lines of another width or without id, and cells that are no numbers.

    Returns:
        Where the sentences come from, in words.

    Raises:
        DataError: The file cannot be read, or its header lacks a column.
    """
    lines = read_atomic(path, faults)
    _, head = next(lines, (1, [""]))
    types = parse_header(path, "\t".join(head).encode(), "\t")
    others = [name for name in types if name != item_field]
    chosen = list(columns or [name for name in others if name not in _IDS])
    if item_field not in types:
        have = ", ".join(types)
        raise DataError(f"{path}: line 1: no column '{item_field}' (columns: {have})")
    for name in chosen:
        if name not in types:
            have = ", ".join(others)
            raise DataError(f"--columns: {path.name} has no column '{name}'; it has {have}")
    if not chosen:
        have = ", ".join(others) or "none"
        raise DataError(
            f"{path}: no column of texts (other columns: {have}); add one, or use --raw"
        )
    names = list(types)
    at, places = names.index(item_field), [names.index(name) for name in chosen]
    for number, cells in lines:
        if not cells[at].strip():
            faults.add("lines without an item id", path, number)
        else:
            row = []
            for place, name in zip(places, chosen, strict=True):
                text = _cell(cells[place], types[name])
                if text is None:
                    faults.add(f"cells that are no number ({name})", path, number)
                row.append(text or "")
            spool.add(cells[at].strip(), [_joined(row, longest)], path, number)
    return f"{path}: columns {', '.join(chosen)}"


def _cell(text: str, kind: str) -> str | None:
    """Return a cell as text, None for a number that is none."""
    if kind != "float":
        return plain_text(text)
    try:
        number = float(text) if text.strip() else math.nan
    except ValueError:
        return None
    if math.isinf(number):
        return None
    return "" if math.isnan(number) else _digits(number)


def _digits(number: float) -> str:
    """Return a number in the digits that it was given in, up to the 15 that a double keeps."""
    return str(number) if isinstance(number, int) else f"{number:.15g}"


def put_raw(
    spool: ItemSpool,
    paths: Sequence[Path],
    item_field: str,
    columns: Sequence[str],
    longest: int,
    known: Collection[str] | None,
    faults: Faults,
) -> str:
    """Put a sentence for each of the JSON lines into the spool; see `put_items`.

    Args:
        spool: Receives them.
        paths: JSON lines, plain or packed.
        item_field: Key of the item's id.
        columns: Keys, in the order in which they are joined.
        longest: Characters of a sentence at most; 0 for no limit.
        known: Items to take; None takes all.
        faults: Receives what cannot be read.

    Raises:
        DataError: A file cannot be read, or no line has an id, or one of those to take.
    """
    met = taken = False
    for path in paths:
        for line, token, record in read_records(path, item_field, faults):
            met = True
            if known is None or token in known:
                taken = True
                row = [_value(record, name) for name in columns]
                spool.add(token, [_joined(row, longest)], path, line)
    if not met:
        raise DataError(
            f"{paths[0]}: no line has an item id under '{item_field}'; name its key by --item-field"
        )
    if not taken:
        raise DataError(
            f"{paths[0]}: no line is of an item of --items; do their tokens look like '{token}'?"
        )
    return f"{paths[0]}: keys {', '.join(columns)}"


def bring_into_order(spool: ItemSpool, source: str, faults: Faults) -> tuple[Path, Sentences]:
    """Return a file of item tokens, shorter ones first, then by alphabet, and their sentences.

    Of several sentences of an item the first by alphabet that is not empty counts.

    Args:
        spool: With all sentences.
        source: Where they come from.
        faults: Receives items that occur twice and items without text.

    Raises:
        DataError: No item has text.
    """
    spool.finish()
    spool.sort(faults, _TWICE)
    sentences, empty = Sentences(spool.folder), 0
    path = spool.folder / "tokens"
    with path.open("w", encoding="utf-8", newline="\n") as tokens:
        for token, (sentence,) in spool.rows("sort sentences", _first_filled):
            if sentence:
                tokens.write(f"{token}\n")
                sentences.add(sentence)
            else:
                empty += 1
    sentences.finish()
    if not len(sentences):
        raise DataError(f"{source} are empty for every item")
    if empty:
        faults.add(_EMPTY, source.partition(": ")[0], count=empty)
    return path, sentences


def _first_filled(entries: list[list[str]]) -> list[str]:
    return min((cells for cells in entries if cells[0]), default=[""])


def _joined(parts: Sequence[str], longest: int) -> str:
    sentence = ". ".join(part for part in parts if part)
    if not longest or len(sentence) <= longest:
        return sentence
    cut = sentence[: longest + 1].rpartition(" ")[0]
    return cut or sentence[:longest]


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
        return _digits(value)
    parts: dict[str, None] = {}
    waiting = [value]
    while waiting:  # a loop, for lists nested without end
        entry = waiting.pop(0)
        if isinstance(entry, list | tuple):
            waiting[:0] = entry
        elif part := _flat(entry):
            parts[part] = None
    return ", ".join(parts)

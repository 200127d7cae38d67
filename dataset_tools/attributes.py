"""`attributes`: a table of items and what they are becomes `.kg`, `.link` and `.item`."""

from __future__ import annotations

import argparse
import html
import re
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.errors import DataError

from . import faults as fault_log
from .fact_store import Facts, FactStore, write_graph
from .faults import Faults
from .item_spool import ItemSpool
from .reviews import column_places, read_cells, separator
from .tokens import canonical, read_tokens
from .writing import clean_cell, write_rows

DESCRIPTION = """\
Turn a table with one item a line (CSV or TSV with a header) into a knowledge graph: each column is
a relation, each value an entity, so that items of one brand meet in that brand. Columns in --lists
hold several values in a cell; columns in --numbers are cut into ranges of equally many items.
Columns in --texts go to NAME.item instead, free of HTML, for the command text."""
EXAMPLES = """\
  python -m dataset_tools attributes products.csv --item-column sku \\
      --columns brand colour tags price --lists tags --numbers price \\
      --texts title description --name shop --out dataset/shop \\
      --items dataset/shop/shop.inter"""
_NO_ID = "lines without an item id"
_TWICE = "lines of an item that already has a line"
_NO_NUMBER = "cells of --numbers that are no number"
_TAG = re.compile(r"<[/!a-zA-Z][^<>]*>")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `attributes`."""
    parser.add_argument("file", type=Path, help="a table with a header and one item a line")
    parser.add_argument("--item-column", required=True, help="column of the item ids")
    parser.add_argument(
        "--columns", nargs="+", help="columns that become relations; default: all but the texts"
    )
    parser.add_argument("--texts", nargs="+", default=[], help="columns for NAME.item")
    parser.add_argument("--lists", nargs="+", default=[], help="columns with several values a cell")
    parser.add_argument("--list-separator", default="|", help="between them; default: %(default)s")
    parser.add_argument("--numbers", nargs="+", default=[], help="columns to cut into ranges")
    parser.add_argument("--ranges", type=int, default=5, help="how many; default: %(default)s")
    parser.add_argument(
        "--min-items", type=int, default=1, help="least items of a value; default: %(default)s"
    )
    parser.add_argument("--items", nargs="+", type=Path, help="keep the items of these files alone")
    parser.add_argument("--item-field", default="item_id", help="its name there: %(default)s")
    parser.add_argument("--separator", default="comma", help="of cells; default: %(default)s")
    parser.add_argument("--encoding", default="utf-8", help="default: %(default)s")
    parser.add_argument("--name", required=True, help="data set name in the file names")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    fault_log.add_options(parser)


@dataclass(frozen=True)
class Attributes:
    """The table on disk.

    Attributes:
        relations: Columns that become relations, in their order.
        texts: Columns that become texts.
        spool: Each item's cells of `relations`, then of `texts`.
        known: Items to take; None takes all.
    """

    relations: list[str]
    texts: list[str]
    spool: ItemSpool
    known: set[str] | None

    def rows(self, what: str) -> Iterator[tuple[str, list[str]]]:
        """Yield items to take and their cells; of several different lines the first by alphabet."""
        for item, cells in self.spool.rows(what):
            if self.known is None or item in self.known:
                yield item, cells


def run(options: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        DataError: The file or a column is not usable, or no triple is left.
    """
    if options.ranges < 2 or options.min_items < 1:
        raise DataError("--ranges must be at least 2 and --min-items at least 1")
    faults, counts = Faults(), Counter[str]()
    with (
        ItemSpool(options.out / f".{options.name}.items.partial") as spool,
        FactStore(options.out / f".{options.name}.facts.partial") as store,
    ):
        table = read_attributes(options, spool, faults)
        taken = _put_facts(table, options, store, faults)
        if table.known is not None:
            counts["items of the table that the data set does not have"] = len(spool) - taken
            counts["items of the data set that the table lacks"] = len(table.known) - taken
        facts = store.facts(options.min_items, 1, counts)
        fault_log.refuse(faults, options)
        if not facts.triples and table.relations:
            raise DataError(
                f"{options.file}: no triple is left; check --columns, --min-items, --items"
            )
        written, linked = _write(table, facts, options)
    shown: dict[str, Any] = {"items": taken, **counts, "linked items": linked}
    shown |= {"triples": facts.triples, "values": facts.values, "relations": len(facts.relations)}
    fault_log.conclude({**shown, "files": ", ".join(written)}, faults, options)


def read_attributes(options: argparse.Namespace, spool: ItemSpool, faults: Faults) -> Attributes:
    """Read the table into the spool.

    Raises:
        DataError: The file cannot be read or lacks a column.
    """
    lines = read_cells(options.file, separator(options.separator), options.encoding, faults)
    _, head = next(lines, (1, []))
    (at,) = column_places(options.file, head, [options.item_column])
    names = [cell.strip().rpartition(":")[0] or cell.strip() for cell in head]
    asked = options.columns
    if asked is None:
        asked = [name for place, name in enumerate(names) if place != at]
        asked = [name for name in asked if name not in options.texts]
    for name in (*options.lists, *options.numbers):
        if name not in asked:
            raise DataError(f"--lists, --numbers: '{name}' is not among the columns of relations")
    places = column_places(options.file, head, [*asked, *options.texts])
    for number, line in lines:
        item = clean_cell(line[at])
        if item:
            spool.add(item, [line[place] for place in places], options.file, number)
        else:
            faults.add(_NO_ID, options.file, number)
    spool.finish(faults, _TWICE)
    known = read_tokens(options.items, options.item_field, faults) if options.items else None
    return Attributes(list(asked), list(options.texts), spool, known)


def _put_facts(
    table: Attributes, options: argparse.Namespace, store: FactStore, faults: Faults
) -> int:
    """Put each item's values into the store; return how many items were taken."""
    numeric = [place for place, name in enumerate(table.relations) if name in options.numbers]
    ranges = _ranges(table, numeric, options, faults) if numeric else {}
    taken = 0
    for item, cells in table.rows("find values"):
        taken += 1
        for place, relation in enumerate(table.relations):
            if place in ranges:
                values = ranges[place].of(cells[place])
            else:
                mark = options.list_separator if relation in options.lists else None
                values = _values(cells[place], mark)
            for value in values:
                store.add_fact(item, relation, value)
    return taken


def _values(cell: str, mark: str | None) -> list[str]:
    parts = cell.split(mark) if mark else [cell]
    return canonical({clean_cell(part) for part in parts} - {""})


class _Ranges:
    """Ranges of about equally many numbers, named by their ends.

    Args:
        numbers: `[n]` of all items.
        count: How many ranges, or fewer where many numbers are equal.
    """

    def __init__(self, numbers: np.ndarray, count: int) -> None:
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, count + 1)))
        self._inner = edges[1:-1].tolist()
        ends = zip([edges[0], *self._inner], [*self._inner, edges[-1]], strict=True)
        self._names = [f"{low:g}..{high:g}" for low, high in ends]

    def of(self, cell: str) -> list[str]:
        """Return the range of a cell; none where it holds no number."""
        value = _number(cell)
        if not np.isfinite(value):
            return []
        return [self._names[bisect_right(self._inner, value)]]


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan


def _ranges(
    table: Attributes, places: Sequence[int], options: argparse.Namespace, faults: Faults
) -> dict[int, _Ranges]:
    """Return the ranges of each column of numbers that holds some."""
    found = {place: array("d") for place in places}
    for _, cells in table.rows("find ranges"):
        for place in places:
            value = _number(cells[place])
            if np.isfinite(value):
                found[place].append(value)
            elif cells[place].strip():
                faults.add(f"{_NO_NUMBER} ({table.relations[place]})", options.file)
    empty = np.array([np.nan])
    return {
        place: _Ranges(np.frombuffer(numbers) if numbers else empty, options.ranges)
        for place, numbers in found.items()
    }


def plain_text(text: str) -> str:
    """Return a text without HTML tags and entities, on one line."""
    # Twice, for dumps that hold `&lt;br&gt;`.
    for _ in range(2):
        text = html.unescape(_TAG.sub(" ", text))
    return clean_cell(text)


def _write(table: Attributes, facts: Facts, options: argparse.Namespace) -> tuple[list[str], int]:
    """Write the files; return their names and the number of linked items."""
    written: list[str] = []
    linked = 0
    if facts.triples:
        written, linked = write_graph(options.out, options.name, facts)
    if table.texts:
        written.append(f"{options.name}.item")
        header = ["item_id:token", *(f"{clean_cell(text)}:token_seq" for text in table.texts)]
        first = len(table.relations)
        rows = ([item, *map(plain_text, cells[first:])] for item, cells in table.rows(written[-1]))
        write_rows(options.out / written[-1], header, rows)
    return written, linked

"""`attributes`: a table of items and what they are becomes `.kg`, `.link` and `.item`."""

from __future__ import annotations

import argparse
import html
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from recbole_slif.errors import DataError

from . import faults as fault_log
from .fact_store import Facts, FactStore, write_graph
from .faults import Faults
from .item_spool import Cells, ItemSpool
from .journal import Journal, run_identity
from .number_ranges import Ranges, edges_of, number_of
from .resumed_reading import ResumedReading
from .reviews import column_places, head_and_lines, separator, token_of
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
_NO_ID = "lines without an item id, or with a tab in it"
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
        spool: Each item's cells of `relations`, then of `texts`, then the number of its line.
        known: Items to take; None takes all.
        unnamed: Columns left out because the header does not name them.
    """

    relations: list[str]
    texts: list[str]
    spool: ItemSpool
    known: set[str] | None
    unnamed: int

    def rows(self, what: str) -> Iterator[tuple[str, Cells]]:
        """Yield items to take and their cells; of several different lines the first by alphabet."""
        for item, cells in self.spool.rows(what, _first):
            if self.takes(item):
                yield item, cells

    def takes(self, item: str) -> bool:
        """Tell whether an item is to be taken."""
        return self.known is None or item in self.known

    def taken(self) -> int:
        """Return how many items are taken."""
        return len(self.spool) if self.known is None else self.spool.count_in(self.known)


def _first(entries: list[Cells]) -> Cells:
    return min(entries, key=lambda cells: (cells[:-1], int(cells[-1])))


def run(options: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        DataError: The file or a column is not usable, or no triple is left.
    """
    if options.ranges < 2 or options.min_items < 1:
        raise DataError("--ranges must be at least 2 and --min-items at least 1")
    faults, counts = Faults(), Counter[str]()
    identity = run_identity(options, [options.file, *(options.items or ())])
    with (
        ItemSpool(options.out / f".{options.name}.items.partial", identity) as spool,
        FactStore(options.out / f".{options.name}.facts.partial", identity) as store,
    ):
        table = read_attributes(options, spool, faults)
        taken = table.taken()
        if table.unnamed:
            counts["columns without a name left out"] = table.unnamed
        if table.known is not None:
            counts["items of the table that the data set does not have"] = len(spool) - taken
            counts["items of the data set that the table lacks"] = len(table.known) - taken
        _put_facts(table, options, store, faults)
        facts = store.facts(options.min_items, 1, counts)
        fault_log.refuse(faults, options)
        if not facts.triples and table.relations:
            raise DataError(
                f"{options.file}: no triple is left; check --columns, --min-items, --items"
            )
        written, linked = _write(table, facts, options, store.journal)
    shown: dict[str, Any] = {"items": taken, **counts, "linked items": linked}
    shown |= {"triples": facts.triples, "values": facts.values, "relations": len(facts.relations)}
    fault_log.conclude({**shown, "files": ", ".join(written)}, faults, options)


def read_attributes(options: argparse.Namespace, spool: ItemSpool, faults: Faults) -> Attributes:
    """Read the table into the spool, or what a killed run did not read of it.

    Raises:
        DataError: The file cannot be read or lacks a column.
    """
    layout = (options.file, separator(options.separator), options.encoding)
    reading = ResumedReading(spool, [options.file], faults, Counter())
    head: list[str] = []
    for path, after in reading.files():
        head, lines = head_and_lines(*layout, faults, after)
        at, places = _places(options, head)
        for reading.line, line in lines:
            item = token_of(line[at])
            if item:
                cells = [*(line[place] for place in places), str(reading.line)]
                spool.add(item, cells, path, reading.line)
            else:
                faults.add(_NO_ID, path, reading.line)
    head = head or head_and_lines(*layout, Faults())[0]
    spool.sort(faults, _TWICE)
    known = read_tokens(options.items, options.item_field, faults) if options.items else None
    # An index that pandas wrote along, or commas that end the lines.
    unnamed = 0 if options.columns is not None else sum(not cell.strip() for cell in head)
    return Attributes(_relations(options, head), list(options.texts), spool, known, unnamed)


def _relations(options: argparse.Namespace, head: Sequence[str]) -> list[str]:
    """Return the columns that become relations."""
    if options.columns is not None:
        return list(options.columns)
    names = [cell.strip().rpartition(":")[0] or cell.strip() for cell in head]
    (at,) = column_places(options.file, head, [options.item_column])
    others = [name for place, name in enumerate(names) if place != at]
    return [name for name in others if name and name not in options.texts]


def _places(options: argparse.Namespace, head: Sequence[str]) -> tuple[int, list[int]]:
    """Return the places of the item id and of relations and texts.

    Raises:
        DataError: A column is missing.
    """
    (at,) = column_places(options.file, head, [options.item_column])
    relations = _relations(options, head)
    for name in (*options.lists, *options.numbers):
        if name not in relations:
            raise DataError(f"--lists, --numbers: '{name}' is not among the columns of relations")
    return at, column_places(options.file, head, [*relations, *options.texts])


def _put_facts(
    table: Attributes, options: argparse.Namespace, store: FactStore, faults: Faults
) -> None:
    """Put each item's values into the store."""
    lists = set(options.lists)
    ranges = _ranges(table, options, store.journal, faults)

    def facts_of(item: str, cells: Cells) -> Iterator[tuple[str, str]]:
        if not table.takes(item):
            return
        for relation, cell in zip(table.relations, cells, strict=False):
            if relation in ranges:
                values = ranges[relation].of(cell)
            else:
                values = _values(cell, options.list_separator if relation in lists else None)
            yield from ((relation, value) for value in values)

    store.put(table.spool, facts_of)


def _ranges(
    table: Attributes, options: argparse.Namespace, journal: Journal, faults: Faults
) -> dict[str, Ranges]:
    """Return the ranges of each column of numbers, found now or by a killed run."""
    places = [at for at, name in enumerate(table.relations) if name in options.numbers]
    if not places:
        return {}
    if journal.last("ranges") is None:
        bad = Faults()
        found = _numbers(table, places, options.file, bad)
        edges = {table.relations[at]: edges_of(found[at], options.ranges) for at in places}
        journal.add(ranges=edges, faults=bad.report())
    done = journal.last("ranges") or {}
    faults.take(done["faults"])
    return {name: Ranges(edges) for name, edges in done["ranges"].items()}


def _numbers(
    table: Attributes, places: Sequence[int], path: Path, faults: Faults
) -> dict[int, array[float]]:
    """Return the numbers of some columns, of all items to take."""
    found = {place: array("d") for place in places}
    for _, cells in table.rows("find ranges"):
        for place in places:
            value = number_of(cells[place])
            if isfinite(value):
                found[place].append(value)
            elif cells[place].strip():
                faults.add(f"{_NO_NUMBER} ({table.relations[place]})", path, int(cells[-1]))
    return found


def _values(cell: str, mark: str | None) -> list[str]:
    parts = cell.split(mark) if mark else [cell]
    return canonical({clean_cell(part) for part in parts} - {""})


def plain_text(text: str) -> str:
    """Return a text without HTML tags and entities, on one line."""
    # Twice, for dumps that hold `&lt;br&gt;`.
    for _ in range(2):
        text = html.unescape(_TAG.sub(" ", text))
    return clean_cell(text)


def _write(
    table: Attributes, facts: Facts, options: argparse.Namespace, journal: Journal
) -> tuple[list[str], int]:
    """Write the files; return their names and the number of linked items."""
    written: list[str] = []
    linked = 0
    if facts.triples:
        written, linked = write_graph(options.out, options.name, facts, journal)
    if table.texts:
        written.append(f"{options.name}.item")
        header = ["item_id:token", *(f"{clean_cell(text)}:token_seq" for text in table.texts)]
        first = len(table.relations)
        path = options.out / written[-1]

        def write() -> int:
            rows = table.rows(path.name)
            texts = ([item, *map(plain_text, cells[first:-1])] for item, cells in rows)
            return write_rows(path, header, texts)

        journal.once(path, write)
    return written, linked

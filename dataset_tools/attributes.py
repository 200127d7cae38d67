"""`attributes`: a table of items and what they are becomes `.kg`, `.link` and `.item`."""

from __future__ import annotations

import argparse
import html
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.errors import DataError

from . import faults as fault_log
from .faults import Faults
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
    """The table in memory.

    Attributes:
        relations: Columns that become relations, in their order.
        texts: Columns that become texts.
        cells: Item token to its cells of `relations`, then of `texts`.
    """

    relations: list[str]
    texts: list[str]
    cells: dict[str, list[str]]


def run(options: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        DataError: The file or a column is not usable, or no triple is left.
    """
    if options.ranges < 2 or options.min_items < 1:
        raise DataError("--ranges must be at least 2 and --min-items at least 1")
    faults, counts = Faults(), Counter[str]()
    table = read_attributes(options, faults)
    if options.items:
        known = read_tokens(options.items, options.item_field, faults)
        counts["items of the table that the data set does not have"] = len(
            table.cells.keys() - known
        )
        counts["items of the data set that the table lacks"] = len(known - table.cells.keys())
        kept = {item: cells for item, cells in table.cells.items() if item in known}
        table = Attributes(table.relations, table.texts, kept)
    triples = make_triples(table, options, faults, counts)
    fault_log.refuse(faults, options)
    if not triples and table.relations:
        raise DataError(f"{options.file}: no triple is left; check --columns, --min-items, --items")
    written = _write(table, triples, options)
    shown: dict[str, Any] = {"items": len(table.cells), **counts}
    shown["linked items"] = len({item for item, _, _ in triples})
    shown["triples"] = len(triples)
    shown["values"] = len({tail for _, _, tail in triples})
    shown["relations"] = len({relation for _, relation, _ in triples})
    fault_log.conclude({**shown, "files": ", ".join(written)}, faults, options)


def read_attributes(options: argparse.Namespace, faults: Faults) -> Attributes:
    """Read the table; of an item with several different lines the first by alphabet counts.

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
    cells: dict[str, list[str]] = {}
    for number, line in lines:
        item = clean_cell(line[at])
        if not item:
            faults.add(_NO_ID, options.file, number)
            continue
        found = [line[place] for place in places]
        if item in cells:
            faults.add(_TWICE, options.file, number)
            found = min(found, cells[item])
        cells[item] = found
    return Attributes(list(asked), list(options.texts), cells)


Triple = tuple[str, str, str]


def make_triples(
    table: Attributes, options: argparse.Namespace, faults: Faults, counts: Counter[str]
) -> list[Triple]:
    """Return `(item, relation, value)` in canonical order.

    Args:
        table: The attributes.
        options: `lists`, `list_separator`, `numbers`, `ranges`, `min_items`.
        faults: Receives cells that are no numbers.
        counts: Receives what was left out.
    """
    triples: list[Triple] = []
    items = canonical(table.cells)
    for place, relation in enumerate(table.relations):
        column = {item: table.cells[item][place] for item in items}
        if relation in options.numbers:
            values = _ranges(column, relation, options, faults)
        else:
            mark = options.list_separator if relation in options.lists else None
            values = {item: _values(cell, mark) for item, cell in column.items()}
        triples += value_triples(relation, values, options.min_items, counts)
    return in_order(triples)


def value_triples(
    relation: str, values: Mapping[str, Sequence[str]], least: int, counts: Counter[str]
) -> list[Triple]:
    """Return `(item, relation, relation=value)` of one relation, without rare values.

    Args:
        relation: Its name.
        values: Item to its values.
        least: Items that a value has at least.
        counts: Receives values of fewer items.
    """
    by_value = defaultdict(list)
    for item, found in values.items():
        for value in found:
            by_value[value].append(item)
    kept = [value for value in by_value if len(by_value[value]) >= least]
    counts["values of fewer items than --min-items left out"] += len(by_value) - len(kept)
    return [(item, relation, f"{relation}={value}") for value in kept for item in by_value[value]]


def in_order(triples: Sequence[Triple]) -> list[Triple]:
    """Sort triples by item as `canonical` does, then by relation and value."""
    return sorted(triples, key=lambda triple: (len(triple[0]), *triple))


def _values(cell: str, mark: str | None) -> list[str]:
    parts = cell.split(mark) if mark else [cell]
    return canonical({clean_cell(part) for part in parts} - {""})


def _ranges(
    column: Mapping[str, str], relation: str, options: argparse.Namespace, faults: Faults
) -> dict[str, list[str]]:
    """Cut numbers into ranges of about equally many items, named by their ends."""
    numbers: dict[str, float] = {}
    for item, cell in column.items():
        text = cell.strip()
        try:
            value = float(text) if text else np.nan
        except ValueError:
            value = np.nan
        if np.isfinite(value):
            numbers[item] = value
        elif text:
            faults.add(f"{_NO_NUMBER} ({relation})", options.file)
    if not numbers:
        return {}
    edges = np.unique(np.quantile(list(numbers.values()), np.linspace(0, 1, options.ranges + 1)))
    inner = edges[1:-1]
    names = [
        f"{low:g}..{high:g}"
        for low, high in zip([edges[0], *inner], [*inner, edges[-1]], strict=True)
    ]
    found = np.searchsorted(inner, list(numbers.values()), side="right")
    return {item: [names[place]] for item, place in zip(numbers, found, strict=True)}


def plain_text(text: str) -> str:
    """Return a text without HTML tags and entities, on one line."""
    # Twice, for dumps that hold `&lt;br&gt;`.
    for _ in range(2):
        text = html.unescape(_TAG.sub(" ", text))
    return clean_cell(text)


def _write(table: Attributes, triples: Sequence[Triple], options: argparse.Namespace) -> list[str]:
    name, written = options.name, []
    if triples:
        written += write_graph(options.out, name, triples)
    if table.texts:
        written.append(f"{name}.item")
        header = ["item_id:token", *(f"{clean_cell(text)}:token_seq" for text in table.texts)]
        first = len(table.relations)
        write_rows(
            options.out / written[-1],
            header,
            (
                [item, *map(plain_text, table.cells[item][first:])]
                for item in canonical(table.cells)
            ),
        )
    return written


def write_graph(folder: Path, name: str, triples: Sequence[Triple]) -> list[str]:
    """Write `NAME.kg` and `NAME.link` of `(item, relation, value)`; return the files' names."""
    files = [f"{name}.kg", f"{name}.link"]
    header = ["head_id:token", "relation_id:token", "tail_id:token"]
    rows = ((f"item={item}", relation, value) for item, relation, value in triples)
    write_rows(folder / files[0], header, rows)
    linked = canonical({item for item, _, _ in triples})
    links = ((item, f"item={item}") for item in linked)
    write_rows(folder / files[1], ["item_id:token", "entity_id:token"], links)
    return files

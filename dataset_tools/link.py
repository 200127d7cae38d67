"""`link`: item-to-entity files such as KB4Rec's become `.link`; ambiguous links by a rule."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.errors import DataError

from . import faults as fault_log
from .faults import Faults
from .journal import run_identity
from .marks import Marks
from .reading import read_text
from .resumed_reading import ResumedReading
from .row_file import RowFile, RowWriter, TokenColumn
from .row_store import RowStore
from .token_order import SortedTokens
from .tokens import read_tokens
from .writing import LazyColumn, write_columns

DESCRIPTION = """\
Read files with an item and an entity in each line (KB4Rec: ab2fb.txt, ml2fb.txt, lfb2fb.txt, parted
by a tab or blanks) and write NAME.link. An item with several entities keeps the first of them by
length and alphabet, or all (its triples are then those of all). An entity with several items keeps
all (each then has its triples), or the first, or none of these links. Every such case is counted.
KB4Rec covers Amazon books, MovieLens-20M and LFM-1b; it has no Yelp (see yelp_kg)."""
EXAMPLES = """\
  python -m dataset_tools link KB4Rec/Linkage/ab2fb.txt --name book --out dataset/book \\
      --items dataset/book/book.inter"""
_WIDTH = "lines without exactly an item and an entity"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `link`."""
    parser.add_argument("files", nargs="+", type=Path, help="item and entity in each line")
    parser.add_argument("--name", required=True, help="data set name in the file name")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--items",
        nargs="+",
        type=Path,
        help=".inter, .item or .ids files; links of items outside them are left out",
    )
    parser.add_argument("--item-field", default="item_id", help="default: %(default)s")
    parser.add_argument(
        "--several-entities", choices=("first", "all"), default="first", help="%(default)s"
    )
    parser.add_argument(
        "--several-items", choices=("all", "first", "none"), default="all", help="%(default)s"
    )
    fault_log.add_options(parser)


def run(options: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        DataError: A file is not usable, or no link is left.
    """
    items_faults, found = Faults(), Faults()
    known = read_tokens(options.items, options.item_field, items_faults) if options.items else None
    counts: dict[str, Any] = {}
    identity = run_identity(options, [*options.files, *(options.items or ())])
    with RowStore(options.out / f".{options.name}.links.partial", identity) as store:
        reading = ResumedReading(store, options.files, found, Counter())
        for path, after in reading.files():
            for reading.line, item, entity in _pairs(path, found, after):
                store.add(item, entity, math.nan, math.nan)
        faults = Faults()
        for part in (items_faults, found):
            faults.take(part.report())
        columns = _resolve(store, known, options, counts)
        fault_log.refuse(faults, options)
        if not counts.get("links written"):
            raise DataError(
                f"{options.files[0]}: no link is left; do the items of --items look like those "
                "here?"
            )
        name = f"{options.name}.link"
        write_columns(options.out / name, columns)
    fault_log.conclude({**counts, "files": name}, faults, options)


def _pairs(path: Path, faults: Faults, after: int) -> Iterator[tuple[int, str, str]]:
    """Yield line number, item and entity of the lines behind a line."""
    for number, line in read_text(path, faults, after=after):
        cells = line.split("\t") if "\t" in line else line.split()
        cells = [cell.strip() for cell in cells]
        if len(cells) != 2 or not all(cells):
            faults.add(_WIDTH, path, number)
        elif number > 1 or cells != ["item_id:token", "entity_id:token"]:
            yield number, cells[0], cells[1]


def _resolve(
    store: RowStore, known: set[str] | None, options: argparse.Namespace, counts: dict[str, Any]
) -> dict[str, LazyColumn]:
    """Leave out repeated lines and unknown items, then apply the two rules for ambiguous links.

    The rule of items comes first, then that of entities. Memory holds two bytes and some
    bits for each distinct item and entity.

    Args:
        store: All links.
        known: Items to take; None takes all.
        options: `several_entities` and `several_items`.
        counts: Receives what was found, left out and written.

    Returns:
        Columns of the links in canonical order; empty ones if none is left.
    """
    if not store.size:
        return {}
    rows, items, entities = store.pairs(latest=True)
    counts["links"] = len(rows)
    counts["repeated lines left out"] = store.size - len(rows)
    if known is not None:
        taken = _marks(items, known)
        before, rows = len(rows), _kept(rows, "taken", lambda part: taken[part["user"]])
        counts["links of items that the data set does not have"] = before - len(rows)
        counts["items of the data set without link"] = len(known) - int(taken.sum())
    first, several = Marks(len(items)), np.zeros(len(items), dtype=bool)
    total = len(rows)

    def of_item(part: np.ndarray) -> np.ndarray:
        new = first.add_new(part["user"])
        several[part["user"][~new]] = True
        return new if options.several_entities == "first" else np.ones(len(part), dtype=bool)

    rows = _kept(rows, "of_items", of_item)
    counts["items with several entities"] = int(several.sum())
    first, several = Marks(len(entities)), np.zeros(len(entities), dtype=bool)
    for part in rows.chunks("count entities"):
        several[part["item"][~first.add_new(part["item"])]] = True
    counts["entities with several items"] = int(several.sum())
    first = Marks(len(entities))
    if options.several_items == "first":
        rows = _kept(rows, "final", lambda part: first.add_new(part["item"]))
    elif options.several_items == "none":
        rows = _kept(rows, "final", lambda part: ~several[part["item"]])
    counts["links left out by these rules"] = total - len(rows)
    counts["links written"] = len(rows)
    for field, name, number in (
        ("user", "linked items", len(items)),
        ("item", "entities linked to", len(entities)),
    ):
        met = np.zeros(number, dtype=bool)
        for part in rows.chunks(f"count {name}"):
            met[part[field]] = True
        counts[name] = int(met.sum())
    return {
        "item_id:token": TokenColumn(rows, "user", items),
        "entity_id:token": TokenColumn(rows, "item", entities),
    }


def _marks(tokens: SortedTokens, known: set[str]) -> np.ndarray:
    """Return which tokens are known, `[n]`."""
    marks = np.zeros(len(tokens), dtype=bool)
    for start, texts in tokens.pieces():
        marks[start : start + len(texts)] = [text in known for text in texts]
    return marks


def _kept(rows: RowFile, name: str, choose: Callable[[np.ndarray], np.ndarray]) -> RowFile:
    """Write the rows that `choose` marks beside the others; return them."""
    with RowWriter(rows.path.with_name(name)) as out:
        for part in rows.chunks("resolve links"):
            out.write(part[choose(part)])
    return RowFile(out.path)

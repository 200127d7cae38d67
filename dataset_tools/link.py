"""`link`: item-to-entity files such as KB4Rec's become `.link`; ambiguous links by a rule."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.errors import DataError

from . import faults as fault_log
from .faults import Faults
from .reading import read_text
from .tokens import canonical, read_tokens
from .writing import write_columns

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
    faults = Faults()
    found, repeated = read_links(options.files, faults)
    counts: dict[str, Any] = {"links": len(found), "repeated lines left out": repeated}
    if options.items:
        known = read_tokens(options.items, options.item_field, faults)
        kept = {link for link in found if link[0] in known}
        counts["links of items that the data set does not have"] = len(found) - len(kept)
        counts["items of the data set without link"] = len(known - {item for item, _ in kept})
        found = kept
    links = resolve(found, options.several_entities, options.several_items, counts)
    fault_log.refuse(faults, options)
    if not links:
        raise DataError(
            f"{options.files[0]}: no link is left; do the items of --items look like those here?"
        )
    name = f"{options.name}.link"
    items, entities = (np.array(side, dtype=object) for side in zip(*links, strict=True))
    write_columns(options.out / name, {"item_id:token": items, "entity_id:token": entities})
    counts |= {"links written": len(links), "linked items": len(set(items.tolist()))}
    counts |= {"entities linked to": len(set(entities.tolist())), "files": name}
    fault_log.conclude(counts, faults, options)


def read_links(paths: Iterable[Path], faults: Faults) -> tuple[set[tuple[str, str]], int]:
    """Return distinct `(item, entity)` and the number of lines that said nothing new.

    Raises:
        DataError: A file cannot be read.
    """
    found: set[tuple[str, str]] = set()
    repeated = 0
    for path in paths:
        for item, entity in _pairs(path, faults):
            repeated += (item, entity) in found
            found.add((item, entity))
    return found, repeated


def _pairs(path: Path, faults: Faults) -> Iterator[tuple[str, str]]:
    for number, line in read_text(path, faults):
        cells = line.split("\t") if "\t" in line else line.split()
        cells = [cell.strip() for cell in cells]
        if len(cells) != 2 or not all(cells):
            faults.add(_WIDTH, path, number)
        elif number > 1 or cells != ["item_id:token", "entity_id:token"]:
            yield cells[0], cells[1]


def resolve(
    links: Iterable[tuple[str, str]],
    several_entities: str,
    several_items: str,
    counts: dict[str, Any],
) -> list[tuple[str, str]]:
    """Apply the two rules for ambiguous links, first that of items, then that of entities.

    Args:
        links: Distinct `(item, entity)`.
        several_entities: `first` or `all`.
        several_items: `all`, `first` or `none`.
        counts: Receives what was found and what was left out.

    Returns:
        Links in canonical order.
    """
    by_item = _grouped(links)
    counts["items with several entities"] = sum(len(group) > 1 for group in by_item.values())
    kept = [
        (item, entity)
        for item, group in by_item.items()
        for entity in (group[:1] if several_entities == "first" else group)
    ]
    by_entity = _grouped((entity, item) for item, entity in kept)
    counts["entities with several items"] = sum(len(group) > 1 for group in by_entity.values())
    limit = {"all": None, "first": 1, "none": 0}[several_items]
    final = {
        (item, entity)
        for entity, group in by_entity.items()
        for item in (group if len(group) == 1 else group[:limit])
    }
    counts["links left out by these rules"] = sum(map(len, by_item.values())) - len(final)
    return [link for link in kept if link in final]


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return first -> its seconds, both in canonical order."""
    groups = defaultdict(list)
    for first, second in pairs:
        groups[first].append(second)
    return {first: canonical(groups[first]) for first in canonical(groups)}

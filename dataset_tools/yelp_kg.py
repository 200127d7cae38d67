"""`yelp_kg`: attributes, categories and city of Yelp's businesses become `.kg` and `.link`."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from recbole_slif.errors import ConfigError, DataError

from . import faults as fault_log
from .fact_store import FactStore, write_graph
from .faults import Faults
from .item_spool import ItemSpool
from .journal import run_identity
from .records import read_records
from .resumed_reading import ResumedReading
from .reviews import literal_value
from .tokens import read_tokens
from .writing import clean_cell

DESCRIPTION = """\
Turn Yelp's business file into a knowledge graph: an item's city (with its state), each category,
and each attribute, attributes::BusinessParking::lot for one inside another, are relations. Yelp
writes inner attributes as Python text; it is read as a literal, never run. Attributes that are
None are left out, those that are False are facts too, unless --only-true."""
EXAMPLES = """\
  python -m dataset_tools yelp_kg yelp_academic_dataset_business.json --name yelp2018 \\
      --items dataset/yelp2018/yelp2018.train.inter --out dataset/yelp2018
  python -m dataset_tools yelp_kg business.json --parts categories city state stars \\
      --min-items 10 --name yelp --out dataset/yelp"""
PARTS = ("attributes", "categories", "city", "state", "stars")
_DEEPEST = 8
_NO_LITERAL = "attributes that are no Python literal (taken as text)"
_TWICE = "lines of a business that already has a line"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `yelp_kg`."""
    parser.add_argument("file", type=Path, help="business.json, plain, .gz or .zst")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=["attributes", "categories", "city"],
        help="what becomes triples; stars in half steps; default: attributes categories city",
    )
    parser.add_argument("--only-true", action="store_true", help="leave out attributes of False")
    parser.add_argument(
        "--min-items", type=int, default=1, help="least items of a value; default: %(default)s"
    )
    parser.add_argument(
        "--min-relation", type=int, default=1, help="least triples of a relation: %(default)s"
    )
    parser.add_argument("--items", nargs="+", type=Path, help="keep the items of these files alone")
    parser.add_argument("--item-field", default="item_id", help="its name there: %(default)s")
    parser.add_argument("--name", required=True, help="data set name in the file names")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    fault_log.add_options(parser)


def run(options: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        ConfigError: An option is out of range.
        DataError: The file cannot be used, or no triple is left.
    """
    if options.min_items < 1 or options.min_relation < 1:
        raise ConfigError("--min-items and --min-relation must be at least 1")
    items_faults, faults, counts = Faults(), Faults(), Counter[str]()
    known = read_tokens(options.items, options.item_field, items_faults) if options.items else None
    identity = run_identity(options, [options.file, *(options.items or ())])
    with (
        ItemSpool(options.out / f".{options.name}.items.partial", identity) as spool,
        FactStore(options.out / f".{options.name}.facts.partial", identity) as store,
    ):
        read_facts(options, known, spool, faults, counts)
        items_faults.take(faults.report())
        store.put(spool, lambda _, cells: zip(cells[::2], cells[1::2], strict=False))
        facts = store.facts(options.min_items, options.min_relation, counts)
        fault_log.refuse(items_faults, options)
        if not facts.triples:
            raise DataError(
                f"{options.file}: no triple is left; check --items, --min-items, --parts"
            )
        files, linked = write_graph(options.out, options.name, facts, store.journal)
    if known is not None:
        counts["items of the data set that the file lacks"] = len(known) - len(spool)
    shown: dict[str, Any] = {"items": len(spool), **counts, "linked items": linked}
    shown |= {"relations": len(facts.relations), "values": facts.values, "triples": facts.triples}
    fault_log.conclude({**shown, "files": ", ".join(files)}, items_faults, options)


def read_facts(
    options: argparse.Namespace,
    known: set[str] | None,
    spool: ItemSpool,
    faults: Faults,
    counts: Counter[str],
) -> None:
    """Put each business's facts into the spool, relation and value in turn.

    Of a business with several lines the facts that are first by alphabet count, so that the order
    of lines changes nothing. What a killed run has read is not read again.
    """
    reading = ResumedReading(spool, [options.file], faults, counts)
    for path, after in reading.files():
        for reading.line, item, record in read_records(path, "business_id", faults, after):
            if known is not None and item not in known:
                counts["businesses that the data set does not have"] += 1
                continue
            broken: list[str] = []
            facts = sorted({*_facts(record, options.parts, options.only_true, broken)})
            if broken:
                faults.add(_NO_LITERAL, path, reading.line, len(broken))
            # An empty cell alone stands for no facts.
            spool.add(item, [*chain.from_iterable(facts)] or [""], path, reading.line)
    spool.sort(faults, _TWICE)


def _facts(
    record: Mapping[str, Any], parts: list[str], only_true: bool, broken: list[str]
) -> Iterator[tuple[str, str]]:
    city, state = _word(record.get("city")), _word(record.get("state"))
    if "city" in parts and city:
        yield "city", f"{city}, {state}" if state else city
    if "state" in parts and state:
        yield "state", state
    stars = record.get("stars")
    if "stars" in parts and isinstance(stars, int | float) and 0 <= stars <= 5:
        yield "stars", f"{round(2 * stars) / 2:g}"
    if "categories" in parts:
        yield from (("categories", name) for name in _categories(record.get("categories")))
    if "attributes" in parts:
        given = _inner(record.get("attributes"))
        for relation, value in _attributes("attributes", given, 0, broken):
            if value != "None" and not (only_true and value == "False"):
                yield relation, value


def _categories(value: Any) -> set[str]:
    """Return category names; newer files part them by commas, older ones hold a list."""
    names = value.split(",") if isinstance(value, str) else value
    return {_word(name) for name in names} - {""} if isinstance(names, list) else set()


def _inner(value: Any) -> Any:
    """Return attributes as a dictionary; the oldest files hold a list of `Name: value`."""
    if isinstance(value, list):
        pairs = [entry.partition(": ") for entry in value if isinstance(entry, str)]
        return {name: text for name, colon, text in pairs if colon}
    return value


def _attributes(
    relation: str, value: Any, depth: int, broken: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield the leaves of nested attributes, each under the path to it."""
    if isinstance(value, str):
        value = _read(value, broken)
    if isinstance(value, dict):
        for name, entry in value.items():
            if depth < _DEEPEST and _word(name):
                yield from _attributes(f"{relation}::{_word(name)}", entry, depth + 1, broken)
    elif isinstance(value, list | tuple | set):
        yield from ((relation, _word(entry)) for entry in value if _word(entry))
    elif _word(value) and depth:
        yield relation, _word(value)


def _read(text: str, broken: list[str]) -> Any:
    """Return what a text of Python stands for; plain words stand for themselves."""
    text = text.strip()
    if not text.startswith(("{", "[", "(", "'", '"', "u'", 'u"')):
        return text
    found = literal_value(text)
    if found is None:
        broken.append(text)
        return text
    return found


def _word(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value) if isinstance(value, bool) else ""
    if not isinstance(value, str | int | float):
        return ""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return clean_cell(text.encode("utf-8", "replace").decode())

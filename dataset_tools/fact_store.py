"""Facts of items, `(item, relation, value)`, on disk: counted, thinned out and written as a graph.

Memory holds five bytes for each distinct value, whatever the number of items and facts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from .item_spool import Cells, ItemSpool
from .journal import Journal
from .row_file import RowFile
from .row_store import RowStore
from .token_order import SortedTokens
from .writing import write_rows

_BETWEEN = "\0"
_RARE_VALUES = "values of fewer items than --min-items left out"
_RARE_RELATIONS = "relations of fewer triples than --min-relation left out"
Triple = tuple[str, str, str]


class FactStore(RowStore):
    """Facts in a folder that lives as long as the `with` block."""

    def put(
        self, spool: ItemSpool, facts_of: Callable[[str, Cells], Iterable[tuple[str, str]]]
    ) -> None:
        """Put in the facts of all items, but for those that a killed run kept.

        Args:
            spool: The items, sorted.
            facts_of: Gives relation and value of each fact of an item, always in the same order;
                one that is there already changes nothing.
        """
        left = self.left_place() or {"items": 0, "facts": 0, "whole": False}
        if left["whole"]:
            return
        at = {"items": left["items"], "facts": left["facts"]}
        self.place = lambda: dict(at)
        for item, cells in spool.rows("find values", first=left["items"]):
            for number, (relation, value) in enumerate(facts_of(item, cells), start=1):
                if number > at["facts"]:
                    at["facts"] = number
                    self.add(item, f"{relation}{_BETWEEN}{value}", math.nan, math.nan)
            at["items"] += 1
            at["facts"] = 0
        self.finish()

    def facts(self, least_items: int, least_relation: int, counts: Counter[str]) -> Facts:
        """Bring the facts into order, without rare values and relations.

        Args:
            least_items: Items that a value has at least.
            least_relation: Triples that a relation then has at least.
            counts: Receives what was left out.
        """
        if not self.size:
            return Facts(None, np.empty(0, dtype=bool), np.empty(0, dtype=np.uint32), set())
        rows, items, values = self.pairs(latest=True)
        times = np.zeros(len(values), dtype=np.uint32)
        for part in rows.chunks("count values"):
            found, number = np.unique(part["item"], return_counts=True)
            times[found] += number.astype(np.uint32)
        kept = times >= least_items
        counts[_RARE_VALUES] += int((~kept).sum())
        relations = _thin_out(values, times, kept, least_relation, counts)
        return Facts((rows, items, values), kept, times, relations)


def _thin_out(
    values: SortedTokens, times: np.ndarray, kept: np.ndarray, least: int, counts: Counter[str]
) -> set[str]:
    """Clear the marks of values of rare relations; return the relations that are left."""
    triples = Counter[str]()
    for start, names in _relations(values):
        for place in np.flatnonzero(kept[start : start + len(names)]).tolist():
            triples[names[place]] += int(times[start + place])
    rare = {name for name, number in triples.items() if number < least}
    counts.update({_RARE_RELATIONS: len(rare)} if rare else {})
    if rare:
        for start, names in _relations(values):
            kept[start : start + len(names)] &= [name not in rare for name in names]
    return triples.keys() - rare


def _relations(values: SortedTokens) -> Iterator[tuple[int, list[str]]]:
    """Yield the relations of values in order, with the number of the first."""
    for start, texts in values.pieces():
        yield start, [text.partition(_BETWEEN)[0] for text in texts]


class Facts:
    """The facts that stay.

    Args:
        stored: Rows, items and values; None for no facts.
        kept: Whether each value stays.
        times: Items of each value.
        relations: Those that are left.

    Attributes:
        triples: Number of facts.
        values: Number of distinct values.
        relations: Names of the relations.
    """

    def __init__(
        self,
        stored: tuple[RowFile, SortedTokens, SortedTokens] | None,
        kept: np.ndarray,
        times: np.ndarray,
        relations: set[str],
    ) -> None:
        self._stored, self._kept, self.relations = stored, kept, relations
        self.triples, self.values = int(times[kept].sum(dtype=np.int64)), int(kept.sum())

    def items(self) -> Iterator[str]:
        """Yield the items that have facts, shorter ones first, then by alphabet."""
        for item, _ in groupby(self.in_order("items"), key=lambda triple: triple[0]):
            yield item

    def in_order(self, what: str) -> Iterator[Triple]:
        """Yield `(item, relation, relation=value)` by item, relation and value.

        Args:
            what: What is done with them, for the bar.
        """
        for item, triples in groupby(self._triples(what), key=lambda triple: triple[0]):
            yield from sorted(triples) if item else ()

    def _triples(self, what: str) -> Iterator[Triple]:
        if self._stored is None:
            return
        rows, items, values = self._stored
        for part in rows.chunks(what):
            part = part[self._kept[part["item"]]]
            pairs = zip(items.texts(part["user"]), values.texts(part["item"]), strict=True)
            for item, text in pairs:
                relation, _, value = text.partition(_BETWEEN)
                yield item, relation, f"{relation}={value}"


def write_graph(folder: Path, name: str, facts: Facts, journal: Journal) -> tuple[list[str], int]:
    """Write `NAME.kg` and `NAME.link`; return the files' names and the number of linked items."""
    files = [f"{name}.kg", f"{name}.link"]
    node = _item_prefix(facts.relations)

    def graph() -> int:
        header = ["head_id:token", "relation_id:token", "tail_id:token"]
        triples = facts.in_order(files[0])
        rows = ((f"{node}{item}", relation, value) for item, relation, value in triples)
        return write_rows(folder / files[0], header, rows)

    def links() -> int:
        rows = ((item, f"{node}{item}") for item in facts.items())
        return write_rows(folder / files[1], ["item_id:token", "entity_id:token"], rows)

    journal.once(folder / files[0], graph)
    return files, journal.once(folder / files[1], links)


def _item_prefix(relations: Collection[str]) -> str:
    """Return what an item's entity begins with, and the entity of no value: `item=` as a rule."""
    prefix = "item="
    while any(f"{relation}=".startswith(prefix) for relation in relations):
        prefix = f"_{prefix}"
    return prefix

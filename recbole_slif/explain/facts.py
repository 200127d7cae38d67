"""What an item has in common with a user's history, by the triples of the knowledge graph."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from recbole_slif.graph.knowledge import KnowledgeGraph


@dataclass(frozen=True)
class SharedFact:
    """An entity that an item and items of the history are joined to by the same relations.

    Attributes:
        relations: ids of base relations, each with whether it leads from the item to the entity;
            several where the graph states the same thing in both directions.
        entity: entity id; an item's is its item id.
        n_items: how many items the graph joins to the entity; the fewer, the more it says.
        history: the items of the history that share it, ascending.
        direct: the entity is itself an item of the history; `history` is that one then.
    """

    relations: tuple[tuple[int, bool], ...]
    entity: int
    n_items: int
    history: tuple[int, ...]
    direct: bool


class ItemFacts:
    """The facts of all items, each a triple that the item is an end of.

    Args:
        graph: base triples.
        n_items: items with [PAD]; the entity ids below it are items.
    """

    def __init__(self, graph: KnowledgeGraph, n_items: int) -> None:
        self.n_entities = graph.n_entities
        ends = ((graph.heads, graph.tails, 0), (graph.tails, graph.heads, 1))
        kept = [(near > 0) & (near < n_items) for near, _, _ in ends]
        item = np.concatenate([ends[side][0][kept[side]] for side in (0, 1)])
        entity = np.concatenate([ends[side][1][kept[side]] for side in (0, 1)])
        kind = np.concatenate([2 * graph.relations[kept[side]] + side for side in (0, 1)])
        # a fact is a relation, its direction and an entity; it belongs to several items
        self.keys, fact = np.unique(kind * self.n_entities + entity, return_inverse=True)
        self._facts, self._facts_from = _grouped(item, fact, n_items)
        self._items, self._items_from = _grouped(fact, item, len(self.keys))
        pairs = np.unique(entity.astype(np.int64) * n_items + item)
        self.n_items_of_entity = np.bincount(pairs // n_items, minlength=self.n_entities)

    def of_item(self, item: int) -> np.ndarray:
        """Return the facts of an item as places in `keys`."""
        return self._facts[self._facts_from[item] : self._facts_from[item + 1]]

    def items_of(self, fact: int) -> np.ndarray:
        """Return the items that have a fact, ascending."""
        return self._items[self._items_from[fact] : self._items_from[fact + 1]]

    def shared(self, item: int, history: np.ndarray) -> list[SharedFact]:
        """Return what an item shares with items of a history, the most specific first.

        Facts about the same entity shared with the same items are one. First come the triples
        between the item and a history item themselves, then the others by how few items the entity
        is joined to, then by how many history items share it.

        Args:
            item: item id.
            history: item ids `[n]`, ascending; the item itself does not count.
        """
        others = history[history != item]
        found: dict[tuple[int, tuple[int, ...], bool], list[tuple[int, bool]]] = {}
        for fact in self.of_item(item):
            kind, entity = divmod(int(self.keys[fact]), self.n_entities)
            relation = (kind // 2, kind % 2 == 0)
            sharing = np.intersect1d(self.items_of(fact), others, assume_unique=True)
            if len(sharing):
                place = (entity, tuple(map(int, sharing)), False)
                found.setdefault(place, []).append(relation)
            if entity in others:
                found.setdefault((entity, (entity,), True), []).append(relation)
        facts = [
            SharedFact(tuple(relations), entity, int(self.n_items_of_entity[entity]), items, direct)
            for (entity, items, direct), relations in found.items()
        ]
        return sorted(
            facts,
            key=lambda fact: (not fact.direct, fact.n_items, -len(fact.history), fact.entity),
        )


def _grouped(keys: np.ndarray, values: np.ndarray, n_keys: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the values key by key, ascending, and where each key's begin, `[n_keys + 1]`."""
    order = np.lexsort((values, keys))
    starts = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=n_keys))])
    return values[order], starts


def readable(relation: str) -> str:
    """Return a relation's token in words.

    Freebase's `film.film.directed_by` becomes `film: directed by`, a URL its last part,
    `http://dbpedia.org/ontology/musicComposer` thus `music composer`.
    """
    text = relation.strip().rstrip("/#")
    if "://" in text:
        return _words(re.split(r"[/#]", text)[-1]) or relation
    parts = [part for part in re.split(r"[./]", text) if part]
    return ": ".join(filter(None, map(_words, parts[-2:]))) or relation


def _words(name: str) -> str:
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return " ".join(apart.replace("_", " ").split()).lower()

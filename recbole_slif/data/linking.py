"""Puts items and entities into one id space, whatever the `.link` file says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

Triples = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class JoinedGraph:
    """Triples over the joint id space: item ids first, then the entities that are no item.

    Attributes:
        triples: heads, relations, tails, each `[n]`, distinct, sorted, without self-loops.
        entity_tokens: `[n_entities]`; a linked item carries its (first) entity's token, an
            unlinked one its own.
        new_id: `[n_tokens]` joint id of each former entity id; the first item's for a shared one.
        linked: `[n_items]` bool.
    """

    triples: Triples
    entity_tokens: np.ndarray
    new_id: np.ndarray
    linked: np.ndarray


def distinct_triples(heads: np.ndarray, relations: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """Return ascending positions of the first of each distinct triple."""
    order = np.lexsort((tails, relations, heads))
    return np.sort(order[_first_of_each(heads[order], relations[order], tails[order])])


def _first_of_each(*columns: np.ndarray) -> np.ndarray:
    """Return `[n]` bool, whether each row of sorted columns differs from the one before."""
    first = np.ones(len(columns[0]), dtype=bool)
    first[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return first


def clean_triples(frame: pd.DataFrame, notes: Counter[str]) -> pd.DataFrame:
    """Drop repeated triples and self-loops, counting both.

    Args:
        frame: Columns head, relation, tail of tokens, in this order.
        notes: Receives the counts.
    """
    head, relation, tail = (frame[name].to_numpy(dtype=object) for name in frame)
    nodes, _ = pd.factorize(np.concatenate([head, tail]))
    heads, tails = nodes[: len(frame)], nodes[len(frame) :]
    keep = distinct_triples(heads, pd.factorize(relation)[0], tails)
    notes["repeated triples dropped"] += len(frame) - len(keep)
    loops = heads[keep] == tails[keep]
    notes["triples from an entity to itself dropped"] += int(loops.sum())
    return frame.iloc[keep[~loops]]


def clean_links(
    links: pd.DataFrame, items: np.ndarray, entities: np.ndarray, notes: Counter[str]
) -> pd.DataFrame:
    """Keep the links from items that are used to entities of the graph, counting the others.

    Args:
        links: Columns item, entity of tokens, in this order.
        items: Tokens of the items with interactions.
        entities: Tokens of the entities of the graph.
        notes: Receives the counts.
    """
    item, entity = links.columns
    distinct = links.drop_duplicates()
    notes["repeated link lines dropped"] += len(links) - len(distinct)
    used = distinct[item].isin(items)
    notes["links of items without interactions"] += int((~used).sum())
    known = distinct[entity].isin(entities)
    notes["items' links to entities outside the graph"] += int((used & ~known).sum())
    kept = distinct[used & known]
    per_item, per_entity = kept[item].value_counts(), kept[entity].value_counts()
    notes["items linked to several entities (all their triples kept)"] += int((per_item > 1).sum())
    notes["entities shared by several items (triples copied)"] += int((per_entity > 1).sum())
    return kept


def join_items_and_entities(
    item_tokens: np.ndarray,
    entity_tokens: np.ndarray,
    triples: Triples,
    links: tuple[np.ndarray, np.ndarray],
    notes: Counter[str],
) -> JoinedGraph:
    """Rewrite triples so that an item's entity id is its item id.

    An entity linked to several items is replaced by each of them; an item linked to several
    entities takes over the triples of all.

    Args:
        item_tokens: `[n_items]`, [PAD] first.
        entity_tokens: `[n_tokens]`, [PAD] first.
        triples: heads, relations, tails in ids of `entity_tokens`.
        links: `(item ids, entity ids)`, distinct pairs.
        notes: Receives counts.
    """
    n_items, n_tokens = len(item_tokens), len(entity_tokens)
    by_entity = np.lexsort(links)
    link_items, link_entities = links[0][by_entity], links[1][by_entity]
    joint = joint_ids(n_items, n_tokens, (link_items, link_entities))
    new_id = np.zeros(n_tokens, dtype=np.int64)
    new_id[1:] = joint.ids[joint.start[1:]]
    joined = _tidy(*joint.copies(triples), notes)
    names = item_tokens.astype(object)
    # Backwards, so that the first entity of an item gives the name.
    names[link_items[::-1]] = entity_tokens[link_entities[::-1]]
    tokens = np.concatenate([names, entity_tokens[joint.others].astype(object)])
    return JoinedGraph(joined, tokens.astype(str), new_id, joint.linked)


@dataclass(frozen=True)
class JointIds:
    """Which joint ids each former entity id has.

    Attributes:
        ids: Joint ids, those of one former id beside each other.
        start: `[n_tokens]` where those of each begin.
        counts: `[n_tokens]` how many there are.
        others: Former ids of the entities that are no item, in the order of their joint ids.
        linked: `[n_items]` bool.
    """

    ids: np.ndarray
    start: np.ndarray
    counts: np.ndarray
    others: np.ndarray
    linked: np.ndarray

    def copies(self, triples: Triples) -> Triples:
        """Return triples in joint ids, one for each pair of joint ids of head and tail."""
        heads, relations, tails = triples
        rows, heads = _expand(heads, self.start, self.counts, self.ids)
        rows_again, tails = _expand(tails[rows], self.start, self.counts, self.ids)
        return heads[rows_again], relations[rows][rows_again], tails


def joint_ids(n_items: int, n_tokens: int, links: tuple[np.ndarray, np.ndarray]) -> JointIds:
    """Give entities joint ids: those of their items, or ids behind all items.

    Args:
        n_items: Item ids, [PAD] included.
        n_tokens: Entity ids, [PAD] included.
        links: `(item ids, entity ids)`, distinct pairs in the order of entities, then items.
    """
    link_items, link_entities = links
    shared = np.zeros(n_tokens, dtype=bool)
    shared[link_entities] = True
    others = np.flatnonzero(~shared)[1:]
    owners = np.concatenate([link_entities, others])
    ids = np.concatenate([link_items, n_items + np.arange(len(others))])
    counts = np.bincount(owners, minlength=n_tokens)
    linked = np.zeros(n_items, dtype=bool)
    linked[link_items] = True
    order = np.argsort(owners, kind="stable")
    return JointIds(ids[order], np.cumsum(counts) - counts, counts, others, linked)


def _expand(
    endpoints: np.ndarray, start: np.ndarray, counts: np.ndarray, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Replace each endpoint by all its joint ids; return the source row and the id of each."""
    each = counts[endpoints]
    rows = np.repeat(np.arange(len(endpoints)), each)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(each) - each, each)
    return rows, ids[start[endpoints[rows]] + within]


def _tidy(
    heads: np.ndarray, relations: np.ndarray, tails: np.ndarray, notes: Counter[str]
) -> Triples:
    order = np.lexsort((tails, relations, heads))
    heads, relations, tails = heads[order], relations[order], tails[order]
    keep = np.flatnonzero(_first_of_each(heads, relations, tails))
    loops = heads[keep] == tails[keep]
    notes["triples that linking made equal, dropped"] += len(heads) - len(keep)
    notes["triples that linking made self-loops, dropped"] += int(loops.sum())
    keep = keep[~loops]
    return heads[keep], relations[keep], tails[keep]

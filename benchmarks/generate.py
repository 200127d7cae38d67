"""Seeded interactions, knowledge graph and features of any size, Amazon-Book's by default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from recbole_slif.data.features import ModalityFeatures
from recbole_slif.errors import DataError
from recbole_slif.graph.knowledge import KnowledgeGraph

Draw = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Sizes:
    """How much to generate; none of the counts includes the [PAD] id 0.

    The defaults are Amazon-Book's in SLIF-MR's Table I, trained on 80 % of its 846,434 pairs.

    Attributes:
        n_users: Users, each with at least one pair.
        n_items: Items, each with at least one pair; item ids are entity ids.
        n_pairs: Distinct training interactions.
        n_entities: Entities, items included. 54,629 reads Table I's 29,714 as not counting the
            items, which makes more work than 29,714 in all.
        n_relations: Relations without their inverses.
        n_triples: Distinct base triples, without inverses.
        dims: Width of each modality's features; they shape the item graphs once, before training.
    """

    n_users: int = 70_679
    n_items: int = 24_915
    n_pairs: int = 677_147
    n_entities: int = 54_629
    n_relations: int = 39
    n_triples: int = 686_516
    dims: tuple[tuple[str, int], ...] = (("visual", 128), ("text", 128))

    def scaled(self, factor: float, least: int = 0) -> Sizes:
        """Return the counts times a factor, at least so many of each; relations and widths stay."""
        names = ("n_users", "n_items", "n_pairs", "n_entities", "n_triples")
        return replace(
            self, **{name: max(round(getattr(self, name) * factor), least) for name in names}
        )


@dataclass(frozen=True)
class SyntheticData:
    """Arrays with ids from 1 up, 0 being [PAD].

    Attributes:
        users: `[n_pairs]` user of each training pair.
        items: `[n_pairs]` item of each training pair.
        n_users: User ids, [PAD] included.
        n_items: Item ids, [PAD] included.
        knowledge: Base triples; entity ids below `n_items` are the items.
        features: Matrix and presence of each modality.
    """

    users: np.ndarray
    items: np.ndarray
    n_users: int
    n_items: int
    knowledge: KnowledgeGraph
    features: dict[str, ModalityFeatures]


def synthetic_data(
    sizes: Sizes | None = None,
    seed: int = 0,
    interactions: tuple[np.ndarray, np.ndarray] | None = None,
    knowledge: KnowledgeGraph | None = None,
) -> SyntheticData:
    """Generate a whole data set; the same seed and sizes give the same arrays.

    Args:
        sizes: How much of everything.
        seed: Seed of all draws.
        interactions: Real `(users, items)` from 1 up to take in place of generated pairs; their
            numbers of users and items then replace those of `sizes`.
        knowledge: A real graph over the items of `interactions` to take in place of a generated
            one.
    """
    sizes = sizes or Sizes()
    rng = np.random.default_rng(seed)
    if interactions is None:
        users, items = draw_pairs(sizes.n_users, sizes.n_items, sizes.n_pairs, rng)
        n_users, n_items = sizes.n_users + 1, sizes.n_items + 1
    else:
        users, items = interactions
        n_users, n_items = int(users.max()) + 1, int(items.max()) + 1
    if knowledge is None:
        knowledge = draw_knowledge(sizes, n_items, rng)
    features = {name: draw_features(n_items, dim, rng) for name, dim in sizes.dims}
    return SyntheticData(users, items, n_users, n_items, knowledge, features)


def zipf_draw(n: int, exponent: float, rng: np.random.Generator) -> Draw:
    """Return a sampler of `0 .. n-1` with chances falling as rank to `-exponent`, ids shuffled."""
    chances = (np.arange(n) + 10.0) ** -exponent
    cumulative = np.cumsum(chances / chances.sum())
    names = rng.permutation(n)

    def draw(count: int) -> np.ndarray:
        ranks = np.searchsorted(cumulative, rng.random(count), side="right")
        return names[np.minimum(ranks, n - 1)]

    return draw


def draw_pairs(
    n_users: int, n_items: int, n_pairs: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw distinct (user, item) pairs with popular items and busy users, none left out.

    Returns:
        Users and items `[n_pairs]`, ids from 1, in random order.

    Raises:
        DataError: The pairs are too few to reach everyone or too many to be distinct.
    """
    least = max(n_users, n_items)
    if not least <= n_pairs <= n_users * n_items // 2:
        raise DataError(
            f"{n_pairs} pairs do not fit {n_users} users and {n_items} items: "
            f"give {least} to {n_users * n_items // 2}"
        )
    everyone = np.arange(least)
    first = rng.permutation(everyone % n_users) * n_items + everyone % n_items
    draw_user, draw_item = zipf_draw(n_users, 0.5, rng), zipf_draw(n_items, 0.8, rng)
    keys = _distinct(first, n_pairs, lambda count: draw_user(count) * n_items + draw_item(count))
    rng.shuffle(keys)
    return keys // n_items + 1, keys % n_items + 1


def draw_knowledge(sizes: Sizes, n_items: int, rng: np.random.Generator) -> KnowledgeGraph:
    """Draw distinct triples, nine in ten from an item to an attribute and all items linked.

    An attribute nearly always stands in the one relation of its kind (an author is an author), as
    in the Freebase graphs published for recommendation: there a tail has 1.3 relations and the
    distinct (head, relation) pairs, inverses included, are 0.2 to 0.4 of the directed edges.

    Args:
        sizes: Reads the counts of entities, relations and triples.
        n_items: Item ids, [PAD] included; they are the first entity ids.
        rng: Source of all draws.

    Raises:
        DataError: There are no entities beside the items, or fewer triples than items.
    """
    n_others, items = sizes.n_entities + 1 - n_items, n_items - 1
    if n_others < 1 or sizes.n_triples < items:
        raise DataError("a knowledge graph needs more entities than items and a triple for each")
    draw_item, draw_tail = zipf_draw(items, 0.3, rng), zipf_draw(n_others, 0.8, rng)
    draw_relation = zipf_draw(sizes.n_relations, 1.5, rng)
    kinds = draw_relation(n_others)

    def keys_of(heads: np.ndarray) -> np.ndarray:
        tails = draw_tail(heads.size)
        relations = kinds[tails]
        odd = rng.random(heads.size) < 0.02
        relations[odd] = draw_relation(int(odd.sum()))
        return (heads * sizes.n_relations + relations) * n_others + tails

    def draw(count: int) -> np.ndarray:
        heads = draw_item(count) + 1
        other = rng.random(count) < 0.1
        heads[other] = n_items + rng.integers(0, n_others, int(other.sum()))
        return keys_of(heads)

    keys = _distinct(keys_of(np.arange(1, n_items)), sizes.n_triples, draw)
    rng.shuffle(keys)
    heads, rest = np.divmod(keys, sizes.n_relations * n_others)
    relations, tails = np.divmod(rest, n_others)
    linked = np.ones(n_items, dtype=bool)
    linked[0] = False
    return KnowledgeGraph(
        heads=heads,
        relations=relations + 1,
        tails=tails + n_items,
        n_entities=sizes.n_entities + 1,
        n_relations=sizes.n_relations + 1,
        relation_tokens=["[PAD]", *(f"r{number}" for number in range(sizes.n_relations))],
        entity_tokens=["[PAD]", *(f"e{number}" for number in range(sizes.n_entities))],
        linked=linked,
    )


def draw_features(n_items: int, dim: int, rng: np.random.Generator) -> ModalityFeatures:
    """Draw clustered features `[n_items, dim]`; 1 item in 23 has none, as Amazon-Book's images."""
    centres = rng.standard_normal((max(1, n_items // 50), dim), dtype=np.float32)
    matrix = centres[rng.integers(0, len(centres), n_items)]
    matrix += 0.5 * rng.standard_normal((n_items, dim), dtype=np.float32)
    presence = rng.random(n_items) >= 1 / 23
    presence[0] = False
    matrix[~presence] = 0.0
    return ModalityFeatures(matrix, presence, int(presence.sum()))


def _distinct(first: np.ndarray, count: int, draw: Draw) -> np.ndarray:
    """Add draws to the distinct keys in `first` until there are exactly `count`."""
    keys = np.unique(first)
    while len(keys) < count:
        fresh = np.setdiff1d(draw(2 * (count - len(keys)) + 16), keys)
        # setdiff1d sorts: without a shuffle the cut would keep the low ids only
        fresh = fresh[np.random.default_rng(len(keys)).permutation(len(fresh))]
        keys = np.concatenate([keys, fresh[: count - len(keys)]])
    return keys

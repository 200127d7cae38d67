"""What KRDN propagates along: triples sorted into two kinds of edges, and rows of two towers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_slif.graph.patterns import row_shares
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers.masked_relations import MaskedProductMean, MaskedSumMean
from recbole_slif.model.knowledge.directions import directed_triples
from recbole_slif.model.limits import require_share
from recbole_slif.negatives import refuse_negatives

Triples = tuple[np.ndarray, np.ndarray, np.ndarray]


class Towers(NamedTuple):
    """Rows of the knowledge tower (users, entities) and of the collaborative one (users, items).

    After the last hop, entities are items only.
    """

    users: Tensor
    entities: Tensor
    cf_users: Tensor
    cf_items: Tensor


class EdgeMeans:
    """What the first heads gather over their kept edges, of each kind by itself.

    Edges are sorted by kind (cross edges first) and head, so those of the first heads are two runs.
    """

    def __init__(
        self,
        triples: Triples,
        n_cross: int,
        n_heads: int,
        shape: tuple[int, int],
        device: torch.device,
    ) -> None:
        """Lay out the edges into heads below `n_heads`.

        Args:
            triples: heads, relations from 0 on and tails of all edges.
            n_cross: how many of them are cross edges.
            n_heads: number of heads that gather.
            shape: numbers of entities and relations.
            device: where the indices live.
        """
        heads, relations, tails = triples
        n_level = int(np.searchsorted(heads[n_cross:], n_heads))
        self.n_heads = n_heads
        self._cross = cross = slice(0, int(np.searchsorted(heads[:n_cross], n_heads)))
        self._level = level = slice(n_cross, n_cross + n_level)
        self._products = MaskedProductMean(
            heads[cross], relations[cross], tails[cross], *shape, device
        )
        self._sums = MaskedSumMean(heads[level], relations[level], tails[level], *shape, device)

    def cross(self, rows: Tensor, relations: Tensor, kept: Tensor) -> Tensor:
        """Return the means `[n_heads, d]` of products with the relations over cross edges.

        Args:
            rows: `[n_entities, d]`.
            relations: `[n_relations, d]`.
            kept: bool `[n_edges]`, of all edges.
        """
        return self._products(rows, relations, kept[self._cross])[: self.n_heads]

    def level(self, rows: Tensor, relations: Tensor, kept: Tensor) -> Tensor:
        """Return the means `[n_heads, d]` of sums with the relations; arguments as for `cross`."""
        return self._sums(rows, relations, kept[self._level])[: self.n_heads]


class RelationMeans:
    """The mean relation of each item over its kept edges."""

    def __init__(
        self,
        heads: np.ndarray,
        relations: np.ndarray,
        shape: tuple[int, int],
        device: torch.device,
    ) -> None:
        """Lay out which relations an item meets.

        Args:
            heads: of all edges; ids below `shape[0]` are items.
            relations: of all edges, from 0 on.
            shape: numbers of items and relations.
            device: where the indices live.
        """
        self.n_items, n_relations = shape
        own = np.flatnonzero(heads < self.n_items)
        keys = heads[own].astype(np.int64) * n_relations + relations[own]
        met, slots = np.unique(keys, return_inverse=True)
        items = met // n_relations
        self._pattern = SparseOperator.from_coo(
            items, met % n_relations, np.ones(len(met)), shape, device=device
        )
        self._own, self._slots, self._items = (
            torch.from_numpy(part).to(device) for part in (own, slots, items)
        )

    def __call__(self, relations: Tensor, kept: Tensor) -> Tensor:
        """Return the means `[n_items, d]`, 0 for an item without kept edges.

        Args:
            relations: `[n_relations, d]`.
            kept: bool `[n_edges]`, of all edges.
        """
        weights = kept.index_select(0, self._own).to(relations.dtype)
        counts = weights.new_zeros(len(self._items)).index_add_(0, self._slots, weights)
        shares = row_shares(counts, self._items, self.n_items)
        means: Tensor = self._pattern.with_values(shares) @ relations
        return means


class RefinedTriples:
    """Cross edges, between an item and another entity, and level edges, between two of one kind.

    Edges are numbered cross edges first, by head, relation and tail, whatever the file's order.

    Attributes:
        n_edges: number of directed edges.
        n_relations: number of relations, inverses included and [PAD] left out; counted from 0.
        joins_items: whether a level edge joins two items.
        into_entities: means that all entities gather.
        into_items: means that items gather, all that a score hears of the last hop.
        item_relations: means of the relations over an item's edges.
    """

    def __init__(self, graph: Any, n_items: int, settings: Any, device: torch.device) -> None:
        """Sort the directed triples of a knowledge graph.

        Args:
            graph: the base triples; entity ids below `n_items` are items.
            n_items: number of item ids.
            settings: has the keys that `directed_triples` reads.
            device: where everything lives.
        """
        heads, relations, tails, n_relations = directed_triples(graph, settings)
        relations, self.n_relations = relations - 1, n_relations - 1
        level = (heads < n_items) == (tails < n_items)
        order = np.lexsort((tails, relations, heads, level))
        heads, relations, tails = heads[order], relations[order], tails[order]
        self.n_edges, n_cross = len(heads), int(len(level) - level.sum())
        shape = graph.n_entities, self.n_relations
        self.into_entities, self.into_items = (
            EdgeMeans((heads, relations, tails), n_cross, n_heads, shape, device)
            for n_heads in (graph.n_entities, n_items)
        )
        self.joins_items = bool(np.any((heads < n_items) & (tails < n_items)))
        self.item_relations = RelationMeans(heads, relations, (n_items, self.n_relations), device)


def check_settings(settings: Any) -> None:
    """Check what the limits of the settings' file do not.

    Raises:
        ConfigError: a rate is not below 1, or negatives are asked of the loader.
    """
    require_share(settings, "node_dropout_rate", "mess_dropout_rate")
    refuse_negatives(
        settings, "KRDN draws its own negatives (n_negatives) and would take others for positives"
    )

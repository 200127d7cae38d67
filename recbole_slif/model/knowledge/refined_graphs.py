"""What KRDN works on: triples sorted into two kinds of edges, training pairs, rows and batches."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_slif.data.pairs import PairTable
from recbole_slif.errors import ConfigError
from recbole_slif.graph.dropout import draw_kept
from recbole_slif.graph.knowledge import KnowledgeEdges
from recbole_slif.graph.patterns import rebuilt_on
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers.denoised_routing import interaction_edges
from recbole_slif.layers.masked_relations import MaskedProductMean, MaskedSumMean
from recbole_slif.model.knowledge.directions import directed_triples
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


class Batch(NamedTuple):
    """Users `[B]`, their items `[B]`, drawn items `[B, n]` and the weights of the pairs `[B]`."""

    users: Tensor
    items: Tensor
    negatives: Tensor
    weights: Tensor


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


class RefinedTriples:
    """Cross edges, between an item and another entity, and level edges, between two of one kind.

    Edges are numbered cross edges first, by head, relation and tail, whatever the file's order.

    Attributes:
        n_edges: number of directed edges.
        n_relations: number of relations, inverses included and [PAD] left out; counted from 0.
        joins_items: whether a level edge joins two items.
        into_entities: means that all entities gather.
        into_items: means that items gather, all that a score hears of the last hop.
        item_relations: `[n_items, n_relations]`, the mean of the relations over an item's edges.
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
        own = heads < n_items
        self.joins_items = bool(np.any(own & (tails < n_items)))
        share = 1.0 / np.maximum(np.bincount(heads[own], minlength=n_items), 1)
        self.item_relations = SparseOperator.from_coo(
            heads[own],
            relations[own],
            share[heads[own]],
            (n_items, self.n_relations),
            device=device,
        )


class Interactions(NamedTuple):
    """Pairs as edges from users to items, and the mean over an item's users.

    Of the edges, only those of `kept` `[n_edges]` bool exist, where that is given.
    """

    edges: KnowledgeEdges
    item_means: SparseOperator
    kept: Tensor | None = None


class TrainingPairs:
    """The distinct pairs of the training split: thinned, looked up, and what is not among them."""

    def __init__(
        self, users: np.ndarray, items: np.ndarray, shape: tuple[int, int], device: torch.device
    ) -> None:
        """Sort the pairs.

        Args:
            users: `[n]` user ids.
            items: `[n]` item ids.
            shape: numbers of user and item ids, [PAD] included.
            device: where graphs and draws are handed out.
        """
        self.shape, self.device = shape, device
        self.table = PairTable(users, items, *shape)
        self.whole = self._interactions(self.table.rows, self.table.values)
        if rebuilt_on(device):
            return
        # the order of the entries of `item_means`, and the items they belong to
        self._by_item = torch.from_numpy(np.argsort(self.table.values, kind="stable")).to(device)
        self._items = torch.from_numpy(self.table.values).to(device)[self._by_item]

    def __len__(self) -> int:
        """Return the number of distinct pairs."""
        return len(self.table.keys)

    def thinned(self, rate: float) -> Interactions:
        """Return the interactions without a random share; means are over those left."""
        if rate == 0.0:
            return self.whole
        kept = draw_kept(len(self), rate)
        if rebuilt_on(self.device):
            return self._interactions(self.table.rows[kept], self.table.values[kept])
        flags = torch.from_numpy(kept).to(self.device, non_blocking=True)
        edges, item_means = self.whole.edges, self.whole.item_means
        weights = flags.index_select(0, self._by_item).to(item_means.dtype)
        counts = weights.new_zeros(self.shape[1]).index_add_(0, self._items, weights)
        shares = weights / counts.index_select(0, self._items).clamp_min_(1.0)
        return Interactions(
            edges,
            item_means.with_values(shares),
            flags.index_select(0, edges.input_positions),
        )

    def places(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the fixed place `[n]` of each given training pair, whatever order they come in."""
        keys = users.cpu().numpy() * self.table.n_values + items.cpu().numpy()
        return torch.from_numpy(np.searchsorted(self.table.keys, keys)).to(self.device)

    def draw_unseen(self, users: Tensor, count: int) -> Tensor:
        """Draw items `[n, count]` that the users `[n]` have no training pair with, uniformly.

        The draw comes from torch's own CPU generator, with repetition.
        """
        rows = users.cpu().numpy().repeat(count)
        uniform = torch.rand(len(rows), dtype=torch.float64).numpy()
        ranks = (uniform * self.table.n_absent(rows)).astype(np.int64)
        return torch.from_numpy(self.table.absent(rows, ranks)).to(self.device).view(-1, count)

    def _interactions(self, users: np.ndarray, items: np.ndarray) -> Interactions:
        n_users, n_items = self.shape
        share = 1.0 / np.maximum(np.bincount(items, minlength=n_items), 1)
        return Interactions(
            interaction_edges(users, items, n_users, n_items, self.device),
            SparseOperator.from_coo(
                items, users, share[items], (n_items, n_users), device=self.device
            ),
        )


def check_settings(settings: Any) -> None:
    """Check what the limits of the settings' file do not.

    Raises:
        ConfigError: a rate is not below 1, or negatives are asked of the loader.
    """
    for key in ("node_dropout_rate", "mess_dropout_rate"):
        if not 0.0 <= settings[key] < 1.0:
            raise ConfigError(f"{key} must be at least 0 and below 1, not {settings[key]}")
    refuse_negatives(
        settings, "KRDN draws its own negatives (n_negatives) and would take others for positives"
    )

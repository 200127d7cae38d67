"""KRDN's training pairs: thinned in each step, looked up, and what is not among them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_slif.data.pairs import PairTable
from recbole_slif.graph.dropout import draw_kept
from recbole_slif.graph.knowledge import KnowledgeEdges
from recbole_slif.graph.patterns import rebuilt_on, row_shares
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers.denoised_routing import interaction_edges


class Batch(NamedTuple):
    """Users `[B]`, their items `[B]`, drawn items `[B, n]` and the places of the pairs `[B]`."""

    users: Tensor
    items: Tensor
    negatives: Tensor
    places: Tensor


class Interactions(NamedTuple):
    """Pairs as edges from users to items, and the mean over an item's users.

    `places` `[n_edges]` are those of the edges' pairs among all. Of the edges, only those of `kept`
    `[n_edges]` bool exist, where that is given.
    """

    edges: KnowledgeEdges
    item_means: SparseOperator
    places: Tensor
    kept: Tensor | None = None

    def noted(self, bank: Tensor, values: Tensor) -> Tensor:
        """Return `bank` `[n_pairs]` with `values` `[n_edges]` at the pairs that exist here."""
        if self.kept is not None:
            values = torch.where(self.kept, values, bank.index_select(0, self.places))
        return bank.index_copy(0, self.places, values)


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
            left = self._interactions(self.table.rows[kept], self.table.values[kept])
            places = torch.from_numpy(np.flatnonzero(kept)).to(self.device)
            return left._replace(places=places.index_select(0, left.places))
        flags = torch.from_numpy(kept).to(self.device, non_blocking=True)
        edges, item_means = self.whole.edges, self.whole.item_means
        weights = flags.index_select(0, self._by_item).to(item_means.dtype)
        shares = row_shares(weights, self._items, self.shape[1])
        return Interactions(
            edges,
            item_means.with_values(shares),
            self.whole.places,
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
        edges = interaction_edges(users, items, n_users, n_items, self.device)
        return Interactions(
            edges,
            SparseOperator.from_coo(
                items, users, share[items], (n_items, n_users), device=self.device
            ),
            edges.input_positions.long(),
        )

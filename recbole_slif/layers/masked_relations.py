"""Relational means over edges that a mask keeps, where the mask changes with every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recbole_slif.graph.knowledge import KnowledgeEdges
from recbole_slif.kernel import Kernel, computed_in
from recbole_slif.layers.edge_attention import gather_from_tails
from recbole_slif.layers.edge_kernels import on_cpu, weighted_bags


class MaskedProductMean:
    r"""Each head becomes the mean of its kept tails, each multiplied by its relation's row.

    .. math::
        y_h = \frac{1}{\sum_t b_{hrt}} \sum_{(h, r, t)} b_{hrt}\, e_t \odot e_r

    The masked sibling of `RelationalMean`: the mask enters as weights of the sparse sums, so
    nothing is laid out anew when it changes. The tails of one (head, relation) are added up first
    and multiplied once. A head that keeps no edge gives 0. The mask gets no gradient.
    """

    def __init__(
        self,
        heads: np.ndarray,
        relations: np.ndarray,
        tails: np.ndarray,
        n_entities: int,
        n_relations: int,
        device: torch.device | str | None = None,
    ) -> None:
        """Lay out the edges.

        Args:
            heads: `[n_edges]` entity ids.
            relations: `[n_edges]` rows of the relation table.
            tails: `[n_edges]` entity ids.
            n_entities: number of entity ids.
            n_relations: number of rows of the relation table.
            device: where the indices live.
        """
        self.edges = KnowledgeEdges.build(heads, relations, tails, n_entities, n_relations, device)

    def __call__(self, entities: Tensor, relation_rows: Tensor, kept: Tensor) -> Tensor:
        """Return the means `[n_entities, d]`, differentiable in the first two.

        Args:
            entities: `[n_entities, d]`.
            relation_rows: `[n_relations, d]`.
            kept: `[n_edges]` bool, in the order the edges were given.
        """
        weights = kept.to(computed_in(entities)).index_select(0, self.edges.input_positions)
        total: Tensor = _ProductSum.apply(entities.contiguous(), relation_rows, weights, self.edges)
        return total * _inverse_counts(weights, self.edges)


class MaskedSumMean:
    r"""Each head becomes the mean of its kept tails, each moved by its relation's row.

    .. math::
        y_h = \frac{1}{\sum_t b_{hrt}} \sum_{(h, r, t)} b_{hrt}\, (e_t + e_r)

    A relation counts as one more node that its edges lead to, so one sparse sum does it.
    """

    def __init__(
        self,
        heads: np.ndarray,
        relations: np.ndarray,
        tails: np.ndarray,
        n_entities: int,
        n_relations: int,
        device: torch.device | str | None = None,
    ) -> None:
        """Lay out the edges; arguments as for `MaskedProductMean`."""
        self.n_entities, n_edges = n_entities, len(heads)
        self.edges = KnowledgeEdges.build(
            np.concatenate([heads, heads]),
            np.zeros(2 * n_edges, dtype=np.int32),
            np.concatenate([tails, n_entities + relations]),
            n_entities + n_relations,
            1,
            device,
        )
        self.positions = self.edges.input_positions % max(n_edges, 1)

    def __call__(self, entities: Tensor, relation_rows: Tensor, kept: Tensor) -> Tensor:
        """Return the means `[n_entities, d]`; arguments as for `MaskedProductMean`."""
        weights = kept.to(computed_in(entities)).index_select(0, self.positions)
        nodes = torch.cat([entities, relation_rows])
        total = gather_from_tails(weights, nodes, self.edges)
        # every edge stands for two entries
        return (2.0 * total * _inverse_counts(weights, self.edges))[: self.n_entities]


class _ProductSum(Kernel):
    """Sums of the kept products; saves the tables only and adds up again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, entities: Tensor, relation_rows: Tensor, weights: Tensor, edges: KnowledgeEdges
    ) -> Tensor:
        ctx.save_for_backward(entities, relation_rows, weights)
        ctx.edges = edges
        pairs = _pair_sums(entities, weights, edges)
        _multiply(pairs, relation_rows, edges)
        return weighted_bags(edges.head_pair_offsets, edges.head_pairs, None, pairs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (entities, relation_rows, weights), edges = ctx.saved_tensors, ctx.edges
        arrived = grad.index_select(0, edges.pair_heads)
        grad_rows = _relation_sums(arrived, _pair_sums(entities, weights, edges), edges)
        _multiply(arrived, relation_rows, edges)
        by_tail = weights.index_select(0, edges.tail_order)
        grad_entities = weighted_bags(edges.tail_offsets, edges.tail_pairs, by_tail, arrived)
        return grad_entities, grad_rows, None, None


def _pair_sums(entities: Tensor, weights: Tensor, edges: KnowledgeEdges) -> Tensor:
    """Add up the kept tails of each (head, relation), `[n_pairs, d]`."""
    in_pair_order = weights.index_select(0, edges.pair_order)
    return weighted_bags(edges.pair_offsets, edges.pair_tails, in_pair_order, entities)


def _multiply(pairs: Tensor, relation_rows: Tensor, edges: KnowledgeEdges) -> None:
    """Multiply the rows `[n_pairs, d]` in place by those of their relations."""
    if not on_cpu(pairs):
        # one kernel for all; a CPU would read a relation's row once more for every pair
        pairs.mul_(F.embedding(edges.pair_relations, relation_rows))
        return
    for rows, relation in zip(
        pairs.split(list(edges.pairs_per_relation)), relation_rows.unbind(), strict=True
    ):
        rows.mul_(relation)


def _relation_sums(first: Tensor, second: Tensor, edges: KnowledgeEdges) -> Tensor:
    """Multiply two tables `[n_pairs, d]` and add up each relation's rows, `[n_relations, d]`."""
    if not on_cpu(first):
        # adds up long runs piece by piece, where `index_add_` makes all pairs wait for few rows
        sums: Tensor = torch.ops.aten.embedding_dense_backward(
            first * second, edges.pair_relations, edges.n_relations, -1, False
        )
        return sums
    counts = list(edges.pairs_per_relation)
    blocks = zip(first.split(counts), second.split(counts), strict=True)
    return torch.stack([(own * other).sum(dim=0) for own, other in blocks])


def _inverse_counts(weights: Tensor, edges: KnowledgeEdges) -> Tensor:
    """One over the kept entries of each head, `[n_entities, 1]`; 1 where there are none."""
    ones = weights.new_ones(edges.n_entities, 1)
    return 1.0 / weighted_bags(edges.head_offsets, edges.tails, weights, ones).clamp_min_(1.0)

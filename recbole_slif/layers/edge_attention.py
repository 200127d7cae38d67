"""Differentiable pieces of relational attention, each with a hand-written backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_slif.graph.knowledge import HeadRuns, KnowledgeEdges
from recbole_slif.kernel import Kernel
from recbole_slif.layers.edge_kernels import edge_dots, reduce_runs, weighted_bags
from recbole_slif.layers.entry_kernels import reorder
from recbole_slif.layers.pair_scores import FoldedScores, KeyedScores


class _HeadSoftmax(Kernel):
    """Softmax over each head's edges, the head's largest logit subtracted first."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, edges: HeadRuns) -> Tensor:
        highest = reduce_runs(logits, edges.head_offsets, edges.heads, "max")
        weights = (logits - highest.index_select(0, edges.heads)).exp_()
        total = reduce_runs(weights, edges.head_offsets, edges.heads, "sum")
        weights /= total.index_select(0, edges.heads)
        ctx.save_for_backward(weights)
        ctx.edges = edges
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (weights,) = ctx.saved_tensors
        edges: HeadRuns = ctx.edges
        weighted = grad * weights
        total = reduce_runs(weighted, edges.head_offsets, edges.heads, "sum")
        weighted.addcmul_(weights, total.index_select(0, edges.heads), value=-1.0)
        return weighted, None


class _Gather(Kernel):
    """Weighted sum over each head's edges, see `gather_from_tails`."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, x: Tensor, edges: KnowledgeEdges) -> Tensor:
        ctx.save_for_backward(weights, x)
        ctx.edges = edges
        return weighted_bags(edges.head_offsets, edges.tails, weights, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weights, x = ctx.saved_tensors
        edges: KnowledgeEdges = ctx.edges
        grad_weights = grad_x = None
        grad = grad.contiguous()
        if ctx.needs_input_grad[0]:
            grad_weights = edge_dots(edges.head_offsets, edges.tails, grad, x)
        if ctx.needs_input_grad[1]:
            by_tail = weights.index_select(0, edges.tail_order)
            grad_x = weighted_bags(edges.tail_offsets, edges.tail_heads, by_tail, grad)
        return grad_weights, grad_x, None


def edge_logits(
    x: Tensor, projection: Tensor, relation_rows: Tensor, edges: KnowledgeEdges
) -> Tensor:
    """Score every edge: `(W_r x_t)^T tanh(W_r x_h + e_r)`, Eq. (11), plus the edges' log prior.

    The cost in matrix products follows the distinct (head, relation) and, for relations with fewer
    tails than heads, the distinct (tail, relation), not the edges: see `ScoredEdges`.

    Args:
        x: `[n_entities, d]` entity rows.
        projection: `[n_relations, d, d]` matrices `W_r`.
        relation_rows: `[n_relations, d]` rows `e_r`.
        edges: The directed edges.

    Returns:
        `[n_edges]` logits, differentiable in the three tensors.
    """
    x, scored = x.contiguous(), edges.scored
    parts = [
        function.apply(x, projection, relation_rows, group)
        for function, group in ((FoldedScores, scored.folded), (KeyedScores, scored.keyed))
        if group.relations or group is scored.folded
    ]
    logits = reorder(torch.cat(parts), scored.rank, scored.order)
    if edges.log_prior is not None:
        logits = logits + edges.log_prior.to(logits.dtype)
    return logits


def softmax_over_heads(logits: Tensor, edges: HeadRuns) -> Tensor:
    """Normalise `[n_edges]` logits over the edges of each head, Eq. (12); safe from overflow."""
    weights: Tensor = _HeadSoftmax.apply(logits, edges)
    return weights


def gather_from_tails(weights: Tensor, x: Tensor, edges: KnowledgeEdges) -> Tensor:
    """Sum the tails' rows of each head by weight, one layer of Eq. (10).

    Args:
        weights: `[n_edges]`.
        x: `[n_entities, d]`.
        edges: The directed edges.

    Returns:
        `[n_entities, d]`, differentiable in `weights` and `x`; a head without edges gets 0.
    """
    out: Tensor = _Gather.apply(weights, x.contiguous(), edges)
    return out

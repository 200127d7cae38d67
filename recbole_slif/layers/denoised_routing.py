"""Users gather their items by two attentions at once; pairs where these disagree are left out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recbole_slif.graph.knowledge import KnowledgeEdges
from recbole_slif.kernel import Kernel
from recbole_slif.layers.edge_attention import gather_from_tails, softmax_over_heads
from recbole_slif.layers.edge_kernels import edge_dots, weighted_bags
from recbole_slif.losses import unit_rows

# Its exponential is 0 beside that of any score between 0 and 1, and float16 holds it too.
_LEFT_OUT = -1e4


def interaction_edges(
    users: Any, items: Any, n_users: int, n_items: int, device: torch.device | str | None = None
) -> KnowledgeEdges:
    """Lay out pairs `[n_pairs]` as edges from users to items.

    Users and items keep their own numbers: nodes are counted up to the larger of both, and tables
    are filled up to that length where the edges are used.
    """
    none = users * 0
    return KnowledgeEdges.build(users, none, items, max(n_users, n_items), 1, device)


def denoised_routing(
    users: tuple[Tensor, Tensor],
    items: tuple[Tensor, Tensor],
    queries: tuple[Tensor, Tensor],
    edges: KnowledgeEdges,
    max_gap: float,
    rounds: int,
    kept: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Route items to users in the knowledge tower and the collaborative one (c), comparing both.

    .. math::
        p_{ui} = softmax_{i \in N_u}\big(\sigma(u \cdot q_i)\big), \qquad
        u \leftarrow \sum_{i \in N_u} 1\big[|\sigma(p_{ui}) - \sigma(p^c_{ui})| < \gamma\big]\,
        p_{ui}\, e_i

    and likewise for :math:`u^c`, with rows scaled to length 1 between rounds (KRDN, Zhu et al.,
    SIGIR 2023). The comparison is a constant to the gradient.

    Args:
        users: `[n_users, d]` rows that the first round asks with, of each tower.
        items: `[n_items, d]` rows :math:`e` to gather, of each tower.
        queries: `[n_items, d]` rows :math:`q` that users are compared with, of each tower.
        edges: the pairs, see `interaction_edges`.
        max_gap: :math:`\gamma`.
        rounds: how often, at least once.
        kept: `[n_edges]` bool, the edges that exist, in their order; all if None.

    Returns:
        `[n_users, d]` of each tower, where a user without a pair left becomes 0; and
        `[n_edges]`, 1 where the last round's attentions agree and 0 elsewhere.
    """
    n_users = len(users[0])
    rows = [_filled(table, edges.n_entities) for table in users]
    gathered = [_filled(table, edges.n_entities) for table in items]
    asked = [_filled(table, edges.n_entities) for table in queries]
    for number in range(rounds):
        if number:
            rows = [unit_rows(table) for table in rows]
        shares = [
            _shares(edge_scores(row, query, edges).sigmoid(), edges, kept)
            for row, query in zip(rows, asked, strict=True)
        ]
        agreed = agreement(shares[0], shares[1], max_gap)
        if kept is not None:
            # a user whose edges are all left out has shared itself out among them
            agreed = agreed * kept
        rows = [
            gather_from_tails(agreed * share, table, edges)
            for share, table in zip(shares, gathered, strict=True)
        ]
    return rows[0][:n_users], rows[1][:n_users], agreed


def _shares(scores: Tensor, edges: KnowledgeEdges, kept: Tensor | None) -> Tensor:
    """Normalise scores `[n_edges]` over the kept edges of each head."""
    if kept is not None:
        scores = scores.masked_fill(kept.logical_not(), _LEFT_OUT)
    return softmax_over_heads(scores, edges)


def agreement(first: Tensor, second: Tensor, max_gap: float) -> Tensor:
    r"""Return 1 where :math:`|\sigma(p) - \sigma(p^c)| < \gamma` and 0 elsewhere, `[n_edges]`."""
    gap = (first.detach().sigmoid() - second.detach().sigmoid()).abs_()
    return (gap < max_gap).to(first.dtype)


def edge_scores(left: Tensor, right: Tensor, edges: KnowledgeEdges) -> Tensor:
    """Dot products of head and tail of each edge.

    Args:
        left: `[n_entities, d]` rows of heads.
        right: `[n_entities, d]` rows of tails.
        edges: the directed edges.

    Returns:
        `[n_edges]`, differentiable in both tables.
    """
    scores: Tensor = _EdgeScores.apply(left.contiguous(), right.contiguous(), edges)
    return scores


class _EdgeScores(Kernel):
    """Sampled products, and weighted sums for their gradients; nothing per edge is as wide as d."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, edges: KnowledgeEdges) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.edges = edges
        return edge_dots(edges.head_offsets, edges.tails, left, right)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (left, right), edges = ctx.saved_tensors, ctx.edges
        grad_left = grad_right = None
        if ctx.needs_input_grad[0]:
            grad_left = weighted_bags(edges.head_offsets, edges.tails, grad, right)
        if ctx.needs_input_grad[1]:
            by_tail = grad.index_select(0, edges.tail_order)
            grad_right = weighted_bags(edges.tail_offsets, edges.tail_heads, by_tail, left)
        return grad_left, grad_right, None


def _filled(table: Tensor, n_rows: int) -> Tensor:
    """Append rows of zeros up to `n_rows`."""
    return F.pad(table, (0, 0, 0, n_rows - len(table))) if len(table) < n_rows else table

"""Eq. (11) over groups of edges, each with a hand-written backward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_slif.graph.scored_edges import EdgeGroup, RelationNodes
from recbole_slif.kernel import Kernel
from recbole_slif.layers.edge_kernels import edge_dots, on_cpu, weighted_bags
from recbole_slif.layers.scratch import ScratchPool

_SCRATCH = ScratchPool()


class FoldedScores(Kernel):
    """`x_t . p_hr` with `p_hr = W_r^T tanh(W_r x_h + e_r)`, found once per pair (r, h)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, projection: Tensor, relation_rows: Tensor, group: EdgeGroup
    ) -> Tensor:
        """Return the scores `[n_edges]` of the group's edges in their order."""
        hidden, scorers = (_SCRATCH.empty(group.heads.n_pairs, x) for _ in range(2))
        blocks = _blocks(group, group.heads, _node_rows(x, group.heads), hidden, scorers)
        for relation, heads, rows, out in blocks:
            _hidden(heads, projection[relation], relation_rows[relation], rows)
            torch.mm(rows, projection[relation], out=out)
        ctx.save_for_backward(x, projection, hidden, scorers)
        ctx.group = group
        return edge_dots(group.pattern.row_offsets, group.pattern.columns, scorers, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of the rows, the matrices and the relations' rows."""
        x, projection, hidden, scorers = ctx.saved_tensors
        group: EdgeGroup = ctx.group
        grad_x = _column_sums(grad, scorers, group)
        grad_projection, grad_relations = _zeros(projection)
        grad_heads = _SCRATCH.empty(group.heads.n_pairs, x)
        found = _node_rows(x, group.heads), _arrived(group, grad, x)
        for relation, heads, arrived, rows, out in _blocks(
            group, group.heads, *found, hidden, grad_heads
        ):
            matrix = projection[relation]
            before = torch.ops.aten.tanh_backward(torch.mm(arrived, matrix.t()), rows)
            torch.mm(rows.t(), arrived, out=grad_projection[relation])
            grad_projection[relation].addmm_(before.t(), heads)
            torch.sum(before, 0, out=grad_relations[relation])
            torch.mm(before, matrix, out=out)
        grad_x += _node_sums(group.heads, grad_heads)
        return grad_x, grad_projection, grad_relations, None


class KeyedScores(Kernel):
    """`k_rt . tanh(W_r x_h + e_r)` with `k_rt = W_r x_t`, found once per pair (r, t)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, projection: Tensor, relation_rows: Tensor, group: EdgeGroup
    ) -> Tensor:
        """Return the scores `[n_edges]` of the group's edges in their order."""
        assert group.keys is not None  # noqa: S101 - the caller's choice of function
        hidden = _SCRATCH.empty(group.heads.n_pairs, x)
        keys = _SCRATCH.empty(group.keys.n_pairs, x)
        for relation, heads, rows in _blocks(
            group, group.heads, _node_rows(x, group.heads), hidden
        ):
            _hidden(heads, projection[relation], relation_rows[relation], rows)
        for relation, tails, rows in _blocks(group, group.keys, _node_rows(x, group.keys), keys):
            torch.mm(tails, projection[relation].t(), out=rows)
        ctx.save_for_backward(x, projection, hidden, keys)
        ctx.group = group
        return edge_dots(group.pattern.row_offsets, group.pattern.columns, hidden, keys)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of the rows, the matrices and the relations' rows."""
        x, projection, hidden, keys = ctx.saved_tensors
        group: EdgeGroup = ctx.group
        assert group.keys is not None  # noqa: S101
        grad_projection, grad_relations = _zeros(projection)
        grad_heads = _SCRATCH.empty(group.heads.n_pairs, x)
        found = _node_rows(x, group.heads), _arrived(group, grad, keys)
        for relation, heads, arriving, rows, out in _blocks(
            group, group.heads, *found, hidden, grad_heads
        ):
            before = torch.ops.aten.tanh_backward(arriving, rows)
            torch.mm(before.t(), heads, out=grad_projection[relation])
            torch.sum(before, 0, out=grad_relations[relation])
            torch.mm(before, projection[relation], out=out)
        grad_x = _node_sums(group.heads, grad_heads)
        arrived = _column_sums(grad, hidden, group)
        grad_tails = _SCRATCH.empty(group.keys.n_pairs, x)
        blocks = _blocks(group, group.keys, _node_rows(x, group.keys), arrived, grad_tails)
        for relation, tails, rows, out in blocks:
            grad_projection[relation].addmm_(rows.t(), tails)
            torch.mm(rows, projection[relation], out=out)
        grad_x += _node_sums(group.keys, grad_tails)
        return grad_x, grad_projection, grad_relations, None


def _blocks(
    group: EdgeGroup, pairs: RelationNodes, *tables: Tensor | Iterable[Tensor]
) -> Iterator[Any]:
    """Yield each relation's id and its rows of tables `[n_pairs, d]`, cut already or whole."""
    # Cut once: slicing inside the loop costs more than the products themselves.
    counts = list(pairs.counts)
    parts = (table.split(counts) if isinstance(table, Tensor) else table for table in tables)
    return zip(group.relations, *parts, strict=True)


def _node_rows(x: Tensor, pairs: RelationNodes) -> Iterable[Tensor]:
    """Return the rows of each relation's nodes: one by one on a CPU, while its cache holds them."""
    counts = list(pairs.counts)
    if on_cpu(x):
        return (x.index_select(0, nodes) for nodes in pairs.nodes.split(counts))
    return x.index_select(0, pairs.nodes).split(counts)


def _arrived(group: EdgeGroup, weights: Tensor, table: Tensor) -> Iterable[Tensor]:
    """Return what each relation's pairs get from their edges, by `weights [n_edges]`, likewise."""
    if on_cpu(table):
        return (weighted_bags(*cut, table) for cut in group.cut(weights))
    pattern = group.pattern
    whole = weighted_bags(pattern.row_offsets, pattern.columns, weights, table)
    return whole.split(list(group.heads.counts))


def _hidden(heads: Tensor, matrix: Tensor, relation_row: Tensor, out: Tensor) -> None:
    """Write `tanh(W_r x_h + e_r)` of the rows of heads `[n, d]` to `out` `[n, d]`."""
    torch.addmm(relation_row, heads, matrix.t(), out=out)
    out.tanh_()


def _column_sums(grad: Tensor, table: Tensor, group: EdgeGroup) -> Tensor:
    """Sum the rows `[n_pairs, d]` of (r, h) at each column's edges, weighed by `grad [n_edges]`."""
    pattern = group.pattern
    by_column = grad.index_select(0, pattern.by_column)
    return weighted_bags(pattern.column_offsets, pattern.rows, by_column, table)


def _node_sums(pairs: RelationNodes, table: Tensor) -> Tensor:
    """Sum the rows `[n_pairs, d]` of each node's pairs, `[n_entities, d]`."""
    return weighted_bags(pairs.node_offsets, pairs.by_node, None, table)


def _zeros(projection: Tensor) -> tuple[Tensor, Tensor]:
    """Return zero gradients of the matrices `[n_relations, d, d]` and the relations' rows."""
    return torch.zeros_like(projection), projection.new_zeros(len(projection), projection.shape[2])

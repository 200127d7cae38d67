"""The differentiable kernel of `RelationalMean`: pairs (relation, node) block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.kernel import Kernel

# pairs handled at a time: their rows, 4 MiB at d = 64, then stay in the cache between two products
BLOCK_PAIRS = 16_384


@dataclass(frozen=True, eq=False)
class PairPlan:
    """The sparse products around the pairs, whole or cut into blocks of consecutive pairs.

    Attributes:
        collect: blocks `[block, n_entities]` that add up each pair's tails.
        hand_back: blocks `[block, n_rows]` that add up each pair's heads, for gradients; the rows
            are all entities, or those whose means are wanted.
        hand_out: `[n_rows, n_pairs]`, all of `hand_back` transposed.
        collect_back: `[n_entities, n_pairs]`, all of `collect` transposed.
        bounds: `[n_relations + 1]` first pair of each relation.
        inverse_degree: `[n_rows, 1]`.
    """

    collect: list[SparseOperator]
    hand_back: list[SparseOperator]
    hand_out: SparseOperator
    collect_back: SparseOperator
    bounds: np.ndarray
    inverse_degree: Tensor

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return int(self.bounds[-1])

    def means(self, x: Tensor, relation_rows: Tensor) -> Tensor:
        """Return the means `[n_rows, d]` of `x` `[n_entities, d]`, see `PairwiseMean`."""
        means: Tensor = PairwiseMean.apply(x, relation_rows, self)
        return means

    def parts(self, block: int) -> Iterator[tuple[int, slice, slice]]:
        """Yield each relation of a block with its rows within the block and among all pairs."""
        start = block * BLOCK_PAIRS
        stop = min(start + BLOCK_PAIRS, self.n_pairs)
        first = int(np.searchsorted(self.bounds, start, side="right")) - 1
        while start < stop:
            end = min(int(self.bounds[first + 1]), stop)
            if end > start:
                offset = block * BLOCK_PAIRS
                yield first, slice(start - offset, end - offset), slice(start, end)
            start, first = max(start, end), first + 1


class PairwiseMean(Kernel):
    """The whole layer; saves its inputs only and adds the pairs up again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, plan: PairPlan) -> Tensor:
        """Return the means `[n_rows, d]` of `x` `[n_entities, d]` by `rows` of relations."""
        ctx.save_for_backward(x, rows)
        ctx.plan = plan
        pairs = x.new_empty(plan.n_pairs, x.shape[1])
        for block, operator in enumerate(plan.collect):
            sums = operator @ x
            for relation, inside, among in plan.parts(block):
                torch.mul(sums[inside], rows[relation], out=pairs[among])
        return (plan.hand_out @ pairs).mul_(plan.inverse_degree)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of `x` and `rows`."""
        (x, rows), plan = ctx.saved_tensors, ctx.plan
        grad = grad * plan.inverse_degree
        grad_pairs = x.new_empty(plan.n_pairs, x.shape[1])
        grad_rows = torch.zeros_like(rows)
        for block, (back, collect) in enumerate(zip(plan.hand_back, plan.collect, strict=True)):
            arrived, sums = back @ grad, collect @ x
            for relation, inside, among in plan.parts(block):
                torch.mul(arrived[inside], rows[relation], out=grad_pairs[among])
                grad_rows[relation] += (arrived[inside] * sums[inside]).sum(dim=0)
        return plan.collect_back @ grad_pairs, grad_rows, None


def ones_at(
    rows: np.ndarray, columns: np.ndarray, edges: np.ndarray, shape: tuple[int, int]
) -> tuple[sp.csr_array, np.ndarray]:
    """Sort entries into a CSR matrix of ones; return it with the edge number of each entry."""
    order = np.lexsort((columns, rows))
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    ones = np.ones(len(rows), dtype=np.float32)
    return sp.csr_array((ones, columns[order], starts), shape=shape), edges[order]

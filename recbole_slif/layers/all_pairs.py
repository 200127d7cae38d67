"""Exponentials of all pairs of rows, summed tile by tile with their gradient in the same pass.

A tile of products stays in a core's cache from its matrix product over its exponential to the
product that adds it to the gradient. Nothing of size `n x n` is ever held. Exponentials are taken
to the base 2, which the CPU library computes about three times as fast.

Under `contrast_precision: bfloat16` tiles are multiplied and held half as wide and added up in
float32, save where exponents are so large that the rounding of them would count.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_slif.kernel import Kernel
from recbole_slif.layers.pair_tiles import PairTiles, add_product, tile_type

SAFE_EXPONENT = 60.0  # sums of exp(+-60) over rows that fit in memory are ordinary float32 numbers

_LOG2_E = 1.0 / math.log(2.0)


def row_logsumexp(
    queries: Tensor,
    candidates: Tensor,
    exclude_own: bool,
    block: int | None = None,
    bound: float = math.inf,
) -> Tensor:
    """Log of the summed exponentials of each query's products with all candidates.

    Args:
        queries: `[n, d]`.
        candidates: `[m, d]`, at least one besides an excluded one. Free when detached: a gradient
            to them costs a second pass.
        exclude_own: Leave candidate i out of query i's sum; needs `n = m`.
        block: Rows and columns of a tile; chosen for device and type when None.
        bound: What no product exceeds in size. Above `SAFE_EXPONENT` each query's largest product
            is found first, in a pass of its own, and subtracted.

    Returns:
        `[n]`.
    """
    result: Tensor = _RowLogSumExp.apply(queries, candidates, exclude_own, block, bound)
    return result


def pair_sum(x: Tensor, block: int | None = None, bound: float = SAFE_EXPONENT) -> Tensor:
    """Sum of `exp(x_i . x_j)` over all ordered pairs with `i != j`, a scalar; 0 for a single row.

    Symmetry saves half of the products and exponentials.

    Args:
        x: `[n, d]`, rows of squared length up to `SAFE_EXPONENT`.
        block: Rows and columns of a tile; chosen for device and type when None.
        bound: What no product exceeds in size.
    """
    result: Tensor = _PairSum.apply(x, block, bound)
    return result


class _RowLogSumExp(Kernel):
    """Tiled log-sum-exp whose gradient to the queries comes from the same pass."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        candidates: Tensor,
        exclude_own: bool,
        block: int | None,
        bound: float,
    ) -> Tensor:
        binary = queries * _LOG2_E
        kind = tile_type(queries, bound)
        tiles = PairTiles(binary, candidates, exclude_own, block, kind)
        shift = None if bound <= SAFE_EXPONENT else tiles.row_maxima()
        totals = queries.new_zeros(len(queries))
        means = torch.zeros_like(queries) if ctx.needs_input_grad[0] else None
        for rows, columns in tiles:
            powers = tiles.powers(rows, columns, shift)
            totals[rows] += powers.sum(1, dtype=totals.dtype)
            if means is not None:
                add_product(means[rows], powers, tiles.candidates[columns])
        if means is not None:
            means /= totals.unsqueeze(1)
        logs = totals.log2_() if shift is None else totals.log2_().add_(shift)
        ctx.save_for_backward(binary, candidates, logs, means)
        ctx.exclude_own, ctx.block, ctx.kind = exclude_own, block, kind
        return logs / _LOG2_E

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        binary, candidates, logs, means = ctx.saved_tensors
        grad_queries = None if means is None else means * grad.unsqueeze(1)
        grad_candidates = None
        if ctx.needs_input_grad[1]:
            weighted = binary * (grad / _LOG2_E).unsqueeze(1)
            shift = logs
            if ctx.kind != binary.dtype:
                # a log subtracted from rounded exponents would round them once more
                weighted, shift = weighted * (-logs).exp2().unsqueeze(1), None
            weighted = weighted.to(ctx.kind)
            grad_candidates = torch.zeros_like(candidates)
            tiles = PairTiles(binary, candidates, ctx.exclude_own, ctx.block, ctx.kind)
            for rows, columns in tiles:
                shares = tiles.powers(rows, columns, shift)
                add_product(grad_candidates[columns], shares.t(), weighted[rows])
        return grad_queries, grad_candidates, None, None, None


class _PairSum(Kernel):
    """Half of the tiles give the sum, and each the gradient of both its sides."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, block: int | None, bound: float) -> Tensor:
        root = x * math.sqrt(_LOG2_E)
        kind = tile_type(x, bound)
        narrow = x.to(kind)
        tiles = PairTiles(root, root, True, block, kind)
        total = x.new_zeros(())
        gradient = torch.zeros_like(x)
        for rows, columns in tiles:
            if columns.start < rows.start:
                continue
            powers = tiles.powers(rows, columns, None)
            add_product(gradient[rows], powers, narrow[columns])
            if columns == rows:
                total += powers.sum(dtype=x.dtype)
            else:
                total += 2.0 * powers.sum(dtype=x.dtype)
                add_product(gradient[columns], powers.t(), narrow[rows])
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (2.0 * grad), None, None

"""Exponentials of all pairs of rows, summed tile by tile with their gradient in the same pass.

A tile of products stays in a core's cache from its matrix product over its exponential to the
product that adds it to the gradient. Nothing of size `n x n` is ever held. Exponentials are taken
to the base 2, which the CPU library computes about three times as fast.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_slif.kernel import Kernel

TILE_ROWS = 512
GPU_TILE_ROWS = 4096  # a tile has to fill the GPU, or launching its kernels takes the time

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
        block: Rows and columns of a tile; chosen for the device when None.
        bound: What no product exceeds in size. Above `SAFE_EXPONENT` each query's largest product
            is found first, in a pass of its own, and subtracted.

    Returns:
        `[n]`.
    """
    result: Tensor = _RowLogSumExp.apply(
        queries, candidates, exclude_own, block or _tile_rows(queries), bound <= SAFE_EXPONENT
    )
    return result


def pair_sum(x: Tensor, block: int | None = None) -> Tensor:
    """Sum of `exp(x_i . x_j)` over all ordered pairs with `i != j`, a scalar; 0 for a single row.

    Symmetry saves half of the products and exponentials.

    Args:
        x: `[n, d]`, rows of squared length up to `SAFE_EXPONENT`.
        block: Rows and columns of a tile; chosen for the device when None.
    """
    result: Tensor = _PairSum.apply(x, block or _tile_rows(x))
    return result


def _tile_rows(x: Tensor) -> int:
    return GPU_TILE_ROWS if x.is_cuda else TILE_ROWS


class _RowLogSumExp(Kernel):
    """Tiled log-sum-exp whose gradient to the queries comes from the same pass."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, candidates: Tensor, exclude_own: bool, tile: int, safe: bool
    ) -> Tensor:
        binary = queries * _LOG2_E
        tiles = _Tiles(binary, candidates, exclude_own, tile)
        shift = None if safe else tiles.row_maxima()
        totals = queries.new_zeros(len(queries))
        means = torch.zeros_like(queries) if ctx.needs_input_grad[0] else None
        for rows, columns in tiles:
            powers = tiles.powers(rows, columns, shift)
            totals[rows] += powers.sum(1)
            if means is not None:
                means[rows].addmm_(powers, candidates[columns])
        if means is not None:
            means /= totals.unsqueeze(1)
        logs = totals.log2_() if shift is None else totals.log2_().add_(shift)
        ctx.save_for_backward(binary, candidates, logs, means)
        ctx.exclude_own, ctx.tile = exclude_own, tile
        return logs / _LOG2_E

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        binary, candidates, logs, means = ctx.saved_tensors
        grad_queries = None if means is None else means * grad.unsqueeze(1)
        grad_candidates = None
        if ctx.needs_input_grad[1]:
            weighted = binary * (grad / _LOG2_E).unsqueeze(1)
            grad_candidates = torch.zeros_like(candidates)
            tiles = _Tiles(binary, candidates, ctx.exclude_own, ctx.tile)
            for rows, columns in tiles:
                shares = tiles.powers(rows, columns, logs)
                grad_candidates[columns].addmm_(shares.t(), weighted[rows])
        return grad_queries, grad_candidates, None, None, None


class _PairSum(Kernel):
    """Half of the tiles give the sum, and each the gradient of both its sides."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tile: int) -> Tensor:
        root = x * math.sqrt(_LOG2_E)
        tiles = _Tiles(root, root, True, tile)
        total = x.new_zeros(())
        gradient = torch.zeros_like(x)
        for rows, columns in tiles:
            if columns.start < rows.start:
                continue
            powers = tiles.powers(rows, columns, None)
            gradient[rows].addmm_(powers, x[columns])
            if columns == rows:
                total += powers.sum()
            else:
                total += 2.0 * powers.sum()
                gradient[columns].addmm_(powers.t(), x[rows])
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (2.0 * grad), None


class _Tiles:
    """The tiles of `binary [n, d]` against `candidates [m, d]`, computed into one kept buffer."""

    def __init__(self, binary: Tensor, candidates: Tensor, exclude_own: bool, size: int) -> None:
        self.binary, self.candidates = binary, candidates
        self.exclude_own, self.size = exclude_own, size
        side = min(size, max(len(binary), len(candidates)))
        self.buffer = binary.new_empty(side * side)

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        for start in range(0, len(self.binary), self.size):
            rows = slice(start, min(start + self.size, len(self.binary)))
            for first in range(0, len(self.candidates), self.size):
                yield rows, slice(first, min(first + self.size, len(self.candidates)))

    def products(self, rows: slice, columns: slice) -> Tensor:
        """Products of one tile; valid until the next is asked for."""
        shape = rows.stop - rows.start, columns.stop - columns.start
        out = self.buffer[: shape[0] * shape[1]].view(shape)
        return torch.mm(self.binary[rows], self.candidates[columns].t(), out=out)

    def powers(self, rows: slice, columns: slice, shift: Tensor | None) -> Tensor:
        """Two to the products minus each row's shift; 0 for a row's own candidate if left out."""
        products = self.products(rows, columns)
        if shift is not None:
            products.sub_(shift[rows].unsqueeze(1))
        powers = products.exp2_()
        if self.exclude_own and rows == columns:
            powers.fill_diagonal_(0.0)
        return powers

    def row_maxima(self) -> Tensor:
        """Largest product of each row `[n]`, its own candidate left out if so asked."""
        maxima = self.binary.new_full((len(self.binary),), -torch.inf)
        for rows, columns in self:
            products = self.products(rows, columns)
            if self.exclude_own and rows == columns:
                products.fill_diagonal_(-torch.inf)
            maxima[rows] = torch.maximum(maxima[rows], products.amax(1))
        return maxima

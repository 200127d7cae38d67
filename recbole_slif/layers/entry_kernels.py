"""Differentiable sums and products at the entries of a sparse pattern, backward by hand."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_slif.graph.incidence import Incidence
from recbole_slif.kernel import Kernel
from recbole_slif.layers.edge_kernels import edge_dots, weighted_bags


class _Dots(Kernel):
    """Products of rows and columns, see `entry_dots`."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, pattern: Incidence) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.pattern = pattern
        return edge_dots(pattern.row_offsets, pattern.columns, left, right)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        left, right = ctx.saved_tensors
        pattern: Incidence = ctx.pattern
        return _by_row(grad, right, pattern), _by_column(grad, left, pattern), None


class _RowSums(Kernel):
    """Sums over the entries of each row, see `row_sums`."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor | None, x: Tensor, pattern: Incidence) -> Tensor:
        ctx.save_for_backward(weights, x)
        ctx.pattern = pattern
        return _by_row(weights, x, pattern)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weights, x = ctx.saved_tensors
        pattern: Incidence = ctx.pattern
        grad = grad.contiguous()
        grad_weights = grad_x = None
        if ctx.needs_input_grad[0]:
            grad_weights = edge_dots(pattern.row_offsets, pattern.columns, grad, x)
        if ctx.needs_input_grad[1]:
            grad_x = _by_column(weights, grad, pattern)
        return grad_weights, grad_x, None


class _ColumnSums(Kernel):
    """Sums over the entries of each column, see `column_sums`."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, x: Tensor, pattern: Incidence) -> Tensor:
        ctx.save_for_backward(weights, x)
        ctx.pattern = pattern
        return _by_column(weights, x, pattern)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weights, x = ctx.saved_tensors
        pattern: Incidence = ctx.pattern
        grad = grad.contiguous()
        grad_weights = grad_x = None
        if ctx.needs_input_grad[0]:
            grad_weights = edge_dots(pattern.row_offsets, pattern.columns, x, grad)
        if ctx.needs_input_grad[1]:
            grad_x = _by_row(weights, grad, pattern)
        return grad_weights, grad_x, None


def _by_row(weights: Tensor | None, x: Tensor, pattern: Incidence) -> Tensor:
    return weighted_bags(pattern.row_offsets, pattern.columns, weights, x)


def _by_column(weights: Tensor | None, x: Tensor, pattern: Incidence) -> Tensor:
    ordered = None if weights is None else weights.index_select(0, pattern.by_column)
    return weighted_bags(pattern.column_offsets, pattern.rows, ordered, x)


class _Reorder(Kernel):
    """`values[order]` for a permutation whose inverse is known."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.inverse = inverse
        return values.index_select(0, order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, ctx.inverse), None, None


def entry_dots(left: Tensor, right: Tensor, pattern: Incidence) -> Tensor:
    """Multiply the rows that meet at each entry.

    Args:
        left: `[n_rows, d]`.
        right: `[n_columns, d]`.
        pattern: where they meet.

    Returns:
        `[n]` dot products in the order of the entries, differentiable in both.
    """
    dots: Tensor = _Dots.apply(left.contiguous(), right.contiguous(), pattern)
    return dots


def row_sums(weights: Tensor | None, x: Tensor, pattern: Incidence) -> Tensor:
    """Add up the rows of `x` `[n_columns, d]` at each row's entries, by weight `[n]` if given.

    Returns:
        `[n_rows, d]`, differentiable in weights and `x`; rows without entries are 0.
    """
    sums: Tensor = _RowSums.apply(weights, x.contiguous(), pattern)
    return sums


def column_sums(weights: Tensor, x: Tensor, pattern: Incidence) -> Tensor:
    """Add up the rows of `x` `[n_rows, d]` at each column's entries, by weight `[n]`.

    Returns:
        `[n_columns, d]`, differentiable in weights and `x`; columns without entries are 0.
    """
    sums: Tensor = _ColumnSums.apply(weights, x.contiguous(), pattern)
    return sums


def reorder(values: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """Return `values[order]` for a permutation `[n]` and its inverse; differentiable."""
    ordered: Tensor = _Reorder.apply(values, order, inverse)
    return ordered

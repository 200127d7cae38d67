"""Fixed patterns of sparse matrices: where they outlive a step, and how they are transposed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def rebuilt_on(device: torch.device | str | None) -> bool:
    """Tell whether matrices on `device` are best thinned by building smaller ones.

    On a CPU a product costs what its entries cost. Elsewhere it is cheap beside the copies and the
    waiting that a new matrix takes, so entries are dropped by giving them the value 0.
    """
    return torch.device(device or "cpu").type == "cpu"


def row_shares(weights: Tensor, rows: Tensor, n_rows: int) -> Tensor:
    """Return weights of 0 or more, `[nnz]`, as shares of their rows' sums; an empty row's stay 0.

    Args:
        weights: counts of what the entries stand for, so that no sum lies between 0 and 1.
        rows: `[nnz]` the entries' rows, int64.
        n_rows: number of rows.
    """
    totals = weights.new_zeros(n_rows).index_add_(0, rows, weights)
    return weights / totals.index_select(0, rows).clamp_min_(1.0)


@dataclass(frozen=True, eq=False)
class Transposed:
    """A CSR pattern transposed.

    Attributes:
        starts: `[n_cols + 1]` first entry of each column.
        columns: `[nnz]` the entries' rows, column by column.
        order: `[nnz]` int64, the entries in that order.
    """

    starts: Tensor
    columns: Tensor
    order: Tensor

    @classmethod
    def find(cls, starts: Tensor, columns: Tensor, shape: tuple[int, int]) -> Transposed:
        """Sort the entries where they lie.

        Args:
            starts: `[n_rows + 1]` first entry of each row.
            columns: `[nnz]` columns, row by row.
            shape: `(n_rows, n_cols)`.
        """
        # stable: a column's entries stay in the order of their rows, as CSR wants them
        ascending, order = torch.sort(columns, stable=True)
        ids = torch.arange(shape[0], dtype=starts.dtype, device=starts.device)
        rows = torch.repeat_interleave(ids, starts.diff(), output_size=len(order))
        bounds = torch.arange(shape[1] + 1, dtype=columns.dtype, device=columns.device)
        firsts = torch.searchsorted(ascending, bounds).to(starts.dtype)
        return cls(firsts, rows.index_select(0, order), order)


class Transposition:
    """Holds what `Transposed.find` finds at the first use, for all operators of a pattern."""

    def __init__(self) -> None:
        """Begin without it."""
        self._found: Transposed | None = None

    def of(self, starts: Tensor, columns: Tensor, shape: tuple[int, int]) -> Transposed:
        """Return it; arguments as for `Transposed.find`, the same at every call."""
        if self._found is None:
            self._found = Transposed.find(starts, columns, shape)
        return self._found

"""Products of all pairs of rows, tile by tile, in float32 or half as wide."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from recbole_slif.precision import comparison_of

TILE_ROWS = 512
HALF_TILE_ROWS = 1024  # of bfloat16, whose products are faster the larger they are
GPU_TILE_ROWS = 4096  # a tile has to fill the GPU, or launching its kernels takes the time
HALF_EXPONENT = 20.0  # bfloat16 rounds an exponent of 20 by less than 0.05, an exponential by 5 %


def tile_type(x: Tensor, bound: float) -> torch.dtype:
    """Return the type to hold tiles of products of `x` in that do not exceed `bound` in size."""
    return comparison_of(x) if bound <= HALF_EXPONENT else x.dtype


def _tile_rows(x: Tensor, kind: torch.dtype) -> int:
    if x.is_cuda:
        return GPU_TILE_ROWS
    return HALF_TILE_ROWS if kind == torch.bfloat16 else TILE_ROWS


def add_product(to: Tensor, left: Tensor, right: Tensor) -> None:
    """Add the product of two tensors of one type to `to`, which may be of a wider one."""
    if left.dtype == to.dtype:
        to.addmm_(left, right)
    else:
        to += left @ right


class PairTiles:
    """The tiles of `binary [n, d]` against `candidates [m, d]`, computed into one kept buffer.

    Args:
        binary: `[n, d]`, scaled so that powers of two are wanted of its products.
        candidates: `[m, d]`.
        exclude_own: Leave candidate i out of row i's powers.
        block: Rows and columns of a tile; chosen for device and type when None.
        kind: Type of the tiles, see `tile_type`.
    """

    def __init__(
        self,
        binary: Tensor,
        candidates: Tensor,
        exclude_own: bool,
        block: int | None,
        kind: torch.dtype,
    ) -> None:
        self.binary, self.candidates = binary.to(kind), candidates.to(kind)
        self.exclude_own, self.size = exclude_own, block or _tile_rows(binary, kind)
        side = min(self.size, max(len(binary), len(candidates)))
        self.buffer = self.binary.new_empty(side * side)

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

"""The fixed sparse operator every propagation goes through; the only place that picks a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_slif.graph.csr import csr_tensor
from recbole_slif.graph.patterns import Transposition, rebuilt_on
from recbole_slif.kernel import Kernel, computed_in
from recbole_slif.precision import storage_of

_INT32_LIMIT = np.iinfo(np.int32).max
_FEW_ROWS = 0.6  # share of the entries up to which rows are cut out; from there it costs more


@dataclass(frozen=True, eq=False)
class _CompressedRows:
    """A CSR matrix of `shape` as tensors: row starts, column ids and values, on one device."""

    starts: Tensor
    columns: Tensor
    values: Tensor
    shape: tuple[int, int]
    _narrow_values: dict[torch.dtype, Tensor] = field(default_factory=dict)

    @classmethod
    def from_scipy(
        cls, matrix: sp.csr_array, dtype: torch.dtype, device: torch.device
    ) -> _CompressedRows:
        # Half-width indices halve the index traffic of a kernel that is bound by memory.
        width = np.int32 if max(matrix.nnz, *matrix.shape) <= _INT32_LIMIT else np.int64
        values = torch.from_numpy(np.array(matrix.data, dtype=np.float64)).to(device, dtype)
        starts = torch.from_numpy(np.array(matrix.indptr, dtype=width)).to(device)
        columns = torch.from_numpy(np.array(matrix.indices, dtype=width)).to(device)
        return cls(starts, columns, values, (int(matrix.shape[0]), int(matrix.shape[1])))

    def to_scipy(self) -> sp.csr_array:
        arrays = tuple(part.cpu().numpy() for part in (self.values, self.columns, self.starts))
        return sp.csr_array(arrays, shape=self.shape)

    def transposed(self) -> _CompressedRows:
        flipped = sp.csr_array(self.to_scipy().T)
        return _CompressedRows.from_scipy(flipped, self.values.dtype, self.values.device)

    def with_values(self, values: Tensor) -> _CompressedRows:
        return replace(self, values=values, _narrow_values={})

    def reordered(self, held: Transposition) -> _CompressedRows:
        """Transpose by a transposition of the pattern, which stays where the matrix lies."""
        found = held.of(self.starts, self.columns, self.shape)
        values = self.values.index_select(0, found.order)
        return _CompressedRows(found.starts, found.columns, values, self.shape[::-1])

    def to(self, device: torch.device) -> _CompressedRows:
        return _CompressedRows(
            self.starts.to(device), self.columns.to(device), self.values.to(device), self.shape
        )

    def picked(self, rows: Tensor) -> _CompressedRows:
        """The matrix `[len(rows), n_cols]` of some rows."""
        begins = self.starts.index_select(0, rows)
        lengths = self.starts.index_select(0, rows + 1) - begins
        starts = F.pad(torch.cumsum(lengths, 0), (1, 0)).to(self.starts.dtype)
        count = int(starts[-1])
        shifts = torch.repeat_interleave(begins - starts[:-1], lengths, output_size=count)
        places = shifts + torch.arange(count, dtype=self.starts.dtype, device=self.starts.device)
        columns = self.columns.index_select(0, places)
        values = self.values.index_select(0, places)
        return _CompressedRows(starts, columns, values, (len(rows), self.shape[1]))

    def share_of(self, rows: Tensor) -> float:
        """How much of the matrix lies in some rows, 0 to 1."""
        lengths = self.starts.index_select(0, rows + 1) - self.starts.index_select(0, rows)
        return float(lengths.sum()) / max(self.columns.numel(), 1)

    def product(self, x: Tensor) -> Tensor:
        """Multiply by `x [n_cols, d]`; returns `[n_rows, d]` of its type, without a gradient.

        Of a half-width table the kernels add up a row in float32 and round it once.
        """
        if self.columns.numel() == 0 or x.shape[1] == 0:
            return x.new_zeros(self.shape[0], x.shape[1])
        values = self._values_as(x.dtype)
        if x.is_cuda:
            return torch.sparse.mm(csr_tensor(self.starts, self.columns, values, x.shape[0]), x)
        # Bags are rows: on a CPU this gathers at memory speed, about ten times torch's COO product.
        return F.embedding_bag(
            self.columns,
            x.contiguous(),
            self.starts,
            mode="sum",
            per_sample_weights=values,
            include_last_offset=True,
        )

    def stored_product(self, x: Tensor, stored: torch.dtype | None) -> Tensor:
        """`A x` in the type of `x`, both kept as `stored` for the kernel where that is a type."""
        return self.product(_as_stored(x, stored)).to(x.dtype)

    def _values_as(self, dtype: torch.dtype) -> Tensor:
        if dtype == self.values.dtype:
            return self.values
        if dtype not in self._narrow_values:
            self._narrow_values[dtype] = self.values.to(dtype)
        return self._narrow_values[dtype]


def _as_stored(x: Tensor, stored: torch.dtype | None) -> Tensor:
    return x if stored is None else x.to(stored)


class _Polynomial(Kernel):
    """`sum_l c_l A^l x` forward; `sum_l c_l (A^T)^l g` backward. Nothing but `A` is saved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: SparseOperator, coefficients: list[float]) -> Tensor:
        ctx.operator, ctx.coefficients, ctx.stored = operator, coefficients, storage_of(x)
        total = x * coefficients[0]
        layer = _as_stored(x, ctx.stored)
        for coefficient in coefficients[1:]:
            layer = operator._rows.product(layer)
            total.add_(layer, alpha=coefficient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        grad = grad.contiguous()
        adjoint = ctx.operator._adjoint_rows()
        total = grad * ctx.coefficients[-1]
        # Horner's rule needs one running table where the forward order would need two.
        for coefficient in reversed(ctx.coefficients[:-1]):
            total = adjoint.stored_product(total, ctx.stored).add_(grad, alpha=coefficient)
        return total, None, None


class _PolynomialRows(Kernel):
    """Some rows of `_Polynomial`, to the same bits in both directions.

    The last layer is formed at those rows alone, and the first product of the backward pass hears
    from them alone.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, operator: SparseOperator, coefficients: list[float], rows: Tensor
    ) -> Tensor:
        ctx.operator, ctx.coefficients, ctx.rows = operator, coefficients, rows
        ctx.stored = storage_of(x)
        total = x.index_select(0, rows) * coefficients[0]
        layer = _as_stored(x, ctx.stored)
        for coefficient in coefficients[1:-1]:
            layer = operator._rows.product(layer)
            total.add_(layer.index_select(0, rows), alpha=coefficient)
        ctx.picked = operator._rows.picked(rows)
        return total.add_(ctx.picked.product(layer), alpha=coefficients[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        adjoint = ctx.operator._adjoint_rows()
        picked = ctx.picked.transposed()
        total = picked.stored_product(grad * ctx.coefficients[-1], ctx.stored)
        total.index_add_(0, ctx.rows, grad, alpha=ctx.coefficients[-2])
        for coefficient in reversed(ctx.coefficients[:-2]):
            total = adjoint.stored_product(total, ctx.stored)
            total.index_add_(0, ctx.rows, grad, alpha=coefficient)
        return total, None, None, None


class _Product(Kernel):
    """`A x` forward, `A^T g` backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: SparseOperator) -> Tensor:
        ctx.operator, ctx.stored = operator, storage_of(x)
        return operator._rows.stored_product(x, ctx.stored)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        adjoint = ctx.operator._adjoint_rows()
        return adjoint.stored_product(grad.contiguous(), ctx.stored), None


class SparseOperator:
    """A constant sparse matrix `[n_rows, n_cols]` that multiplies dense tables.

    Products are differentiable in the table only; the matrix is data. The transpose that the
    backward pass needs is built at the first backward and kept, so that operators used for
    evaluation alone never pay for it.
    """

    def __init__(self, rows: _CompressedRows, adjoint: _CompressedRows | None = None) -> None:
        self._rows = rows
        self._adjoint = adjoint
        self._transposition = Transposition()
        # Sorting on a GPU spares it two copies; on a CPU scipy is the faster.
        self._reorders = not rebuilt_on(rows.values.device)
        self._sums: Tensor | None = None

    @classmethod
    def from_scipy(
        cls,
        matrix: sp.spmatrix | sp.sparray,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        as_laid_out: bool = False,
    ) -> SparseOperator:
        """Copy a scipy matrix `[n_rows, n_cols]`; duplicate entries are summed.

        The matrix given is left as it is, whatever its format and order of indices. Without
        `dtype`, the values have torch's default type, as parameters do. `as_laid_out` keeps the
        entries of a CSR matrix in their number and order, for values that are given later.
        """
        dtype = torch.get_default_dtype() if dtype is None else dtype
        rows = sp.csr_array(matrix)
        if not (as_laid_out or rows.has_canonical_format):
            rows = rows.copy()
            rows.sum_duplicates()
        return cls(_CompressedRows.from_scipy(rows, dtype, torch.device(device or "cpu")))

    @classmethod
    def from_coo(
        cls,
        rows: ArrayLike,
        cols: ArrayLike,
        values: ArrayLike,
        shape: tuple[int, int],
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> SparseOperator:
        """Build from parallel arrays of row ids, column ids and values; duplicates are summed.

        Raises:
            ValueError: an id lies outside `shape` or the arrays differ in length.
        """
        places = (np.asarray(rows), np.asarray(cols))
        weights = np.asarray(values, dtype=np.float64)
        return cls.from_scipy(sp.coo_array((weights, places), shape=shape), dtype, device)

    @property
    def shape(self) -> tuple[int, int]:
        """`(n_rows, n_cols)`."""
        return self._rows.shape

    @property
    def nnz(self) -> int:
        """Number of stored entries."""
        return self._rows.columns.numel()

    @property
    def dtype(self) -> torch.dtype:
        """Type of the values, which tables must share."""
        return self._rows.values.dtype

    @property
    def device(self) -> torch.device:
        """Where the matrix lies."""
        return self._rows.values.device

    @property
    def columns(self) -> Tensor:
        """`[nnz]` column of each entry, row by row."""
        return self._rows.columns

    def __repr__(self) -> str:
        return f"SparseOperator(shape={self.shape}, nnz={self.nnz}, dtype={self.dtype})"

    def __matmul__(self, x: Tensor) -> Tensor:
        """Multiply by `x [n_cols, d]`; returns `[n_rows, d]`, differentiable once in `x`.

        Raises:
            ValueError: `x` is not `[n_cols, d]` of the operator's type.
        """
        self._check_table(x)
        return _Product.apply(x, self)

    def product_at(self, x: Tensor, rows: Tensor) -> Tensor:
        """Some rows of `A x`: `[len(rows), d]`, differentiable once in `x`.

        Args:
            x: `[n_cols, d]`.
            rows: distinct row ids.

        Raises:
            ValueError: `x` is not `[n_cols, d]` of the operator's type.
        """
        if self._worth_cutting(x, rows):
            return SparseOperator(self._rows.picked(rows)) @ x
        return F.embedding(rows, self @ x)

    def polynomial(
        self, x0: Tensor, coefficients: Sequence[float], rows: Tensor | None = None
    ) -> Tensor:
        """Return `sum_l coefficients[l] A^l x0` for a square operator and `x0 [n, d]`.

        One autograd node for all layers: no layer is kept for the backward pass.

        Args:
            x0: `[n, d]`.
            coefficients: one for each power of the matrix, from 0.
            rows: distinct ids; only these rows of the result are wanted, `[len(rows), d]`. On a
                large graph and a CPU they cost less than the whole.

        Raises:
            ValueError: the operator is not square, `coefficients` is empty or `x0` does not fit.
        """
        if self.shape[0] != self.shape[1]:
            raise ValueError(f"a polynomial needs a square operator, not {self.shape}")
        if not coefficients:
            raise ValueError("a polynomial needs at least one coefficient")
        self._check_table(x0)
        powers = [float(value) for value in coefficients]
        if rows is None:
            return _Polynomial.apply(x0, self, powers)
        if len(powers) > 1 and self._worth_cutting(x0, rows):
            return _PolynomialRows.apply(x0, self, powers, rows)
        return F.embedding(rows, _Polynomial.apply(x0, self, powers))

    def row_sums(self) -> Tensor:
        """Sum of each row, `[n_rows]`; computed once and kept."""
        if self._sums is None:
            ones = torch.ones(self.shape[1], 1, dtype=self.dtype, device=self.device)
            self._sums = self._rows.product(ones).squeeze(1)
        return self._sums

    def with_values(self, values: Tensor) -> SparseOperator:
        """The operator with other values at the same places; both share one transposition.

        Nothing is laid out anew and nothing leaves the device.

        Args:
            values: `[nnz]` of the operator's type and device, row by row; they may be 0.
        """
        other = SparseOperator(self._rows.with_values(values))
        other._transposition, other._reorders = self._transposition, True
        return other

    def thinned(self, kept: Tensor, share: float = 1.0) -> SparseOperator:
        """The operator with 0 at dropped places and the other values divided by `share`.

        Args:
            kept: `[nnz]` bool, row by row, on the operator's device.
            share: which part was kept, above 0; dividing by it keeps the mean of the sums.
        """
        return self.with_values(torch.where(kept, self._rows.values / share, 0.0))

    def to(self, device: torch.device | str) -> SparseOperator:
        """The same matrix on `device` (itself if it is there already)."""
        target = torch.device(device)
        if target == self.device:
            return self
        adjoint = None if self._adjoint is None else self._adjoint.to(target)
        return SparseOperator(self._rows.to(target), adjoint)

    def to_scipy(self) -> sp.csr_array:
        """A copy as `[n_rows, n_cols]` CSR in canonical form."""
        return self._rows.to_scipy().copy()

    def transpose(self) -> SparseOperator:
        """The transposed operator `[n_cols, n_rows]`; the two share their memory."""
        return SparseOperator(self._adjoint_rows(), self._rows)

    def _adjoint_rows(self) -> _CompressedRows:
        if self._adjoint is None:
            if self._reorders:
                self._adjoint = self._rows.reordered(self._transposition)
            else:
                self._adjoint = self._rows.transposed()
        return self._adjoint

    def _worth_cutting(self, x: Tensor, rows: Tensor) -> bool:
        """Tell whether a product at some rows is faster than one at all of them."""
        # A GPU's product reads the whole matrix faster than a part of it is cut out.
        return not x.is_cuda and self._rows.share_of(rows) < _FEW_ROWS

    def _check_table(self, x: Tensor) -> None:
        # The CPU kernel would accept a table with too many rows and give a wrong product.
        if x.dim() != 2 or x.shape[0] != self.shape[1]:
            raise ValueError(f"expected a table [{self.shape[1]}, d], not {list(x.shape)}")
        if computed_in(x) != self.dtype:
            raise ValueError(f"the table is {x.dtype} but the operator is {self.dtype}")

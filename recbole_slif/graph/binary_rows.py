"""Rows of zeros and ones kept as the places of the ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class BinaryRows:
    """Some rows of zeros and ones, as the places of the ones.

    Attributes:
        offsets: `[b + 1]` int64, where each row's ones begin.
        columns: `[n]` int64 columns of the ones, on the CPU as `offsets`.
        width: entries of a row.
    """

    offsets: Tensor
    columns: Tensor
    width: int

    @classmethod
    def select(cls, offsets: Tensor, columns: Tensor, rows: Tensor, width: int) -> BinaryRows:
        """Take the rows `[b]` out of a CSR pattern."""
        starts, ends = offsets[rows], offsets[rows + 1]
        inner = torch.cat([offsets.new_zeros(1), (ends - starts).cumsum(0)])
        shift = (starts - inner[:-1]).repeat_interleave(inner.diff())
        return cls(inner, columns[torch.arange(len(shift)) + shift], width)

    @classmethod
    def from_csr(cls, rows: sp.csr_array) -> BinaryRows:
        """Take all rows of a sparse matrix whose stored entries are ones."""
        offsets = torch.from_numpy(rows.indptr.astype(np.int64))
        return cls(offsets, torch.from_numpy(rows.indices.astype(np.int64)), rows.shape[1])

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.offsets) - 1

    @property
    def counts(self) -> Tensor:
        """Number of ones of each row, `[b]`."""
        return self.offsets.diff()

    def dense(self, like: Tensor) -> Tensor:
        """Return the rows as a matrix `[b, width]` of the type of `like`, where that lies."""
        rows = like.new_zeros(len(self), self.width)
        place = torch.arange(len(self)).repeat_interleave(self.counts)
        rows[place.to(rows.device), self.columns.to(rows.device)] = 1.0
        return rows

    def __matmul__(self, table: Tensor) -> Tensor:
        """Multiply the rows by a table `[width, d]`; returns `[b, d]`, differentiable."""
        places = (part.to(table.device) for part in (self.columns, self.offsets))
        columns, offsets = places
        return F.embedding_bag(columns, table, offsets, mode="sum", include_last_offset=True)

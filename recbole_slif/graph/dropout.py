"""Random removal of edges while training, redrawn for each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recbole_slif.graph.patterns import rebuilt_on
from recbole_slif.graph.sparse import SparseOperator


def draw_kept(n_edges: int, rate: float) -> np.ndarray:
    """Keep each edge with probability `1 - rate`.

    The draw comes from torch's own CPU generator, whose state every checkpoint holds, so that a
    resumed run removes the same edges.

    Args:
        n_edges: number of edges.
        rate: probability of removal, `0 <= rate < 1`.

    Returns:
        `[n_edges]` bool.
    """
    return (torch.rand(n_edges) >= rate).numpy()


def keep_entries(matrix: sp.csr_array, kept: np.ndarray) -> sp.csr_array:
    """Return a copy of `matrix` with only the stored entries where `kept` `[nnz]` is true."""
    before = np.zeros(matrix.nnz + 1, dtype=matrix.indptr.dtype)
    np.cumsum(kept, out=before[1:])
    parts = (matrix.data[kept], matrix.indices[kept], before[matrix.indptr])
    return sp.csr_array(parts, shape=matrix.shape)


def drop_entries(matrix: sp.csr_array, rate: float) -> sp.csr_array:
    """Remove entries at random and divide the others by `1 - rate`, so that sums keep their mean.

    Args:
        matrix: any CSR matrix; left as it is.
        rate: probability of removal, `0 <= rate < 1`.

    Returns:
        A new matrix of the same shape that holds the kept entries.
    """
    smaller = keep_entries(matrix, draw_kept(matrix.nnz, rate))
    smaller.data /= np.asarray(1.0 - rate, dtype=matrix.dtype)
    return smaller


@dataclass(frozen=True, eq=False)
class KeptEntries:
    """What is left of a matrix that stays laid out whole, where `rebuilt_on` does not hold.

    Attributes:
        whole: the matrix.
        kept: `[nnz]` bool, which of its entries are left.
        nnz: how many those are, known without asking the device.
        share: what their values are divided by.
    """

    whole: SparseOperator
    kept: Tensor
    nnz: int
    share: float

    def places(self) -> Tensor:
        """Places `[nnz]` of the entries left among all of them, ascending int64."""
        # `nonzero` would have to wait for the count
        wanted = torch.arange(1, self.nnz + 1, device=self.kept.device)
        return torch.searchsorted(self.kept.cumsum(0), wanted)

    def only(self, places: Tensor, share: float) -> KeptEntries:
        """Keep the entries at `places` `[n]` of the whole alone; divide further by `share`."""
        kept = torch.zeros_like(self.kept).index_fill_(0, places, True)
        return KeptEntries(self.whole, kept, len(places), self.share * share)


Thinned: TypeAlias = sp.csr_array | KeptEntries


def thin(whole: SparseOperator, matrix: sp.csr_array, rate: float) -> Thinned:
    """Do what `drop_entries` does, with the same draw, in the form that suits the device.

    Args:
        whole: the operator of `matrix`.
        matrix: canonical CSR; left as it is.
        rate: probability of removal, `0 <= rate < 1`.

    Returns:
        What `operator_of` takes: a smaller matrix, or the operator and which entries are left.
    """
    if rebuilt_on(whole.device):
        return drop_entries(matrix, rate)
    kept = draw_kept(whole.nnz, rate)
    flags = torch.from_numpy(kept).to(whole.device, non_blocking=True)
    return KeptEntries(whole, flags, int(np.count_nonzero(kept)), 1.0 - rate)


def operator_of(entries: Thinned, whole: SparseOperator) -> SparseOperator:
    """Return the operator of what `thin` left of `whole`."""
    if isinstance(entries, KeptEntries):
        return whole.thinned(entries.kept, entries.share)
    return SparseOperator.from_scipy(entries, whole.dtype, whole.device)


def thinned_operator(whole: SparseOperator, matrix: sp.csr_array, rate: float) -> SparseOperator:
    """Return the operator of `matrix` with entries dropped; arguments as for `thin`."""
    return operator_of(thin(whole, matrix, rate), whole)

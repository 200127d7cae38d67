"""Random removal of edges while training, redrawn for each step."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch


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

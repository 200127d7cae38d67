"""Compressed matrices as torch's sparse products take them, and as tensors for a checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

# Users can do nothing about these notices.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly disabled")


def csr_tensor(starts: Tensor, columns: Tensor, values: Tensor, width: int) -> Tensor:
    """Join the parts of a matrix into a sparse tensor; nothing is copied or checked.

    Args:
        starts: `[n_rows + 1]` first entry of each row, int32 or int64.
        columns: `[n]` columns of the entries, of the same type.
        values: `[n]`.
        width: number of columns.

    Returns:
        `[n_rows, width]`, on the device of the parts.
    """
    size = (starts.numel() - 1, width)
    return torch.sparse_csr_tensor(starts, columns, values, size=size, check_invariants=False)


def matrix_state(matrix: sp.csr_array, name: str) -> dict[str, Tensor]:
    """Return copies of a matrix's parts, with short indices where they suffice, `name` in front."""
    short = max(matrix.nnz, *matrix.shape) <= np.iinfo(np.int32).max
    width = np.int32 if short else np.int64
    return {
        f"{name}_indptr": torch.from_numpy(matrix.indptr.astype(width)),
        f"{name}_indices": torch.from_numpy(matrix.indices.astype(width)),
        f"{name}_data": torch.from_numpy(matrix.data.copy()),
    }


def matrix_of_state(
    state: Mapping[str, Tensor], name: str, shape: tuple[int, int]
) -> sp.csr_array | None:
    """Return the matrix of `shape` that `matrix_state` took apart; None where there is none."""
    if f"{name}_data" not in state:
        return None
    tensors = (state[f"{name}_{part}"] for part in ("data", "indices", "indptr"))
    return sp.csr_array(tuple(tensor.cpu().numpy() for tensor in tensors), shape=shape)

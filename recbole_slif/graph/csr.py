"""Torch's own compressed matrices, which its sparse products take."""

from __future__ import annotations

import warnings

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

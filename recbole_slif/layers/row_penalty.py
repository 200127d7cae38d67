"""The L2 penalty on the rows of a batch, squared as papers write it or as RecBole computes it."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_slif.losses import squared_norm


def row_penalty(*rows: Tensor, squared: bool = True) -> Tensor:
    r"""Penalise the size of embedding rows.

    .. math::
        \frac{1}{2B} \sum_k \|X_k\|_F^2 \quad\text{or, not squared,}\quad
        \frac{1}{B} \sum_k \|X_k\|_F

    The first is what the papers and their code mean. The second is RecBole's default: its pull on
    a row shrinks as the batch's whole norm grows.

    Args:
        rows: tables `[B, d_k]`; `B` is taken from the last.
        squared: which of the two.

    Returns:
        A scalar.
    """
    if squared:
        return squared_norm(*rows, batch_size=rows[-1].shape[0]) / 2.0
    norms = torch.stack([torch.linalg.vector_norm(table) for table in rows])
    return norms.sum() / rows[-1].shape[0]

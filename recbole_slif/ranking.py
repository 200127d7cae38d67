"""The best columns of each row, exactly and in `torch.topk`'s order, looking at few of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GROUP = 64
_SMALLEST_GROUP = 8


def exact_top_k(scores: Tensor, k: int) -> Tensor:
    """Return the column numbers `[rows, k]` that `torch.topk` would give, ties included.

    The k groups of columns with the largest maxima hold the k largest scores, so only they are
    searched. Where the first k + 1 values are not all different the order is a matter of the
    implementation; such rows go through `torch.topk` itself.

    Args:
        scores: `[rows, width]`, row by row in memory or the transposed view of such a matrix.
        k: How many, at most `width`.
    """
    by_column = scores.shape[0] > 1 and scores.stride() == (1, scores.shape[0])
    size = _GROUP
    if by_column:  # short groups cost nothing here; in rows they would, whose ends are not vectors
        size = max(_SMALLEST_GROUP, math.isqrt(scores.shape[1] // (k + 1)) // 2)
    n_groups = scores.shape[1] // size
    if scores.device.type != "cpu" or n_groups <= 2 * (k + 1):
        return torch.topk(scores.contiguous(), k, dim=-1).indices
    search = _by_column if by_column else _by_row
    columns, values = search(scores, k, size, n_groups)
    best = torch.topk(values, k + 1, dim=1)
    result = torch.gather(columns, 1, best.indices[:, :k])
    unsure = (best.values[:, 1:] == best.values[:, :-1]).any(dim=1)
    if bool(unsure.any()):
        result[unsure] = torch.topk(scores[unsure].contiguous(), k, dim=-1).indices
    return result


def _members(maxima: Tensor, k: int, size: int, width: int) -> Tensor:
    """Columns `[rows, (k + 1) * size + rest]` of the best groups and of the incomplete last one."""
    rows, n_groups = maxima.shape
    groups = torch.topk(maxima, k + 1, dim=1, sorted=False).indices
    columns = (groups.unsqueeze(2) * size + torch.arange(size)).view(rows, -1)
    if n_groups * size == width:
        return columns
    rest = torch.arange(n_groups * size, width).expand(rows, -1)
    return torch.cat((columns, rest), dim=1)


def _by_row(scores: Tensor, k: int, size: int, n_groups: int) -> tuple[Tensor, Tensor]:
    """Candidates of each row, their columns and scores, in a matrix kept row by row."""
    rows, width = scores.shape
    maxima = scores[:, : n_groups * size].reshape(rows, n_groups, size).amax(dim=2)
    columns = _members(maxima, k, size, width)
    return columns, torch.gather(scores, 1, columns)


def _by_column(scores: Tensor, k: int, size: int, n_groups: int) -> tuple[Tensor, Tensor]:
    """The same in a matrix kept column by column, where maxima run over whole stretches."""
    rows, width = scores.shape
    memory = scores.T
    maxima = memory[: n_groups * size].view(n_groups, size, rows).amax(dim=1)
    columns = _members(maxima.T.contiguous(), k, size, width)
    places = columns * rows + torch.arange(rows).unsqueeze(1)
    return columns, memory.reshape(-1).index_select(0, places.view(-1)).view(rows, -1)

"""The best columns of each row, exactly and in `torch.topk`'s order, looking at few of them."""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 8
"""Columns of a group in a matrix kept column by column."""
_ROW_GROUP = 64  # in rows short groups would cost, since their ends are not vectors
_ENOUGH = 4  # groups are searched where there are more than so many for each one looked for


def exact_top_k(scores: Tensor, k: int, maxima: Tensor | None = None) -> Tensor:
    """Return the column numbers `[rows, k]` that `torch.topk` would give, ties included.

    The k groups of columns with the largest maxima hold the k largest scores, so only they are
    searched. Where the first k + 1 values are not all different the order is a matter of the
    implementation; such rows go through `torch.topk` itself.

    Args:
        scores: `[rows, width]`, row by row in memory or the transposed view of such a matrix.
        k: How many, at most `width`.
        maxima: `[width // GROUP, rows]` maxima of complete groups, where they are known; for the
            transposed view alone.
    """
    by_column = scores.shape[0] > 1 and scores.stride() == (1, scores.shape[0])
    size = GROUP if by_column else _ROW_GROUP
    if scores.device.type != "cpu" or scores.shape[1] // size <= _ENOUGH * (k + 1):
        return torch.topk(scores.contiguous(), k, dim=-1).indices
    if by_column:
        columns, values = _by_column(scores.T, k + 1, maxima)
    else:
        columns, values = _by_row(scores, k + 1)
    best = torch.topk(values, k + 1, dim=1)
    result = torch.gather(columns, 1, best.indices[:, :k])
    unsure = (best.values[:, 1:] == best.values[:, :-1]).any(dim=1)
    if bool(unsure.any()):
        result[unsure] = torch.topk(scores[unsure].contiguous(), k, dim=-1).indices
    return result


def _members(groups: Tensor, size: int, width: int) -> Tensor:
    """Columns `[rows, n * size + rest]` of groups `[rows, n]` and of the incomplete last one."""
    columns = (groups.unsqueeze(2) * size + torch.arange(size)).view(len(groups), -1)
    if width % size == 0:
        return columns
    rest = torch.arange(width // size * size, width).expand(len(groups), -1)
    return torch.cat((columns, rest), dim=1)


def _by_row(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Columns that hold each row's `count` largest scores, and those scores."""
    rows, width = scores.shape
    whole = scores[:, : width // _ROW_GROUP * _ROW_GROUP].reshape(rows, -1, _ROW_GROUP)
    groups = torch.topk(whole.amax(dim=2), count, dim=1, sorted=False).indices
    columns = _members(groups, _ROW_GROUP, width)
    return columns, torch.gather(scores, 1, columns)


def _by_column(memory: Tensor, count: int, maxima: Tensor | None) -> tuple[Tensor, Tensor]:
    """The same of a matrix `[width, rows]`, where maxima run over whole stretches."""
    width, rows = memory.shape
    if maxima is None:
        maxima = memory[: width // GROUP * GROUP].view(-1, GROUP, rows).amax(dim=1)
    columns = _members(_largest(maxima, count), GROUP, width)
    places = columns * rows + torch.arange(rows).unsqueeze(1)
    return columns, memory.reshape(-1).index_select(0, places.view(-1)).view(rows, -1)


def _largest(memory: Tensor, count: int) -> Tensor:
    """Places `[rows, count]` of the largest of each column of `[width, rows]`, in any order."""
    if len(memory) // GROUP <= _ENOUGH * count:
        return torch.topk(memory.T.contiguous(), count, dim=1, sorted=False).indices
    places, values = _by_column(memory, count, None)
    best = torch.topk(values, count, dim=1, sorted=False).indices
    return torch.gather(places, 1, best)

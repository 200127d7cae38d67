"""The best columns of each row, exactly and in `torch.topk`'s order, looking at few of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

GROUP = 8
"""Columns of a group in a matrix kept column by column."""
_ROW_GROUP = 64  # in rows short groups would cost, since their ends are not vectors
_ENOUGH = 4  # groups are searched where there are more than so many for each one looked for


def exact_top_k(scores: Tensor, k: int, maxima: Tensor | None = None) -> Tensor:
    """Return the column numbers `[rows, k]` that `torch.topk` would give, ties included.

    Where the first k + 1 values are not all different the order is a matter of the implementation;
    such rows go through `torch.topk` itself.

    Args:
        scores: `[rows, width]`, row by row in memory or the transposed view of such a matrix.
        k: How many, at most `width`.
        maxima: See `largest`.
    """
    if scores.device.type != "cpu" or not _searchable(scores, k + 1):
        return torch.topk(scores.contiguous(), k, dim=-1).indices
    columns, values = largest(scores, k + 1, maxima)
    result, unsure = columns[:, :k].contiguous(), tied(values)
    if bool(unsure.any()):
        result[unsure] = torch.topk(scores[unsure].contiguous(), k, dim=-1).indices
    return result


def largest(scores: Tensor, count: int, maxima: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return columns and values `[rows, count]` of each row's largest scores, best first.

    The groups of columns with the largest maxima hold the largest scores, so only they are
    searched. Equal values come in any order.

    Args:
        scores: `[rows, width]` on a CPU, row by row in memory or the transposed view of such a
            matrix.
        count: How many, at most `width`.
        maxima: `[width // GROUP, rows]` maxima of complete groups, where they are known; for the
            transposed view alone.
    """
    if not _searchable(scores, count):
        values, columns = torch.topk(scores.contiguous(), count, dim=1)
        return columns, values
    if _group(scores) == GROUP:
        columns, values = _by_column(scores.T, count, maxima)
    else:
        columns, values = _by_row(scores, count)
    places = _best(values, count)
    columns, values = torch.gather(columns, 1, places), torch.gather(values, 1, places)
    ordered = torch.sort(values, dim=1, descending=True)
    return torch.gather(columns, 1, ordered.indices), ordered.values


def tied(values: Tensor) -> Tensor:
    """Tell of which rows `[rows]` two neighbours of sorted `values [rows, count]` are equal."""
    return (values[:, 1:] == values[:, :-1]).any(dim=1)


def _group(scores: Tensor) -> int:
    by_column = scores.shape[0] > 1 and scores.stride() == (1, scores.shape[0])
    return GROUP if by_column else _ROW_GROUP


def _searchable(scores: Tensor, count: int) -> bool:
    return scores.shape[1] // _group(scores) > _ENOUGH * count


def _best(values: Tensor, count: int) -> Tensor:
    """Places `[rows, count]` of the largest of each row, in any order; numpy is the faster here."""
    first = values.shape[1] - count
    return torch.from_numpy(np.argpartition(values.numpy(), first, axis=1)[:, first:])


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
    columns = _members(_best(whole.amax(dim=2), count), _ROW_GROUP, width)
    return columns, torch.gather(scores, 1, columns)


def _by_column(memory: Tensor, count: int, maxima: Tensor | None) -> tuple[Tensor, Tensor]:
    """The same of a matrix `[width, rows]`, where maxima run over whole stretches."""
    width, rows = memory.shape
    if maxima is None:
        maxima = memory[: width // GROUP * GROUP].view(-1, GROUP, rows).amax(dim=1)
    columns = _members(_best_groups(maxima, count), GROUP, width)
    places = columns * rows + torch.arange(rows).unsqueeze(1)
    return columns, memory.reshape(-1).index_select(0, places.view(-1)).view(rows, -1)


def _best_groups(memory: Tensor, count: int) -> Tensor:
    """Places `[rows, count]` of the largest of each column of `[width, rows]`, in any order."""
    if len(memory) // GROUP <= _ENOUGH * count:
        return _best(memory.T.contiguous(), count)
    places, values = _by_column(memory, count, None)
    return torch.gather(places, 1, _best(values, count))

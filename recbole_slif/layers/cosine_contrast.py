"""A hinge loss on cosines, with hundreds of negatives for each pair."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recbole_slif.kernel import Kernel
from recbole_slif.layers.edge_kernels import edge_dots, on_cpu, weighted_bags
from recbole_slif.losses import unit_rows

EPSILON = 1e-5
# all products and a selection of them cost less than the selection alone below so many times it
DENSE_RATIO = 10
# of a block of rows on a CPU: 2 MiB in float32, less than half the time of all rows at once
BLOCK_PRODUCTS = 1 << 19


def cosine_contrast(
    users: Tensor,
    items: Tensor,
    user_ids: Tensor,
    positives: Tensor,
    negatives: Tensor,
    weights: Tensor,
    margin: float,
) -> Tensor:
    r"""Pull each user to its item and push it from items that come nearer than a margin.

    .. math::
        \frac{1}{B} \sum_{(u, i)} \Big( w_{ui}\, relu(1 - \cos(u, i)) +
        \frac{\sum_j relu(\cos(u, j) - m)}{\#\{j: \cos(u, j) > m\} + 10^{-5}} \Big)

    (KRDN, Zhu et al., SIGIR 2023: a mean over the batch.)

    Args:
        users: `[n_users, d]`, of any length.
        items: `[n_items, d]`, of any length.
        user_ids: `[B]`.
        positives: `[B]` items.
        negatives: `[B, n]` items; one that is given twice counts twice.
        weights: :math:`w` `[B]`, without gradient.
        margin: :math:`m`.

    Returns:
        The loss, a scalar.
    """
    rows, table = unit_rows(F.embedding(user_ids, users)), unit_rows(items)
    cosines = (rows * F.embedding(positives, table)).sum(dim=1)
    pulled = weights * (1.0 - cosines).relu()
    pushed: Tensor = _MeanExcess.apply(rows, table, negatives, margin)
    return (pulled + pushed).mean()


class _MeanExcess(Kernel):
    """Mean excess of a row's products over the margin; only products that exceed it are kept."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, table: Tensor, negatives: Tensor, margin: float) -> Tensor:
        blocks = [
            _excess(own, table, drawn, margin, any(ctx.needs_input_grad))
            for own, drawn in _row_blocks(rows, table, negatives)
        ]
        sums, found, columns = (torch.cat(parts) for parts in zip(*blocks, strict=True))
        scale = 1.0 / (found.to(rows.dtype) + EPSILON)
        ctx.save_for_backward(rows, table, columns, found, scale)
        return sums * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        rows, table, columns, found, scale = ctx.saved_tensors
        grad = grad * scale
        grad_rows = weighted_bags(_starts(found), columns, None, table) * grad.unsqueeze(1)
        order = columns.argsort(stable=True)
        owners = torch.arange(len(found), dtype=torch.int32, device=grad.device)
        owners = owners.repeat_interleave(found).index_select(0, order)
        starts = _starts(torch.bincount(columns, minlength=len(table)))
        grad_table = weighted_bags(starts, owners, grad.index_select(0, owners), rows)
        return grad_rows, grad_table, None, None


def _row_blocks(rows: Tensor, table: Tensor, negatives: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Split rows `[B, d]` and negatives `[B, n]` so that a CPU's cache holds a block's products."""
    n = negatives.shape[1]
    products = len(table) if _dense(table, n) else n
    size = max(BLOCK_PRODUCTS // products, 1) if on_cpu(rows) else max(len(rows), 1)
    return zip(rows.split(size), negatives.split(size), strict=True)


def _excess(
    rows: Tensor, table: Tensor, negatives: Tensor, margin: float, wanted: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum up and count what exceeds the margin, `[b]` each; if wanted, tell of which columns."""
    excess = _products(rows, table, negatives).sub_(margin)
    active = excess > 0
    columns = negatives[active].int() if wanted else negatives.new_empty(0, dtype=torch.int32)
    return excess.clamp_min_(0.0).sum(dim=1), active.sum(dim=1), columns


def _dense(table: Tensor, n: int) -> bool:
    """Whether all products and a selection of them are cheaper than n selected ones a row."""
    return len(table) <= DENSE_RATIO * n


def _products(rows: Tensor, table: Tensor, negatives: Tensor) -> Tensor:
    """Products of each row with its negatives, `[b, n]`."""
    count, n = negatives.shape
    if _dense(table, n):
        return (rows @ table.t()).gather(1, negatives)
    starts = torch.arange(0, count * n + 1, n, dtype=torch.int32, device=rows.device)
    return edge_dots(starts, negatives.reshape(-1).int(), rows, table).view(count, n)


def _starts(counts: Tensor) -> Tensor:
    """Offsets `[n + 1]` int32 of runs of the given lengths `[n]`."""
    return F.pad(counts.cumsum(0), (1, 0)).int()

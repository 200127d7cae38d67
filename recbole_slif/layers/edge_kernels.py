"""Kernels over edges whose weights are learned; the only place that chooses between them.

Over int32 indices the library's sampled products, and on the CPU its embedding bags and segment
reductions, elsewhere its sparse products and scatters. None holds an `[n_edges, d]` matrix; where
edges outnumber the cells that a sampled product takes, rows are gathered in chunks. No kernel here
records a gradient: `edge_attention` writes the backward passes by hand.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_slif.graph.csr import csr_tensor

CHUNK_EDGES = 1 << 18


def on_cpu(x: Tensor) -> bool:
    """Whether the CPU's kernels serve this tensor."""
    return x.device.type == "cpu"


def _rows_of(offsets: Tensor, count: int) -> Tensor:
    """Expand CSR offsets `[n_rows + 1]` to the row of each of `count` entries."""
    rows = torch.arange(offsets.numel() - 1, device=offsets.device, dtype=torch.int32)
    # Without the count a GPU would be waited for to find it.
    return rows.repeat_interleave(offsets.diff(), output_size=count)


def edge_dots(offsets: Tensor, columns: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Dot products `left[row] . right[column]` at the entries of a CSR pattern.

    Args:
        offsets: `[n_rows + 1]` int32.
        columns: `[n]` int32.
        left: `[n_rows, d]`.
        right: `[n_columns, d]`.

    Returns:
        `[n]`, in the order of the pattern.
    """
    if not columns.numel():
        return left.new_zeros(0)
    # The library refuses patterns of more entries than cells: many edges between few nodes.
    if columns.numel() <= left.shape[0] * right.shape[0]:
        pattern = csr_tensor(offsets, columns, left.new_zeros(columns.numel()), right.shape[0])
        return torch.sparse.sampled_addmm(pattern, left, right.t(), beta=0.0).values()
    rows = _rows_of(offsets, columns.numel())
    chunks = zip(rows.split(CHUNK_EDGES), columns.split(CHUNK_EDGES), strict=True)
    return torch.cat([(left[row] * right[column]).sum(1) for row, column in chunks])


def weighted_bags(offsets: Tensor, columns: Tensor, weights: Tensor | None, x: Tensor) -> Tensor:
    """Sum rows of `x` at the entries of each CSR row, times their weights if given.

    Args:
        offsets: `[n_rows + 1]` int32.
        columns: `[n]` int32.
        weights: `[n]`, or None for ones.
        x: `[n_columns, d]`.

    Returns:
        `[n_rows, d]`; rows without entries are 0.
    """
    if not columns.numel():
        return x.new_zeros(offsets.numel() - 1, x.shape[1])
    if on_cpu(x):
        # Detached, or a slower variant that prepares the library's own backward is chosen.
        return F.embedding_bag(
            columns,
            x.detach(),
            offsets,
            mode="sum",
            per_sample_weights=None if weights is None else weights.detach(),
            include_last_offset=True,
        )
    values = x.new_ones(columns.numel()) if weights is None else weights.detach()
    matrix = csr_tensor(offsets, columns, values, x.shape[0])
    return torch.sparse.mm(matrix, x.detach())


def reduce_runs(values: Tensor, offsets: Tensor, rows: Tensor, reduction: str) -> Tensor:
    """Reduce the run of values of each CSR row.

    Args:
        values: `[n]`.
        offsets: `[n_rows + 1]` int32.
        rows: `[n]` int32, the row of each value.
        reduction: "sum" or "max".

    Returns:
        `[n_rows]`; what rows without values get is not defined.
    """
    n_rows = offsets.numel() - 1
    if on_cpu(values):
        return torch.segment_reduce(values, reduction, offsets=offsets.long(), unsafe=True)
    kind = {"sum": "sum", "max": "amax"}[reduction]
    start = values.new_zeros(n_rows)
    return start.scatter_reduce_(0, rows.long(), values, kind, include_self=False)

"""Item-to-item graphs: exact nearest neighbours by cosine, their weights and their merging."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recbole_slif.errors import ConfigError

_LOWEST = float("-inf")
Search = Callable[[Tensor, int, Tensor, bool], tuple[Tensor, Tensor]]


@torch.no_grad()
def top_k_cosine(
    x: Tensor,
    k: int,
    presence: Tensor | None = None,
    include_self: bool = False,
    block_rows: int = 256,
) -> tuple[Tensor, Tensor]:
    """The `k` most similar rows of each row by cosine, exactly: Eq. (2) and its maxima, Eq. (3).

    Works in blocks of `block_rows` rows, so memory is one scaled copy of `x` and a
    `[block_rows, n]` buffer. Half precision is widened to float32. Rows that are absent, zero or
    not finite neither give nor receive neighbours. Among equal similarities the lowest id wins.

    Args:
        x: Features `[n, d]`, any floating type; no gradient flows.
        k: Neighbours wanted per row.
        presence: Bool `[n]`, False where a row has no features; None means all present.
        include_self: Whether a row counts among its own neighbours.
        block_rows: Rows scored at once.

    Returns:
        Ids `[n, k]` int64 and similarities `[n, k]` in [-1, 1], best first. Slots without a
        neighbour hold id -1 and similarity 0.

    Raises:
        ConfigError: `k` is below 1.
    """
    if k < 1:
        raise ConfigError(f"the number of neighbours must be at least 1, not {k}")
    active, unit = unit_rows(x, presence)
    ids = torch.full((x.shape[0], k), -1, dtype=torch.int64, device=x.device)
    sims = torch.zeros(x.shape[0], k, dtype=unit.dtype, device=x.device)
    n_active = active.numel()
    available = min(k, n_active if include_self else n_active - 1)
    if available < 1:
        return ids, sims
    search = _BlockSearch(n_active, available, block_rows, unit)
    for start in range(0, n_active, block_rows):
        rows = slice(start, min(start + block_rows, n_active))
        places, values = search.nearest(rows, include_self)
        ids[active[rows], :available] = active[places]
        sims[active[rows], :available] = values.clamp_(-1.0, 1.0)
    return ids, sims


def unit_rows(x: Tensor, presence: Tensor | None) -> tuple[Tensor, Tensor]:
    """Ids `[m]` of the usable rows of `x` and those rows `[m, d]` scaled to length one."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    if presence is None:
        active = torch.arange(x.shape[0], device=x.device)
    else:
        active = presence.to(x.device).nonzero().squeeze(1)
    unit = x.detach().index_select(0, active).to(wide)
    lengths = torch.linalg.vector_norm(unit, dim=1)
    usable = lengths.isfinite() & (lengths > 0)
    if not bool(usable.all()):
        active, unit, lengths = active[usable], unit[usable], lengths[usable]
    return active, unit.div_(lengths.unsqueeze(1))


class _BlockSearch:
    """Two-stage selection: column groups by their maxima, then the best inside the best groups.

    The k best of a row lie in the k groups with the largest maxima, so looking into these alone
    is exact and touches each similarity once. Column c belongs to group `c mod n_groups`, which
    lets the maxima be taken over whole contiguous stretches.
    """

    def __init__(self, n: int, k: int, block_rows: int, unit: Tensor) -> None:
        self.n, self.k, self.unit = n, k, unit
        # Groups and candidates would balance at sqrt(n / k); half of it measured fastest, since
        # finding the best groups is cheaper per value than gathering the candidates.
        self.group_size = max(1, int(math.sqrt(n / k) / 2))
        self.n_groups = -(-n // self.group_size)
        width = self.n_groups * self.group_size
        # Columns past n only fill the last stretch; they keep the lowest value for ever.
        self.scores = unit.new_full((min(block_rows, n), width), _LOWEST)
        self.strides = torch.arange(self.group_size, device=unit.device) * self.n_groups

    def nearest(self, rows: slice, include_self: bool) -> tuple[Tensor, Tensor]:
        """Columns and similarities `[b, k]` for the rows of one block, best first."""
        n_rows = rows.stop - rows.start
        scores = self.scores[:n_rows]
        torch.mm(self.unit[rows], self.unit.T, out=scores[:, : self.n])
        if not include_self:
            scores.diagonal(rows.start)[:n_rows] = _LOWEST
        columns, values, ambiguous = self._two_stage(scores)
        if bool(ambiguous.any()):
            columns[ambiguous] = self._lowest_ids(scores[ambiguous], values[ambiguous, -1:])
            values[ambiguous] = scores[ambiguous].gather(1, columns[ambiguous])
        return by_value_then_id(columns, values)

    def _two_stage(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A k-best set of each row, and whether a value equal to its smallest was left out."""
        n_rows = scores.shape[0]
        maxima = scores.view(n_rows, self.group_size, self.n_groups).amax(1)
        groups, next_group = _best_and_next(maxima, self.k)
        candidates = (groups.unsqueeze(2) + self.strides).view(n_rows, -1)
        inside, next_inside = _best_and_next(scores.gather(1, candidates), self.k)
        columns = candidates.gather(1, inside)
        values = scores.gather(1, columns)
        smallest = values.amin(1)
        return columns, values, (next_group == smallest) | (next_inside == smallest)

    def _lowest_ids(self, scores: Tensor, smallest: Tensor) -> Tensor:
        """Columns `[r, k]` above `smallest`, filled up with the lowest ones equal to it."""
        above, equal = scores > smallest, scores == smallest
        room = self.k - above.sum(1, keepdim=True)
        chosen = above | (equal & (equal.cumsum(1) <= room))
        return chosen.nonzero()[:, 1].view(-1, self.k)


def _best_and_next(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Places `[b, k]` of the k largest values of each row and the next largest value `[b]`."""
    if values.shape[1] <= k:
        places = torch.arange(values.shape[1], device=values.device).expand(values.shape)
        return places, values.new_full((values.shape[0],), _LOWEST)
    best = values.topk(k + 1, dim=1)
    return best.indices[:, :k], best.values[:, k]


def by_value_then_id(columns: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Sort the columns `[b, k]` of each row by falling value, equal ones by id."""
    columns, order = columns.sort(dim=1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return columns.gather(1, order), values


def normalise_by_degree(matrix: sp.csr_array) -> sp.csr_array:
    """Scale each entry by both endpoints' degrees to the power -1/2, Eq. (4).

    Degrees are row sums on both sides, so a directed graph stays directed; an endpoint of
    degree zero (or below) takes its entries to zero. Takes and gives `[n, n]`.
    """
    degrees = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
    scale = np.zeros_like(degrees)
    np.power(degrees, -0.5, out=scale, where=degrees > 0)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    data = matrix.data * scale[rows] * scale[matrix.indices]
    return sp.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def knn_graph(
    x: Tensor,
    k: int,
    presence: Tensor | None = None,
    include_self: bool = False,
    weight: Literal["cosine", "binary"] = "cosine",
    normalise: bool = True,
    symmetric: bool = False,
    search: Search = top_k_cosine,
) -> sp.csr_array:
    """Item graph of the `k` nearest neighbours by cosine: Eq. (16) and Eq. (17).

    The same construction serves raw features and learned representations. Only positive
    similarities become edges (negative ones would make degrees meaningless), row and column 0
    ([PAD]) have none, and neither have absent or zero rows.

    Args:
        x: Features `[n_items, d]`.
        k: Neighbours per item.
        presence: Bool `[n_items]`, False for items without features.
        include_self: Whether an item is a candidate among its own neighbours.
        weight: The similarity itself, or 1 for each edge.
        normalise: Divide by the square roots of both endpoints' degrees.
        symmetric: Take the larger of both directions instead of a directed graph.
        search: Finds the neighbours, called and answering as `top_k_cosine`.

    Returns:
        `[n_items, n_items]`, row = the item that receives; float32 (float64 for such `x`).

    Raises:
        ConfigError: `weight` is not known or `k` is below 1.
    """
    if weight not in ("cosine", "binary"):
        raise ConfigError(f"edge weight '{weight}' is not known: use cosine or binary")
    n_items = x.shape[0]
    if presence is None:
        presence = torch.ones(n_items, dtype=torch.bool)
    usable = presence.detach().cpu().clone()
    usable[:1] = False
    ids, sims = (part.cpu().numpy() for part in search(x, k, usable, include_self))
    kept = sims > 0
    rows = np.repeat(np.arange(n_items), k)[kept.ravel()]
    values = sims[kept] if weight == "cosine" else np.ones(rows.size)
    places = (rows, ids[kept])
    graph = sp.csr_array((values.astype(np.float64), places), shape=(n_items, n_items))
    if symmetric:
        graph = sp.csr_array(graph.maximum(graph.T))
    if normalise:
        graph = normalise_by_degree(graph)
    return graph.astype(sims.dtype)


def merge_graphs(
    previous: sp.csr_array | None,
    new: sp.csr_array,
    mode: Literal["replace", "ema", "accumulate"],
    decay: float,
    max_edges: int,
) -> sp.csr_array:
    """Take a new correlation graph into what earlier epochs left, Eq. (18).

    - `replace`: the new graph alone.
    - `ema`: `decay * previous + (1 - decay) * new`; the `max_edges` heaviest edges of a row stay.
    - `accumulate`: union of the edges, the newest weight wins; the `max_edges` newest edges of a
      row stay. The result lists each row's edges newest first, which is how a later merge knows
      their age: do not sort its indices in between.

    Args:
        previous: `[n, n]` left by the last merge, or None at the first.
        new: `[n, n]` of this epoch.
        mode: As above.
        decay: Share of the old weights under `ema`, in [0, 1].
        max_edges: Largest number of edges in a row under `ema` and `accumulate`.

    Raises:
        ConfigError: `mode` is not known, or `decay` or `max_edges` is out of range.
    """
    if mode not in ("replace", "ema", "accumulate"):
        raise ConfigError(f"merge '{mode}' is not known: use replace, ema or accumulate")
    if mode == "replace":
        return new
    if not 0.0 <= decay <= 1.0:
        raise ConfigError(f"the decay of merged graphs must lie in [0, 1], not {decay}")
    if max_edges < 1:
        raise ConfigError(f"merged graphs need at least 1 edge per item, not {max_edges}")
    if mode == "ema":
        mixed = new if previous is None else decay * previous + (1.0 - decay) * new
        return _first_edges(_heaviest_first(sp.csr_array(mixed)), max_edges, new.dtype)
    newest = _heaviest_first(new)
    if previous is None:
        return _first_edges(newest, max_edges, new.dtype)
    earlier = sp.coo_array(previous)
    n_cols = new.shape[1]
    keys = earlier.row.astype(np.int64) * n_cols + earlier.col
    older = ~np.isin(keys, newest.row.astype(np.int64) * n_cols + newest.col)
    rows = np.concatenate([newest.row, earlier.row[older]])
    cols = np.concatenate([newest.col, earlier.col[older]])
    data = np.concatenate([newest.data, earlier.data[older]])
    return _first_edges(sp.coo_array((data, (rows, cols)), shape=new.shape), max_edges, new.dtype)


def _heaviest_first(graph: sp.csr_array) -> sp.coo_array:
    """The edges by row, then falling weight, then id; entries without weight are left out."""
    edges = sp.coo_array(graph)
    order = np.lexsort((edges.col, -edges.data, edges.row))
    order = order[edges.data[order] != 0]
    places = (edges.row[order], edges.col[order])
    return sp.coo_array((edges.data[order], places), shape=graph.shape)


def _first_edges(edges: sp.coo_array, limit: int, dtype: np.dtype) -> sp.csr_array:
    """The first `limit` edges of each row in the order given, as CSR rows in that order."""
    order = np.argsort(edges.row, kind="stable")
    rows = edges.row[order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=edges.shape[0]))])
    kept = np.arange(rows.size) - starts[rows] < limit
    counts = np.bincount(rows[kept], minlength=edges.shape[0])
    arrays = (edges.data[order][kept], edges.col[order][kept], np.append(0, np.cumsum(counts)))
    return sp.csr_array(arrays, shape=edges.shape, dtype=dtype)

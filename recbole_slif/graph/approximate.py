"""Nearest neighbours by cosine that look into the likely part of the rows only, for millions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from recbole_slif.errors import ConfigError
from recbole_slif.graph.item_item import by_value_then_id, unit_rows

_QUERIES = 16_384
_EXACT_ROWS = 256
_LEAST_PER_LIST, _MOST_PER_LIST = 39, 64  # of the rows that the lists' centres are learned from
_ROUNDS = 10


@torch.no_grad()
def approximate_top_k_cosine(
    x: Tensor,
    k: int,
    presence: Tensor | None = None,
    include_self: bool = False,
    probes: int = 16,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """The `k` most similar rows of each row by cosine, of those in the `probes` nearest lists.

    k-means splits the rows into about `2 sqrt(n)` lists (faiss' inverted file), and each row is
    compared with the rows of the lists whose centres are nearest to it: `probes / (2 sqrt(n))` of
    all. The contract is that of `item_item.top_k_cosine`: similarities are the exact ones of the
    pairs found, and a row whose lists hold fewer than `k` others is compared with all rows. With
    as many probes as lists nothing is missed.

    The lists depend on `seed` and on torch's number of threads. Memory is two scaled copies of `x`
    and blocks.

    Args:
        x: Features `[n, d]`, any floating type; no gradient flows.
        k: Neighbours wanted per row.
        presence: Bool `[n]`, False where a row has no features; None means all present.
        include_self: Whether a row counts among its own neighbours.
        probes: Lists looked into for each row.
        seed: Seed of the k-means.

    Returns:
        Ids `[n, k]` int64 and similarities `[n, k]` in [-1, 1], best first. Slots without a
        neighbour hold id -1 and similarity 0.

    Raises:
        ConfigError: `k` or `probes` is below 1, or faiss is not installed.
    """
    if k < 1 or probes < 1:
        raise ConfigError(f"neighbours and probes must be at least 1, not {k} and {probes}")
    active, unit = unit_rows(x, presence)
    ids = torch.full((x.shape[0], k), -1, dtype=torch.int64, device=x.device)
    sims = torch.zeros(x.shape[0], k, dtype=unit.dtype, device=x.device)
    available = min(k, unit.shape[0] if include_self else unit.shape[0] - 1)
    if available < 1:
        return ids, sims
    with _threads_of_torch(load_faiss()) as faiss:
        index = _index(faiss, unit, probes, seed)
        for start in range(0, len(unit), _QUERIES):
            rows = torch.arange(start, min(start + _QUERIES, len(unit)), device=x.device)
            found = _search(index, unit, rows, available, include_self)
            places, values = by_value_then_id(found, _similarities(unit, rows, found))
            ids[active[rows], :available] = active[places]
            sims[active[rows], :available] = values.clamp_(-1.0, 1.0)
    return ids, sims


def load_faiss() -> Any:
    """Import faiss.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import faiss
    except ModuleNotFoundError as error:
        if error.name != "faiss":
            raise
        raise ConfigError(
            "sge_search: approximate needs faiss: pip install 'recbole-slif[large]'"
        ) from None
    return faiss


@contextmanager
def _threads_of_torch(faiss: Any) -> Iterator[Any]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(torch.get_num_threads())
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(before)


def _index(faiss: Any, unit: Tensor, probes: int, seed: int) -> Any:
    """Split the rows `[m, d]` of length one into lists, on the CPU."""
    rows = unit.float().cpu().numpy()
    n_rows, width = rows.shape
    n_lists = max(1, min(2 * math.isqrt(n_rows), n_rows // _LEAST_PER_LIST))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, n_lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = seed % 2**31
    index.cp.niter = _ROUNDS
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, _MOST_PER_LIST
    index.train(rows)
    index.add(rows)
    index.nprobe = min(probes, n_lists)
    return index


def _search(index: Any, unit: Tensor, rows: Tensor, k: int, include_self: bool) -> Tensor:
    """Columns `[b, k]` found for the `rows` `[b]`, in no particular order."""
    wanted = k if include_self else k + 1
    queries = unit[rows].float().cpu().numpy()
    found = torch.from_numpy(index.search(queries, wanted)[1]).to(rows.device)
    if not include_self:  # the row itself goes last, or else the worst of k + 1
        own = (found == rows.unsqueeze(1)).byte()
        found = found.gather(1, own.argsort(dim=1, stable=True))[:, :k]
    short = (found < 0).any(dim=1).nonzero().squeeze(1)
    for part in short.split(_EXACT_ROWS):
        scores = unit[rows[part]] @ unit.T
        if not include_self:
            scores.scatter_(1, rows[part].unsqueeze(1), float("-inf"))
        found[part] = scores.topk(k, dim=1).indices
    return found


def _similarities(unit: Tensor, rows: Tensor, found: Tensor) -> Tensor:
    """Similarities `[b, k]` of the `rows` `[b]` with what was found for them."""
    parts = [
        torch.bmm(unit[columns], unit[part].unsqueeze(2)).squeeze(2)
        for part, columns in zip(rows.split(1024), found.split(1024), strict=True)
    ]
    return torch.cat(parts)

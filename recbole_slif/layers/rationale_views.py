"""What KGRec draws from the rationale scores in each step, and the two losses made of it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_slif.graph.dropout import KeptEntries, Thinned, keep_entries
from recbole_slif.losses import unit_rows

LARGEST_SHARE = 4
"""Neither the best nor the random masked edges are more than one in so many."""


def gumbel(n: int) -> Tensor:
    """Draw `[n]` standard Gumbel numbers from torch's CPU generator."""
    return -_waits(n).log()


def _waits(n: int) -> Tensor:
    """Draw `[n]` standard exponential numbers, none of them 0."""
    return torch.empty(n).exponential_().clamp_min_(1e-30)


def choose_masked(scores: Tensor, size: int) -> Tensor:
    """Choose the edges to hide and reconstruct: the best and as many at random, in all or fewer.

    Each half is at most a quarter of the edges, so that a small graph is not hidden whole.

    Args:
        scores: `[n_edges]`, noise included.
        size: edges in each half.

    Returns:
        Distinct edges, ascending int64.
    """
    n_edges = len(scores)
    size = min(size, n_edges // LARGEST_SHARE)
    best = torch.topk(scores, size, sorted=False).indices
    drawn = torch.randperm(n_edges)[:size].to(scores.device)
    return torch.cat([best, drawn]).unique()


def drop_lowest(scores: Tensor, share: float) -> Tensor:
    """Return the edges `[n]` int64, ascending, without the `share` that scores lowest."""
    n_kept = len(scores) - int(share * len(scores))
    return torch.topk(scores, n_kept, sorted=False).indices.sort().values


def draw_by_item(matrix: Thinned, item_scores: Tensor, share: float) -> Thinned:
    r"""Draw interactions without replacement, those with well explained items the likelier.

    The chance of the next draw is in proportion to :math:`\exp(\mu_i + g)` with Gumbel noise
    :math:`g`, drawn once for each interaction. Races of exponential waiting times give the same
    without the sums: the least of :math:`\ln x + \ln y - \mu_i` come first, for standard
    exponentials :math:`x = e^{-g}` and :math:`y`.

    Args:
        matrix: users x items; left as it is.
        item_scores: `[n_items]`, :math:`\mu`, on the device of the matrix.
        share: share of the interactions to draw, above 0.

    Returns:
        The drawn entries divided by `share`.
    """
    n_drawn = round(share * matrix.nnz)
    waits = _waits(matrix.nnz).log_() + _waits(matrix.nnz).log_()
    if isinstance(matrix, KeptEntries):
        places = matrix.places()
        items = matrix.whole.columns.index_select(0, places)
        waits = waits.to(item_scores.device, non_blocking=True) - item_scores.index_select(0, items)
        first = torch.topk(waits, n_drawn, largest=False, sorted=False).indices
        return matrix.only(places.index_select(0, first), share)
    times = waits.numpy()
    times -= item_scores.numpy()[matrix.indices]
    kept = np.zeros(matrix.nnz, dtype=bool)
    if n_drawn:
        kept[np.argpartition(times, n_drawn - 1)[:n_drawn]] = True
    drawn = keep_entries(matrix, kept)
    drawn.data = drawn.data / np.asarray(share, dtype=matrix.dtype)
    return drawn


def reconstruction_loss(heads: Tensor, relations: Tensor, tails: Tensor) -> Tensor:
    r"""Find hidden triples again.

    .. math:: \frac{1}{n} \sum -\ln \sigma(h \cdot (t \odot r))

    Args:
        heads: `[n, d]` rows of the triples' heads.
        relations: `[n, d]`.
        tails: `[n, d]`.

    Returns:
        A scalar, the mean over the triples; 0 without triples.
    """
    scores = (heads * relations * tails).sum(1)
    return F.softplus(-scores).sum() / max(1, len(scores))


def partner_contrast(
    first: Tensor, second: Tensor, partners: Tensor, temperature: float, positives: int = 2
) -> Tensor:
    r"""Contrast two views of the same rows, each side against a single other row.

    .. math::
        -\frac{1}{n} \sum_i \ln \frac{s(a_i, b_i)}
        {c \, s(a_i, b_i) + s(a_i, b_{\pi(i)}) + s(b_i, a_{\pi(i)})}, \qquad
        s(x, y) = \exp(\cos(x, y) / \tau)

    Args:
        first: view a, `[n, d]`.
        second: view b, `[n, d]`.
        partners: `[n]` int64, the permutation pi.
        temperature: tau.
        positives: c, how often the denominator holds the positive; KGRec's code has 2.

    Returns:
        A scalar, the mean over the rows.
    """
    ours, theirs = unit_rows(first) / temperature, unit_rows(second)
    own = (ours * theirs).sum(1)
    terms = [
        own + math.log(positives),
        (ours * F.embedding(partners, theirs)).sum(1),
        (theirs * F.embedding(partners, ours)).sum(1),
    ]
    return (torch.stack(terms).logsumexp(0) - own).mean()

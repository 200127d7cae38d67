"""Sums over all pairs of rows against dense ones, whatever the tiling and the size of products."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_slif.layers.all_pairs import pair_sum, row_logsumexp


def rows(n, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(n, 4, generator=generator, dtype=torch.float64)).requires_grad_()


def dense_pair_sum(x):
    powers = (x @ x.t()).exp()
    return powers.sum() - powers.diagonal().sum()


@pytest.mark.parametrize("n", [1, 2, 9, 10])
@pytest.mark.parametrize("block", [None, 1, 3, 5])
def test_pair_sum_counts_every_ordered_pair_once(n, block):
    x = rows(n)
    ours, dense = pair_sum(x, block), dense_pair_sum(x)
    torch.testing.assert_close(ours, dense, rtol=1e-12, atol=1e-12)
    found = torch.autograd.grad(2.5 * ours, x)[0]
    expected = torch.autograd.grad(2.5 * dense, x)[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("block", [None, 2, 7])
@pytest.mark.parametrize("bound", [50.0, math.inf])
def test_logsumexp_is_the_same_with_and_without_maxima(exclude, block, bound):
    queries, candidates = rows(9), rows(9, seed=1)
    scores = queries @ candidates.t()
    if exclude:
        scores = scores.masked_fill(torch.eye(9, dtype=torch.bool), -torch.inf)
    ours = row_logsumexp(queries, candidates, exclude, block, bound)
    torch.testing.assert_close(ours, scores.logsumexp(1), rtol=1e-12, atol=1e-12)
    weights = torch.arange(1.0, 10.0, dtype=torch.float64)
    found = torch.autograd.grad(ours @ weights, [queries, candidates])
    expected = torch.autograd.grad(scores.logsumexp(1) @ weights, [queries, candidates])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_products_beyond_the_range_of_exponentials_are_shifted():
    queries = rows(6, scale=40.0).detach().float().requires_grad_()
    candidates = rows(6, seed=1, scale=40.0).detach().float()
    ours = row_logsumexp(queries, candidates, True)
    scores = (queries @ candidates.t()).masked_fill(torch.eye(6, dtype=torch.bool), -torch.inf)
    torch.testing.assert_close(ours, scores.logsumexp(1))
    assert torch.isfinite(torch.autograd.grad(ours.sum(), queries)[0]).all()

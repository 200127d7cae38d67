"""Sums over all pairs of rows against dense ones, whatever the tiling and the size of products."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_slif.layers.all_pairs import pair_sum, row_logsumexp
from recbole_slif.layers.pair_tiles import HALF_EXPONENT
from recbole_slif.precision import compared_rows


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


def unit(n, seed, scale):
    x = torch.randn(n, 16, generator=torch.Generator().manual_seed(seed))
    return (scale * torch.nn.functional.normalize(x)).requires_grad_()


def with_gradients(work, *tables):
    value = work(*tables)
    weights = torch.linspace(0.5, 1.5, value.numel()).view(value.shape)
    return value.detach(), *torch.autograd.grad((value * weights).sum(), tables)


def gaps(found, wanted):
    return [float((a - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True)]


@pytest.mark.parametrize("block", [None, 64])
@pytest.mark.parametrize("temperature", [1.0, 0.2, 1.0 / HALF_EXPONENT])
def test_half_as_wide_the_sums_of_rows_are_off_by_roundings_alone(temperature, block):
    tables = unit(300, 0, 1.0 / temperature), unit(200, 1, 1.0)
    bound = 1.0 / temperature
    wanted = with_gradients(lambda a, b: row_logsumexp(a, b, False, block, bound), *tables)
    with compared_rows("bfloat16"):
        found = with_gradients(lambda a, b: row_logsumexp(a, b, False, block, bound), *tables)
    assert {part.dtype for part in found} == {torch.float32}
    assert 0 < max(gaps(found, wanted)) < 0.005 * (1.0 + bound / 4.0), gaps(found, wanted)


@pytest.mark.parametrize("block", [None, 64])
def test_half_as_wide_the_sum_of_pairs_is_off_by_roundings_alone(block):
    x = unit(300, 0, 2.0)
    wanted = with_gradients(lambda a: pair_sum(a, block, 4.0), x)
    with compared_rows("bfloat16"):
        found = with_gradients(lambda a: pair_sum(a, block, 4.0), x)
    assert {part.dtype for part in found} == {torch.float32}
    assert 0 < max(gaps(found, wanted)) < 0.005, gaps(found, wanted)


@pytest.mark.parametrize("bound", [HALF_EXPONENT + 1.0, math.inf])
def test_large_exponents_and_wide_rows_stay_as_they_are(bound):
    tables = unit(30, 0, HALF_EXPONENT + 1.0), unit(30, 1, 1.0)
    wide = rows(30), rows(30, seed=1)
    for given, limit in ((tables, bound), (wide, 4.0)):
        wanted = with_gradients(lambda a, b, at=limit: row_logsumexp(a, b, True, 7, at), *given)
        with compared_rows("bfloat16"):
            found = with_gradients(lambda a, b, at=limit: row_logsumexp(a, b, True, 7, at), *given)
        for one, other in zip(found, wanted, strict=True):
            assert torch.equal(one, other)

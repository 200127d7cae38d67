"""Operators of one pattern with other values: products, gradients, what is shared, what is kept."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_slif.graph import dropout
from recbole_slif.graph.sparse import SparseOperator, _CompressedRows

N, M, D = 7, 5, 3


def matrix(seed=0, shape=(N, M)):
    """A matrix with an empty row and an empty column."""
    dense = np.random.default_rng(seed).random(shape)
    dense[dense < 0.4] = 0.0
    dense[2], dense[:, 1] = 0.0, 0.0
    return sp.csr_array(dense)


def operator(seed=0, shape=(N, M)):
    return SparseOperator.from_scipy(matrix(seed, shape), dtype=torch.float64)


def dense_of(given):
    return torch.from_numpy(given.to_scipy().toarray())


def kept_of(given, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random(given.nnz) < 0.5)


def check_product(given, dense):
    x = torch.randn(dense.shape[1], D, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(dense.shape[0], D, dtype=torch.float64)
    found = given @ x
    torch.testing.assert_close(found, dense @ x)
    (gradient,) = torch.autograd.grad((found * weights).sum(), x)
    torch.testing.assert_close(gradient, dense.T @ weights)


@pytest.mark.parametrize("shape", [(N, M), (M, N), (N, N)])
def test_other_values_at_the_same_places(shape):
    whole = operator(0, shape)
    values = torch.randn(whole.nnz, dtype=torch.float64)
    expected = matrix(0, shape)
    expected.data = values.numpy()
    found = whole.with_values(values)
    assert found.nnz == whole.nnz and found.shape == whole.shape
    check_product(found, torch.from_numpy(expected.toarray()))
    check_product(found.transpose(), torch.from_numpy(expected.toarray().T))
    check_product(whole, torch.from_numpy(matrix(0, shape).toarray()))


def test_thinned_operators_agree_with_smaller_matrices():
    whole, full = operator(), matrix()
    for seed in range(4):
        kept = kept_of(whole, seed)
        smaller = dropout.keep_entries(full, kept.numpy())
        found = whole.thinned(kept, 0.25)
        torch.testing.assert_close(dense_of(found), torch.from_numpy(smaller.toarray() / 0.25))
        check_product(found, dense_of(found))
        expected = torch.from_numpy(smaller.sum(axis=1) / 0.25)
        torch.testing.assert_close(found.row_sums(), expected)
    nothing = whole.thinned(torch.zeros(whole.nnz, dtype=torch.bool))
    check_product(nothing, torch.zeros(N, M, dtype=torch.float64))


def test_a_pattern_without_entries_can_be_thinned():
    none = SparseOperator.from_scipy(sp.csr_array((3, 4)), dtype=torch.float64)
    check_product(none.thinned(torch.ones(0, dtype=torch.bool)), torch.zeros(3, 4).double())


def test_entries_at_one_place_can_have_values_of_their_own():
    twice = sp.csr_array((np.ones(3), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 2))
    whole = SparseOperator.from_scipy(twice, torch.float64, as_laid_out=True)
    found = whole.with_values(torch.tensor([2.0, 5.0, 4.0], dtype=torch.float64))
    check_product(found, torch.tensor([[0.0, 7.0], [4.0, 0.0]], dtype=torch.float64))
    assert SparseOperator.from_scipy(twice).nnz == 2


def test_powers_of_a_thinned_operator():
    whole = operator(1, (N, N))
    thinned = whole.thinned(kept_of(whole), 0.5)
    dense, x = dense_of(thinned), torch.randn(N, D, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(N, D, dtype=torch.float64)
    found, expected = thinned.polynomial(x, [1.0, 0.5, 0.2]), x
    expected = x + 0.5 * dense @ x + 0.2 * dense @ (dense @ x)
    torch.testing.assert_close(found, expected)
    pair = (torch.autograd.grad((table * weights).sum(), x)[0] for table in (found, expected))
    torch.testing.assert_close(*pair)


def test_one_transposition_serves_all_operators_of_a_pattern(monkeypatch):
    calls, sort = [], torch.sort
    monkeypatch.setattr(torch, "sort", lambda *a, **k: (calls.append(1), sort(*a, **k))[1])
    monkeypatch.setattr(_CompressedRows, "transposed", lambda self: pytest.fail("laid out anew"))
    whole = operator()
    for seed in range(3):
        thinned = whole.thinned(kept_of(whole, seed))
        again = thinned.thinned(kept_of(whole, seed + 1), 0.5)
        check_product(thinned, dense_of(thinned))
        check_product(again, dense_of(again))
    assert len(calls) == 1


@pytest.fixture
def by_values(monkeypatch):
    monkeypatch.setattr(dropout, "rebuilt_on", lambda device: False)


@pytest.mark.usefixtures("by_values")
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
def test_both_ways_draw_and_scale_alike(rate):
    whole, full = operator(), matrix()
    torch.manual_seed(4)
    expected = dropout.drop_entries(full, rate)
    torch.manual_seed(4)
    found = dropout.thin(whole, full, rate)
    assert found.nnz == expected.nnz
    thinned = dense_of(dropout.operator_of(found, whole))
    torch.testing.assert_close(thinned, torch.from_numpy(expected.toarray()))
    torch.manual_seed(4)
    at_once = dense_of(dropout.thinned_operator(whole, full, rate))
    assert torch.equal(at_once, thinned)


@pytest.mark.usefixtures("by_values")
def test_what_is_left_can_be_chosen_from_again():
    torch.manual_seed(1)
    whole, full = operator(), matrix()
    left = dropout.thin(whole, full, 0.4)
    assert torch.equal(left.places(), left.kept.nonzero().squeeze(1))
    chosen = left.places()[[2, 0, 3]]
    fewer = left.only(chosen, 0.5)
    assert fewer.nnz == 3 and torch.equal(fewer.places(), chosen.sort().values)
    expected = dropout.keep_entries(full, fewer.kept.numpy()).toarray() / 0.3
    found = dense_of(dropout.operator_of(fewer, whole))
    torch.testing.assert_close(found, torch.from_numpy(expected))

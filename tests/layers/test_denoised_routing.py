"""Routing of two towers and the comparison of their attentions, against loops."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from recbole_slif.layers.denoised_routing import (
    agreement,
    denoised_routing,
    edge_scores,
    interaction_edges,
)
from tests.oracle import krdn as oracle

D = 3


def pairs_of(n_users, n_items, seed=0):
    """Pairs of all users but the last, items but the last; user 0 has one item."""
    rng = np.random.default_rng(seed)
    found = {
        (u, i) for u in range(1, n_users - 1) for i in range(n_items - 1) if rng.random() < 0.6
    }
    return sorted(found | {(0, 1)}, key=lambda pair: (pair[1], -pair[0]))


def tables(n_users, n_items, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [n_users] * 2 + [n_items] * 4
    users, cf_users, items, cf_items, query, cf_query = (
        torch.from_numpy(2.0 * rng.standard_normal((n, D))) for n in shapes
    )
    return (users, cf_users), (items, cf_items), (query, cf_query)


def layout(pairs, n_users, n_items):
    users, items = np.array(pairs).T
    return interaction_edges(users, items, n_users, n_items)


@pytest.mark.parametrize("gap", [0.005, 0.02, 0.3])
@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.parametrize(("n_users", "n_items"), [(6, 5), (4, 9), (5, 5)])
def test_agrees_with_the_loop(n_users, n_items, rounds, gap):
    pairs = pairs_of(n_users, n_items)
    parts = tables(n_users, n_items)
    got = denoised_routing(*parts, layout(pairs, n_users, n_items), gap, rounds)
    arrays = ([table.numpy() for table in part] for part in parts)
    wanted, taken = oracle.routing(pairs, *arrays, gap, rounds)
    edges = layout(pairs, n_users, n_items)
    ends = zip(edges.heads.tolist(), edges.tails.tolist(), strict=True)
    assert got[2].bool().tolist() == [pair in taken for pair in ends]
    for found, expected in zip(got[:2], wanted, strict=True):
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)
        assert not found[-1].any(), "a user without pairs becomes 0"


def test_the_gap_decides_what_is_left_out():
    pairs = pairs_of(6, 5)
    edges, parts = layout(pairs, 6, 5), tables(6, 5)
    some, none, everything = (
        denoised_routing(*parts, edges, gap, 1)[0] for gap in (0.02, 0.0, 1.0)
    )
    assert not none.any()
    assert not torch.equal(some, everything) and some.any()


@pytest.mark.parametrize("rounds", [1, 2])
def test_edges_left_out_count_as_if_they_did_not_exist(rounds):
    """Of one user, every edge is left out."""
    pairs = sorted(pairs_of(9, 7))
    parts = [table.requires_grad_() for pair in tables(9, 7) for table in pair]
    kept = np.random.default_rng(0).random(len(pairs)) < 0.6
    kept[[user == 1 for user, _ in pairs]] = False
    left = [pair for pair, keep in zip(pairs, kept, strict=True) if keep]
    weights = torch.randn(2, 9, D, dtype=torch.float64)
    found = []
    for edges, mask in (layout(left, 9, 7), None), (layout(pairs, 9, 7), torch.from_numpy(kept)):
        rows = denoised_routing(parts[:2], parts[2:4], parts[4:], edges, 0.05, rounds, mask)
        total = (torch.stack(rows[:2]) * weights).sum()
        agreed = rows[2] if mask is None else rows[2][mask[edges.input_positions]]
        found.append((rows[:2], agreed, torch.autograd.grad(total, parts)))
    torch.testing.assert_close(*found)
    assert found[1][0][0].any() and found[0][1].any() and not found[1][0][0][1].any()


@pytest.mark.parametrize("rounds", [1, 2])
def test_gradients_of_all_tables(rounds):
    edges = layout(pairs_of(6, 5), 6, 5)
    parts = [table.requires_grad_() for pair in tables(6, 5) for table in pair]

    def route(*given):
        return denoised_routing(given[:2], given[2:4], given[4:], edges, 0.02, rounds)[:2]

    assert gradcheck(route, parts)


def test_the_comparison_is_a_constant_to_the_gradient():
    first, second = (torch.rand(8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    kept = agreement(first, second, 0.05)
    assert not kept.requires_grad
    wanted = [
        abs(oracle.sigmoid(p.item()) - oracle.sigmoid(c.item())) < 0.05
        for p, c in zip(first, second, strict=True)
    ]
    assert kept.bool().tolist() == wanted and 0 < sum(wanted) < 8


@pytest.mark.parametrize("n", [1, 2, 3, 10, 100])
def test_no_two_attentions_differ_by_the_released_gap(n):
    """The extremes: one score 1 and the others 0, against one score 0 and the others 1."""
    high = np.e / (np.e + n - 1)
    low = 1.0 / (1.0 + (n - 1) * np.e)
    gap = oracle.sigmoid(high) - oracle.sigmoid(low)
    assert gap < min(0.1085, 0.6 / n)


def test_scores_and_their_gradients():
    edges = layout(pairs_of(6, 5), 6, 5)
    left, right = (torch.randn(6, D, dtype=torch.float64, requires_grad=True) for _ in range(2))
    got = edge_scores(left, right, edges)
    wanted = [
        oracle.dot(left[u].tolist(), right[i].tolist())
        for u, i in zip(edges.heads.tolist(), edges.tails.tolist(), strict=True)
    ]
    np.testing.assert_allclose(got.detach().numpy(), wanted, atol=1e-12)
    assert gradcheck(lambda a, b: edge_scores(a, b, edges), (left, right))
    assert edge_scores(left.detach(), right, edges).requires_grad

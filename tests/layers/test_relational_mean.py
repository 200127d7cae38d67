"""The factorised relational mean against loops over edges."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from recbole_slif.layers.relational_mean import RelationalMean
from tests.oracle import baselines as oracle

N, R, D = 9, 5, 3


def edges(seed, count=40):
    """Relation 0: many tails of one head; relation 1: one tail of many heads; the others mixed."""
    rng = np.random.default_rng(seed)
    heads, tails = rng.integers(0, N - 1, count), rng.integers(0, N, count)
    relations = rng.integers(0, R - 1, count)
    heads[relations == 0], tails[relations == 1] = 2, 3
    return heads, relations, tails


def tables(seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, D)), rng.standard_normal((R, D))


def layer(triples):
    return RelationalMean(*triples, N, R, dtype=torch.float64)


@pytest.fixture(autouse=True, params=[2, 3, 1000])
def small_blocks(request, monkeypatch):
    """Blocks that end inside a relation, that span several, and one block for all."""
    monkeypatch.setattr("recbole_slif.layers.pair_blocks.BLOCK_PAIRS", request.param)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_loop(seed):
    triples, (entities, relations) = edges(seed), tables(seed)
    got = layer(triples)(torch.from_numpy(entities), torch.from_numpy(relations))
    expected = oracle.relational_mean(*triples, entities, relations)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-12)
    assert not got[N - 1].any(), "an entity without edges gives 0"


def test_both_sides_are_chosen_and_each_pair_is_multiplied_once():
    triples = edges(0)
    heads, relations, tails = triples
    smallest = sum(
        min(len(set(heads[relations == r])), len(set(tails[relations == r]))) for r in range(R)
    )
    built = layer(triples)
    assert built.n_pairs == smallest < len(heads)


@pytest.mark.parametrize("seed", range(3))
def test_thinned_edges_take_the_mean_over_what_is_left(seed):
    triples, (entities, relations) = edges(seed), tables(seed)
    kept = np.random.default_rng(seed).random(len(triples[0])) < 0.4
    full = layer(triples)
    got = full.without(kept)(torch.from_numpy(entities), torch.from_numpy(relations))
    expected = oracle.relational_mean(*triples, entities, relations, kept)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-12)
    whole = full(torch.from_numpy(entities), torch.from_numpy(relations))
    np.testing.assert_allclose(
        whole.numpy(), oracle.relational_mean(*triples, entities, relations), atol=1e-12
    )


def test_gradients_of_entities_and_relations():
    built = layer(edges(1))
    entities, relations = (torch.from_numpy(x).requires_grad_() for x in tables(1))
    assert gradcheck(built, (entities, relations))


def test_gradients_on_thinned_edges():
    built = layer(edges(2)).without(np.random.default_rng(2).random(40) < 0.5)
    entities, relations = (torch.from_numpy(x).requires_grad_() for x in tables(2))
    assert gradcheck(built, (entities, relations))


def test_pairs_without_edges_are_left_out():
    triples = edges(0)
    kept = np.zeros(len(triples[0]), dtype=bool)
    kept[:3] = True
    assert layer(triples).without(kept).n_pairs <= 3
    assert layer(triples).without(~kept).n_pairs > 3


def test_no_edges_give_zero():
    empty = np.zeros(0, dtype=np.int64)
    out = RelationalMean(empty, empty, empty, N, R)(torch.ones(N, D), torch.ones(R, D))
    assert out.shape == (N, D) and not out.any()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [None, 0.5])
def test_some_means_are_rows_of_all_with_their_gradients(seed, share):
    triples, rng = edges(seed), np.random.default_rng(seed)
    whole = layer(triples)
    if share is not None:
        whole = whole.without(rng.random(len(triples[0])) < share)
    rows = np.sort(rng.choice(N, 4, replace=False))
    arrived = torch.from_numpy(rng.standard_normal((len(rows), D)))
    found = []
    for means, chosen in ((whole, torch.from_numpy(rows)), (whole.at(rows), slice(None))):
        inputs = [torch.from_numpy(part).requires_grad_() for part in tables(seed)]
        got = means(*inputs)[chosen]
        found.append((got, *torch.autograd.grad(got, inputs, arrived)))
    for wanted, got in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted)
    assert whole.at(rows).n_pairs < whole.n_pairs


def test_no_wanted_row_gives_no_row():
    triples = edges(0)
    none = layer(triples).at(np.array([], dtype=np.int64))
    inputs = [torch.from_numpy(part).requires_grad_() for part in tables(0)]
    got = none(*inputs)
    got.sum().backward()
    assert got.shape == (0, D) and not inputs[0].grad.any() and not inputs[1].grad.any()


def by_values(triples, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("recbole_slif.layers.relational_mean.rebuilt_on", lambda device: False)
        return layer(triples)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [1.0, 0.4, 0.0])
def test_values_thin_the_edges_as_smaller_products_do(seed, share, monkeypatch):
    triples, rng = edges(seed), np.random.default_rng(seed)
    built, valued = layer(triples), by_values(triples, monkeypatch)
    if share < 1.0:
        kept = rng.random(len(triples[0])) < share
        built, valued = built.without(kept), valued.without(kept)
    given = [torch.from_numpy(table).requires_grad_() for table in tables(seed)]
    rows = np.array([0, 2, 5, N - 1])
    for expected, found in ((built, valued), (built.at(rows), valued.at(torch.from_numpy(rows)))):
        wanted, got = expected(*given), found(*given)
        torch.testing.assert_close(got, wanted)
        weights = torch.from_numpy(rng.standard_normal(wanted.shape))
        pair = (torch.autograd.grad((means * weights).sum(), given) for means in (got, wanted))
        torch.testing.assert_close(*pair)
    every = np.ones(len(triples[0]), dtype=bool)
    for again in (valued.without(every), valued.at(torch.from_numpy(rows)).without(every)):
        torch.testing.assert_close(again(*given), layer(triples)(*given))
    torch.testing.assert_close(built.at(rows).without(every)(*given), layer(triples)(*given))

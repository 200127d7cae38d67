import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_slif.errors import ConfigError
from recbole_slif.graph.pruning import draw_edges, keep_weights, keep_weights_knowledge
from tests.oracle import graphs as oracle

edge_lists = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=30)


@given(edges=edge_lists)
@settings(max_examples=40, deadline=None)
def test_weights_of_interactions_equal_the_loop(edges):
    ends = np.array(edges)
    got = keep_weights(ends[:, 0], ends[:, 1], 6, 7)
    np.testing.assert_allclose(got, [oracle.keep_weight(e, edges) for e in edges], atol=1e-10)


@given(edges=edge_lists)
@settings(max_examples=40, deadline=None)
def test_weights_of_triples_count_both_ends_in_one_node_set(edges):
    ends = np.array(edges)
    got = keep_weights_knowledge(ends[:, 0], ends[:, 1], 9)
    expected = [oracle.keep_weight_knowledge(e, edges) for e in edges]
    np.testing.assert_allclose(got, expected, atol=1e-10)


def test_no_edges():
    assert keep_weights([], np.array([], dtype=int), 3, 3).size == 0


@given(n=st.integers(0, 60), ratio=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_exact_count_sorted_distinct_and_in_range(n, ratio, seed):
    weights = np.random.default_rng(seed).random(n) + 0.01
    kept = draw_edges(weights, ratio, np.random.default_rng(seed))
    assert kept.size == round((1 - ratio) * n)
    assert np.all(np.diff(kept) > 0)
    assert np.isin(kept, np.arange(n)).all()


def test_ratio_zero_keeps_all_and_draws_nothing():
    generator = np.random.default_rng(5)
    before = generator.bit_generator.state
    assert draw_edges(np.ones(7), 0.0, generator).tolist() == list(range(7))
    assert generator.bit_generator.state == before


def test_same_generator_same_draw_and_next_draw_differs():
    weights = np.random.default_rng(0).random(200) + 0.1
    generator = np.random.default_rng(1)
    first, second = (draw_edges(weights, 0.5, generator) for _ in range(2))
    np.testing.assert_array_equal(first, draw_edges(weights, 0.5, np.random.default_rng(1)))
    assert not np.array_equal(first, second)


def test_shares_follow_successive_weighted_draws():
    # Keeping two of three with weights 1, 2, 5: exact inclusion chances by enumeration.
    weights = np.array([1.0, 2.0, 5.0])
    expected = np.zeros(3)
    for first in range(3):
        for second in set(range(3)) - {first}:
            left = weights.sum() - weights[first]
            chance = weights[first] / weights.sum() * weights[second] / left
            expected[[first, second]] += chance
    generator = np.random.default_rng(0)
    counts = np.zeros(3)
    n_draws = 20_000
    for _ in range(n_draws):
        counts[draw_edges(weights, 1 / 3, generator)] += 1
    np.testing.assert_allclose(counts / n_draws, expected, atol=0.015)


def test_popular_edges_go_first():
    # A star of 200 edges at one node beside 200 isolated edges.
    a = np.concatenate([np.zeros(200, dtype=int), np.arange(1, 201)])
    b = np.arange(400)
    kept = draw_edges(keep_weights(a, b, 201, 400), 0.5, np.random.default_rng(0))
    assert (kept < 200).sum() < 60


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_ratios_outside_the_unit_interval_are_refused(ratio):
    with pytest.raises(ConfigError, match="pruning ratio"):
        draw_edges(np.ones(3), ratio, np.random.default_rng(0))

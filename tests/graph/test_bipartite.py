import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_slif.errors import ConfigError
from recbole_slif.graph.bipartite import bipartite_matrix, bipartite_operator
from tests.oracle import graphs as oracle

PAIRS = [(1, 1), (1, 2), (2, 2), (3, 1), (3, 2), (3, 4), (2, 5)]
N_USERS, N_ITEMS = 5, 6


def columns(pairs):
    return np.array([u for u, _ in pairs], dtype=np.int64), np.array(
        [i for _, i in pairs], dtype=np.int64
    )


def directed_graph(seed=0, n=N_ITEMS):
    return sp.csr_array(oracle.random_dense(n, n, 0.3, seed))


def build(pairs=PAIRS, **options):
    users, items = columns(pairs)
    return bipartite_matrix(users, items, N_USERS, N_ITEMS, **options)


def test_plain_graph_equals_the_loop():
    expected = oracle.normalise(oracle.adjacency(PAIRS, N_USERS, N_ITEMS))
    np.testing.assert_allclose(build().toarray(), expected, atol=1e-10)


@pytest.mark.parametrize("graph_weight", [1.0, 0.3, 0.0])
def test_joint_normalisation_counts_users_and_correlations(graph_weight):
    graph = directed_graph()
    dense = oracle.adjacency(PAIRS, N_USERS, N_ITEMS, graph_weight * graph.toarray())
    got = build(item_graph=graph, graph_weight=graph_weight).toarray()
    np.testing.assert_allclose(got, oracle.normalise(dense), atol=1e-10)
    item = N_USERS + 1
    degree = 2 + graph_weight * graph.toarray()[1].sum()
    assert got[1, item] == pytest.approx(1 / np.sqrt(2 * degree))


def test_block_normalisation_leaves_both_parts_alone():
    graph = directed_graph()
    expected = oracle.normalise(oracle.adjacency(PAIRS, N_USERS, N_ITEMS))
    expected[N_USERS:, N_USERS:] = 0.7 * graph.toarray()
    got = build(item_graph=graph, norm="block", graph_weight=0.7).toarray()
    np.testing.assert_allclose(got, expected, atol=1e-10)


def test_a_directed_graph_stays_directed():
    graph = sp.csr_array(([1.0], ([1], [2])), shape=(N_ITEMS, N_ITEMS))
    got = build(item_graph=graph).toarray()
    assert got[N_USERS + 1, N_USERS + 2] > 0
    assert got[N_USERS + 2, N_USERS + 1] == 0


def test_self_loops_enter_the_degrees():
    dense = oracle.adjacency(PAIRS, N_USERS, N_ITEMS) + np.eye(N_USERS + N_ITEMS)
    got = build(self_loop=True).toarray()
    np.testing.assert_allclose(got, oracle.normalise(dense), atol=1e-10)


def test_repeated_pairs_count_once_and_order_is_free():
    repeated = [PAIRS[2], *reversed(PAIRS), PAIRS[0], PAIRS[2]]
    np.testing.assert_array_equal(build(repeated).toarray(), build().toarray())


def test_the_given_graph_is_not_changed():
    graph = directed_graph()
    before = graph.copy()
    for norm in ("joint", "block"):
        build(item_graph=graph, norm=norm, graph_weight=0.5)
    np.testing.assert_array_equal(graph.toarray(), before.toarray())


def test_no_interactions_at_all():
    matrix = build([])
    assert matrix.shape == (11, 11)
    assert matrix.nnz == 0


@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=20),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_permuting_users_and_items_permutes_the_matrix(pairs, seed):
    rng = np.random.default_rng(seed)
    user_order, item_order = rng.permutation(N_USERS), rng.permutation(N_ITEMS)
    graph = directed_graph(seed)
    users, items = columns(pairs)
    new_graph = np.zeros((N_ITEMS, N_ITEMS))
    new_graph[np.ix_(item_order, item_order)] = graph.toarray()
    moved = bipartite_matrix(
        user_order[users], item_order[items], N_USERS, N_ITEMS, sp.csr_array(new_graph)
    ).toarray()
    order = np.concatenate([user_order, N_USERS + item_order])
    plain = bipartite_matrix(users, items, N_USERS, N_ITEMS, graph).toarray()
    np.testing.assert_allclose(moved[np.ix_(order, order)], plain, atol=1e-12)


def test_operator_is_the_matrix():
    users, items = columns(PAIRS)
    graph = directed_graph()
    operator = bipartite_operator(
        users, items, N_USERS, N_ITEMS, graph, "block", 0.4, dtype=torch.float64
    )
    expected = build(item_graph=graph, norm="block", graph_weight=0.4)
    np.testing.assert_array_equal(operator.to_scipy().toarray(), expected.toarray())
    assert bipartite_operator(users, items, N_USERS, N_ITEMS).dtype == torch.float32


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="joint or block"):
        build(norm="other")
    with pytest.raises(ValueError, match="item graph"):
        build(item_graph=directed_graph(n=4))
    with pytest.raises(ValueError):
        build([(1, N_ITEMS)])

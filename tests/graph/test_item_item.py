import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_slif.errors import ConfigError
from recbole_slif.graph.item_item import (
    knn_graph,
    merge_graphs,
    normalise_by_degree,
    top_k_cosine,
)
from tests.oracle import graphs as oracle


def features(n, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def assert_equals_oracle(got, expected, k, tolerance=1e-10):
    ids, sims = got
    for i, row in enumerate(expected):
        assert ids[i].tolist() == [j for _, j in row] + [-1] * (k - len(row))
        wanted = [s for s, _ in row] + [0.0] * (k - len(row))
        np.testing.assert_allclose(sims[i].numpy(), wanted, atol=tolerance)


@given(
    n=st.integers(1, 40),
    k=st.integers(1, 12),
    block_rows=st.integers(1, 50),
    include_self=st.booleans(),
    masked=st.booleans(),
    seed=st.integers(0, 999),
)
@settings(max_examples=40, deadline=None)
def test_neighbours_equal_the_loop(n, k, block_rows, include_self, masked, seed):
    x = features(n, 4, seed)
    x[:: max(2, n // 3)] = 0.0
    presence = torch.rand(n, generator=torch.Generator().manual_seed(seed)) > 0.3
    presence = presence if masked else None
    got = top_k_cosine(x, k, presence, include_self, block_rows)
    assert got[0].dtype == torch.int64
    assert_equals_oracle(got, oracle.top_k(x.tolist(), k, presence, include_self), k)


def test_two_stages_equal_one_full_sort_at_a_size_with_many_groups():
    x = torch.nn.functional.normalize(features(2500, 8))
    similarity = x @ x.T
    similarity.fill_diagonal_(-2.0)
    expected = similarity.sort(1, descending=True)
    ids, sims = top_k_cosine(x, 7)
    assert torch.equal(ids, expected.indices[:, :7])
    torch.testing.assert_close(sims, expected.values[:, :7])


@given(n=st.integers(2, 60), k=st.integers(1, 9), block_rows=st.sampled_from([1, 7, 64]))
@settings(max_examples=40, deadline=None)
def test_among_equals_the_lowest_ids_win(n, k, block_rows):
    # Integer axes make all products exact, so equal similarities are equal to the bit.
    x = torch.eye(3, dtype=torch.float64)[torch.arange(n) * 7 % 3]
    got = top_k_cosine(x, k, block_rows=block_rows)
    assert_equals_oracle(got, oracle.top_k(x.tolist(), k), k)


def test_equals_inside_one_group_of_columns_are_seen():
    # 1,000 columns and 2 neighbours make groups of the columns that agree modulo 91.
    twins = torch.tensor([905, 541, 723, 86, 814])
    assert (twins % 91).unique().numel() == 1
    x = torch.zeros(1000, 2, dtype=torch.float64)
    x[:, 1] = 1.0
    x[[0, *twins.tolist()]] = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert top_k_cosine(x, 2)[0][0].tolist() == [86, 541]


def test_a_row_that_is_not_finite_is_treated_as_absent():
    x = features(6, 3)
    x[2, 1] = float("nan")
    x[4, 0] = float("inf")
    ids, sims = top_k_cosine(x, 3)
    assert ids[[2, 4]].eq(-1).all()
    assert not torch.isin(ids, torch.tensor([2, 4])).any()
    assert sims.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_narrow_features_are_widened(dtype):
    x = features(30, 16).to(dtype) * 300
    ids, sims = top_k_cosine(x, 5)
    assert sims.dtype == torch.float32
    wide = top_k_cosine(x.double(), 5)
    assert torch.equal(ids, wide[0])
    torch.testing.assert_close(sims.double(), wide[1], rtol=0, atol=1e-5)


def test_no_gradient_and_no_change_of_the_input():
    x = features(10, 3).requires_grad_()
    before = x.detach().clone()
    _, sims = top_k_cosine(x, 3)
    assert not sims.requires_grad
    assert torch.equal(x.detach(), before)


def test_fewer_than_one_neighbour_is_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        top_k_cosine(features(3, 2), 0)


@pytest.mark.parametrize("weight", ["cosine", "binary"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("include_self", [False, True])
def test_graph_equals_the_loop(weight, symmetric, include_self):
    x = features(25, 3)
    x[5] = 0.0
    presence = torch.ones(25, dtype=torch.bool)
    presence[7] = False
    got = knn_graph(x, 4, presence, include_self, weight, symmetric=symmetric)
    expected = oracle.knn(x.tolist(), 4, presence, weight, symmetric, include_self)
    np.testing.assert_allclose(got.toarray(), expected, atol=1e-10)
    for empty in (0, 5, 7):
        assert got.toarray()[empty].sum() == got.toarray()[:, empty].sum() == 0


def test_graph_without_normalisation_holds_the_similarities():
    x = features(12, 3)
    got = knn_graph(x, 9, normalise=False).toarray()
    for i, row in enumerate(oracle.top_k(x[1:].tolist(), 9)):
        for similarity, j in row:
            assert got[i + 1, j + 1] == pytest.approx(max(similarity, 0.0), abs=1e-10)
    assert (got >= 0).all()


def test_graph_leaves_the_mask_alone_and_keeps_single_precision():
    presence = torch.ones(8, dtype=torch.bool)
    graph = knn_graph(features(8, 3).float(), 2, presence)
    assert bool(presence[0])
    assert graph.dtype == np.float32


def test_permuting_items_permutes_the_graph():
    x = features(20, 4)
    order = torch.cat([torch.tensor([0]), 1 + torch.randperm(19)])
    plain = knn_graph(x, 5).toarray()
    moved = knn_graph(x[order], 5).toarray()
    np.testing.assert_allclose(moved, plain[np.ix_(order, order)], atol=1e-12)


def test_unknown_weight_is_refused():
    with pytest.raises(ConfigError, match="cosine or binary"):
        knn_graph(features(4, 2), 2, weight="other")


@given(seed=st.integers(0, 200), n=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_degree_normalisation_equals_the_loop(seed, n):
    matrix = sp.csr_array(oracle.random_dense(n, n, 0.4, seed))
    got = normalise_by_degree(matrix).toarray()
    np.testing.assert_allclose(got, oracle.normalise(matrix.toarray()), atol=1e-10)


def graph(rows):
    """A 4 x 4 graph from {row: {column: weight}}."""
    dense = np.zeros((4, 4))
    for i, row in rows.items():
        for j, value in row.items():
            dense[i, j] = value
    return sp.csr_array(dense)


def test_replace_is_the_new_graph():
    old, new = graph({1: {2: 1.0}}), graph({2: {3: 0.5}})
    assert merge_graphs(old, new, "replace", 0.9, 1) is new
    assert merge_graphs(None, new, "replace", 0.9, 1) is new


def test_ema_mixes_and_keeps_the_heaviest():
    old, new = graph({1: {2: 1.0, 3: 0.2}}), graph({1: {3: 0.8}, 2: {1: 1.0}})
    got = merge_graphs(old, new, "ema", 0.75, 10).toarray()
    np.testing.assert_allclose(got, 0.75 * old.toarray() + 0.25 * new.toarray(), atol=1e-10)
    cut = merge_graphs(old, new, "ema", 0.75, 1).toarray()
    np.testing.assert_allclose(cut, graph({1: {2: 0.75}, 2: {1: 0.25}}).toarray(), atol=1e-10)
    first = merge_graphs(None, new, "ema", 0.75, 10).toarray()
    np.testing.assert_array_equal(first, new.toarray())


def test_accumulate_prefers_new_weights_and_new_edges():
    first = graph({1: {0: 0.1, 2: 0.9}})
    second = graph({1: {2: 0.3, 3: 0.2}})
    got = merge_graphs(first, second, "accumulate", 0.0, 10).toarray()
    np.testing.assert_allclose(got[1], [0.1, 0.0, 0.3, 0.2])
    cut = merge_graphs(first, second, "accumulate", 0.0, 2).toarray()
    np.testing.assert_allclose(cut[1], [0.0, 0.0, 0.3, 0.2])
    np.testing.assert_allclose(
        merge_graphs(None, first, "accumulate", 0.0, 1).toarray()[1], [0, 0, 0.9, 0]
    )


def test_accumulate_drops_the_oldest_edge_over_several_epochs():
    merged = None
    for column in (3, 0, 2):
        merged = merge_graphs(merged, graph({1: {column: 0.5}}), "accumulate", 0.0, 2)
    assert set(np.flatnonzero(merged.toarray()[1])) == {0, 2}
    again = merge_graphs(merged, graph({1: {0: 0.4}, 2: {1: 1.0}}), "accumulate", 0.0, 2)
    latest = merge_graphs(again, graph({1: {3: 0.6}}), "accumulate", 0.0, 2).toarray()
    np.testing.assert_allclose(latest[1], [0.4, 0.0, 0.0, 0.6])
    np.testing.assert_allclose(latest[2], [0.0, 1.0, 0.0, 0.0])


def test_merging_leaves_its_inputs_alone():
    old, new = graph({1: {2: 1.0, 0: 0.5}}), graph({1: {3: 0.8, 2: 0.1}})
    before = old.toarray(), new.toarray()
    for mode in ("ema", "accumulate"):
        merge_graphs(old, new, mode, 0.5, 2).data[:] = 0.0
    np.testing.assert_array_equal(old.toarray(), before[0])
    np.testing.assert_array_equal(new.toarray(), before[1])


def test_settings_out_of_range_are_refused():
    new = graph({1: {2: 1.0}})
    for mode, decay, limit in (("other", 0.5, 2), ("ema", 1.5, 2), ("accumulate", 0.5, 0)):
        with pytest.raises(ConfigError):
            merge_graphs(None, new, mode, decay, limit)


@pytest.mark.parametrize(("mode", "widest"), [("replace", 3), ("ema", 7), ("accumulate", 7)])
def test_a_hundred_updates_do_not_grow(mode, widest):
    drawn = torch.Generator().manual_seed(0)
    merged, sizes = None, []
    for _ in range(100):
        new = knn_graph(torch.randn(40, 4, generator=drawn), 3)
        merged = merge_graphs(merged, new, mode, 0.9, max_edges=7)
        assert np.diff(merged.indptr).max() <= widest
        sizes.append(merged.nnz)
    assert max(sizes[50:]) <= 40 * widest
    if mode != "replace":
        assert sizes[20] > sizes[0]  # it did take edges over before the limit held it

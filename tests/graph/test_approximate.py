"""The approximate neighbours beside the exact ones: contract, recall, repetition, absence."""

import sys

import numpy as np
import pytest
import torch

from recbole_slif.errors import ConfigError
from recbole_slif.graph.approximate import approximate_top_k_cosine
from recbole_slif.graph.item_item import knn_graph, top_k_cosine
from recbole_slif.model.self_loop import SelfLoop
from tests.model import test_self_loop as small

FAISS = pytest.importorskip("faiss", reason="needs faiss: pip install '.[large]'")


def clustered(n=4000, d=16, per_cluster=20, noise=0.3, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    centres = torch.randn(n // per_cluster, d, generator=drawn)
    chosen = torch.randint(len(centres), (n,), generator=drawn)
    return centres[chosen] + noise * torch.randn(n, d, generator=drawn)


def recall(found, wanted):
    hits = [np.isin(one, other).sum() for one, other in zip(found, wanted, strict=True)]
    return sum(hits) / wanted.numel()


@pytest.mark.parametrize("include_self", [False, True])
def test_nearly_all_neighbours_of_clustered_rows_are_found(include_self):
    x = clustered()
    wanted, _ = top_k_cosine(x, 10, include_self=include_self)
    recalls = [
        recall(approximate_top_k_cosine(x, 10, None, include_self, probes)[0], wanted)
        for probes in (1, 4, 16)
    ]
    assert recalls == sorted(recalls)
    assert recalls[0] < 1.0 and recalls[-1] > 0.999


def test_similarities_are_the_exact_ones_of_the_pairs_found_best_first():
    x = clustered(noise=1.0).double()
    ids, sims = approximate_top_k_cosine(x, 10, probes=1)
    unit = torch.nn.functional.normalize(x)
    exact = (unit.unsqueeze(1) * unit[ids]).sum(2)
    assert sims.dtype == torch.float64
    torch.testing.assert_close(sims, exact, rtol=1e-12, atol=1e-12)
    assert (sims[:, 1:] <= sims[:, :-1]).all()
    assert (ids != torch.arange(len(x)).unsqueeze(1)).all()
    assert all(len(set(row)) == 10 for row in ids.tolist())


def test_with_all_lists_probed_the_result_is_the_exact_one():
    x = clustered(n=1500)
    for include_self in (False, True):
        found = approximate_top_k_cosine(x, 7, None, include_self, probes=10_000)
        wanted = top_k_cosine(x, 7, None, include_self)
        assert torch.equal(found[0], wanted[0])
        torch.testing.assert_close(found[1], wanted[1], rtol=0, atol=1e-6)


def test_the_graph_follows_the_seed_and_nothing_else():
    x = clustered(noise=1.0)

    def graph(seed):
        def search(*words):
            return approximate_top_k_cosine(*words, probes=1, seed=seed)

        return knn_graph(x, 10, search=search).toarray()

    torch.manual_seed(1)
    first = graph(3)
    torch.manual_seed(2)
    np.random.seed(5)
    np.testing.assert_array_equal(graph(3), first)
    assert not np.array_equal(graph(4), first)


def test_rows_whose_lists_hold_too_few_are_compared_with_all():
    x = clustered(n=1200)  # 30 lists of 40 rows or so
    for include_self in (False, True):
        found = approximate_top_k_cosine(x, 300, None, include_self, probes=1)
        wanted = top_k_cosine(x, 300, None, include_self)
        torch.testing.assert_close(found[1], wanted[1], rtol=0, atol=1e-6)
        assert recall(found[0], wanted[0]) > 0.999  # but for pairs that rounding swaps


@pytest.mark.parametrize("n", [0, 1, 2, 5, 40])
def test_few_rows_leave_places_empty_as_in_the_exact_search(n):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(n))
    for include_self in (False, True):
        found = approximate_top_k_cosine(x, 8, None, include_self)
        wanted = top_k_cosine(x, 8, None, include_self)
        assert torch.equal(found[0], wanted[0])
        torch.testing.assert_close(found[1], wanted[1], rtol=0, atol=1e-6)


def test_absent_zero_and_equal_rows():
    x = clustered(n=400)
    x[7] = 0.0
    x[9, 0] = float("nan")
    x[100:130] = x[100]
    presence = torch.ones(400, dtype=torch.bool)
    presence[3] = False
    found = approximate_top_k_cosine(x, 5, presence)
    wanted = top_k_cosine(x, 5, presence)
    for row in (3, 7, 9):
        assert (found[0][row] == -1).all() and not found[1][row].any()
        assert not (found[0] == row).any()
    torch.testing.assert_close(found[1], wanted[1], rtol=0, atol=1e-6)


def test_numbers_out_of_range_are_refused():
    for k, probes in ((0, 1), (1, 0)):
        with pytest.raises(ConfigError, match="at least 1"):
            approximate_top_k_cosine(torch.ones(3, 2), k, probes=probes)


# ---- in the loop -------------------------------------------------------------------------------


def large_loop(**changes):
    n_items = 3001
    found = small.loop(graph=False, sge_n=5, sge_search="approximate", **changes)
    return SelfLoop(small.PAIRS, small.N_USERS, n_items, None, found.settings, torch.device("cpu"))


def test_the_loop_uses_it_and_a_restored_state_goes_on_the_same():
    tables = [clustered(n=3001, noise=1.0, seed=seed) for seed in range(3)]
    one, other = large_loop(sge_probes=1), large_loop(sge_probes=1)
    one.refresh(tables[0])
    exact = knn_graph(tables[0], 5)
    assert (one.latest != exact).nnz > 0
    assert not one.latest[[0]].nnz and not one.latest[:, [0]].nnz
    assert np.diff(one.latest.indptr)[1:].max() == 5
    other.load_state(one.state())
    for table in tables[1:]:
        one.refresh(table)
        other.refresh(table)
    for name, value in one.state().items():
        assert torch.equal(value, other.state()[name]), name
    everything = large_loop(sge_probes=10_000)
    everything.refresh(tables[0])
    np.testing.assert_allclose(everything.latest.toarray(), exact.toarray(), atol=1e-6)


def test_without_faiss_the_run_ends_before_it_begins(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"pip install 'recbole-slif\[large\]'"):
        large_loop()
    assert small.loop(sge_search="exact") is not None

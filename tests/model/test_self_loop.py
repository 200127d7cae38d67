"""The loop that feeds the correlation graph back: when, how, into which graphs."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from recbole_slif.errors import ConfigError
from recbole_slif.model.self_loop import GraphSettings, SelfLoop
from tests.model.stub import knowledge, settings
from tests.oracle import graphs as graph_oracle
from tests.oracle.objective import enhanced_feature_graph, enhanced_triples

N_USERS, N_ITEMS = 6, 9
PAIRS = (
    np.array([1, 1, 2, 2, 3, 3, 4, 4, 5, 5], dtype=np.int64),
    np.array([1, 2, 2, 3, 4, 5, 6, 7, 8, 1], dtype=np.int64),
)


def loop(graph=True, **changes):
    chosen = settings(**changes)
    values = {field.name: chosen[field.name] for field in fields(GraphSettings)}
    triples = knowledge(N_ITEMS, unlinked=(8,)) if graph else None
    return SelfLoop(PAIRS, N_USERS, N_ITEMS, triples, GraphSettings(**values), torch.device("cpu"))


def unified(seed=0):
    torch.manual_seed(seed)
    return torch.randn(N_ITEMS, 4)


def dense(operator):
    return operator.to_scipy().toarray()


def triples_of(edges):
    """(head, tail) with multiplicity; the relation of an edge is its pair's."""
    relation_of_pair = np.repeat(np.arange(edges.n_relations), edges.pairs_per_relation)
    relations = relation_of_pair[edges.pair_of_edge.numpy()]
    return sorted(zip(edges.heads.tolist(), relations.tolist(), edges.tails.tolist(), strict=True))


# ---- when ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "interval", "epochs"),
    [(1, 1, [1, 2, 3, 4, 5, 6, 7]), (0, 1, list(range(8))), (1, 3, [1, 4, 7]), (2, 5, [2, 7])],
)
def test_the_graph_is_rebuilt_from_the_start_at_the_interval(start, interval, epochs):
    schedule = loop(sge_start=start, sge_interval=interval)
    assert [epoch for epoch in range(8) if schedule.due(epoch)] == epochs


def test_no_correlation_before_the_first_refresh():
    found = loop().training_graphs(0)
    assert found.correlation is None
    assert found.bipartite.shape == (N_USERS + N_ITEMS, N_USERS + N_ITEMS)
    assert not dense(found.bipartite)[N_USERS:, N_USERS:].any()


def test_an_interval_below_one_is_refused():
    with pytest.raises(ConfigError, match="sge_interval"):
        loop(sge_interval=0)


# ---- what ------------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_correlation_graph_equals_the_loops_and_has_neither_pad_nor_self(symmetric):
    found = loop(sge_symmetric=symmetric)
    items = unified()
    found.refresh(items)
    graph = found.latest.toarray()
    expected = graph_oracle.knn(items.double().numpy(), 2, symmetric=symmetric)
    np.testing.assert_allclose(graph, expected, atol=1e-6)
    assert graph.any()
    assert not graph[0].any()
    assert not graph[:, 0].any()
    assert not graph.diagonal().any()


@pytest.mark.parametrize("merge", ["replace", "ema", "accumulate"])
@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_the_bipartite_graph_takes_the_latest_one(weight, merge):
    found = loop(sge_weight=weight, prune_ui=0.0, sge_merge=merge)
    for seed in range(3):
        found.refresh(unified(seed))
    pairs = list(zip(*(part.tolist() for part in PAIRS), strict=True))
    inside = weight * found.latest.toarray().astype(np.float64)
    adjacency = graph_oracle.adjacency(pairs, N_USERS, N_ITEMS, inside)
    expected = graph_oracle.normalise(adjacency)
    np.testing.assert_allclose(dense(found.full_graphs().bipartite), expected, atol=1e-6)
    np.testing.assert_allclose(dense(found.training_graphs(3).bipartite), expected, atol=1e-6)


def test_a_normalisation_in_blocks_leaves_the_interactions_as_they_were():
    found = loop(sge_norm="block")
    before = dense(found.full_graphs().bipartite)
    found.refresh(unified())
    after = dense(found.full_graphs().bipartite)
    np.testing.assert_allclose(after[:N_USERS], before[:N_USERS])
    np.testing.assert_allclose(after[N_USERS:, N_USERS:], found.latest.toarray(), atol=1e-7)


def test_replace_forgets_the_last_graph():
    found, fresh = loop(), loop()
    found.refresh(unified(1))
    found.refresh(unified(2))
    fresh.refresh(unified(2))
    np.testing.assert_array_equal(found.merged.toarray(), fresh.latest.toarray())


def test_ema_weighs_the_base_and_every_graph_as_the_recursion_says():
    found = loop(sge_merge="ema", sge_decay=0.6)
    base = np.abs(np.random.default_rng(0).standard_normal((N_ITEMS, N_ITEMS)))
    recursion = base.copy()
    for seed in range(3):
        found.refresh(unified(seed))
        recursion = 0.6 * recursion + 0.4 * found.latest.toarray()
    graphs = found.full_graphs()
    assert graphs.base_share == pytest.approx(0.6**3)
    mixed = enhanced_feature_graph(graphs.base_share * base, dense(graphs.correlation))
    np.testing.assert_allclose(mixed, graph_oracle.row_normalise(recursion), atol=1e-6)


def test_ema_stays_finite_when_the_base_has_faded():
    found = loop(sge_merge="ema", sge_decay=0.1)
    for seed in range(400):
        found.refresh(unified(seed % 3))
    graphs = found.full_graphs()
    assert graphs.base_share < 1e-300
    assert np.isfinite(dense(graphs.correlation)).all()
    assert dense(graphs.correlation).max() <= 1.0


def test_accumulate_unites_the_edges_up_to_a_limit_newest_first():
    found = loop(sge_merge="accumulate", sge_max_edges=50)
    united = np.zeros((N_ITEMS, N_ITEMS))
    for seed in range(3):
        found.refresh(unified(seed))
        newest = found.latest.toarray()
        united = np.where(newest > 0, newest, united)
    np.testing.assert_allclose(found.merged.toarray(), united)
    assert found.merged.nnz > found.latest.nnz

    limited = loop(sge_merge="accumulate", sge_max_edges=3)
    for seed in range(3):
        limited.refresh(unified(seed))
    assert np.diff(limited.merged.indptr).max() == 3
    newest = limited.latest.toarray() > 0
    assert (limited.merged.toarray()[newest] == limited.latest.toarray()[newest]).all()


@pytest.mark.parametrize("merge", ["replace", "ema", "accumulate"])
def test_memory_does_not_grow_with_the_epochs(merge):
    found = loop(sge_merge=merge, sge_max_edges=4, sge_n=2)
    for seed in range(40):
        found.refresh(unified(seed))
    assert found.merged.nnz <= 4 * N_ITEMS
    assert np.isfinite(dense(found.full_graphs().correlation)).all()


def test_the_knowledge_graph_gets_inverses_and_a_relation_of_its_own_for_the_correlation():
    found = loop()
    graph = found.knowledge
    base = [
        tuple(int(value) for value in row)
        for row in zip(graph.heads, graph.relations, graph.tails, strict=True)
    ]
    edges = found.full_graphs().triples
    assert triples_of(edges) == sorted(enhanced_triples(base, graph.n_relations))
    found.refresh(unified())
    edges = found.full_graphs().triples
    correlation = found.latest.toarray()
    assert triples_of(edges) == sorted(enhanced_triples(base, graph.n_relations, correlation))
    assert edges.pairs_per_relation[found.n_relations - 1] > 0
    assert edges.log_prior is None


def test_the_prior_is_the_logarithm_of_the_correlation_and_zero_elsewhere():
    found = loop(sge_kg_prior=True)
    found.refresh(unified())
    edges = found.full_graphs().triples
    correlation = found.latest.toarray()
    relation_of_pair = np.repeat(np.arange(edges.n_relations), edges.pairs_per_relation)
    relations = relation_of_pair[edges.pair_of_edge.numpy()]
    for head, relation, tail, prior in zip(
        edges.heads.tolist(), relations, edges.tails.tolist(), edges.log_prior.tolist(), strict=True
    ):
        joined = relation == found.n_relations - 1
        expected = np.log(correlation[head, tail]) if joined else 0.0
        assert prior == pytest.approx(expected, abs=1e-6)


# ---- draws -----------------------------------------------------------------------------------


def test_training_prunes_each_graph_by_its_ratio_and_evaluation_does_not():
    found = loop(prune_ui=0.4, prune_kg=0.5)
    found.refresh(unified())
    graphs = found.training_graphs(0)
    pairs = (dense(graphs.bipartite)[:N_USERS, N_USERS:] > 0).sum()
    assert pairs == round(0.6 * len(PAIRS[0]))
    correlation = found.latest.nnz
    base = found.knowledge.n_triples
    assert graphs.triples.n_edges == 2 * round(0.5 * base) + correlation
    assert (dense(graphs.bipartite)[N_USERS:, N_USERS:] > 0).sum() == correlation
    full = found.full_graphs()
    assert (dense(full.bipartite)[:N_USERS, N_USERS:] > 0).sum() == len(PAIRS[0])
    assert full.triples.n_edges == 2 * base + correlation


def test_a_triple_leaves_together_with_its_inverse():
    found = loop(prune_kg=0.5)
    edges = triples_of(found.training_graphs(0).triples)
    shift = found.knowledge.n_relations - 1
    forward = {edge for edge in edges if edge[1] <= shift}
    assert {(t, r + shift, h) for h, r, t in forward} == set(edges) - forward


def drawn(seed, epoch, refresh="epoch"):
    graphs = loop(seed=seed, prune_refresh=refresh).training_graphs(epoch)
    return dense(graphs.bipartite).tobytes(), tuple(triples_of(graphs.triples))


def test_draws_depend_on_the_seed_and_the_epoch_alone():
    np.random.seed(3)
    first = drawn(1, 4)
    np.random.seed(99)
    torch.manual_seed(99)
    assert drawn(1, 4) == first
    for other in (drawn(1, 5), drawn(2, 4)):
        assert other[0] != first[0]
        assert other[1] != first[1]
    assert drawn(1, 4, "once") == drawn(1, 0, "once") == drawn(1, 0)


# ---- state -----------------------------------------------------------------------------------


@pytest.mark.parametrize("merge", ["replace", "ema", "accumulate"])
def test_a_restored_state_goes_on_as_if_nothing_had_happened(merge):
    found, other = loop(sge_merge=merge, sge_max_edges=3), loop(sge_merge=merge, sge_max_edges=3)
    for seed in range(3):
        found.refresh(unified(seed))
    other.refresh(unified(77))
    other.load_state(found.state())
    for seed in range(3, 6):
        found.refresh(unified(seed))
        other.refresh(unified(seed))
    for name, value in found.state().items():
        assert torch.equal(value, other.state()[name]), name
    assert (dense(found.full_graphs().correlation) == dense(other.full_graphs().correlation)).all()


@pytest.mark.parametrize("merge", ["replace", "ema", "accumulate"])
def test_a_state_holds_each_graph_once_with_short_indices(merge):
    found = loop(sge_merge=merge)
    for seed in range(2):
        found.refresh(unified(seed))
    state = found.state()
    names = {name for name in state if name.endswith("_data")}
    assert names == {"latest_data"} | ({"merged_data"} if merge != "replace" else set())
    for name, part in state.items():
        if not name.endswith(("_data", "share")):
            assert part.dtype == torch.int32, name


def test_a_state_of_both_graphs_with_long_indices_is_still_read():
    found, other = loop(), loop()
    found.refresh(unified())
    state = {
        f"{name}_{part}": torch.from_numpy(getattr(found.latest, part).astype(kind))
        for name in ("latest", "merged")
        for part, kind in (("indptr", np.int64), ("indices", np.int64), ("data", np.float32))
    }
    other.load_state({"base_share": torch.tensor(1.0), **state})
    for graph in (other.latest, other.merged):
        np.testing.assert_array_equal(graph.toarray(), found.latest.toarray())


def test_an_empty_state_forgets_the_graph():
    found = loop()
    empty = found.state()
    found.refresh(unified())
    found.load_state(empty)
    assert found.latest is None
    assert found.full_graphs().correlation is None


def test_without_a_knowledge_graph_there_are_no_triples():
    found = loop(graph=False)
    found.refresh(unified())
    assert found.n_relations == 0
    assert found.training_graphs(1).triples is None

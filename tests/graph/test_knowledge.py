"""The edge index must describe exactly the triples it was built from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_slif.errors import DataError
from recbole_slif.graph.knowledge import (
    KnowledgeEdges,
    KnowledgeGraph,
    group_by_key,
    triples_at,
    with_inverse,
)

N_ENTITIES, N_RELATIONS = 11, 6


def random_triples(seed=0, count=60):
    rng = np.random.default_rng(seed)
    heads = rng.integers(0, N_ENTITIES - 2, count)
    relations = rng.choice([1, 2, 4, 5], count)
    tails = rng.integers(1, N_ENTITIES, count)
    return heads, relations, tails


def build(triples, **kwargs):
    return KnowledgeEdges.build(*triples, N_ENTITIES, N_RELATIONS, **kwargs)


def test_inverses_follow_the_base_triples_under_shifted_relations():
    kg = KnowledgeGraph(
        heads=np.array([1, 2]),
        relations=np.array([1, 3]),
        tails=np.array([5, 6]),
        n_entities=7,
        n_relations=4,
        relation_tokens=["[PAD]", "a", "b", "c"],
        entity_tokens=[str(i) for i in range(7)],
        linked=np.array([False, True, True]),
    )
    heads, relations, tails, total = with_inverse(kg)
    assert kg.n_triples == 2
    assert heads.tolist() == [1, 2, 5, 6]
    assert relations.tolist() == [1, 3, 4, 6]
    assert tails.tolist() == [5, 6, 1, 2]
    assert total == 7
    drawn = np.array([3, 0, 2, 2])
    for part, whole in zip(triples_at(kg, drawn), (heads, relations, tails), strict=True):
        assert part.tolist() == whole[drawn].tolist()


def test_grouping_is_stable_and_marks_empty_keys():
    keys = np.array([3, 1, 3, 0, 1], dtype=np.int32)
    order, offsets = group_by_key(keys, 5)
    assert order.tolist() == [3, 1, 4, 0, 2]
    assert offsets.tolist() == [0, 1, 3, 3, 5, 5]


@pytest.mark.parametrize("seed", range(5))
def test_edges_are_sorted_by_head_and_relation_and_know_where_they_came_from(seed):
    heads, relations, tails = random_triples(seed)
    edges = build((heads, relations, tails))
    places = edges.input_positions.long().numpy()
    assert sorted(places.tolist()) == list(range(len(heads)))
    assert edges.heads.tolist() == heads[places].tolist()
    assert edges.tails.tolist() == tails[places].tolist()
    keys = list(zip(heads[places].tolist(), relations[places].tolist(), strict=True))
    assert keys == sorted(keys)
    for head in range(N_ENTITIES):
        run = edges.heads[edges.head_offsets[head] : edges.head_offsets[head + 1]]
        assert run.tolist() == [head] * int((heads == head).sum())


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_the_distinct_head_relation_pairs_grouped_by_relation(seed):
    heads, relations, tails = random_triples(seed)
    edges = build((heads, relations, tails))
    expected = sorted(set(zip(relations.tolist(), heads.tolist(), strict=True)))
    counts = [sum(r == relation for r, _ in expected) for relation in range(N_RELATIONS)]
    assert edges.n_pairs == len(expected)
    assert edges.pair_heads.tolist() == [head for _, head in expected]
    assert list(edges.pairs_per_relation) == counts
    sorted_relations = relations[edges.input_positions.long().numpy()]
    for edge, pair in enumerate(edges.pair_of_edge.tolist()):
        assert expected[pair] == (sorted_relations[edge], edges.heads[edge].item())


def test_neighbouring_relations_of_one_head_stay_two_pairs():
    edges = build((np.array([3, 3, 3]), np.array([1, 2, 2]), np.array([4, 5, 6])))
    assert edges.n_pairs == 2
    assert edges.pair_offsets.tolist() == [0, 1, 3]
    assert edges.pairs_per_relation == (0, 1, 1, 0, 0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_the_other_orders_list_the_same_edges(seed):
    edges = build(random_triples(seed))
    every = list(range(edges.n_edges))
    assert sorted(edges.pair_order.tolist()) == every
    assert edges.pair_tails.tolist() == edges.tails[edges.pair_order.long()].tolist()
    for pair in range(edges.n_pairs):
        run = edges.pair_order[edges.pair_offsets[pair] : edges.pair_offsets[pair + 1]].long()
        assert edges.pair_of_edge[run].tolist() == [pair] * len(run)
        assert len(run) > 0
    for tail in range(N_ENTITIES):
        run = slice(edges.tail_offsets[tail], edges.tail_offsets[tail + 1])
        members = edges.tail_order[run].long()
        assert sorted(members.tolist()) == [e for e in every if edges.tails[e] == tail]
        assert edges.tail_heads[run].tolist() == edges.heads[members].tolist()
        assert edges.tail_pairs[run].tolist() == edges.pair_of_edge[members].tolist()
    for head in range(N_ENTITIES):
        run = slice(edges.head_pair_offsets[head], edges.head_pair_offsets[head + 1])
        members = [p for p in range(edges.n_pairs) if edges.pair_heads[p] == head]
        assert sorted(edges.head_pairs[run].tolist()) == members


def test_log_prior_travels_with_its_edge():
    triples = random_triples()
    prior = np.linspace(-1.0, 0.0, len(triples[0]))
    edges = build(triples, log_prior=prior)
    expected = prior[edges.input_positions.long().numpy()].astype(np.float32)
    assert edges.log_prior.numpy().tolist() == expected.tolist()
    assert build(triples).log_prior is None


def test_operator_weighs_tails_by_attention_and_adds_parallel_edges():
    edges = build(random_triples())
    attention = torch.rand(edges.n_edges, dtype=torch.float64, requires_grad=True)
    operator = edges.operator(attention)
    dense = np.zeros((N_ENTITIES, N_ENTITIES))
    for head, tail, weight in zip(
        edges.heads.tolist(), edges.tails.tolist(), attention.tolist(), strict=True
    ):
        dense[head, tail] += weight
    assert operator.dtype == torch.float64
    np.testing.assert_allclose(operator.to_scipy().toarray(), dense, atol=1e-14)


def test_edges_move_as_a_whole():
    edges = build(random_triples(), log_prior=np.zeros(60))
    moved = edges.to("meta")
    assert moved.device.type == "meta"
    assert moved.log_prior.device.type == "meta"
    assert moved.pairs_per_relation == edges.pairs_per_relation


def test_no_triples_at_all_are_a_graph_too():
    none = np.zeros(0, dtype=np.int64)
    edges = build((none, none, none))
    assert (edges.n_edges, edges.n_pairs) == (0, 0)
    assert edges.head_offsets.tolist() == [0] * (N_ENTITIES + 1)
    assert edges.operator(torch.zeros(0)).nnz == 0


@pytest.mark.parametrize(
    ("column", "value", "name"), [(0, 99, "head"), (1, 6, "relation"), (2, -1, "tail")]
)
def test_ids_out_of_range_are_refused_by_name(column, value, name):
    triples = random_triples()
    triples[column][7] = value
    with pytest.raises(DataError, match=f"{name} id {value} "):
        build(triples)


def test_columns_of_different_length_are_refused():
    heads, relations, tails = random_triples()
    with pytest.raises(DataError, match="59 tails"):
        build((heads, relations, tails[:-1]))
    with pytest.raises(DataError, match="3 log priors"):
        build((heads, relations, tails), log_prior=np.zeros(3))

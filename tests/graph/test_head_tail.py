"""One edge a (head, tail), its choice and its parts."""

import numpy as np
import pytest

from recbole_slif.graph.head_tail import HeadTailGraph
from tests.oracle.diffkg import one_relation

N_ENTITIES = 6
RANKS = [0, 2, 1, 3]


def make(seed=0, count=60):
    rng = np.random.default_rng(seed)
    columns = [rng.integers(1, high, count) for high in (N_ENTITIES, len(RANKS), N_ENTITIES)]
    return columns, HeadTailGraph.from_triples(*columns, N_ENTITIES, RANKS)


def triples_of(graph):
    columns = (graph.heads, graph.relations, graph.tails)
    return list(zip(*(part.tolist() for part in columns), strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_a_pair_keeps_the_relation_of_lowest_rank(seed):
    columns, graph = make(seed)
    expected = one_relation(list(zip(*(c.tolist() for c in columns), strict=True)), RANKS)
    assert sorted(triples_of(graph)) == expected
    keys = graph.heads * N_ENTITIES + graph.tails
    assert (np.diff(keys) > 0).all()


def test_the_order_of_the_triples_does_not_matter():
    columns, graph = make()
    order = np.random.default_rng(1).permutation(len(columns[0]))
    again = HeadTailGraph.from_triples(*(c[order] for c in columns), N_ENTITIES, RANKS)
    assert triples_of(graph) == triples_of(again)


def test_finding_pairs():
    _, graph = make(count=8)
    heads, tails = np.meshgrid(np.arange(N_ENTITIES), np.arange(N_ENTITIES))
    assert graph.find(heads.ravel(), tails.ravel()).tolist() == list(range(graph.n_edges))
    places = [3, 1, 3]
    assert graph.find(graph.heads[places], graph.tails[places]).tolist() == [1, 3]
    assert graph.find([0, 5], [0, 0]).tolist() == []
    assert graph.find([], []).tolist() == []


def test_a_part_is_laid_out_for_attention():
    _, graph = make()
    edges = graph.part(np.array([0, 4, 2]))
    columns = (edges.heads, edges.relations, edges.tails)
    found = sorted(zip(*(part.tolist() for part in columns), strict=True))
    assert found == sorted(triples_of(graph)[place] for place in (0, 4, 2))
    assert (edges.n_entities, edges.n_relations) == (N_ENTITIES, len(RANKS))
    assert graph.part(np.array([], dtype=np.int64)).n_edges == 0


def test_offsets_bound_each_heads_edges():
    _, graph = make(count=5)
    offsets = graph.offsets()
    for head in range(N_ENTITIES):
        assert (graph.heads[offsets[head] : offsets[head + 1]] == head).all()
    assert offsets[-1] == graph.n_edges

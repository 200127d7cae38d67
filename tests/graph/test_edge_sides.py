"""Edges grouped at either end: nothing lost, everything indexed as it says."""

import numpy as np
import pytest
import torch

from recbole_slif.graph import edge_sides
from recbole_slif.graph.edge_sides import RelationDraws, SidedEdges

N_ENTITIES, N_RELATIONS = 9, 5


def make_triples(seed=0, count=30):
    """Relation 1 has few heads, relation 2 few tails, 3 none, 4 a single edge; one edge twice."""
    rng = np.random.default_rng(seed)
    relations = rng.choice([0, 1, 2], count)
    heads, tails = rng.integers(0, N_ENTITIES - 1, (2, count))
    heads[relations == 1] %= 2
    tails[relations == 2] %= 2
    relations[2] = 4
    heads[1], relations[1], tails[1] = heads[0], relations[0], tails[0]
    return heads, relations, tails


def built(seed=0):
    return SidedEdges.build(*make_triples(seed), N_ENTITIES, N_RELATIONS)


def listed(edges):
    ends = (edges.edge_heads, edges.relations, edges.tails)
    return list(zip(*(column.tolist() for column in ends), strict=True))


def check_index(edges):
    """Every index tensor tells the same edges."""
    triples, place = listed(edges), 0
    for side in edges.sides:
        entries = side.entries
        by_row = entries.row_offsets.diff().tolist()
        assert len(by_row) == len(side.nodes)
        pairs = np.repeat(np.arange(len(by_row)), by_row)
        for entry, pair in enumerate(pairs):
            node, other = side.nodes[pair].item(), entries.columns[entry].item()
            head, tail = (node, other) if side.at_head else (other, node)
            assert triples[place + entry] == (head, side.relations[pair].item(), tail)
        by_column = entries.by_column.tolist()
        assert sorted(by_column) == list(range(side.n_edges))
        assert entries.rows.tolist() == pairs[by_column].tolist()
        columns = np.repeat(np.arange(N_ENTITIES), entries.column_offsets.diff().tolist())
        assert entries.columns[entries.by_column.long()].tolist() == columns.tolist()
        nodes = np.repeat(np.arange(N_ENTITIES), side.node_pairs.row_offsets.diff().tolist())
        assert side.nodes[side.node_pairs.columns.long()].tolist() == nodes.tolist()
        assert side.node_pairs.rows.tolist() == side.nodes.tolist()
        place += side.n_edges
    assert place == edges.n_edges == len(edges.heads)
    assert edges.heads.tolist() == sorted(edges.edge_heads.tolist())
    assert edges.heads.tolist() == edges.edge_heads[edges.by_head.long()].tolist()
    assert edges.by_head[edges.head_rank.long()].tolist() == list(range(edges.n_edges))
    counts = np.bincount(edges.edge_heads, minlength=N_ENTITIES)
    assert edges.head_offsets.diff().tolist() == counts.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_every_edge_is_indexed_once(seed):
    edges = built(seed)
    given = zip(*(column.tolist() for column in make_triples(seed)), strict=True)
    assert sorted(listed(edges)) == sorted(given)
    assert all(part.dtype == torch.int32 for part in (edges.heads, edges.by_head, edges.tails))
    check_index(edges)


def test_pairs_stand_where_a_relation_has_fewer_nodes():
    edges = built()
    heads, tails = edges.sides
    assert 1 in heads.relations and 2 not in heads.relations
    assert 2 in tails.relations and 1 not in tails.relations
    assert (heads.relations.diff() >= 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_fewer_edges_are_indexed_alike(seed):
    edges = built(seed)
    kept = torch.rand(edges.n_edges) < 0.5
    fewer = edges.only(kept)
    assert listed(fewer) == [edge for edge, flag in zip(listed(edges), kept, strict=True) if flag]
    check_index(fewer)
    check_index(fewer.only(torch.zeros(fewer.n_edges, dtype=torch.bool)))


def test_no_edges_at_all():
    none = np.zeros(0, dtype=np.int64)
    check_index(SidedEdges.build(none, none, none, N_ENTITIES, N_RELATIONS))


def drawn(relations, rate):
    return RelationDraws(relations, rate).draw().numpy()


def test_each_relation_keeps_its_share():
    relations = np.repeat([0, 2, 3, 5], [1, 10, 101, 2])
    kept = drawn(relations, 0.5)
    assert np.bincount(relations[kept]).tolist() == [1, 0, 5, 50, 0, 1]
    assert drawn(relations, 0.0).all()
    assert np.bincount(relations[drawn(relations, 0.9)]).tolist() == [1, 0, 1, 10, 0, 1]
    assert not drawn(np.zeros(0, dtype=np.int64), 0.5).size


def test_edges_of_a_relation_are_equally_likely():
    relations = np.repeat([0, 1], [8, 4])
    torch.manual_seed(0)
    rate = np.mean([drawn(relations, 0.5) for _ in range(4000)], axis=0)
    np.testing.assert_allclose(rate, 0.5, atol=0.03)
    torch.manual_seed(1)
    first = drawn(relations, 0.5)
    torch.manual_seed(1)
    assert (first == drawn(relations, 0.5)).all()


@pytest.mark.parametrize("rate", [0.0, 0.4, 0.95])
@pytest.mark.parametrize("counts", [[], [1], [7, 0, 1, 200, 3, 50]])
def test_one_sort_keeps_what_a_partition_of_each_relation_does(rate, counts, monkeypatch):
    relations = np.repeat(np.arange(len(counts)), np.array(counts, dtype=np.int64))
    relations = np.append(relations[len(relations) // 2 :], relations[: len(relations) // 3] + 90)
    found = []
    for on_cpu in (True, False):
        monkeypatch.setattr(edge_sides, "rebuilt_on", lambda device, answer=on_cpu: answer)
        draws = RelationDraws(relations, rate)
        torch.manual_seed(0)
        found.append(torch.stack([draws.draw() for _ in range(5)]))
    assert torch.equal(*found)
    assert found[0].shape == (5, len(relations)) and found[0].dtype == torch.bool

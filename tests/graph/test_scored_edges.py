"""Each edge must stand once in one of both groups, at the pairs and keys that are its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_slif.graph.knowledge import KnowledgeEdges

N_ENTITIES, N_RELATIONS = 12, 7


def random_edges(seed, count=80):
    """Relation 1 has few tails, 2 few heads, 3 and 5 are mixed, 0, 4 and 6 have no edge."""
    rng = np.random.default_rng(seed)
    relations = rng.choice([1, 2, 3, 5], count)
    heads, tails = rng.integers(0, N_ENTITIES, (2, count))
    tails[relations == 1] %= 2
    heads[relations == 2] %= 2
    heads[7], relations[7], tails[7] = heads[3], relations[3], tails[3]
    return KnowledgeEdges.build(heads, relations, tails, N_ENTITIES, N_RELATIONS)


def triples_of(group):
    """The group's edges as (relation, head, tail), in its order, read from its indices alone."""
    relations = np.repeat(group.relations, group.heads.counts)
    rows = np.repeat(np.arange(group.heads.n_pairs), group.pattern.row_offsets.diff())
    tails = group.pattern.columns.numpy()
    if group.keys is not None:
        key_relations = np.repeat(group.relations, group.keys.counts)
        assert (key_relations[tails] == relations[rows]).all()
        tails = group.keys.nodes.numpy()[tails]
    heads = group.heads.nodes.numpy()[rows]
    return list(zip(relations[rows].tolist(), heads.tolist(), tails.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_both_groups_together_list_every_edge_where_rank_says(seed):
    edges = random_edges(seed)
    scored = edges.scored
    found = triples_of(scored.folded) + triples_of(scored.keyed)
    expected = list(
        zip(edges.relations.tolist(), edges.heads.tolist(), edges.tails.tolist(), strict=True)
    )
    assert [found[place] for place in scored.rank.tolist()] == expected
    assert [expected[place] for place in scored.order.tolist()] == found


@pytest.mark.parametrize("seed", range(5))
def test_relations_with_fewer_tails_than_heads_have_keys(seed):
    edges = random_edges(seed)
    scored = edges.scored
    relations, heads, tails = (x.numpy() for x in (edges.relations, edges.heads, edges.tails))
    fewer = [
        relation
        for relation in np.unique(relations).tolist()
        if len(set(tails[relations == relation])) < len(set(heads[relations == relation]))
    ]
    assert 1 in fewer
    assert list(scored.keyed.relations) == fewer
    assert 2 in scored.folded.relations
    assert scored.folded.keys is None


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_distinct_and_found_by_their_node(seed):
    scored = random_edges(seed).scored
    for group, pairs in (
        (scored.folded, scored.folded.heads),
        (scored.keyed, scored.keyed.heads),
        (scored.keyed, scored.keyed.keys),
    ):
        named = list(
            zip(np.repeat(group.relations, pairs.counts), pairs.nodes.tolist(), strict=True)
        )
        assert named == sorted(set(named))
        for node in range(N_ENTITIES):
            run = pairs.by_node[pairs.node_offsets[node] : pairs.node_offsets[node + 1]]
            assert sorted(run.tolist()) == [i for i, (_, n) in enumerate(named) if n == node]


def test_cutting_gives_each_relation_its_own_edges():
    scored = random_edges(1).scored
    for group in (scored.folded, scored.keyed):
        weights = np.arange(sum(group.edges_per_relation), dtype=np.float32)
        seen = []
        for counts, (offsets, columns, values) in zip(
            group.heads.counts, group.cut(torch.from_numpy(weights)), strict=True
        ):
            assert len(offsets) == counts + 1
            assert offsets[0] == 0
            assert offsets[-1] == len(columns) == len(values)
            seen += values.tolist()
        assert seen == weights.tolist()

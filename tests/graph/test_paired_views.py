"""Two thinned copies of both graphs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_slif.graph.bipartite import bipartite_matrix
from recbole_slif.graph.paired_views import PairedViews

N_USERS, N_ITEMS = 41, 31


def make_views(seed=0):
    rng = np.random.default_rng(seed)
    triples = rng.integers(1, N_ITEMS, 90), rng.integers(1, 4, 90), rng.integers(1, 50, 90)
    places = rng.permutation((N_USERS - 1) * (N_ITEMS - 1))[:400]
    pairs = places // (N_ITEMS - 1) + 1, places % (N_ITEMS - 1) + 1
    return PairedViews(triples, pairs, (50, 4), (N_USERS, N_ITEMS), dtype=torch.float64)


def triples_of(edges):
    return sorted(
        zip(edges.heads.tolist(), edges.relations.tolist(), edges.tails.tolist(), strict=True)
    )


def test_views_are_whole_before_the_first_draw():
    views = make_views()
    expected = bipartite_matrix(*views.pairs, N_USERS, N_ITEMS).toarray()
    for edges, adjacency in views.graphs():
        assert triples_of(edges) == sorted(
            zip(*(part.tolist() for part in views.triples), strict=True)
        )
        np.testing.assert_allclose(adjacency.to_scipy().toarray(), expected)


def test_graphs_hold_what_the_masks_keep():
    views = make_views()
    torch.manual_seed(1)
    drawn = views.draw_knowledge(0.5)
    views.draw_interactions(torch.linspace(0.2, 0.9, N_ITEMS), per_item=False)
    state = views.state()
    for view, (edges, adjacency) in enumerate(views.graphs()):
        kept = state["knowledge_kept"][view].numpy()
        assert 20 < kept.sum() < 70
        wanted = sorted(zip(*(part[kept].tolist() for part in views.triples), strict=True))
        assert triples_of(edges) == wanted == triples_of(drawn[view])
        kept = state["interactions_kept"][view].numpy()
        pairs = (part[kept] for part in views.pairs)
        expected = bipartite_matrix(*pairs, N_USERS, N_ITEMS).toarray()
        np.testing.assert_allclose(adjacency.to_scipy().toarray(), expected)
    assert not torch.equal(*state["knowledge_kept"])
    assert not torch.equal(*state["interactions_kept"])


@pytest.mark.parametrize("per_item", [True, False])
def test_interactions_stay_with_their_items_chance(per_item):
    views, chances = make_views(), torch.linspace(0.0, 1.0, N_ITEMS)
    items, shares = torch.from_numpy(views.pairs[1]), torch.zeros(N_ITEMS)
    torch.manual_seed(0)
    whole = True
    for _ in range(400):
        views.draw_interactions(chances, per_item)
        for kept in views.state()["interactions_kept"]:
            counts = torch.bincount(items[kept], minlength=N_ITEMS)
            degrees = torch.bincount(items, minlength=N_ITEMS)
            whole = whole and bool(((counts == 0) | (counts == degrees)).all())
            shares += counts / degrees.clamp_min(1) / 800
    assert (shares - chances)[1:].abs().max() < 0.07
    assert whole == per_item


@pytest.mark.parametrize("per_item", [True, False])
def test_the_views_are_drawn_apart(per_item):
    views = make_views()
    torch.manual_seed(0)
    views.draw_interactions(torch.full((N_ITEMS,), 0.5), per_item)
    first, second = views.state()["interactions_kept"]
    assert 0.2 < (first != second).float().mean() < 0.8


def test_a_state_brings_the_same_views_back():
    views, other = make_views(), make_views()
    views.draw_knowledge(0.5)
    views.draw_interactions(torch.full((N_ITEMS,), 0.5), per_item=True)
    other.graphs()
    other.load(views.state())
    for (edges, adjacency), (other_edges, other_adjacency) in zip(
        views.graphs(), other.graphs(), strict=True
    ):
        assert triples_of(edges) == triples_of(other_edges)
        assert (adjacency.to_scipy() != other_adjacency.to_scipy()).nnz == 0


def test_new_triples_leave_the_interactions_whole_until_they_are_drawn():
    views = make_views()
    views.draw_interactions(torch.full((N_ITEMS,), 0.5), per_item=True)
    views.draw_knowledge(0.5)
    assert views.state()["interactions_kept"].all()

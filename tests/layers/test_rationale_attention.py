"""Rationale attention against loops, on whole, thinned and masked graphs."""

import numpy as np
import pytest
import torch

from recbole_slif.graph.edge_sides import SidedEdges
from recbole_slif.layers import edge_kernels
from recbole_slif.layers.rationale_attention import (
    RationaleAttention,
    attention,
    item_scores,
    rationale_scores,
)
from tests.graph.test_edge_sides import N_ENTITIES, N_RELATIONS, built, listed, make_triples
from tests.oracle import kgrec as oracle

DIM, N_ITEMS = 6, 5


@pytest.fixture(params=["cpu kernels", "other kernels"], autouse=True)
def kernels(request, monkeypatch):
    """Both kernel families must give the same."""
    if request.param == "other kernels":
        monkeypatch.setattr(edge_kernels, "on_cpu", lambda x: False)


def inputs(seed=0, n_heads=2):
    torch.manual_seed(seed)
    layer = RationaleAttention(DIM, n_heads).double()
    x, rows = (torch.randn(n, DIM, dtype=torch.float64) for n in (N_ENTITIES, N_RELATIONS))
    arrays = (x.numpy(), rows.numpy(), layer.projection.detach().numpy())
    return layer, x.requires_grad_(), rows.requires_grad_(), arrays


def close(found, expected):
    found = torch.stack(found) if isinstance(found, list) else found
    expected = torch.as_tensor(np.array(expected), dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("seed", "n_heads"), [(0, 2), (1, 3), (2, 1)])
def test_scores_and_messages_agree_with_the_loops(seed, n_heads):
    edges, (layer, x, rows, arrays) = built(seed), inputs(seed, n_heads)
    expected = oracle.edge_scores(*arrays, listed(edges), n_heads)
    logits = layer.logits(x, rows, edges)
    close(logits, expected)
    for ours, theirs in zip(logits, expected, strict=True):
        close(attention(ours, edges), oracle.softmax_by_head(theirs, listed(edges)))
    gathered = layer(x, rows, edges)
    close(gathered, oracle.gather(*arrays, listed(edges), n_heads))
    assert not gathered[N_ENTITIES - 1].any()
    close(layer(x, rows, edges, logits=logits), gathered.detach().numpy())


def test_thinned_edges_are_the_smaller_graph():
    edges, (layer, x, rows, arrays) = built(), inputs()
    fewer = edges.only(torch.rand(edges.n_edges) < 0.5)
    close(layer(x, rows, fewer), oracle.gather(*arrays, listed(fewer), 2))
    nothing = edges.only(torch.zeros(edges.n_edges, dtype=torch.bool))
    assert not layer(x, rows, nothing).any()


@pytest.mark.parametrize("count", [0, 1, 12])
def test_masked_edges_are_as_if_they_did_not_exist(count):
    edges, (layer, x, rows, arrays) = built(), inputs()
    lone = edges.by_head[: edges.head_offsets[1]].long()  # all edges of entity 0
    masked = torch.cat([lone, torch.randperm(edges.n_edges)[:count]]).unique()
    hidden = set(masked.tolist())
    left = [edge for place, edge in enumerate(listed(edges)) if place not in hidden]
    found = layer(x, rows, edges, masked)
    close(found, oracle.gather(*arrays, left, 2))
    assert len(lone) and not found[0].any()
    parameters = (x, rows, layer.projection)
    ours = torch.autograd.grad(found.square().sum(), parameters)
    kept = torch.ones(edges.n_edges, dtype=torch.bool)
    kept[masked] = False
    smaller = layer(x, rows, edges.only(kept)).square().sum()
    for first, second in zip(ours, torch.autograd.grad(smaller, parameters), strict=True):
        close(first, second)


def test_gradients():
    edges, (layer, x, rows, _) = built(), inputs()
    masked = torch.tensor([0, 3, 4])

    def run(entities, relations, projection):
        call = torch.func.functional_call
        values = (entities, relations, edges, masked)
        return call(layer, {"projection": projection}, values)

    matrix = layer.projection.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(run, (x, rows, matrix))


def test_order_of_the_triples_does_not_matter():
    (layer, x, rows, _), triples = inputs(), make_triples()
    order = np.random.default_rng(1).permutation(len(triples[0]))
    shuffled = SidedEdges.build(*(column[order] for column in triples), N_ENTITIES, N_RELATIONS)
    torch.testing.assert_close(layer(x, rows, built()), layer(x, rows, shuffled))


@pytest.mark.parametrize("seed", range(3))
def test_rationale_and_item_scores_agree_with_the_loops(seed):
    edges, (layer, x, rows, arrays) = built(seed), inputs(seed)
    # entity 4 is a tail never, entity 8 in no edge at all
    edges = edges.only(edges.tails != 4)
    logits = layer.logits(x, rows, edges)
    expected = oracle.rationale_scores(oracle.edge_scores(*arrays, listed(edges), 2), listed(edges))
    scores = rationale_scores(logits, edges)
    close(scores, expected)
    assert not scores.requires_grad
    for n_items in (N_ITEMS, N_ENTITIES):
        close(
            item_scores(scores, edges, n_items),
            oracle.item_scores(expected, listed(edges), n_items),
        )
    assert item_scores(scores, edges, N_ENTITIES)[8] == 1.0

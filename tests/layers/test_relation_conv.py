"""Relational attention against loops, finite differences and its own other paths."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from recbole_slif.graph.knowledge import KnowledgeEdges
from recbole_slif.layers import edge_kernels
from recbole_slif.layers.edge_attention import (
    edge_logits,
    gather_from_tails,
    softmax_over_heads,
)
from recbole_slif.layers.relation_conv import RelationalAttention
from tests.oracle.knowledge import attention_weights, edge_logit, knowledge_rows, propagate

N_ENTITIES, N_RELATIONS, DIM = 9, 5, 4
LONELY = 8


@pytest.fixture(params=["cpu kernels", "other kernels"])
def kernels(request, monkeypatch):
    """Both kernel families must give the same."""
    if request.param == "other kernels":
        monkeypatch.setattr(edge_kernels, "on_cpu", lambda x: False)
    return request.param


def make_triples(seed=0, count=30):
    rng = np.random.default_rng(seed)
    heads = rng.integers(0, LONELY, count)
    relations = rng.choice([1, 2, 4], count)
    tails = rng.integers(0, N_ENTITIES, count)
    heads[1], relations[1], tails[1] = heads[0], relations[0], tails[0]
    return heads, relations, tails


def make_skewed(seed=0):
    """Relation 1 has one tail, relation 2 one head, relation 4 as many of both."""
    rng = np.random.default_rng(seed)
    heads, tails = rng.integers(0, LONELY, 30), rng.integers(0, N_ENTITIES, 30)
    relations = np.repeat([1, 2, 4], 10)
    tails[:10], heads[10:20] = 3, 5
    heads[20:], tails[20:] = np.arange(10) % LONELY, np.arange(10) % LONELY
    order = rng.permutation(30)
    return heads[order], relations[order], tails[order]


def make_edges(triples, **kwargs):
    return KnowledgeEdges.build(*triples, N_ENTITIES, N_RELATIONS, **kwargs)


def make_layer(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    layer = RelationalAttention(N_RELATIONS, DIM).to(dtype)
    x = torch.randn(N_ENTITIES, DIM, dtype=dtype)
    return layer, x


def oracle_weights(layer, x, triples, prior=None):
    heads, relations, tails = triples
    matrices, rows = layer.relation_projection.detach(), layer.relation_embedding.detach()
    logits = [
        edge_logit(matrices[r], x[h], rows[r], x[t]) + (0.0 if prior is None else float(prior[k]))
        for k, (h, r, t) in enumerate(zip(heads, relations, tails, strict=True))
    ]
    return logits, attention_weights(heads, logits)


def in_edge_order(values, edges):
    return torch.tensor(values, dtype=torch.float64)[edges.input_positions.long()]


@pytest.mark.parametrize("make", [make_triples, make_skewed])
@pytest.mark.parametrize("seed", range(3))
def test_attention_agrees_with_the_loops(kernels, seed, make):
    triples = make(seed)
    edges, (layer, x) = make_edges(triples), make_layer(seed)
    logits, weights = oracle_weights(layer, x, triples)
    ours = edge_logits(x, layer.relation_projection, layer.relation_embedding, edges)
    torch.testing.assert_close(ours, in_edge_order(logits, edges), atol=1e-10, rtol=0)
    torch.testing.assert_close(
        layer.attention(x, edges), in_edge_order(weights, edges), atol=1e-10, rtol=0
    )


def test_log_prior_enters_the_logit(kernels):
    triples = make_triples()
    prior = np.where(np.arange(30) % 3 == 0, np.float32(math.log(0.25)), 0.0)
    edges, (layer, x) = make_edges(triples, log_prior=prior), make_layer()
    expected = oracle_weights(layer, x, triples, prior.astype(np.float32))[1]
    ours = layer.attention(x, edges)
    torch.testing.assert_close(ours, in_edge_order(expected, edges), atol=1e-10, rtol=0)
    assert not torch.allclose(ours, layer.attention(x, make_edges(triples)))


def test_one_layer_agrees_with_the_loops(kernels):
    triples = make_triples()
    edges, (_, x) = make_edges(triples), make_layer()
    weights = torch.rand(30, dtype=torch.float64)
    heads, _, tails = triples
    expected = torch.tensor(propagate(heads, tails, weights, x), dtype=torch.float64)
    ours = gather_from_tails(weights[edges.input_positions.long()], x, edges)
    torch.testing.assert_close(ours, expected, atol=1e-10, rtol=0)
    assert ours[LONELY].abs().sum() == 0


@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_readout_agrees_with_the_loops(kernels, n_layers):
    triples = make_triples()
    edges, (layer, x) = make_edges(triples), make_layer()
    heads, _, tails = triples
    expected = knowledge_rows(heads, tails, oracle_weights(layer, x, triples)[1], x, n_layers)
    ours = layer(x, edges, n_layers)
    torch.testing.assert_close(
        ours, torch.tensor(expected, dtype=torch.float64), atol=1e-10, rtol=0
    )
    torch.testing.assert_close(ours[LONELY], x[LONELY] / (n_layers + 1))


def test_readout_kind_is_passed_on():
    edges, (layer, x) = make_edges(make_triples()), make_layer()
    first = gather_from_tails(layer.attention(x, edges), x, edges)
    torch.testing.assert_close(layer(x, edges, 1, readout="sum"), x + first)


@pytest.mark.parametrize("make", [make_triples, make_skewed])
def test_gradients_of_the_whole_layer(kernels, make):
    edges, (layer, x) = make_edges(make()), make_layer()
    x.requires_grad_()
    names = dict(layer.named_parameters())
    inputs = (x, *(p.detach().clone().requires_grad_() for p in names.values()))

    def run(rows, *parameters):
        values = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, values, (rows, edges, 2))

    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("make", [make_triples, make_skewed])
def test_gradients_of_each_piece(kernels, make):
    edges, (layer, x) = make_edges(make()), make_layer()
    x.requires_grad_()
    logits = torch.randn(30, dtype=torch.float64, requires_grad=True)
    check = torch.autograd.gradcheck
    assert check(lambda v: softmax_over_heads(v, edges), (logits,))
    assert check(lambda v, rows: gather_from_tails(v, rows, edges), (logits, x))
    matrices, rows = layer.relation_projection, layer.relation_embedding
    assert check(lambda *args: edge_logits(*args, edges), (x, matrices, rows))


def test_unused_relations_get_a_zero_gradient_and_used_ones_do_not():
    edges, (layer, x) = make_edges(make_triples()), make_layer()
    layer(x, edges, 1).square().sum().backward()
    used = layer.relation_projection.grad.abs().sum((1, 2)) > 0
    assert used.tolist() == [False, True, True, False, True]
    assert (layer.relation_embedding.grad.abs().sum(1) > 0).tolist() == used.tolist()


def test_softmax_sums_to_one_and_survives_huge_logits(kernels):
    edges = make_edges(make_triples())
    logits = torch.randn(30) * 1e4
    weights = softmax_over_heads(logits, edges)
    assert torch.isfinite(weights).all()
    sums = torch.zeros(N_ENTITIES).index_add_(0, edges.heads, weights)
    has_edges = edges.head_offsets.diff() > 0
    torch.testing.assert_close(sums, has_edges.float())
    assert not has_edges[LONELY]


def test_softmax_does_not_see_a_shift(kernels):
    edges = make_edges(make_triples())
    logits = torch.randn(30, dtype=torch.float64)
    expected = softmax_over_heads(logits, edges)
    for shift in (-1e5, 1e5):
        torch.testing.assert_close(softmax_over_heads(logits + shift, edges), expected)


def test_fixed_attention_gives_the_same_rows_by_every_path():
    edges, (layer, x) = make_edges(make_triples()), make_layer()
    frozen = layer.attention(x, edges).detach()
    results, gradients = [], []
    for attention in (None, frozen, edges.operator(frozen)):
        rows = x.clone().requires_grad_()
        layer.zero_grad(set_to_none=True)
        out = layer(rows, edges, 2, attention=attention)
        out.square().sum().backward()
        results.append(out.detach())
        gradients.append(rows.grad)
        assert (layer.relation_projection.grad is None) == (attention is not None)
        assert (layer.relation_embedding.grad is None) == (attention is not None)
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])
    torch.testing.assert_close(gradients[2], gradients[1])
    assert not torch.allclose(gradients[1], gradients[0])


def test_order_of_the_triples_does_not_matter():
    triples, (layer, x) = make_triples(), make_layer()
    shuffle = np.random.default_rng(3).permutation(30)
    shuffled = tuple(column[shuffle] for column in triples)
    out = layer(x, make_edges(triples), 2)
    torch.testing.assert_close(layer(x, make_edges(shuffled), 2), out)


def test_a_graph_without_triples_leaves_only_the_ego_share(kernels):
    none = np.zeros(0, dtype=np.int64)
    edges, (layer, x) = make_edges((none, none, none)), make_layer()
    x.requires_grad_()
    out = layer(x, edges, 1)
    out.sum().backward()
    torch.testing.assert_close(out, x / 2)
    torch.testing.assert_close(x.grad, torch.full_like(x, 0.5))
    assert layer.relation_projection.grad.abs().sum() == 0


def test_single_precision_stays_near_double():
    edges, (layer, x) = make_edges(make_triples()), make_layer()
    double = layer(x, edges, 2)
    single = layer.float()(x.float(), edges, 2)
    torch.testing.assert_close(single.double(), double, atol=1e-6, rtol=1e-5)


def test_each_relation_matrix_has_its_own_xavier_range():
    layer = RelationalAttention(40, 16)
    bound = math.sqrt(6 / 32)
    for matrix in layer.relation_projection:
        assert 0.9 * bound < matrix.abs().max() <= bound


def test_edges_that_do_not_fit_are_refused():
    edges, (layer, x) = make_edges(make_triples()), make_layer()
    with pytest.raises(ValueError, match="5 relations, the layer has 3"):
        RelationalAttention(3, DIM).double().attention(x, edges)
    with pytest.raises(ValueError, match="9 entities, the table has 8"):
        layer.attention(x[:-1], edges)

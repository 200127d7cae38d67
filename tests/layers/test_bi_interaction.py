"""The aggregators of NGCF and KGAT against loops."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from recbole_slif.errors import ConfigError
from recbole_slif.layers.bi_interaction import BiInteraction, KnowledgeAggregator
from tests.oracle.baselines import leaky


def rows(seed, n=5, d=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def affine(layer, row):
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    return np.array([sum(w * x for w, x in zip(line, row, strict=True)) for line in weight]) + bias


def aggregated(layer, own, near):
    """One node of KGAT, Section 3.2."""
    if layer.kind == "gcn":
        return [leaky(x, 0.01) for x in affine(layer.transform, own + near)]
    if layer.kind == "graphsage":
        return [leaky(x, 0.01) for x in affine(layer.transform, [*own, *near])]
    sums = affine(layer.transform.sum_transform, own + near)
    products = affine(layer.transform.product_transform, own * near)
    return [leaky(s, 0.01) + leaky(p, 0.01) for s, p in zip(sums, products, strict=True)]


def test_the_two_terms_of_ngcf():
    torch.manual_seed(0)
    layer, own, near = BiInteraction(3, 4).double(), rows(1), rows(2)
    sums, products = layer(own, near)
    for n in range(5):
        a, b = own[n].numpy(), near[n].numpy()
        np.testing.assert_allclose(sums[n].detach(), affine(layer.sum_transform, a + b), atol=1e-12)
        expected = affine(layer.product_transform, a * b)
        np.testing.assert_allclose(products[n].detach(), expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["bi", "gcn", "graphsage"])
def test_the_three_aggregators_of_kgat(kind):
    torch.manual_seed(0)
    layer, own, near = KnowledgeAggregator(3, 4, kind).double(), rows(1), rows(2)
    got = layer(own, near).detach().numpy()
    for n in range(5):
        expected = aggregated(layer, own[n].numpy(), near[n].numpy())
        np.testing.assert_allclose(got[n], expected, atol=1e-12)
    assert gradcheck(layer, (own.requires_grad_(), near.requires_grad_()))


def test_unknown_aggregator_is_refused():
    with pytest.raises(ConfigError, match="aggregator_type 'sum' is not one of bi, gcn, graphsage"):
        KnowledgeAggregator(3, 4, "sum")

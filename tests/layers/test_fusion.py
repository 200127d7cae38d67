"""Fusion against loops and finite differences; absent views must leave no trace."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_slif.errors import ConfigError
from recbole_slif.layers.fusion import FUSIONS, build_fusion
from tests.oracle.fusion import fusion_weights, unified_rows

N, VIEWS, DIM = 6, 3, 4
KINDS = sorted(FUSIONS)
MASK = torch.tensor(
    [[1, 1, 1], [1, 0, 1], [1, 0, 0], [0, 0, 1], [1, 1, 0], [1, 1, 1]], dtype=torch.bool
)


def make(kind, seed=0):
    torch.manual_seed(seed)
    fusion = build_fusion(kind, DIM, VIEWS).double()
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter)
    return fusion, [torch.randn(N, DIM, dtype=torch.float64) for _ in range(VIEWS)]


@pytest.mark.parametrize("mask", [MASK, torch.ones_like(MASK)], ids=["masked", "complete"])
def test_item_level_fusion_agrees_with_the_loops(mask):
    fusion, views = make("ailf")
    linear = fusion.score
    expected = fusion_weights(
        linear.weight.tolist(), linear.bias.tolist(), [v.tolist() for v in views], mask.tolist()
    )
    unified, weights = fusion(views, mask)
    as_tensor = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(weights, as_tensor, atol=1e-10, rtol=0)
    torch.testing.assert_close(fusion.weights(views, mask), as_tensor, atol=1e-10, rtol=0)
    rows = torch.tensor(unified_rows(views, expected, mask), dtype=torch.float64)
    torch.testing.assert_close(unified, rows, atol=1e-10, rtol=0)


def test_attention_fusion_agrees_with_the_loops():
    fusion, views = make("att")
    w, b = fusion.hidden.weight.tolist(), fusion.hidden.bias.tolist()
    q = fusion.query.weight[0].tolist()
    expected = []
    for i in range(N):
        powers = []
        for v in range(VIEWS):
            row = views[v][i].tolist()
            hidden = [
                math.tanh(sum(a * x for a, x in zip(line, row, strict=True)) + bias)
                for line, bias in zip(w, b, strict=True)
            ]
            score = sum(a * h for a, h in zip(q, hidden, strict=True))
            powers.append(math.exp(score) if MASK[i, v] else 0.0)
        expected.append([power / sum(powers) for power in powers])
    unified, weights = fusion(views, MASK)
    as_tensor = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(weights, as_tensor, atol=1e-10, rtol=0)
    rows = torch.tensor(unified_rows(views, expected, MASK), dtype=torch.float64)
    torch.testing.assert_close(unified, rows, atol=1e-10, rtol=0)


def test_sum_and_concat_agree_with_the_loops():
    fusion, views = make("sum")
    rows = torch.tensor(unified_rows(views, MASK.double().tolist(), MASK), dtype=torch.float64)
    torch.testing.assert_close(fusion(views, MASK)[0], rows)

    fusion, views = make("concat")
    unified, weights = fusion(views, MASK)
    for i in range(N):
        joined = [x if MASK[i, v] else 0.0 for v in range(VIEWS) for x in views[v][i].tolist()]
        for k, (line, bias) in enumerate(
            zip(fusion.project.weight.tolist(), fusion.project.bias.tolist(), strict=True)
        ):
            expected = bias + sum(a * x for a, x in zip(line, joined, strict=True))
            assert unified[i, k].item() == pytest.approx(expected, abs=1e-10)
    assert weights[1].tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize("kind", ["ailf", "att"])
def test_the_only_view_weighs_one_and_absent_views_zero(kind):
    fusion, views = make(kind)
    unified, weights = fusion(views, MASK)
    assert weights[2].tolist() == [1.0, 0.0, 0.0]
    assert weights[3].tolist() == [0.0, 0.0, 1.0]
    assert (weights[~MASK] == 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(N, dtype=torch.float64))
    assert torch.equal(unified[2], views[0][2])


@pytest.mark.parametrize("kind", KINDS)
def test_absent_views_leave_no_trace_even_when_they_are_nan(kind):
    fusion, views = make(kind)
    clean, clean_weights = fusion(views, MASK)
    dirty = [view.clone() for view in views]
    for v, view in enumerate(dirty):
        view[~MASK[:, v]] = torch.nan
        view.requires_grad_()
    unified, weights = fusion(dirty, MASK)
    assert torch.equal(unified, clean)
    assert torch.equal(weights, clean_weights)
    unified.square().sum().backward()
    for v, view in enumerate(dirty):
        assert torch.isfinite(view.grad).all()
        assert (view.grad[~MASK[:, v]] == 0).all()
        assert (view.grad[MASK[:, v]].abs().sum(1) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind):
    fusion, views = make(kind)
    names = dict(fusion.named_parameters())
    inputs = [v.requires_grad_() for v in views]
    inputs += [p.detach().clone().requires_grad_() for p in names.values()]

    def run(*args):
        values = dict(zip(names, args[VIEWS:], strict=True))
        return torch.func.functional_call(fusion, values, (list(args[:VIEWS]), MASK))[0]

    assert torch.autograd.gradcheck(run, inputs)
    fusion(views, MASK)[0].square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in fusion.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_the_items_does_not_matter(kind):
    fusion, views = make(kind)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    unified, weights = fusion(views, MASK)
    moved = fusion([view[order] for view in views], MASK[order])
    torch.testing.assert_close(moved[0], unified[order])
    torch.testing.assert_close(moved[1], weights[order])


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_biases_are_zero_and_weights_xavier(kind):
    for name, parameter in build_fusion(kind, 16, 3).named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all()
        else:
            bound = math.sqrt(6 / sum(parameter.shape))
            assert 0.7 * bound < parameter.abs().max() <= bound


@pytest.mark.parametrize("kind", KINDS)
def test_misfits_are_refused(kind):
    fusion, views = make(kind)
    lonely = MASK.clone()
    lonely[4] = False
    with pytest.raises(ValueError, match="row 4 has none"):
        fusion(views, lonely)
    with pytest.raises(ValueError, match="fusion of 3 views"):
        fusion(views[:2], MASK)
    with pytest.raises(ValueError, match="fusion of 3 views"):
        fusion(views, MASK[:, :2])


def test_unknown_kinds_are_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="'mean' is not known: use ailf, concat, sum, att"):
        build_fusion("mean", 4, 3)

"""Dropout by shared draws and rows of length one, beside torch's own."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional as F

from recbole_slif.layers.messages import drop_out, messages


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(3001, 7), (64, 64)])
def test_entries_are_dropped_at_the_rate_and_the_others_scaled(rate, shape):
    torch.manual_seed(1)
    rows = torch.full(shape, 2.0)
    found = torch.stack([drop_out(rows, rate, True) for _ in range(40)])
    gone = found == 0.0
    torch.testing.assert_close(found[~gone], torch.full_like(found[~gone], 2.0 / (1.0 - rate)),
                               rtol=1e-4, atol=0.0)  # fmt: skip
    spread = (rate * (1.0 - rate) / found.numel()) ** 0.5
    assert abs(gone.float().mean().item() - rate) < 5 * spread + 1e-5
    # entries of one draw of 64 bits, and the same entry of two steps, do not go together
    for one, other in ((gone[..., 0], gone[..., 1]), (gone[0], gone[1])):
        both = (one & other).float().mean().item()
        assert abs(both - rate**2) < 6 * (rate**2 / one.numel()) ** 0.5


def test_each_rounding_of_the_rate_keeps_the_mean():
    torch.manual_seed(2)
    for rate in (1e-9, 1e-5, 1.0 - 1e-9):
        found = drop_out(torch.ones(4000, 100, dtype=torch.float64), rate, True)
        assert found.isfinite().all()
        assert abs(found.mean().item() - 1.0) < (1e-4 if rate < 0.5 else 2.0)


def test_draws_follow_torchs_seed():
    rows = torch.randn(50, 9)
    first, second = (torch.manual_seed(7), drop_out(rows, 0.5, True))[1], drop_out(rows, 0.5, True)
    torch.manual_seed(7)
    assert torch.equal(drop_out(rows, 0.5, True), first)
    assert not torch.equal(first, second)


def test_nothing_is_dropped_in_evaluation_or_at_rate_zero():
    rows, state = torch.randn(5, 4), torch.get_rng_state()
    assert drop_out(rows, 0.5, False) is rows and drop_out(rows, 0.0, True) is rows
    assert torch.equal(torch.get_rng_state(), state)


def test_gradient_passes_what_was_kept():
    rows = torch.randn(40, 8, requires_grad=True)
    found = drop_out(rows, 0.3, True)
    found.sum().backward()
    torch.testing.assert_close(rows.grad * rows.detach(), found.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_messages_are_torchs_normalised_rows_with_its_gradient(dtype):
    torch.manual_seed(3)
    rows = torch.randn(30, 6, dtype=dtype)
    rows[4] = 0.0
    arrived, found = torch.randn(30, 6, dtype=dtype), []
    for function in (lambda x: messages(x, 0.2, False), lambda x: F.normalize(x, dim=1)):
        x = rows.clone().requires_grad_()
        y = function(x)
        found.append((y.detach(), torch.autograd.grad(y, x, arrived)[0]))
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted)
    assert not found[0][0][4].any()


def test_gradient_is_that_of_the_function():
    rows = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: messages(x, 0.0, True), (rows,))

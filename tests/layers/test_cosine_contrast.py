"""The hinge on cosines with many negatives, against loops."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from recbole_slif.layers import cosine_contrast as layer
from tests.oracle import krdn as oracle

N_USERS, N_ITEMS, BATCH, D = 5, 8, 6, 3


@pytest.fixture(autouse=True, params=[0, 10], ids=["selected", "dense"])
def way(request, monkeypatch):
    monkeypatch.setattr(layer, "DENSE_RATIO", request.param)
    # blocks of a few rows, the last one short
    monkeypatch.setattr(layer, "BLOCK_PRODUCTS", 2 * N_ITEMS)


def parts(n, seed=0):
    rng = np.random.default_rng(seed)
    users, items = (
        torch.from_numpy(3.0 * rng.standard_normal((rows, D))) for rows in (N_USERS, N_ITEMS)
    )
    ids = [torch.from_numpy(rng.integers(0, bound, BATCH)) for bound in (N_USERS, N_ITEMS)]
    negatives = torch.from_numpy(rng.integers(0, N_ITEMS, (BATCH, n)))
    return users, items, *ids, negatives, torch.from_numpy(rng.random(BATCH))


@pytest.mark.parametrize("margin", [-0.5, 0.2, 0.9, 1.0])
@pytest.mark.parametrize("n", [1, 4, 7])
def test_agrees_with_the_loop(n, margin):
    given = parts(n)
    loss = layer.cosine_contrast(*given, margin)
    users, items, user_ids, positives, negatives, weights = (part.numpy() for part in given)
    wanted = oracle.contrast(users, items, user_ids, positives, negatives, weights, margin)
    assert abs(loss.item() - wanted) < 1e-10


@pytest.mark.parametrize("margin", [-0.5, 0.2, 1.0])
def test_gradients(margin):
    users, items, *rest = parts(5)
    tables = users.requires_grad_(), items.requires_grad_()
    assert gradcheck(lambda a, b: layer.cosine_contrast(a, b, *rest, margin), tables)
    value = layer.cosine_contrast(*tables, *rest, margin)
    for table in tables:
        assert torch.autograd.grad(value, table, retain_graph=True)[0].any()


def test_an_item_given_twice_counts_twice():
    users, items, user_ids, positives, negatives, weights = parts(3)
    doubled = negatives.repeat_interleave(2, dim=1)
    near, far = (
        layer.cosine_contrast(users, items, user_ids, positives, drawn, weights * 0.0, 0.2)
        for drawn in (negatives, doubled)
    )
    torch.testing.assert_close(near, far, atol=1e-4, rtol=0)
    assert near > 0 and far > near  # the same mean, less of the 1e-5 below it


def test_rows_of_zeros_get_no_gradient():
    users, items, *rest = parts(4)
    users[1], items[2] = 0.0, 0.0
    tables = users.requires_grad_(), items.requires_grad_()
    layer.cosine_contrast(*tables, *rest, -0.5).backward()
    assert users.grad.isfinite().all() and items.grad.isfinite().all()
    assert not users.grad[1].any() and not items.grad[2].any()


def test_blocks_of_rows_change_nothing(monkeypatch):
    users, items, *rest = parts(7)
    tables = users.requires_grad_(), items.requires_grad_()
    found = []
    for size in (1, 10 * BATCH * N_ITEMS):
        monkeypatch.setattr(layer, "BLOCK_PRODUCTS", size)
        loss = layer.cosine_contrast(*tables, *rest, 0.2)
        found.append((loss, *torch.autograd.grad(loss, tables)))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))

"""Models that form their last layer at a batch's nodes alone: same loss, same gradients."""

import pytest
import torch

from recbole_slif.graph import sparse
from recbole_slif.model.pairwise import batch_nodes, rows_at, triple_rows
from tests.running import build


def model_and_batch(tmp_path, name, **changes):
    torch.manual_seed(3)
    _, model, data = build(tmp_path, name, **changes)
    model.train()
    return model, next(iter(data.train_data))


def loss_and_gradients(model, batch, few, monkeypatch):
    monkeypatch.setattr(sparse, "_FEW_ROWS", few)
    torch.manual_seed(7)
    model.zero_grad()
    loss = model.calculate_loss(batch)
    loss = sum(loss) if isinstance(loss, tuple) else loss
    loss.backward()
    return loss.detach(), {name: part.grad for name, part in model.named_parameters()}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("LightGCN", {"n_layers": 1}),
        ("LightGCN", {"n_layers": 3}),
        ("SLIFMR", {"cl_scope": "positives"}),
        ("SLIFMR", {"cl_scope": "batch", "attn_refresh": "epoch"}),
        ("SLIFMR", {"cl_scope": "all", "ablation": "kg_mm"}),
        ("KGAT", {"layers": [8], "mess_dropout": 0.2}),
        ("KGAT", {"layers": [8, 4, 2], "mess_dropout": 0.2}),
        ("KGIN", {"context_hops": 0}),
        ("KGIN", {"context_hops": 1}),
        ("KGIN", {"context_hops": 3}),
    ],
)
def test_cut_rows_change_neither_loss_nor_gradients(tmp_path, monkeypatch, name, changes):
    model, batch = model_and_batch(tmp_path, name, train_batch_size=6, **changes)
    wanted, gradients = loss_and_gradients(model, batch, 0.0, monkeypatch)
    found, others = loss_and_gradients(model, batch, 2.0, monkeypatch)
    torch.testing.assert_close(found, wanted)
    assert gradients.keys() == others.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(others[key], gradient)


@pytest.mark.parametrize("few", [0.0, 2.0])
def test_views_of_some_users_and_items_are_rows_of_the_whole_ones(tmp_path, monkeypatch, few):
    monkeypatch.setattr(sparse, "_FEW_ROWS", few)
    model, _ = model_and_batch(tmp_path, "SLIFMR")
    model.eval()
    users, items = torch.tensor([4, 1]), torch.tensor([2, 3, 7])
    all_users, all_views = model.extract()
    some_users, some_views = model.extract((users, items))
    torch.testing.assert_close(some_users, all_users[users])
    assert len(some_views) == len(all_views) == 3
    for some, whole in zip(some_views, all_views, strict=True):
        torch.testing.assert_close(some, whole[items])


@pytest.mark.parametrize("name", ["LightGCN", "KGAT", "KGIN"])
def test_the_rows_of_a_batch_are_those_of_the_whole_tables(tmp_path, monkeypatch, name):
    monkeypatch.setattr(sparse, "_FEW_ROWS", 2.0)
    model, batch = model_and_batch(tmp_path, name, train_batch_size=6)
    model.eval()
    nodes = batch_nodes(model, batch)
    assert 6 < len(nodes) < model.n_users + model.n_items
    found = rows_at(model, batch, nodes, model._propagate(nodes))
    for got, wanted in zip(found, triple_rows(model, batch, *model.forward()), strict=True):
        torch.testing.assert_close(got, wanted)

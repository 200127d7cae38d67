"""Hand-written operations under mixed precision, and every model's loss under RecBole's key."""

from typing import ClassVar

import pytest
import torch
from torch.autograd import gradcheck

from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.kernel import Kernel, computed_in
from recbole_slif.layers.edge_gate import concrete
from recbole_slif.layers.masked_relations import MaskedProductMean
from recbole_slif.registry import MODELS
from tests.test_trainer import trainer_of


class Doubled(Kernel):
    """2 x y, and what it saw on the way."""

    seen: ClassVar[list] = []

    @staticmethod
    def forward(ctx, x, y, note):
        Doubled.seen.append((x.dtype, y.dtype, (x @ x.t()).dtype, note))
        ctx.save_for_backward(x, y)
        return 2.0 * x * y

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        return 2.0 * grad * y, 2.0 * grad * x, None


@pytest.fixture(autouse=True)
def unseen():
    Doubled.seen.clear()


def test_without_mixed_precision_tables_stay_as_they_are():
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda a: Doubled.apply(a, a, "x"), x)
    halves = torch.randn(3, 2).bfloat16()
    assert Doubled.apply(halves, halves, "x").dtype == torch.bfloat16
    assert computed_in(halves) == torch.bfloat16 and computed_in(x) == torch.float64


def test_mixed_halves_are_widened_and_get_their_gradients_back():
    x = torch.randn(3, 2).bfloat16().requires_grad_()
    y = torch.randn(3, 2, requires_grad=True)
    with torch.autocast("cpu"):
        assert (y @ y.t()).dtype == torch.bfloat16
        out = Doubled.apply(x, y, "note")
        assert computed_in(x) == computed_in(y) == torch.float32
        assert computed_in(y.double()) == torch.float64
    assert Doubled.seen == [(torch.float32, torch.float32, torch.float32, "note")]
    assert torch.equal(out, 2.0 * x.float() * y)
    out.sum().backward()
    assert torch.equal(y.grad, 2.0 * x.float())
    assert x.grad.dtype == torch.bfloat16 and torch.equal(x.grad, (2.0 * y).bfloat16())


def test_operators_and_masks_take_mixed_halves():
    entries = torch.tensor([0, 1, 2]).numpy(), torch.tensor([2, 0, 1]).numpy()
    operator = SparseOperator.from_coo(*entries, torch.ones(3).numpy(), (3, 3))
    table = torch.randn(3, 2).bfloat16()
    with pytest.raises(ValueError, match=r"the table is torch\.bfloat16"):
        operator @ table
    with torch.autocast("cpu"):
        assert torch.equal(operator @ table, table.float()[[2, 0, 1]])
    n_edges = 300  # more than a half counts exactly
    ends = torch.zeros(n_edges, dtype=torch.int64).numpy()
    means = MaskedProductMean(ends, ends, ends + 1, 2, 1)
    kept, rows = torch.ones(n_edges, dtype=torch.bool), torch.ones(2, 2).bfloat16()
    with torch.autocast("cpu"):
        assert torch.equal(means(rows, torch.ones(1, 2), kept)[0], torch.ones(2))


def test_gates_draw_as_many_numbers_as_without_it():
    logits = torch.randn(2000).bfloat16()
    torch.manual_seed(3)
    wanted = concrete(logits.float(), 0.7)
    torch.manual_seed(3)
    with torch.autocast("cpu"):
        assert torch.equal(concrete(logits, 0.7), wanted)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains_under_mixed_precision(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    losses = []
    for mixed in (False, True):
        trainer, data = trainer_of(tmp_path / str(mixed), name, epochs=1, enable_amp=mixed)
        trainer.fit(data.train_data, verbose=False)
        losses.append(trainer.train_loss_dict[0])
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert all(part.isfinite().all() for part in trainer.model.parameters())

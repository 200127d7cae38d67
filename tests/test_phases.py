"""Passes besides the interactions: their order, optimizers, names, and exact resume."""

import pytest
import torch

from recbole_slif.errors import SlifError
from recbole_slif.model.general.bpr import BPR
from recbole_slif.phases import IdBatches, Phase, learning_parameters, phases_of
from tests.test_trainer import check_resume, trainer_of


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class ThreeLoops(BPR):
    """A pass of its own optimizer before, one of another over all parameters after."""

    loss_names = ("bpr",)

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.aside = torch.nn.Parameter(torch.ones(3))
        self.to(self.device)
        self._own = {
            "aside": torch.optim.Adam([self.aside], lr=0.1),
            "joint": torch.optim.Adam(self.parameters(), lr=0.01),
        }
        self.order = []

    def own_optimizers(self):
        return self._own

    def main_parameters(self):
        return [value for name, value in self.named_parameters() if name != "aside"]

    def phases_before(self, epoch):
        batches = IdBatches(self.n_items, 5)
        return [Phase(("denoise", "zero"), batches, self.aside_loss, "aside")]

    def phases_after(self, epoch):
        return [
            Phase(("joint",), IdBatches(torch.arange(1, self.n_users), 3, 2), self.joint, "joint"),
            Phase(("again",), IdBatches(4, 4), self.joint),
        ]

    def pre_epoch(self, epoch):
        self.order.append("pre")

    def post_epoch(self, epoch):
        self.order.append("post")

    def calculate_loss(self, interaction):
        assert self.aside.grad is None
        self.order.append("pairs")
        return super().calculate_loss(interaction)

    def aside_loss(self, ids):
        self.order.append("aside")
        return (self.aside * (1.0 + ids.sum())).square().sum(), torch.zeros(())

    def joint(self, ids):
        self.order.append("joint")
        return self.user_embedding(ids).square().sum() + self.aside.square().sum()


def shortened(order):
    return [name for at, name in enumerate(order) if at == 0 or order[at - 1] != name]


def test_passes_run_around_the_hooks_and_are_named(tmp_path):
    trainer, data = trainer_of(tmp_path, ThreeLoops, epochs=2)
    trainer.fit(data.train_data, data.valid_data)
    epoch = ["aside", "pre", "pairs", "joint", "post"]
    assert shortened(trainer.model.order) == epoch * 2
    names = ["denoise", "zero", "bpr", "joint", "again"]
    assert [list(entry["loss"]) for entry in trainer.history] == [names, names]


def test_each_pass_is_stepped_by_its_own_optimizer(tmp_path):
    trainer, data = trainer_of(tmp_path, ThreeLoops, epochs=1)
    model = trainer.model
    main = {id(value) for group in trainer.optimizer.param_groups for value in group["params"]}
    assert main == {id(value) for value in model.main_parameters()}
    trainer.fit(data.train_data, data.valid_data)
    steps = {
        name: int(next(iter(optimizer.state.values()))["step"])
        for name, optimizer in {**model.own_optimizers(), "main": trainer.optimizer}.items()
    }
    assert steps == {
        "aside": len(IdBatches(model.n_items, 5)),
        "joint": 2,
        "main": len(data.train_data) + 1,
    }


def test_resumed_run_with_own_optimizers_is_the_uninterrupted_one(tmp_path):
    check_resume(tmp_path, ThreeLoops, epochs=5)


class Crossing(ThreeLoops):
    """The pass that steps `aside` alone goes through the users' rows as well."""

    def aside_loss(self, ids):
        near = 1e-3 * (self.aside.square() * (1.0 + ids[0])).sum()
        return near * self.user_embedding.weight.square().mean(), torch.zeros(())

    def phases_after(self, epoch):
        return ()


def test_gradients_of_other_optimizers_do_not_count_where_the_norm_is_clipped(tmp_path):
    # those that an earlier pass left behind are in no checkpoint
    check_resume(tmp_path, Crossing, clip_grad_norm={"max_norm": 0.01})


def test_a_broken_loss_of_a_pass_is_named(tmp_path, monkeypatch):
    trainer, data = trainer_of(tmp_path, ThreeLoops, epochs=1)
    monkeypatch.setattr(ThreeLoops, "joint", lambda self, ids: self.aside.sum() * float("nan"))
    with pytest.raises(SlifError, match=r"epoch 0, batch 0 \(joint nan\)"):
        trainer.fit(data.train_data, data.valid_data)


def test_id_batches_hold_each_id_once_in_a_new_order():
    torch.manual_seed(3)
    batches = IdBatches(torch.arange(10, 20), 4)
    first, second = (torch.cat(list(batches)) for _ in range(2))
    assert len(batches) == 3
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10, 20))
    assert not torch.equal(first, second)
    few = IdBatches(100, 7, n_batches=2)
    assert [len(batch) for batch in few] == [7, 7]
    assert len(few) == 2


def test_models_without_passes_have_none():
    class Plain(torch.nn.Linear):
        pass

    model = Plain(2, 2)
    model.bias.requires_grad_(False)
    assert not phases_of(model, "before", 0)
    assert learning_parameters(model) == [model.weight]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("model", ["DiffKG", "DiffMM", "KACL", "KRDN"])
def test_the_key_for_fused_steps_counts_for_a_models_own_optimizers(tmp_path, model, fused):
    trainer, _ = trainer_of(tmp_path, model, fused_optimizer=fused)
    optimizers = [trainer.optimizer, *trainer.model.own_optimizers().values()]
    assert len(optimizers) > 1
    assert {bool(each.defaults["fused"]) for each in optimizers} == {fused}

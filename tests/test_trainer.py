import math
import os
import re
import signal
from typing import ClassVar

import numpy as np
import pytest
import torch

from recbole_slif import checkpoint, factory
from recbole_slif.config import SlifConfig
from recbole_slif.errors import ConfigError, SlifError
from recbole_slif.interrupt import InterruptGuard, TrainingStoppedError
from recbole_slif.model.general.bpr import BPR
from recbole_slif.quick_start import run
from recbole_slif.trainer import SlifTrainer, trainer_class
from tests.running import build, settings


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Drawing(BPR):
    """Draws from every generator in each batch and keeps a state that outlives the epoch."""

    config_defaults: ClassVar = {"extra_noise": 0.1}

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.offset = torch.zeros(self.n_items, 1)
        self.calls = []

    def pre_epoch(self, epoch):
        self.calls.append(f"pre {epoch}")
        self.offset = self.offset + torch.from_numpy(np.random.rand(self.n_items, 1)).float()

    def post_epoch(self, epoch):
        self.calls.append(f"post {epoch}")

    def epoch_state(self):
        return {"offset": self.offset}

    def load_epoch_state(self, state):
        self.offset = state["offset"]
        super().load_epoch_state(state)

    def forward(self):
        users, items = super().forward()
        return users, items + 0.01 * self.offset

    def calculate_loss(self, interaction):
        self.calls.append("batch")
        noise = torch.rand(1) * np.random.rand()
        return super().calculate_loss(interaction) * (1.0 + noise.item()), noise.sum() * 0.0


def trainer_of(folder, model=Drawing, **changes):
    config, built, bundle = build(folder, model, **changes)
    trainer = trainer_class(config, built)(config, built)
    trainer.header = {
        "identity": factory.identity(config, bundle),
        "config": factory.saved_settings(config),
    }
    return trainer, bundle


def outcome(trainer, bundle):
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    history = [
        {key: value for key, value in entry.items() if key != "seconds"}
        for entry in trainer.history
    ]
    test = trainer.evaluate(bundle.test_data, load_best_model=True)
    return weights, history, test, trainer.best_epoch, trainer.best_valid_score


def check_resume(folder, model, epochs=4, done=2, **changes):
    """A run that goes on after `done` epochs ends as one that was never stopped, to the bit.

    Returns:
        The trainer of the uninterrupted run.
    """
    changes = {"stopping_step": 50, **changes}
    whole, data = trainer_of(folder, model, epochs=epochs, **changes)
    whole.fit(data.train_data, data.valid_data)
    state, wanted = whole.model.epoch_state(), outcome(whole, data)
    first, data = trainer_of(folder, model, epochs=done, **changes)
    first.fit(data.train_data, data.valid_data)
    second, data = trainer_of(folder, model, epochs=epochs, **changes)
    second.resume_checkpoint(first.run_folder)
    torch.manual_seed(99)
    second.fit(data.train_data, data.valid_data)
    resumed = second.model.epoch_state()  # before the best epoch's takes its place
    found = outcome(second, data)
    assert all(torch.equal(found[0][name], value) for name, value in wanted[0].items())
    assert found[1:] == wanted[1:]
    assert state.keys() == resumed.keys()
    assert all(torch.equal(resumed[name], value) for name, value in state.items())
    return whole


@pytest.mark.parametrize("learner", ["adam", "sgd"])
def test_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path, learner):
    whole, data = trainer_of(tmp_path, epochs=6, learner=learner, stopping_step=50)
    whole.fit(data.train_data, data.valid_data)
    wanted = outcome(whole, data)

    first, data = trainer_of(tmp_path, epochs=3, learner=learner, stopping_step=50)
    first.fit(data.train_data, data.valid_data)
    np.random.seed(99)
    torch.manual_seed(99)
    second, data = trainer_of(tmp_path, epochs=6, learner=learner, stopping_step=50)
    second.resume_checkpoint(first.run_folder)
    second.fit(data.train_data, data.valid_data)
    found = outcome(second, data)

    assert [entry["loss"] for entry in found[1]] == [entry["loss"] for entry in wanted[1]]
    assert found[1:] == wanted[1:]
    for name, value in wanted[0].items():
        assert torch.equal(found[0][name], value), name
    assert second.run_folder == first.run_folder
    assert second.train_loss_dict == whole.train_loss_dict


def test_signal_stops_after_the_batch_and_keeps_the_last_epoch(tmp_path):
    whole, data = trainer_of(tmp_path, epochs=4, stopping_step=50)
    whole.fit(data.train_data, data.valid_data)
    wanted = outcome(whole, data)

    trainer, data = trainer_of(tmp_path, epochs=4, stopping_step=50)
    counted = trainer.model.calculate_loss
    batches = len(data.train_data)

    def send(interaction):
        if trainer.model.calls.count("batch") == 2 * batches + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return counted(interaction)

    trainer.model.calculate_loss = send
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingStoppedError, match=r"SIGTERM; 2 epochs.*--resume=.*Drawing-toy"):
        trainer.fit(data.train_data, data.valid_data)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert batches > 2
    assert trainer.model.calls.count("batch") == 2 * batches + 2
    again, data = trainer_of(tmp_path, epochs=4, stopping_step=50)
    again.resume_checkpoint(trainer.run_folder / "last.pt")
    again.fit(data.train_data, data.valid_data)
    assert outcome(again, data)[1:] == wanted[1:]


def test_a_run_without_validation_keeps_its_last_epoch(tmp_path):
    first, data = trainer_of(tmp_path, BPR, epochs=3, eval_step=0)
    first.fit(data.train_data, data.valid_data)
    assert checkpoint.load(first.run_folder / "best.pt").header["epoch"] == first.best_epoch == 2
    second, data = trainer_of(tmp_path, BPR, epochs=3, eval_step=0)
    second.resume_checkpoint(first.run_folder)
    second.fit(data.train_data, data.valid_data)
    assert second.best_epoch == 2
    assert outcome(second, data)[1:] == outcome(first, data)[1:]


def test_second_signal_does_not_wait():
    with pytest.raises(KeyboardInterrupt), InterruptGuard() as guard:
        os.kill(os.getpid(), signal.SIGINT)
        assert guard.received == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)


def test_hooks_surround_the_batches_of_an_epoch(tmp_path):
    trainer, data = trainer_of(tmp_path, epochs=2)
    trainer.fit(data.train_data, data.valid_data)
    batches = ["batch"] * len(data.train_data)
    assert trainer.model.calls == [
        "pre 0", *batches, "post 0", "pre 1", *batches, "post 1"
    ]  # fmt: skip
    assert [set(entry["seconds"]) for entry in trainer.history] == [
        {"refresh", "train", "evaluate"}
    ] * 2


class Steady(BPR):
    """Learns nothing, so every validation score ties with the first."""

    def calculate_loss(self, interaction):
        return sum(parameter.sum() for parameter in self.parameters()) * 0.0


def test_ties_do_not_reset_the_patience(tmp_path):
    trainer, data = trainer_of(tmp_path, Steady, epochs=50, stopping_step=3)
    score, _ = trainer.fit(data.train_data, data.valid_data)
    assert trainer.best_epoch == 0
    assert len(trainer.history) == 5  # the best, then stopping_step + 1 without a better one
    assert score == trainer.history[0]["valid"]["recall@5"]
    again, data = trainer_of(tmp_path, Steady, epochs=50, stopping_step=3)
    again.resume_checkpoint(trainer.run_folder)
    again.fit(data.train_data, data.valid_data)
    assert len(again.history) == 5


class Exploding(BPR):
    """Its second part stops being finite in the third batch of epoch 1."""

    loss_names = ("ranking", "consistency")

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.seen = 0

    def calculate_loss(self, interaction):
        self.seen += 1
        bad = math.inf if self.seen == 8 else 0.0
        return super().calculate_loss(interaction), torch.tensor(bad)


def test_a_score_that_is_not_a_number_is_said_at_once(tmp_path, monkeypatch):
    trainer, data = trainer_of(tmp_path, epochs=3)
    monkeypatch.setattr(trainer, "evaluate", lambda *_, **__: {"recall@5": float("nan")})
    with pytest.raises(SlifError, match=r"valid_metric: recall@5 is not a number"):
        trainer.fit(data.train_data, data.valid_data)
    assert trainer.epochs_done == 0


def test_loss_that_is_not_finite_is_named(tmp_path):
    trainer, data = trainer_of(tmp_path, Exploding)
    batches = len(data.train_data)
    where = f"epoch {7 // batches}, batch {7 % batches}"
    with pytest.raises(SlifError, match=rf"{where} \(ranking \S+, consistency inf\)"):
        trainer.fit(data.train_data, data.valid_data)


class TwoPhases(BPR):
    """Counts the batches of its knowledge phase."""

    loss_names = ("bpr", "nothing", "triples")

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.order = []

    def calculate_loss(self, interaction):
        self.order.append("pairs")
        return super().calculate_loss(interaction), torch.zeros(())

    def calculate_kg_loss(self, interaction):
        assert "head_id" in interaction
        self.order.append("triples")
        return self.item_embedding.weight.sum() * 0.0


def test_knowledge_phase_follows_the_interactions(tmp_path):
    trainer, data = trainer_of(tmp_path, TwoPhases, epochs=1)
    trainer.fit(data.train_data, data.valid_data)
    order = trainer.model.order
    assert order == sorted(order)
    assert set(order) == {"pairs", "triples"}
    assert list(trainer.history[0]["loss"]) == ["bpr", "nothing", "triples"]


def test_the_log_names_the_losses(tmp_path):
    trainer, data = trainer_of(tmp_path, TwoPhases, epochs=1)
    trainer.fit(data.train_data, data.valid_data)
    line = trainer._generate_train_loss_output(0, 0.0, 1.0, (0.5, 0.25, 0.125, 1.0))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
    assert plain.endswith("bpr: 0.5000, nothing: 0.2500, triples: 0.1250, train_loss4: 1.0000]")


def test_the_broken_loss_of_the_knowledge_phase_is_named(tmp_path, monkeypatch):
    broken = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr(TwoPhases, "calculate_kg_loss", lambda self, batch: broken * 1.0)
    trainer, data = trainer_of(tmp_path, TwoPhases, epochs=1)
    with pytest.raises(SlifError, match=r"batch 0 \(triples nan\)"):
        trainer.fit(data.train_data, data.valid_data)


def test_adam_is_fused_and_follows_the_same_rule(tmp_path):
    runs = []
    for fused in (True, False):
        trainer, data = trainer_of(tmp_path, epochs=2, fused_optimizer=fused)
        assert bool(trainer.optimizer.defaults["fused"]) is fused
        trainer.fit(data.train_data, data.valid_data)
        runs.append(trainer.model.state_dict())
    for name, value in runs[0].items():
        assert torch.allclose(value, runs[1][name], atol=1e-5)


def test_gradients_are_not_clipped_while_they_are_scaled(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    trainer_of(tmp_path, enable_scaler=True)
    with pytest.raises(ConfigError, match="clip_grad_norm: RecBole clips gradients while"):
        trainer_of(tmp_path, enable_scaler=True, clip_grad_norm={"max_norm": 1.0})


def test_evaluation_follows_the_weights(tmp_path):
    trainer, data = trainer_of(tmp_path, BPR, learning_rate=0.05, epochs=4, stopping_step=50)
    trainer.fit(data.train_data, data.valid_data)
    fresh = SlifTrainer(trainer.config, trainer.model)
    for entry, path in ((trainer.history[trainer.best_epoch], "best.pt"),
                        (trainer.history[-1], "last.pt")):  # fmt: skip
        file = trainer.run_folder / path
        checkpoint.restore_model(trainer.model, checkpoint.load(file).state["model"], file)
        assert fresh.evaluate(data.valid_data, load_best_model=False) == entry["valid"]


@pytest.mark.parametrize("model", ["Pop", "CKE", "KTUP", "NeuMF"])
def test_recboles_own_models_train_save_and_load(tmp_path, model):
    size = {} if model in ("CKE", "KTUP") else {"embedding_size": ...}
    trainer, data = trainer_of(tmp_path, model, train_batch_size=64, **size)
    score, _ = trainer.fit(data.train_data, data.valid_data)
    assert 0.0 <= score <= 1.0
    valid = trainer.evaluate(data.valid_data)
    if model != "KTUP":  # its evaluation draws at random
        assert valid == trainer.best_valid_result
    assert not torch.is_anomaly_enabled()


def test_unsaved_run_tests_its_best_epoch(tmp_path):
    changes = {"epochs": 5, "learning_rate": 0.3}
    found = [
        run("BPR", "toy", overrides=settings(tmp_path, **changes), saved=saved, verbose=False)
        for saved in (True, False)
    ]
    assert found[0].best_epoch < 4
    assert found[0].test == found[1].test and found[0].valid == found[1].valid


def test_unsaved_run_leaves_no_files(tmp_path):
    trainer, data = trainer_of(tmp_path)
    trainer.fit(data.train_data, data.valid_data, saved=False)
    assert trainer.best_epoch >= 0
    assert not trainer.run_folder.exists()


def test_progress_bars_show_the_loss(tmp_path, capsys):
    trainer, data = trainer_of(tmp_path, epochs=1)
    trainer.fit(data.train_data, data.valid_data, show_progress=True)
    shown = capsys.readouterr().err
    assert "Train     0: 100%" in shown
    assert "loss 0." in shown
    assert "Evaluate" in shown


def test_decision_trees_are_not_offered(tmp_path):
    with pytest.raises(SlifError):
        config = SlifConfig("XGBoost", "toy", overrides=settings(tmp_path))
        factory.load_data(config)

"""RecBole's own models go on from a checkpoint as if they had never been stopped."""

import logging

import pytest
import torch
from recbole.utils import get_model
from torch import nn

from recbole_slif import recbole_state
from recbole_slif.errors import CheckpointError, ConfigError
from recbole_slif.quick_start import resume, run
from tests.running import build, settings
from tests.test_trainer import outcome, trainer_of

# settings under which what is kept decides on the numbers of the third epoch
CASES = {
    "DiffRec": {"steps": 2, "history_num_per_term": 2},
    "LDiffRec": {"steps": 2, "history_num_per_term": 2, "vae_anneal_steps": 9, "anneal_steps": 9},
    "LINE": {"embedding_size": 8},
    "MacridVAE": {"total_anneal_steps": 9},
    "MultiVAE": {"total_anneal_steps": 9},
    "NCL": {"embedding_size": 8, "num_clusters": 3, "m_step": 3, "warm_up_step": 0},
    "RecVAE": {},
}


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def drawn_clusters(self, rows):  # in place of a library for GPUs
        centroids = torch.rand(self.k, rows.shape[1])
        return centroids, torch.randint(self.k, (len(rows),))

    monkeypatch.setattr(get_model("NCL"), "run_kmeans", drawn_clusters)


def trained(folder, model, epochs, goes_on=None):
    changes = {"embedding_size": ..., "train_batch_size": 64, **CASES[model]}
    trainer, data = trainer_of(folder, model, epochs=epochs, stopping_step=50, **changes)
    if goes_on is not None:
        trainer.resume_checkpoint(goes_on)
    trainer.fit(data.train_data, data.valid_data)
    return trainer, data


@pytest.mark.parametrize("model", CASES)
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, model):
    wanted = outcome(*trained(tmp_path, model, 4))
    first, _ = trained(tmp_path, model, 2)
    found = outcome(*trained(tmp_path, model, 4, first.run_folder))
    assert all(torch.equal(found[0][name], value) for name, value in wanted[0].items())
    assert found[1:] == wanted[1:]


def test_stages_before_training_are_refused_and_training_is_resumed(tmp_path, monkeypatch):
    # RaCT logs the name of its file without a place for it, which pytest's handler takes amiss
    monkeypatch.setattr(logging.getLogger(), "disabled", True)
    with pytest.raises(ConfigError, match=r"train_stage: actor_pretrain of RaCT .* write finetune"):
        trainer_of(tmp_path, "RaCT", embedding_size=...)
    _, pretrained, _ = build(tmp_path, "RaCT", embedding_size=...)
    torch.save({"state_dict": pretrained.state_dict()}, "weights.pt")
    changes = {"train_stage": "finetune", "pre_model_path": "weights.pt", "total_anneal_steps": 9}
    changes = settings(tmp_path, embedding_size=..., stopping_step=50, **changes)
    whole = run("RaCT", "toy", overrides={**changes, "epochs": 4}, verbose=False)
    first = run("RaCT", "toy", overrides=changes, verbose=False)
    found = resume(first.folder, {"epochs": 4}, verbose=False)
    assert (found.valid, found.test, found.best_epoch) == (
        whole.valid, whole.test, whole.best_epoch
    )  # fmt: skip


def test_what_a_checkpoint_lacks_is_named(tmp_path):
    model = trained(tmp_path, "MultiVAE", 1)[0].model
    with pytest.raises(CheckpointError, match=r"'x\.pt' does not hold 'update' of MultiVAE"):
        recbole_state.restore(model, {}, "x.pt")


def test_attention_of_kgat_is_kept():
    class Derived(get_model("KGAT")):
        device = "cpu"

        def __init__(self):
            nn.Module.__init__(self)

    model, other = Derived(), Derived()
    model.A_in = torch.eye(3).to_sparse()
    recbole_state.restore(other, recbole_state.capture(model), "x.pt")
    assert torch.equal(other.A_in.to_dense(), torch.eye(3))


def test_models_of_ours_keep_nothing_here(tmp_path):
    trainer, _ = trainer_of(tmp_path, "BPR")
    assert recbole_state.capture(trainer.model) == {}

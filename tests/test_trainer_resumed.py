"""What a run goes on with after a resume, and what it refuses."""

import pytest
import torch

from recbole_slif.errors import CheckpointError, ConfigError
from recbole_slif.model.general.bpr import BPR
from tests.test_trainer import check_resume, trainer_of


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("mode", ["uni5", "pop5"])
def test_a_resumed_run_draws_the_lists_of_validation_on(tmp_path, mode):
    check_resume(tmp_path, BPR, eval_args={"mode": mode}, learning_rate=0.01)


def test_scores_of_another_measure_are_not_compared(tmp_path):
    first, data = trainer_of(tmp_path, BPR, epochs=1)
    first.fit(data.train_data, data.valid_data)
    for changes, said in (
        ({"valid_metric": "NDCG@5"}, "valid_metric was recall@5 .* cannot become ndcg@5"),
        ({"eval_args": {"mode": "uni5"}}, "mode of validation was full .* cannot become uni5"),
    ):
        other, _ = trainer_of(tmp_path, BPR, epochs=2, **changes)
        with pytest.raises(ConfigError, match=said):
            other.resume_checkpoint(first.run_folder)
    mode = {"mode": {"valid": "full", "test": "uni5"}}
    other, _ = trainer_of(tmp_path, BPR, epochs=2, topk=[5], stopping_step=3, eval_args=mode)
    other.resume_checkpoint(first.run_folder)
    assert other.best_valid_score == first.best_valid_score


def test_before_the_first_validation_its_measure_is_free(tmp_path):
    first, data = trainer_of(tmp_path, BPR, epochs=1, eval_step=0)
    first.fit(data.train_data, data.valid_data)
    smaller = {"metrics": ["GiniIndex"], "valid_metric": "GiniIndex@5", "stopping_step": 50}
    second, data = trainer_of(tmp_path, BPR, epochs=4, learning_rate=0.05, **smaller)
    second.resume_checkpoint(first.run_folder)
    second.fit(data.train_data, data.valid_data)
    scores = [entry["valid"]["giniindex@5"] for entry in second.history[1:]]
    assert second.best_valid_score == min(scores)
    assert second.best_epoch == 1 + scores.index(min(scores))


def test_an_optimizer_that_does_not_fit_is_said_in_one_line(tmp_path):
    first, data = trainer_of(tmp_path, BPR, epochs=1)
    first.fit(data.train_data, data.valid_data)
    other, _ = trainer_of(tmp_path, BPR, epochs=2)
    other.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})
    with pytest.raises(
        CheckpointError, match=r"last\.pt' does not fit the optimizer: loaded state"
    ):
        other.resume_checkpoint(first.run_folder)


def test_resuming_the_wrong_thing_is_refused(tmp_path):
    trainer, data = trainer_of(tmp_path, epochs=1)
    trainer.fit(data.train_data, data.valid_data)
    with pytest.raises(CheckpointError, match=r"resume from the run's last\.pt"):
        trainer.resume_checkpoint(trainer.run_folder / "best.pt")
    other, _ = trainer_of(tmp_path, epochs=1, embedding_size=4)
    with pytest.raises(CheckpointError, match=r"embedding_size \(checkpoint 8, here 4\)"):
        other.resume_checkpoint(trainer.run_folder)
    other, _ = trainer_of(tmp_path, epochs=1, split_seed=5)
    with pytest.raises(CheckpointError, match=r"does not fit: data \("):
        other.resume_checkpoint(trainer.run_folder)

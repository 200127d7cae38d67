import importlib
import logging
import sys

import pytest
import torch

from recbole_slif import stages
from recbole_slif.console import run_summary
from recbole_slif.errors import ConfigError, SlifError
from recbole_slif.interrupt import TrainingStoppedError
from recbole_slif.model.general.bpr import BPR
from recbole_slif.quick_start import objective, resume, run, run_many
from recbole_slif.records import read_record
from recbole_slif.trainer import SlifTrainer
from tests.running import settings


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Failing(BPR):
    """Fails in its first batch."""

    def calculate_loss(self, interaction):
        raise SlifError("the sky fell")


def test_run_leaves_record_checkpoints_and_log(tmp_path):
    result = run("BPR", "toy", overrides=settings(tmp_path), command=["--model=BPR"])
    assert result.status == "finished"
    record = read_record(result.record)
    assert record["status"] == "finished"
    assert record["test"] == result.test
    assert record["valid"] == result.valid
    assert record["best_epoch"] == result.best_epoch
    assert [entry["epoch"] for entry in record["epochs"]] == [0, 1]
    assert record["fingerprint"] == record["statistics"]["fingerprint"]
    assert set(record["precision_over_recall"]) == {"3", "5"}
    assert record["parameters"] == 8 * (20 + 18 + 2)
    assert {path.name for path in result.folder.iterdir()} == {"best.pt", "last.pt", "previous.pt"}
    assert list((tmp_path / "log" / "BPR").glob("*.log"))
    assert str(tmp_path) not in result.record.read_text()


class Lacking(BPR):
    """Imports a library in its first batch, as RecBole's MCCLK does."""

    def calculate_loss(self, interaction):
        importlib.import_module("no_such_library")


def test_a_library_that_a_step_lacks_is_named(tmp_path):
    with pytest.raises(ConfigError, match="model 'Lacking' cannot run here: No module named 'no_"):
        run(Lacking, "toy", overrides=settings(tmp_path))
    record = read_record(next((tmp_path / "saved" / "runs").glob("*.json")))
    assert record["status"] == "failed" and "no_such_library" in record["error"]


def test_labels_that_nobody_makes_are_named(tmp_path):
    chosen = settings(tmp_path, embedding_size=..., train_neg_sample_args=None)
    with pytest.raises(ConfigError, match="'NeuMF' learns from labels, but no column 'label'"):
        run("NeuMF", "toy", overrides=chosen)


def test_recboles_model_without_a_property_file_runs(tmp_path):
    chosen = settings(tmp_path, embedding_size=...)
    assert 0 <= run("Random", "toy", overrides=chosen).test["recall@5"] <= 1


def test_same_seed_same_result_and_another_seed_another(tmp_path):
    results = [
        run("BPR", "toy", overrides=settings(tmp_path, epochs=4, learning_rate=0.05, seed=seed))
        for seed in (1, 1, 2)
    ]
    losses = [[entry["loss"] for entry in read_record(r.record)["epochs"]] for r in results]
    assert losses[0] == losses[1] != losses[2]
    assert results[0].test == results[1].test
    assert len({result.folder for result in results}) == 3


def test_resume_by_folder_takes_everything_from_the_checkpoint(tmp_path):
    chosen = settings(tmp_path, epochs=4, learning_rate=0.02)
    whole = run("BPR", "toy", overrides=chosen)
    half = run("BPR", "toy", overrides={**chosen, "epochs": 2})
    done = resume(half.folder, {"epochs": 4})
    assert done.test == whole.test
    assert done.record == half.record
    epochs = [read_record(result.record)["epochs"] for result in (whole, done)]
    assert [e["loss"] for e in epochs[0]] == [e["loss"] for e in epochs[1]]


def test_failed_run_is_recorded(tmp_path):
    with pytest.raises(SlifError, match="the sky fell"):
        run(Failing, "toy", overrides=settings(tmp_path))
    (path,) = (tmp_path / "saved" / "runs").iterdir()
    record = read_record(path)
    assert record["status"] == "failed"
    assert "the sky fell" in record["error"]


def test_models_side_by_side_share_the_split(tmp_path):
    chosen = settings(tmp_path, epochs=1)
    results = run_many(["Pop", Failing, "BPR"], "toy", overrides=chosen, seeds=[5, 6])
    assert [(result.model, result.seed) for result in results] == [
        ("Pop", 5), ("Pop", 6), ("Failing", 5), ("Failing", 6), ("BPR", 5), ("BPR", 6)
    ]  # fmt: skip
    assert [result.status for result in results] == [
        "finished", "finished", "failed", "failed", "finished", "finished"
    ]  # fmt: skip
    assert results[2].error == "the sky fell"
    records = [read_record(r.record) for r in results if r.status == "finished"]
    assert len({record["fingerprint"] for record in records}) == 1
    assert {record["split_seed"] for record in records} == {2020}
    losses = [record["epochs"][0]["loss"] for record in records[2:]]
    assert losses[0] != losses[1]


def test_number_of_seeds_counts_from_the_base(tmp_path):
    words = ["--seed", "7", "--embedding_size=4"]
    chosen = settings(tmp_path, epochs=1, embedding_size=...)
    results = run_many(["BPR", "Pop"], "toy", overrides=chosen, seeds=2, argv=words)
    assert [result.seed for result in results] == [7, 8, 7, 8]
    assert {read_record(result.record)["split_seed"] for result in results} == {7}


def test_key_nobody_knows_is_refused_before_the_first_run(tmp_path):
    with pytest.raises(ConfigError, match=r"learnig_rate.*learning_rate"):
        run_many(["Pop", "BPR"], "toy", overrides=settings(tmp_path), argv=["--learnig_rate=1"])
    assert not (tmp_path / "saved").exists()


@pytest.fixture
def seen(monkeypatch):
    """The splits that are evaluated, in order."""
    phases = []
    evaluate = SlifTrainer.evaluate

    def spy(self, eval_data, *args, **kwargs):
        phases.append(eval_data.phase)
        return evaluate(self, eval_data, *args, **kwargs)

    monkeypatch.setattr(SlifTrainer, "evaluate", spy)
    return phases


def test_objective_never_reads_the_test_split(tmp_path, seen):
    result = objective(settings(tmp_path), model="BPR", dataset="toy")
    assert set(seen) == {"valid"}
    assert result["test_result"] is None
    assert result["best_valid_score"] == result["best_valid_result"]["recall@5"]
    assert result["valid_score_bigger"] is True
    assert not (tmp_path / "saved" / "runs").exists()


def test_selection_does_not_read_the_test_split(tmp_path, seen):
    run("BPR", "toy", overrides=settings(tmp_path, epochs=3))
    assert seen == ["valid"] * 3 + ["test"]


class Stopping(BPR):
    """Asks for a stop in epoch 1."""

    def pre_epoch(self, epoch):
        if epoch == 1:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)


def test_interrupted_run_says_how_to_go_on(tmp_path):
    with pytest.raises(TrainingStoppedError, match="--resume="):
        run(Stopping, "toy", overrides=settings(tmp_path, epochs=3))
    (path,) = (tmp_path / "saved" / "runs").iterdir()
    assert read_record(path)["status"] == "interrupted"


def test_anomaly_mode_is_off(tmp_path):
    torch.autograd.set_detect_anomaly(True)
    try:
        run("BPR", "toy", overrides=settings(tmp_path, epochs=1))
        assert not torch.is_anomaly_enabled()
    finally:
        torch.autograd.set_detect_anomaly(False)


def test_each_run_logs_into_its_own_file(tmp_path):
    root = logging.getLogger()
    before = list(root.handlers)
    for handler in before:
        root.removeHandler(handler)
    try:
        for model in ("BPR", "Pop"):
            size = {} if model == "BPR" else {"embedding_size": ...}
            run(model, "toy", overrides=settings(tmp_path, epochs=1, **size))
        files = [list((tmp_path / "log" / name).glob("*.log")) for name in ("BPR", "Pop")]
        assert [len(found) for found in files] == [1, 1]
        texts = [found[0].read_text() for found in files]
        assert all("test result" in text for text in texts)
        assert "Pop" not in texts[0].split("test result")[1]
        assert not root.handlers
    finally:
        for handler in list(root.handlers):
            root.removeHandler(handler)
            handler.close()
        for handler in before:
            root.addHandler(handler)
        stages._log_handlers.clear()


def test_a_program_keeps_its_own_log_and_streams(tmp_path, caplog):
    root, streams = logging.getLogger(), (sys.stdout, sys.stderr)
    before = list(root.handlers), root.level
    assert before[0]  # pytest's
    run("BPR", "toy", overrides=settings(tmp_path, epochs=1))
    assert (root.handlers, root.level) == before
    assert (sys.stdout, sys.stderr) == streams
    text = next((tmp_path / "log/BPR").glob("*.log")).read_text()
    assert "test result" in text and "test result" in caplog.text


def test_record_names_the_losses_of_the_model(tmp_path):
    result = run("SLIFMR", "toy", overrides=settings(tmp_path, epochs=1), verbose=False)
    (epoch,) = read_record(result.record)["epochs"]
    assert list(epoch["loss"]) == ["bpr", "inter", "intra", "norm"]


def test_kgat_names_both_phases(tmp_path):
    result = run("KGAT", "toy", overrides=settings(tmp_path, epochs=1), verbose=False)
    (epoch,) = read_record(result.record)["epochs"]
    assert list(epoch["loss"]) == ["bpr", "translation"]


def test_the_summary_of_a_run_without_training_says_so(tmp_path):
    for epochs, said in ((0, "seed 2020: not trained, "), (1, "seed 2020: best epoch 0, ")):
        result = run("BPR", "toy", overrides=settings(tmp_path, epochs=epochs))
        assert said in run_summary(result)

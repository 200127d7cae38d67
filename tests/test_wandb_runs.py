"""Runs on Weights & Biases, against a stand-in for the library."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from recbole_slif import quick_start
from tests.running import settings


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    library = ModuleType("wandb")
    library.run, library.runs = None, []

    def init(project, config):
        library.run = SimpleNamespace(summary={}, name="chosen by chance", logged=[], code=None)
        library.run.model, library.run.seed = config["model"], config["seed"]
        library.runs.append(library.run)

    def finish(exit_code):
        library.run.code, library.run = exit_code, None

    library.init, library.finish = init, finish
    library.define_metric = lambda name, step_metric: None
    library.log = lambda metrics, commit=True: library.run.logged.append(metrics)
    monkeypatch.setitem(sys.modules, "wandb", library)
    return library


def test_each_run_of_a_comparison_is_a_run_of_its_own(tmp_path, wandb):
    changes = settings(tmp_path, log_wandb=True)
    results = quick_start.run_many(["BPR", "LightGCN"], "toy", overrides=changes, seeds=2)
    assert [(run.model, run.seed) for run in wandb.runs] == [
        (one.model, one.seed) for one in results
    ]
    assert wandb.run is None
    for run, result in zip(wandb.runs, results, strict=True):
        assert run.code == 0 and run.name == result.folder.name
        assert run.summary["eval/recall@5"] == result.test["recall@5"]
        assert sum("train/train_loss" in metrics for metrics in run.logged) == 2


def test_parts_of_a_loss_are_curves(tmp_path, wandb):
    quick_start.run("SLIFMR", "toy", overrides=settings(tmp_path, log_wandb=True, epochs=1))
    (told,) = [metrics for metrics in wandb.runs[0].logged if "train/train_loss" in metrics]
    parts = {name: value for name, value in told.items() if name.startswith("train/loss_")}
    assert {"train/loss_bpr", "train/loss_inter"} <= parts.keys()
    assert told["train/train_loss"] == pytest.approx(sum(parts.values()))


def test_a_failed_run_says_so(tmp_path, wandb):
    changes = settings(tmp_path, log_wandb=True, learning_rate=1e30, epochs=3)
    result = quick_start.run_many(["BPR"], "toy", overrides=changes)[0]
    assert result.error is not None
    assert [run.code for run in wandb.runs] == [1] and wandb.run is None


def test_a_run_that_the_caller_opened_stays_open(tmp_path, wandb):
    wandb.init("theirs", {"model": "sweep", "seed": 0})
    quick_start.run("BPR", "toy", overrides=settings(tmp_path, log_wandb=True))
    assert len(wandb.runs) == 1 and wandb.run is wandb.runs[0]
    assert wandb.run.code is None and wandb.run.name == "chosen by chance"
    assert wandb.run.summary["eval/recall@5"] >= 0


def test_without_the_key_the_library_is_not_touched(tmp_path, wandb):
    quick_start.run("BPR", "toy", overrides=settings(tmp_path))
    assert wandb.runs == []

"""Times are judged by what is recorded, and said to be unknown where nothing is."""

import io
import json

import pytest

from recbole_slif.experiment.estimate import Times, clock, recorded_times
from recbole_slif.experiment.folder import Folder
from recbole_slif.experiment.progress import Progress
from tests.experiment.series import plan_of, write_experiment


def record(model="BPR", epochs=10, each=2.0, rest=5.0, **changes):
    seconds = {"refresh": each / 4, "train": each / 2, "evaluate": each / 4}
    return {
        "status": "finished",
        "dataset": "toy",
        "model": model,
        "epochs": [{"epoch": at, "seconds": seconds} for at in range(epochs)],
        "seconds": epochs * each + rest,
        **changes,
    }


@pytest.fixture
def plan(tmp_path):
    noise = [{"kind": "inter", "levels": [0.1], "models": ["BPR"]}]
    return plan_of(write_experiment(tmp_path, models=["BPR", "LightGCN"], noise=noise), epochs=100)


def expected(plan, *records):
    times = Times("toy")
    for content in records:
        times.take(content)
    return {run.cell: times.expected(run) for run in plan.runs}


def test_model_of_the_same_name_tells_the_time(plan):
    # runs of different length ended by early stopping, so a run takes the usual number of epochs
    found = expected(plan, record(epochs=10), record(epochs=20), record(epochs=12))
    assert found == {"BPR": 12 * 2.0 + 5.0, "BPR|noise=inter:0.1": 29.0, "LightGCN": None}


def test_own_cell_is_the_better_witness(plan):
    own = [record(epochs=n, each=4.0, cell="BPR|noise=inter:0.1") for n in (10, 11)]
    found = expected(plan, record(epochs=8), record(epochs=9), *own)
    assert found["BPR|noise=inter:0.1"] == pytest.approx(10.5 * 4.0 + 5.0)


def test_runs_cut_short_are_drawn_out(plan):
    assert expected(plan, record(epochs=3), record(epochs=3))["BPR"] == 100 * 2.0 + 5.0


def test_resumed_run_does_not_count_negative(plan):
    assert expected(plan, record(epochs=10, seconds=1.0), record(epochs=11, seconds=1.0))["BPR"] > 0


def test_failures_and_other_data_teach_nothing(plan):
    found = expected(plan, record(status="failed"), record(dataset="other"), record(epochs=0))
    assert set(found.values()) == {None}


@pytest.mark.parametrize("epochs", [[{"epoch": 0}], [1], 3, [{"seconds": 1}]])
def test_files_of_another_kind_teach_nothing(plan, epochs):
    assert set(expected(plan, {**record(), "epochs": epochs}).values()) == {None}


def test_records_are_found_in_the_folder_beside_it_and_of_single_runs(tmp_path, plan):
    singles = tmp_path / "runs"
    singles.mkdir()
    folder = Folder(tmp_path / "experiments" / "mine")
    folder.make()
    assert recorded_times(plan, folder, singles).total(plan.runs) == (0, 3)
    (singles / "a.json").write_text(json.dumps(record("LightGCN", epochs=4)))
    (singles / "b.json").write_text("{")
    beside = Folder(tmp_path / "experiments" / "beside")
    beside.make()
    beside.append([record("BPR", epochs=4, cell="x", settings_hash="h")])
    seconds, unknown = recorded_times(plan, folder, singles).total(plan.runs)
    assert unknown == 0
    assert seconds == 3 * (100 * 2.0 + 5.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1:00 min"), (200, "3:20 min"), (7500, "2:05 h")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_progress_tells_what_is_left(plan):
    stream = io.StringIO()
    times = Times("toy")
    progress = Progress(plan, 0, times, workers=2, stream=stream)
    done = record("BPR", epochs=10, cell="BPR", seed=2020, valid_metric="Recall@5")
    progress.done(
        [{**done, "valid": {"recall@5": 0.5}, "test": {"recall@5": 0.25}, "best_epoch": 7}]
    )
    shown = stream.getvalue()
    assert shown.startswith("[1/3] BPR, seed 2020: valid recall@5 0.5000, test recall@5 0.2500")
    assert f"left about {clock(205 / 2)} and 1 runs of unknown time" in shown
    progress.done([{"cell": "LightGCN", "seed": 2020, "status": "failed", "error": "why"}])
    assert "[2/3] LightGCN, seed 2020: failed: why" in stream.getvalue()

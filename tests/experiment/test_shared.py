"""Machines that share a storage alone share an experiment: each run once, all lines everywhere."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from recbole_slif import cli
from recbole_slif.errors import DataError
from recbole_slif.experiment import runner as runner_module
from recbole_slif.experiment import shared as module
from recbole_slif.experiment.board import make_board
from recbole_slif.experiment.folder import Folder
from recbole_slif.experiment.shared import packed, study_of, unpacked
from recbole_slif.sharing.study import FAILED, FINISHED, LOST, RUNNING, SharedStudy
from tests.experiment.series import by_run, experiment, lines_of, plan_of, words, write_experiment
from tests.running import settings
from tests.sharing.places import KINDS, place, read_address

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings(tmp_path)  # writes the toy data


@pytest.fixture(params=KINDS)
def storage(request, tmp_path, monkeypatch):
    """An address that no other test has a study of this name in."""
    name = f"experiment-test-{os.urandom(6).hex()}"
    monkeypatch.setattr(module, "study_of", lambda plan: name)
    return place(request.param, tmp_path)


def study(storage):
    return SharedStudy(read_address(storage), module.study_of(None))


def test_second_machine_takes_what_the_first_recorded(tmp_path, storage, trained, capsys):
    path = write_experiment(tmp_path, models=["BPR", "LightGCN"], seeds=2)
    assert experiment(path, tmp_path / "alone") == 0
    del trained[:]
    shared = f"--storage={storage}"
    assert experiment(path, tmp_path / "a", shared, "--models=BPR") == 0
    assert len(trained) == 2
    capsys.readouterr()
    assert experiment(path, tmp_path / "b", shared) == 0
    assert trained[2:] == [("LightGCN", 2020), ("LightGCN", 2021)]
    assert "2 recorded, 2 trainings to do" in capsys.readouterr().out
    assert experiment(path, tmp_path / "a", shared, "--resume") == 0
    assert len(trained) == 4
    whole = by_run(lines_of(tmp_path / "alone"))
    for name in ("a", "b"):
        assert by_run(lines_of(tmp_path / name)) == whole
        for line in lines_of(tmp_path / name):
            files = [np.load(tmp_path / at / line["per_user"]) for at in (name, "alone")]
            assert files[0].files == files[1].files
            assert all((files[0][key] == files[1][key]).all() for key in files[0].files)
        assert not list((tmp_path / name / "claims").iterdir())
        assert not (tmp_path / name / "work").exists()
    assert [one.state for one in study(storage).attempts()] == [FINISHED] * 4


def test_report_reads_a_folder_that_was_filled_by_others(tmp_path, storage, capsys):
    path = write_experiment(tmp_path, models=["BPR", "LightGCN"], seeds=2)
    shared = f"--storage={storage}"
    assert experiment(path, tmp_path / "a", shared) == 0
    assert experiment(path, tmp_path / "b", shared) == 0
    tables = []
    for name in ("a", "b"):
        assert cli.main(["report", str(tmp_path / name), "--no-figures"]) == 0
        found = sorted((tmp_path / name / "report").rglob("*.csv"))
        tables.append({file.name: file.read_text() for file in found})
    assert tables[0] == tables[1]
    assert tables[0]


def test_both_at_once_train_each_run_once(tmp_path):
    path = write_experiment(tmp_path, models=["BPR", "LightGCN", "KGAT"], seeds=2)
    command = [sys.executable, str(ROOT / "run_recbole_slif.py"), f"--experiment={path}"]
    command += [f"--storage={tmp_path / 'shared.db'}", *words(tmp_path)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen([*command, f"--out={tmp_path / name}"], env=variables, text=True,
                         stdout=subprocess.PIPE)
        for name in ("a", "b")
    ]  # fmt: skip
    told = [process.communicate(timeout=500)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], told
    lines = {name: lines_of(tmp_path / name) for name in ("a", "b")}
    assert by_run(lines["a"]) == by_run(lines["b"])
    assert len(lines["a"]) == 6
    ids = [{line["run_id"] for line in lines[name]} for name in lines]
    assert ids[0] == ids[1]


def test_killed_machine_is_made_up_for(tmp_path):
    path = write_experiment(tmp_path, models=["BPR", "SLIFMR"])
    storage = str(tmp_path / "shared.journal")
    changes = {"epochs": 400, "stopping_step": 1000}
    command = [sys.executable, str(ROOT / "run_recbole_slif.py"), f"--experiment={path}"]
    command += [f"--storage={storage}", f"--out={tmp_path / 'a'}", *words(tmp_path, **changes)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 300
    try:
        while not list((tmp_path / "a").glob("work/*/*/last.pt")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    name = study_of(plan_of(path))
    attempts = SharedStudy(read_address(storage), name).attempts()
    assert LOST in [one.state for one in attempts]
    assert experiment(path, tmp_path / "b", f"--storage={storage}", epochs=2) == 0
    assert sorted(line["cell"] for line in lines_of(tmp_path / "b")) == ["BPR", "SLIFMR"]
    assert experiment(path, tmp_path / "a", "--resume", f"--storage={storage}", epochs=2) == 0
    assert by_run(lines_of(tmp_path / "a")[-2:]) == by_run(lines_of(tmp_path / "b"))


def test_workers_share_the_storage(tmp_path, capsys):
    path = write_experiment(tmp_path, models=["BPR", "LightGCN"], seeds=2)
    shared = f"--storage={tmp_path / 'shared.db'}"
    assert experiment(path, tmp_path / "a", shared, "--workers=2") == 0
    assert len(by_run(lines_of(tmp_path / "a"))) == 4
    assert capsys.readouterr().out.count("best epoch") == 4
    assert experiment(path, tmp_path / "b", shared, "--workers=2") == 0
    assert by_run(lines_of(tmp_path / "a")) == by_run(lines_of(tmp_path / "b"))


def test_folder_that_was_filled_alone_is_published(tmp_path, storage, trained):
    path = write_experiment(tmp_path, models=["BPR"], seeds=2)
    assert experiment(path, tmp_path / "a") == 0
    assert experiment(path, tmp_path / "a", "--resume", f"--storage={storage}") == 0
    assert experiment(path, tmp_path / "b", f"--storage={storage}") == 0
    assert len(trained) == 2
    assert by_run(lines_of(tmp_path / "a")) == by_run(lines_of(tmp_path / "b"))


def test_failures_are_shared_and_tried_again_by_the_next_command(tmp_path, monkeypatch, storage):
    path = write_experiment(tmp_path, models=["BPR", "LightGCN"])
    shared = f"--storage={storage}"
    run_one = runner_module.run_one

    def failing(run, *rest):
        content = run_one(run, *rest)
        return {**content, "status": "failed", "error": "no"} if run.cell == "BPR" else content

    monkeypatch.setattr(runner_module, "run_one", failing)
    assert experiment(path, tmp_path / "a", shared) == 1
    assert sorted(one.state for one in study(storage).attempts()) == [FAILED, FINISHED]
    monkeypatch.setattr(runner_module, "run_one", run_one)
    assert experiment(path, tmp_path / "b", shared) == 0
    assert [line["status"] for line in lines_of(tmp_path / "b")].count("failed") == 1
    assert experiment(path, tmp_path / "a", shared, "--resume") == 0
    assert len(lines_of(tmp_path / "a")) == len(lines_of(tmp_path / "b")) == 3


def test_run_that_failed_may_finish_under_its_name(tmp_path, monkeypatch, storage):
    path = write_experiment(tmp_path, models=["BPR"])
    run_one = runner_module.run_one
    outcomes = [{"status": "failed", "error": "no"}, {}]

    def named(run, *rest):
        return {**run_one(run, *rest), **outcomes.pop(0), "run_id": "one"}

    def waiting(seconds):
        raise AssertionError("it waits for a line that never comes")

    monkeypatch.setattr(runner_module, "run_one", named)
    monkeypatch.setattr(runner_module.time, "sleep", waiting)
    assert experiment(path, tmp_path / "a", f"--storage={storage}") == 1
    assert experiment(path, tmp_path / "a", f"--storage={storage}", "--resume") == 0
    assert [line["status"] for line in lines_of(tmp_path / "a")] == ["failed", "finished"]


def test_runs_that_fail_before_they_have_a_record_are_each_tried_once(
    tmp_path, monkeypatch, storage
):
    path = write_experiment(tmp_path, models=["BPR"], seeds=2)
    run_one = runner_module.run_one
    tried = []

    def counting(run, *rest):
        tried.append(run.seed)
        assert len(tried) < 9, "it never ends"
        return run_one(run, *rest)

    monkeypatch.setattr(runner_module, "run_one", counting)
    for again, options in enumerate(([], ["--resume"]), start=1):
        line = [f"--storage={storage}", *options]
        assert experiment(path, tmp_path / "a", *line, topk=[5, 500]) == 1
        assert tried == [2020, 2021] * again
    assert [line["status"] for line in lines_of(tmp_path / "a")] == ["failed"] * 4


def test_one_line_serves_all_cells_of_the_other_machine(tmp_path, storage, trained):
    kinds = [{"kind": kind, "levels": [0, 0.2], "models": ["KGAT"]} for kind in ("inter", "kg")]
    path = write_experiment(tmp_path, noise=kinds)
    assert experiment(path, tmp_path / "a", f"--storage={storage}") == 0
    del trained[:]
    assert experiment(path, tmp_path / "b", f"--storage={storage}") == 0
    assert not trained
    assert by_run(lines_of(tmp_path / "a")) == by_run(lines_of(tmp_path / "b"))


def test_run_that_was_taken_over_is_left_to_the_other(tmp_path, monkeypatch, storage):
    path = write_experiment(tmp_path, models=["BPR"])
    run_one = runner_module.run_one
    runs = []

    def overtaken(run, *rest):
        line = run_one(run, *rest)
        runs.append(line["run_id"])
        if len(runs) == 1:
            (mine,) = [one for one in study(storage).attempts() if one.state == RUNNING]
            study(storage).lose(mine.trial_id, "taken over")
        return line

    monkeypatch.setattr(runner_module, "run_one", overtaken)
    assert experiment(path, tmp_path / "a", f"--storage={storage}") == 0
    assert [line["run_id"] for line in lines_of(tmp_path / "a")] == runs[1:]
    assert len(runs) == 2


def test_large_arrays_stay_where_they_are_and_that_is_said(tmp_path, monkeypatch, storage, capsys):
    monkeypatch.setattr(module, "PER_USER_LIMIT", 10)
    path = write_experiment(tmp_path, models=["BPR"])
    assert experiment(path, tmp_path / "a", f"--storage={storage}") == 0
    (line,) = lines_of(tmp_path / "a")
    assert line["per_user"]
    assert "not in this folder" not in capsys.readouterr().out
    assert experiment(path, tmp_path / "b", f"--storage={storage}") == 0
    (line,) = lines_of(tmp_path / "b")
    assert line["per_user"] is None
    assert "per-user metrics of 1 runs are not in this folder" in capsys.readouterr().out


def test_no_file_outside_the_folder_is_shared(tmp_path, capsys):
    path = write_experiment(tmp_path, models=["BPR"])
    shared = f"--storage={tmp_path / 'x.journal'}"
    assert experiment(path, tmp_path / "a") == 0
    (line,) = lines_of(tmp_path / "a")
    (tmp_path / "private").write_text("secret")
    (tmp_path / "a/runs.jsonl").write_text(json.dumps({**line, "per_user": "../private"}) + "\n")
    assert experiment(path, tmp_path / "a", "--resume", shared) == 0
    capsys.readouterr()
    assert experiment(path, tmp_path / "b", shared) == 0
    (line,) = lines_of(tmp_path / "b")
    assert line["per_user"] is None
    assert not (tmp_path / "b/per_user").exists()
    assert "per-user metrics of 1 runs are not in this folder" in capsys.readouterr().out


def test_password_is_in_no_record(tmp_path, monkeypatch, capsys):
    path = write_experiment(tmp_path, models=["BPR"])
    secret = "wor" + "d1234"
    given = f"postgresql://me:{secret}@host/name"
    local = make_board

    def elsewhere(plan, folder, address, *rest):
        assert address is None or secret in address.place
        return local(plan, folder, read_address(str(tmp_path / "x.journal")), *rest)

    monkeypatch.setattr("recbole_slif.experiment.cli.make_board", elsewhere)
    assert experiment(path, tmp_path / "a", f"--storage={given}") == 0
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"me:***@host" in written
    assert secret.encode() not in written
    assert secret not in "".join(capsys.readouterr())


def test_dry_run_and_mistakes_touch_no_storage(tmp_path, capsys):
    path = write_experiment(tmp_path, models=["BPR"])
    assert experiment(path, tmp_path / "a", f"--storage={tmp_path / 'x.db'}", "--dry_run") == 0
    assert not (tmp_path / "x.db").exists()
    assert experiment(path, tmp_path / "a", "--storage=x.txt") == 2
    assert "--storage: 'x.txt'" in capsys.readouterr().err


@pytest.mark.parametrize("size", [0, 1, 22_000, 500_000])
def test_bytes_survive_packing(size):
    content = np.random.default_rng(0).bytes(size)
    attrs = json.loads(json.dumps(packed("line", content)))
    assert unpacked("line", attrs) == content
    assert all(len(str(value)) <= 30_000 for value in attrs.values())
    assert unpacked("other", attrs) is None


def test_trial_without_a_line_is_named(tmp_path):
    path = write_experiment(tmp_path, models=["BPR"])
    plan = plan_of(path)
    folder = Folder(tmp_path / "a")
    folder.make()
    board = make_board(plan, folder, read_address(str(tmp_path / "x.journal")))
    claim = board.take(plan.runs[0].settings_hash)
    claim._held.finish({}, 0.5)
    with pytest.raises(DataError, match="trial 0 of study 'experiment-series-toy'"):
        board.refresh(folder)

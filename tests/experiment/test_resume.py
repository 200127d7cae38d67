"""Experiments that were killed, stopped or shared out: they end with the same lines."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from recbole_slif import stages
from recbole_slif.experiment import runner as runner_module
from recbole_slif.experiment import workers as workers_module
from recbole_slif.experiment.board import make_board
from recbole_slif.experiment.claims import Claim, Claims
from recbole_slif.experiment.estimate import Times
from recbole_slif.experiment.folder import Folder
from recbole_slif.experiment.pool import DataPool
from recbole_slif.experiment.progress import Progress
from recbole_slif.experiment.runner import Runner
from recbole_slif.model.slifmr import SLIFMR
from recbole_slif.processes import leave_with
from tests.experiment.series import by_run, experiment, lines_of, plan_of, words, write_experiment
from tests.running import settings

ROOT = Path(__file__).resolve().parents[2]
SLOW = "tests.experiment.test_resume:Slow"


class Slow(SLIFMR):
    """Takes its time while the file `slow` is there, so that a kill finds it at work."""

    def post_epoch(self, epoch):
        super().post_epoch(epoch)
        if Path("slow").exists():
            time.sleep(0.5)


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings(tmp_path)  # writes the toy data


def start(path, out, *options, **changes):
    """Start an experiment in a process of its own."""
    command = [sys.executable, str(ROOT / "run_recbole_slif.py"), f"--experiment={path}"]
    command += [f"--out={out}", *options, *words(path.parent, **changes)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL)


def wait_for(condition, process, seconds=300):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the experiment ended by itself"
        assert time.monotonic() < until
        time.sleep(0.02)


def last_epoch(out):
    """The epoch that the run at hand has reached, -1 where there is none."""
    recorded = Folder(out).recorded().hashes
    for path in (out / "work").glob("*/*.json"):
        if list(path.parent.glob("*/last.pt")) and path.parent.name not in recorded:
            return len(json.loads(path.read_text()).get("epochs") or [])
    return -1


@pytest.fixture
def resumed(monkeypatch):
    """The checkpoints that runs went on from, None for those from the beginning."""
    seen = []
    execute = stages.execute

    def counting(config, path=None, **options):
        seen.append(path)
        return execute(config, path, **options)

    monkeypatch.setattr(stages, "execute", counting)
    return seen


def test_killed_experiment_ends_with_the_same_lines(tmp_path, resumed):
    path = write_experiment(tmp_path, models=["LightGCN", SLOW, "KGAT"])
    changes = {"epochs": 40, "stopping_step": 100, "learning_rate": 0.02}
    out = tmp_path / "out"
    Path("slow").touch()
    trusted = f"--models=LightGCN,{SLOW},KGAT"
    process = start(path, out, trusted, **changes)
    try:
        wait_for(lambda: len(lines_of(out)) == 1 and last_epoch(out) >= 3, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    Path("slow").unlink()
    assert last_epoch(out) >= 3
    assert list((out / "claims").iterdir())
    assert len(lines_of(out)) == 1
    assert experiment(path, out, trusted, "--resume", **changes) == 0
    assert [bool(path) for path in resumed] == [True, False]
    assert experiment(path, tmp_path / "whole", trusted, **changes) == 0
    assert by_run(lines_of(out)) == by_run(lines_of(tmp_path / "whole"))
    assert [line["cell"] for line in lines_of(out)] == ["LightGCN", SLOW, "KGAT"]
    assert not list((out / "claims").iterdir())
    for line in lines_of(out):
        files = [np.load(folder / line["per_user"]) for folder in (out, tmp_path / "whole")]
        assert all((files[0][name] == files[1][name]).all() for name in files[0].files)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_kill_around_the_line_of_a_run(tmp_path, monkeypatch, resumed, moment):
    path = write_experiment(tmp_path, models=["LightGCN"])
    out = tmp_path / "out"
    append = Folder.append

    def killed(self, lines):
        if moment == "after":
            append(self, lines)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "append", killed)
        patched.setattr(Claim, "release", lambda claim: claim._pulse.stop())
        assert experiment(path, out) == 130
    (claim,) = (out / "claims").iterdir()
    mark = json.loads(claim.read_text())
    claim.write_text(json.dumps({**mark, "started": 1.0}))  # as if its process were gone
    assert (out / "work").exists()
    assert experiment(path, out, "--resume") == 0
    assert [bool(path) for path in resumed] == ([False, True] if moment == "before" else [False])
    assert experiment(path, tmp_path / "whole") == 0
    assert by_run(lines_of(out)) == by_run(lines_of(tmp_path / "whole"))
    assert not (out / "work").exists()
    assert not list((out / "claims").iterdir())


def test_checkpoint_that_does_not_fit_is_left_aside(tmp_path):
    path = write_experiment(tmp_path, models=["BPR"])
    out = tmp_path / "out"
    run = plan_of(path).runs[0]
    broken = out / "work" / run.settings_hash / "BPR-toy"
    broken.mkdir(parents=True)
    (broken / "last.pt").write_bytes(b"torn")
    assert experiment(path, out) == 0
    assert [line["status"] for line in lines_of(out)] == ["finished"]


def test_checkpoints_are_kept_on_demand(tmp_path):
    path = write_experiment(tmp_path, models=["BPR"])
    out = tmp_path / "out"
    assert experiment(path, out, "--keep_checkpoints") == 0
    (line,) = lines_of(out)
    (kept,) = (out / "work" / line["settings_hash"]).glob("*/best.pt")
    assert kept.parent.name == line["run_id"]


def test_stopped_experiment_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    path = write_experiment(tmp_path, models=["BPR", "LightGCN"])
    out = tmp_path / "out"
    run_one = runner_module.run_one

    def stopping(run, *rest):
        if run.cell == "LightGCN":
            raise KeyboardInterrupt
        return run_one(run, *rest)

    monkeypatch.setattr(runner_module, "run_one", stopping)
    assert experiment(path, out) == 130
    assert "1 of 2 runs are recorded in out, go on" in capsys.readouterr().err
    assert not list((out / "claims").iterdir())
    monkeypatch.setattr(runner_module, "run_one", run_one)
    assert experiment(path, out, "--resume") == 0
    assert len(lines_of(out)) == 2


def test_workers_share_the_runs_and_end_with_the_same_lines(tmp_path, capsys):
    path = write_experiment(tmp_path, models=["BPR", "LightGCN"], seeds=2)
    assert experiment(path, tmp_path / "alone") == 0
    capsys.readouterr()
    assert experiment(path, tmp_path / "out", "--workers=2") == 0
    assert by_run(lines_of(tmp_path / "out")) == by_run(lines_of(tmp_path / "alone"))
    assert capsys.readouterr().out.count("best epoch") == 4


@pytest.mark.parametrize("left", [False, True], ids=["made up for", "left undone"])
def test_killed_worker_is_an_error_if_its_work_is_left(tmp_path, monkeypatch, capsys, left):
    def one_is_killed(count, target, arguments, watch):
        plan, path, failed_before, options, address = arguments
        folder = Folder(path)
        others = plan if not left else dataclasses.replace(plan, runs=plan.runs[:1])
        board = make_board(others, folder, address)
        silent = Progress(others, 0, Times(plan.dataset))
        Runner(others, folder, DataPool(), board, failed_before, silent, options).work()
        return [-9]

    monkeypatch.setattr(workers_module, "run_processes", one_is_killed)
    path = write_experiment(tmp_path, models=["BPR", "LightGCN"])
    done = experiment(path, tmp_path / "out", "--workers=2")
    told = capsys.readouterr().err
    if left:
        assert done == 2
        assert "error: 1 of 2 workers ended with status -9; go on with" in told
    else:
        assert done == 0
        assert "note: 1 of 2 workers ended with status -9; the others did their work" in told
        assert len(by_run(lines_of(tmp_path / "out"))) == 2


def test_killed_worker_beside_a_run_that_failed_leaves_a_failure(tmp_path, monkeypatch, capsys):
    def one_is_killed(count, target, arguments, watch):
        plan, path = arguments[:2]
        for run in plan.runs:
            line = {"cell": run.cell, "seed": run.seed, "settings_hash": run.settings_hash,
                    "status": "failed", "error": "no"}  # fmt: skip
            Folder(path).append([line])
        return [-9]

    monkeypatch.setattr(workers_module, "run_processes", one_is_killed)
    path = write_experiment(tmp_path, models=["BPR", "LightGCN"])
    for more in ((), ("--resume",)):
        assert experiment(path, tmp_path / "out", "--workers=2", *more) == 1
        shown = capsys.readouterr()
        assert "the others did their work" in shown.err
        assert "failed: BPR, seed 2020: no" in shown.out


def test_worker_stops_itself_once_its_parent_is_gone(monkeypatch):
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    leave_with(os.getppid())()
    assert not sent
    leave_with(os.getppid() + 1)()
    assert sent == [(os.getpid(), signal.SIGTERM)]


@pytest.mark.parametrize("status", ["finished", "failed"])
def test_run_that_another_ended_just_before_the_claim(tmp_path, monkeypatch, trained, status):
    path = write_experiment(tmp_path, models=["BPR"])
    out = tmp_path / "out"
    assert experiment(path, tmp_path / "other") == 0
    (theirs,) = lines_of(tmp_path / "other")
    take = Claims.take

    def late(self, name):
        Folder(out).append([{**theirs, "status": status}])
        return take(self, name)

    monkeypatch.setattr(Claims, "take", late)
    del trained[:]
    assert experiment(path, out) == (status == "failed")
    assert not trained
    assert len(lines_of(out)) == 1


def test_run_that_was_taken_over_is_left_to_the_other(tmp_path, monkeypatch):
    path = write_experiment(tmp_path, models=["BPR"])
    out = tmp_path / "out"
    assert experiment(path, tmp_path / "other") == 0
    (theirs,) = lines_of(tmp_path / "other")
    run_one = runner_module.run_one

    def overtaken(run, *rest):
        line = run_one(run, *rest)
        (claim,) = (out / "claims").iterdir()
        claim.with_suffix(".1").write_text(claim.read_text())
        return line

    def sleep(seconds):
        assert not lines_of(out)
        assert list((out / "work").glob("*/*/last.pt"))
        Folder(out).append([theirs])

    monkeypatch.setattr(runner_module, "run_one", overtaken)
    monkeypatch.setattr(runner_module.time, "sleep", sleep)
    assert experiment(path, out) == 0
    assert [line["run_id"] for line in lines_of(out)] == [theirs["run_id"]]


def test_run_of_another_process_is_waited_for(tmp_path, monkeypatch, trained):
    path = write_experiment(tmp_path, models=["BPR", "LightGCN"])
    out = tmp_path / "out"
    assert experiment(path, tmp_path / "other") == 0
    del trained[:]
    theirs = next(line for line in lines_of(tmp_path / "other") if line["cell"] == "BPR")
    folder = Folder(out)
    folder.make()
    other = Claims(folder.claims).take(theirs["settings_hash"])
    waited, real_sleep = [], time.sleep

    def sleep(seconds):
        if seconds < runner_module.POLL:  # of somebody else: the patch is everybody's clock
            return real_sleep(seconds)
        waited.append(seconds)
        folder.append([theirs])
        other.release()

    monkeypatch.setattr(runner_module.time, "sleep", sleep)
    assert experiment(path, out) == 0
    assert trained == [("LightGCN", 2020)]
    assert len(waited) == 1
    assert sorted(line["cell"] for line in lines_of(out)) == ["BPR", "LightGCN"]

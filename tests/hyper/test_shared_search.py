"""Searches that processes share: nothing is trained twice, no kill loses what is finished."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from recbole_slif.errors import ConfigError, SlifError
from recbole_slif.hyper import shared_search as module
from recbole_slif.hyper.results import best_of, key_of
from recbole_slif.hyper.shared_search import (
    SharedSearch,
    differences,
    join_study,
    other_studies,
    run_shared,
    study_name,
)
from recbole_slif.interrupt import TrainingStoppedError
from recbole_slif.sharing.study import FAILED, FINISHED, LOST, Piece, SharedStudy
from tests.hyper.joining import GRID, score, task_of, trained
from tests.sharing.places import NEEDS_DATABASE, address, fresh_name, place

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def study(tmp_path):
    return SharedStudy(address("journal", tmp_path), "toy")


def start(kind, folder, name, *options):
    """Let a process of its own join a search."""
    command = [sys.executable, "-m", "tests.hyper.joining", place(kind, folder), str(folder)]
    command += [f"--study={name}", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def wait_for(condition, *processes, seconds=300):
    until = time.monotonic() + seconds
    while not condition():
        assert all(process.poll() is None for process in processes), "a process ended by itself"
        assert time.monotonic() < until
        time.sleep(0.02)


def keys(folder):
    return [key_of(one["settings"]) for one in trained(folder)]


def raising(error, when):
    """Return a training that fails at some settings."""

    def train(settings):
        if when(settings):
            raise error
        found = score(settings)
        return {"best_valid_score": found, "valid_score_bigger": True, "best_valid_result": {}}

    return train


@pytest.mark.parametrize(
    ("kind", "algo"),
    [
        ("journal", "exhaustive"),
        ("sqlite", "random"),
        pytest.param("given", "random", marks=NEEDS_DATABASE),
    ],
)
def test_two_processes_share_a_study_and_train_nothing_twice(tmp_path, kind, algo):
    name = fresh_name()
    options = [f"--algo={algo}", "--max_evals=8"]
    running = [start(kind, tmp_path, name, *options, f"--ready=r{at}") for at in range(2)]
    wait_for(lambda: len(list(tmp_path.glob("r[01]"))) == 2, *running)
    (tmp_path / "go").touch()
    told = [json.loads(process.communicate()[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert told[0] == told[1]
    assert len(told[0]) == len(keys(tmp_path)) == len(set(keys(tmp_path))) == 8
    assert len({one["pid"] for one in trained(tmp_path)}) == 2
    if algo == "random":
        alone = tmp_path / "alone"
        alone.mkdir()
        task = task_of(alone, algo, max_evals=8)
        run_shared(task, SharedStudy(address("journal", alone), "toy"))
        assert set(keys(alone)) == set(keys(tmp_path))


@pytest.mark.parametrize("kind", ["journal", pytest.param("given", marks=NEEDS_DATABASE)])
def test_killed_process_loses_its_trial_alone(tmp_path, kind):
    name = fresh_name()
    hung = key_of({"a": 2, "b": "x"})
    (tmp_path / "hang").write_text(hung)
    process = start(kind, tmp_path, name)
    try:
        wait_for(lambda: hung in keys(tmp_path), process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (tmp_path / "hang").unlink()
    before = keys(tmp_path)
    study = SharedStudy(address(kind, tmp_path), name)
    rows = run_shared(task_of(tmp_path), study)
    assert keys(tmp_path)[len(before) :][0] == hung
    assert sorted(keys(tmp_path)) == sorted([*(key_of(row["params"]) for row in rows), hung])
    assert len(rows) == 8
    assert [one.state for one in study.attempts()].count(LOST) == 1


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("given", marks=NEEDS_DATABASE)])
def test_killed_worker_is_made_up_for_by_the_other(tmp_path, kind, capfd):
    name = fresh_name()
    hung = key_of({"a": 1, "b": "y"})
    (tmp_path / "hang").write_text(hung)
    process = start(kind, tmp_path, name, "--workers=2")
    try:
        wait_for(lambda: len(set(keys(tmp_path))) == 8, process)
        victim = next(one["pid"] for one in trained(tmp_path) if key_of(one["settings"]) == hung)
        assert victim != process.pid
        (tmp_path / "hang").unlink()
        os.kill(victim, signal.SIGSTOP)  # so that it does not finish before the kill
        os.kill(victim, signal.SIGKILL)
        rows = json.loads(process.communicate(timeout=300)[0])
    finally:
        process.kill()
    assert process.returncode == 0
    assert len(rows) == 8
    assert best_of(rows)["params"] == {"a": 3, "b": "y"}
    assert (
        "1 of 2 workers ended with status -9; the others did their work" in capfd.readouterr().err
    )


def test_finished_search_is_not_trained_again(tmp_path, study):
    first = run_shared(task_of(tmp_path), study)
    assert run_shared(task_of(tmp_path), SharedStudy(study.address, "toy")) == first
    assert len(trained(tmp_path)) == 8
    assert best_of(first)["params"] == {"a": 3, "b": "y"}


def test_most_trials_count_over_the_whole_study(tmp_path, study):
    run_shared(task_of(tmp_path, "random", max_evals=3), study)
    assert len(trained(tmp_path)) == 3
    run_shared(task_of(tmp_path, "random", max_evals=5), study)
    assert len(trained(tmp_path)) == 5
    # another algorithm goes on where this one ended
    assert len(run_shared(task_of(tmp_path, "bayes", max_evals=12), study)) == 12
    assert len(trained(tmp_path)) == 12


@pytest.mark.parametrize("algo", ["random", "bayes"])
def test_stopped_search_ends_as_if_it_had_not_been(tmp_path, study, algo):
    def dying(settings):
        if len(trained(tmp_path)) == 4:
            raise KeyboardInterrupt
        return task.train(settings)

    task = task_of(tmp_path, algo, max_evals=14)
    stopping = task_of(tmp_path, algo, max_evals=14, train=dying)
    with pytest.raises(TrainingStoppedError, match=r"kept in .*shared\.journal', go on"):
        run_shared(stopping, study)
    rows = run_shared(task, study)
    whole = tmp_path / "whole"
    whole.mkdir()
    uninterrupted = SharedStudy(address("journal", whole), "toy")
    assert run_shared(task_of(whole, algo, max_evals=14), uninterrupted) == rows
    assert keys(tmp_path) == keys(whole)


def test_repeated_draws_take_the_earlier_result(tmp_path, study):
    task = task_of(tmp_path, "random", max_evals=30, parameters=GRID)
    rows = run_shared(task, study)
    assert len(rows) == 30
    assert len(trained(tmp_path)) == len(set(keys(tmp_path))) <= 8
    repeats = [one for one in study.attempts() if "repeats" in one.attrs]
    assert len(repeats) == 30 - len(trained(tmp_path))
    by_number = {one.number: one for one in study.attempts()}
    for one in repeats:
        earlier = by_number[one.attrs["repeats"]]
        assert (one.key, one.value) == (earlier.key, earlier.value)


def test_early_stop_counts_trials_without_progress(tmp_path, study):
    space = (GRID[0],)
    flat = lambda settings: {"best_valid_score": 1.0, "valid_score_bigger": True,  # noqa: E731
                             "best_valid_result": {}}  # fmt: skip
    task = task_of(tmp_path, "random", train=flat, parameters=space, early_stop=5)
    assert len(run_shared(task, study)) == 6


def test_failures_are_rows_that_do_not_win(tmp_path, study):
    for error, text in (
        (SlifError("training loss is not finite"), "training loss is not finite"),
        (ValueError("odd"), "ValueError: odd"),
    ):
        name = fresh_name()
        task = task_of(tmp_path, train=raising(error, lambda s: s["a"] == 3))
        rows = run_shared(task, SharedStudy(study.address, name))
        assert [row["error"] for row in rows if row["score"] is None] == [text, text]
        assert best_of(rows)["params"]["a"] in (2, 4)
        again = task_of(tmp_path, train=raising(AssertionError("again"), lambda s: True))
        assert run_shared(again, SharedStudy(study.address, name)) == rows


def test_score_that_is_no_number_is_a_failure(tmp_path, study):
    def train(settings):
        return {"best_valid_score": float("nan"), "valid_score_bigger": True}

    rows = run_shared(task_of(tmp_path, train=train), study)
    with pytest.raises(SlifError, match="metric is not a number"):
        best_of(rows)


def test_unusable_settings_end_the_search_and_free_the_trial(tmp_path, study):
    task = task_of(tmp_path, train=raising(ConfigError("no such key"), lambda s: True))
    with pytest.raises(ConfigError, match="no such key"):
        run_shared(task, study)
    assert [one.state for one in study.attempts()] == [LOST]


def test_settings_that_kill_their_process_three_times_are_given_up(tmp_path, study):
    attempts = []
    for _ in range(3):
        piece = module.Draws(GRID, "exhaustive", None, 1, True).next(study.attempts())
        held = study.take(piece, lambda earlier: False)
        attempts.append(held.number)
        study.storage.set_trial_user_attr(
            held.trial_id, "holder", {**study._mark.content(), "pid": 2**30}
        )
        study.attempts()
    rows = run_shared(task_of(tmp_path), study)
    assert rows[0]["error"] == "its process ended 3 times before it was done"
    assert len(rows) == 8
    assert len(trained(tmp_path)) == 7


def test_search_waits_for_what_others_are_at(tmp_path, study, monkeypatch):
    other = SharedStudy(study.address, "toy")
    held = other.take(
        Piece(key_of({"a": 1, "b": "x"}), attrs={"settings": {}}), lambda earlier: False
    )
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if len(trained(tmp_path)) == 7:
            held.finish({"row": {"params": {"a": 1, "b": "x"}, "score": 9.0, "bigger": True}}, 9.0)
            held.release()

    monkeypatch.setattr(module.time, "sleep", sleep)
    rows = run_shared(task_of(tmp_path), study)
    assert waited
    assert best_of(rows)["score"] == 9.0
    assert len(trained(tmp_path)) == 7


def test_workers_that_cannot_work_are_an_error(tmp_path, study, capfd):
    task = task_of(tmp_path, train=_unusable)
    with pytest.raises(SlifError, match="2 of 2 workers ended with status 2; go on"):
        run_shared(task, study, workers=2)
    assert "error: no such key" in capfd.readouterr().err


def _unusable(settings):
    raise ConfigError("no such key")


def test_other_settings_never_mix(study):
    identity = {"searched": {"a": ["choice", [1, 2]]}, "settings": {"epochs": 2}, "data": "x"}
    wider = {**identity, "searched": {"a": ["choice", [1, 2, 3]]}}
    longer = {**identity, "settings": {"epochs": 3}}
    names = {study_name("BPR-toy", one) for one in (identity, wider, longer)}
    assert len(names) == 3
    assert study_name("BPR-toy", dict(reversed(identity.items()))) in names
    join_study(study, identity)
    join_study(SharedStudy(study.address, "toy"), identity)
    for changed, told in (
        (wider, r"a \(\['choice', \[1, 2\]\], here \['choice', \[1, 2, 3\]\]\)"),
        (longer, r"epochs \(2, here 3\)"),
    ):
        with pytest.raises(ConfigError, match=f"under other settings: {told}; name another"):
            join_study(study, changed)
    assert differences(identity, identity) == []
    first = SharedStudy(study.address, study_name("BPR-toy", identity))
    join_study(first, identity)
    assert other_studies(first, "BPR-toy", identity) is None
    second = SharedStudy(study.address, study_name("BPR-toy", longer))
    assert "holds 1 searches of BPR-toy" in other_studies(second, "BPR-toy", longer)
    assert "differs in: epochs (2, here 3)" in other_studies(second, "BPR-toy", longer)


def test_state_names_are_what_a_search_counts(tmp_path, study):
    run_shared(task_of(tmp_path), study)
    assert {one.state for one in study.attempts()} == {FINISHED}
    assert not SharedSearch(task_of(tmp_path), study).draws.next(study.attempts())
    assert FAILED != LOST


@pytest.mark.parametrize("algo", ["random", "bayes"])
def test_draw_that_two_made_differently_is_not_tried_again_for_ever(study, tmp_path, algo):
    # they looked while others were at different trials, so they drew other settings as number 0
    part = SharedSearch(task_of(tmp_path, algo, max_evals=2), study)
    first, other = (part.draws._piece({"a": a, "b": "x"}, draw=0) for a in (1.0, 2.0))
    with study.take(first, partial(module._forbids, first, False)) as held:
        assert study.take(other, partial(module._forbids, other, False)) is None
        held.finish({"row": {"params": {}, "score": 0.5, "bigger": True}}, 0.5)
    assert [one.state for one in study.attempts()] == [FINISHED, LOST]
    piece = part.draws.next(study.attempts())
    assert piece.attrs["draw"] == 1
    assert part._try(piece, study.attempts())
    assert len(trained(tmp_path)) == 1

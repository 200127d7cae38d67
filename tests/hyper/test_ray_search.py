"""What is tried on Ray follows the same draws; Ray itself runs where one of today is there."""

import json
import math

import pytest

from recbole_slif import hyper
from recbole_slif.errors import ConfigError, SlifError
from recbole_slif.hyper import ray_search as module
from recbole_slif.hyper.ray_search import Course, load_ray, run_on_ray, trial
from recbole_slif.hyper.results import TrialsFile, best_of, key_of, trained_row
from recbole_slif.hyper.shared_search import run_shared
from recbole_slif.sharing.study import SharedStudy
from tests.hyper.joining import GRID, task_of, trained
from tests.sharing.places import address


def carried_out(course, at_a_time=1):
    """Carry a course out, so many trials at a time; return its rows."""
    running = []
    while True:
        while len(running) < at_a_time and (begun := course.next()) is not None:
            running.append(begun)
        if not running:
            assert course.over()
            return course.rows()
        first = running.pop(0)
        course.end(first.number, trained_row(course.task.train, first.attrs["settings"]))


@pytest.mark.parametrize("algo", ["exhaustive", "random", "bayes"])
def test_course_draws_what_a_shared_search_draws(tmp_path, algo):
    task = task_of(tmp_path, algo, max_evals=8)
    shared = run_shared(task, SharedStudy(address("journal", tmp_path), "toy"))
    assert carried_out(Course(task, {})) == shared


def test_course_trains_nothing_twice(tmp_path):
    task = task_of(tmp_path, "random", max_evals=20, parameters=GRID)
    rows = carried_out(Course(task, {}), at_a_time=3)
    keys = [key_of(one["settings"]) for one in trained(tmp_path)]
    assert len(rows) == 20
    assert len(keys) == len(set(keys)) <= 8
    known = {key_of(row["params"]): row for row in rows}
    assert carried_out(Course(task_of(tmp_path), known)) is not None
    assert len(trained(tmp_path)) == 8


def test_course_ends_without_progress(tmp_path):
    def flat(settings):
        return {"best_valid_score": 1.0, "valid_score_bigger": True, "best_valid_result": {}}

    task = task_of(tmp_path, "random", train=flat, parameters=(GRID[0],), early_stop=5)
    assert len(carried_out(Course(task, {}))) == 6


def test_trial_reports_the_validation_score_alone(tmp_path):
    task = task_of(tmp_path)
    found = trial(task.train, {"settings": {"a": 3, "b": "y"}})
    assert set(found) == {"row", "valid_score"}
    assert found["valid_score"] == json.loads(found["row"])["score"] == 1.05
    assert not any(isinstance(value, dict) for value in found.values())  # Ray flattens those

    def failing(settings):
        raise SlifError("no")

    found = trial(failing, {"settings": {"a": 3, "b": "y"}})
    assert math.isnan(found["valid_score"])
    assert json.loads(found["row"])["error"] == "no"


class Small:
    """Stands for Ray: carries suggestions out one by one, and loses the second one."""

    class tune:  # noqa: N801
        class search:  # noqa: N801
            class Searcher:
                FINISHED = "FINISHED"

                def __init__(self, metric, mode):
                    self.metric, self.mode = metric, mode

        class TuneConfig:
            def __init__(self, **given):
                vars(self).update(given)

        class RunConfig(TuneConfig):
            pass

        class Tuner:
            def __init__(self, trainable, tune_config, run_config):
                self.trainable, self.asked = trainable, tune_config

            def fit(self):
                searcher = self.asked.search_alg
                assert (searcher.metric, searcher.mode) == ("valid_score", "max")
                for at in range(self.asked.num_samples):
                    config = searcher.suggest(str(at))
                    if config == "FINISHED":
                        return
                    result = None if at == 1 else self.trainable(config)
                    searcher.on_trial_complete(str(at), result, error=at == 1)

    @staticmethod
    def is_initialized():
        return True


def test_what_ray_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "load_ray", lambda: Small)
    file = TrialsFile(tmp_path / "t.jsonl", "here")
    rows = run_on_ray(task_of(tmp_path), file, 1)
    assert len(rows) == 8
    assert rows[1]["error"] == "Ray could not carry it out"
    assert best_of(rows)["params"] == {"a": 3, "b": "y"}
    lines = [json.loads(line) for line in file.path.read_text().splitlines()]
    assert lines == [{**row, "scope": "here"} for row in rows]
    assert len(trained(tmp_path)) == 7


def test_failure_of_ray_is_one_line(tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no\nmemory")

    monkeypatch.setattr(module, "load_ray", lambda: Small)
    monkeypatch.setattr(module, "_fit", fail)
    with pytest.raises(SlifError, match="Ray failed: no memory"):
        run_on_ray(task_of(tmp_path), TrialsFile(tmp_path / "t.jsonl", ""), 1)


def test_ray_that_does_not_start_is_one_line(tmp_path, monkeypatch):
    ended = []

    class Overloaded(Small):
        @staticmethod
        def is_initialized():
            return False

        @staticmethod
        def init(**given):
            raise RuntimeError("the node timed out")

        @staticmethod
        def shutdown():
            ended.append(1)

    monkeypatch.setattr(module, "load_ray", lambda: Overloaded)
    with pytest.raises(SlifError, match="Ray failed: the node timed out"):
        run_on_ray(task_of(tmp_path), TrialsFile(tmp_path / "t.jsonl", ""), 1)
    assert ended


def test_without_ray_one_line_says_how(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ConfigError, match="pip install -U 'ray"):
        load_ray()
    assert hyper.main(["--model=BPR", "--backend=ray"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "ray cannot be imported" in told


def test_search_on_ray_itself(tmp_path):
    try:
        load_ray()
    except ConfigError as error:
        pytest.skip(str(error))
    rows = run_on_ray(task_of(tmp_path), TrialsFile(tmp_path / "t.jsonl", ""), 2)
    assert len(rows) == len(trained(tmp_path)) == 8
    assert best_of(rows)["params"] == {"a": 3, "b": "y"}

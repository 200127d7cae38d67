"""The frame of the long checks: what it counts, keeps, stops at and answers."""

import json
import threading
import time

import pytest
from tqdm import tqdm

from recbole_slif.registry import MODELS
from reliability.__main__ import main
from reliability.checks import CHECKS
from reliability.frame import Case, CaseSkipped, Check, Setting, run_check


def mixed(setting):
    """Yield cases of each kind; one writes into the check's own folder."""

    def wrong():
        raise ValueError(f"drawn with seed {setting.seed}")

    def absent():
        raise CaseSkipped("no such disk")

    def measured():
        (setting.folder / "trace").write_text("x")
        return {"growth": 0.5}

    yield Case("good", lambda: None)
    yield Case("bad", wrong)
    yield Case("absent", absent)
    yield Case("measured", measured)


def endless(setting):
    while True:
        yield Case("slow", lambda: time.sleep(0.02))


def broken(setting):
    yield Case("good", lambda: None)
    raise RuntimeError("no data set could be written")


def check(function):
    return Check(function.__name__, "a promise", f"{__name__}:{function.__name__}", 4)


def command(tmp_path, functions, *words):
    path = tmp_path / "out.json"
    status = main([f"--out={path}", *words], [check(function) for function in functions])
    return status, json.loads(path.read_text())["checks"]


def test_each_kind_of_case_is_counted_kept_and_told(tmp_path, capsys):
    status, found = command(tmp_path, [mixed], "--seed=7")
    assert status == 1
    kept = found["mixed"]
    assert (kept["passed"], kept["failed"], kept["skipped"], kept["whole"]) == (2, 1, 1, True)
    (failure,) = kept["failures"]
    assert failure["case"] == "bad"
    assert failure["error"].startswith("ValueError: drawn with seed 7 (test_frame.py:")
    assert kept["skips"] == {"no such disk": 1}
    assert kept["figures"] == {"measured": {"growth": 0.5}}
    shown = capsys.readouterr().out
    assert "FAILED mixed: bad" in shown
    assert "3 of 4" in shown


def test_one_case_is_made_again_by_its_name(tmp_path):
    status, found = command(tmp_path, [mixed], "--case=^good$")
    assert status == 0
    assert (found["mixed"]["passed"], found["mixed"]["whole"]) == (1, False)


def test_time_is_shared_and_an_unfinished_check_says_so(tmp_path, capsys):
    status, found = command(tmp_path, [endless, mixed], "--minutes=0.005")
    assert status == 1
    assert 0 < found["endless"]["passed"] < 15
    assert found["endless"]["whole"] is False
    assert "time was up" in capsys.readouterr().out
    assert found["mixed"]["whole"] is True


def test_trouble_in_making_cases_is_a_failure(tmp_path):
    found = run_check(check(broken), Setting(0, tmp_path, ("BPR",), 1), time.monotonic() + 9)
    assert (found.passed, found.failed, found.whole, found.in_time) == (1, 1, False, False)
    assert "no data set" in found.failures[0]["error"]


@pytest.mark.parametrize("words", [["--only=kils"], ["--models=SLIF"], ["--only="]])
def test_unknown_names_are_refused(words, capsys):
    assert main(words, [check(mixed)]) == 2
    assert "not known; there are" in capsys.readouterr().err


def alone(setting):
    def threads():
        return {"threads": threading.active_count() - setting.seed}

    yield Case("threads", threads)


def test_no_thread_is_started_that_a_fork_could_catch_with_a_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(tqdm, "monitor_interval", 10)
    monkeypatch.setattr(tqdm, "monitor", None)
    before = threading.active_count()
    _, found = command(tmp_path, [alone], f"--seed={before}")
    assert found["alone"]["figures"] == {"threads": {"threads": 0}}


def test_scratch_is_removed_unless_asked_for(tmp_path):
    command(tmp_path, [mixed], f"--folder={tmp_path / 'kept'}")
    assert (tmp_path / "kept" / "mixed" / "trace").exists()


def test_the_checks_that_are_registered_can_be_made(tmp_path):
    names = [entry.name for entry in CHECKS]
    assert len(set(names)) == len(names)
    for entry in CHECKS:
        setting = Setting(0, tmp_path / entry.name, tuple(MODELS), 3)
        setting.folder.mkdir()
        assert next(iter(entry.make(setting))).name

"""Lines are whole or not there; a torn one costs nobody else's."""

import json
import subprocess
import sys

import numpy as np
import pytest

from recbole_slif.errors import ConfigError, DataError
from recbole_slif.experiment.folder import Folder


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path / "out")
    made.make()
    return made


def line(cell, text="aa", status="finished", **more):
    return {"cell": cell, "settings_hash": text, "status": status, **more}


def test_lines_come_back_in_order(folder):
    folder.append([line("A", value=float("nan")), line("B")])
    folder.append([line("C")])
    assert [found["cell"] for found in folder.lines()] == ["A", "B", "C"]
    assert folder.lines()[0]["value"] is None
    assert folder.runs_file.read_bytes().endswith(b"\n")


def test_torn_line_is_skipped_and_closed_off(folder):
    folder.append([line("A")])
    with folder.runs_file.open("a") as stream:
        stream.write(json.dumps(line("B"))[:20])
    assert folder.recorded().finished == {("A", "aa")}
    folder.append([line("C")])
    assert [found["cell"] for found in folder.lines()] == ["A", "C"]
    assert folder.recorded().finished == {("A", "aa"), ("C", "aa")}


def test_line_that_finds_half_the_room_it_needs_is_an_error(folder):
    folder.append([line("A")])
    code = """
import resource, sys
from recbole_slif.experiment.folder import Folder
folder = Folder(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    folder.append([{"cell": "B", "settings_hash": "b", "status": "finished"}])
except OSError:
    sys.exit(3)
"""
    done = subprocess.run([sys.executable, "-c", code, str(folder.path)], capture_output=True)
    assert done.returncode == 3, done.stderr
    folder.append([line("C")])
    assert [found["cell"] for found in folder.lines()] == ["A", "C"]


def test_recorded_counts_failures_and_sees_other_writers(folder):
    other = Folder(folder.path)
    folder.append([line("A", status="failed")])
    assert other.recorded().failed == {"aa": 1}
    folder.append([line("A", status="failed"), line("B", "bb")])
    assert other.recorded().failed == {"aa": 2}
    assert other.recorded().hashes == {"bb": "B"}


def test_writers_do_not_cut_each_other_off(folder):
    code = """
import sys
from recbole_slif.experiment.folder import Folder
folder = Folder(sys.argv[1])
for at in range(40):
    folder.append([{"cell": f"{sys.argv[2]}-{at}", "settings_hash": "a", "status": "finished",
                    "filling": "x" * 20000}])
"""
    command = [sys.executable, "-c", code, str(folder.path)]
    running = [subprocess.Popen([*command, name]) for name in ("one", "two", "three")]
    assert [process.wait() for process in running] == [0, 0, 0]
    found = [entry["cell"] for entry in folder.lines()]
    assert sorted(found) == sorted(f"{n}-{at}" for n in ("one", "two", "three") for at in range(40))


def test_per_user_file(folder):
    values = {"user": np.array([1, 3]), "recall@5": np.array([0.5, 1.0])}
    name = folder.write_per_user("aa", values)
    with np.load(folder.path / name) as found:
        assert set(found.files) == {"users", "recall@5"}
        assert found["users"].tolist() == [1, 3]


def test_per_user_file_is_found_inside_the_folder_alone(folder):
    inside = folder.keep_per_user("aa", b"x")
    (folder.path.parent / "other.npz").write_bytes(b"x")
    (folder.path / "link.npz").symlink_to(folder.path.parent / "other.npz")
    assert folder.per_user_file({"per_user": inside}) == folder.path / "per_user/aa.npz"
    absolute = str(folder.path.parent / "other.npz")
    for name in ("../other.npz", absolute, "link.npz", "per_user", "gone.npz", "", "a\0", None, []):
        assert folder.per_user_file({"per_user": name}) is None, name
    with pytest.raises(DataError, match="is a path"):
        folder.keep_per_user("../aa", b"x")


def test_damaged_plan_and_unusable_folder(folder, tmp_path):
    assert folder.read_plan() is None
    folder.plan_file.write_text("{")
    with pytest.raises(DataError, match=r"plan.json' is damaged"):
        folder.read_plan()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="choose another with --out"):
        Folder(tmp_path / "file" / "out").make()


def test_work_is_removed_run_by_run(folder):
    for name in ("aa", "bb"):
        (folder.work(name) / "run").mkdir(parents=True)
    folder.clear_work("aa")
    assert [path.name for path in (folder.path / "work").iterdir()] == ["bb"]
    folder.clear_work("bb")
    assert not (folder.path / "work").exists()


def test_half_of_a_killed_process_is_removed_by_the_next(tmp_path):
    folder = Folder(tmp_path)
    (tmp_path / "per_user").mkdir()
    (tmp_path / "per_user" / ".abc.npz.0123").touch()
    (tmp_path / "per_user" / ".other.npz.0123").touch()
    folder.write_per_user("abc", {"user": np.arange(2)})
    left = {path.name for path in (tmp_path / "per_user").iterdir()}
    assert left == {"abc.npz", ".other.npz.0123"}

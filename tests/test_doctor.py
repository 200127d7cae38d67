"""The doctor sees what is there, says what is missing, and knows the ranges of setup.py."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_slif import doctor
from recbole_slif.compat import FIXES

ROOT = Path(__file__).parent.parent


@pytest.fixture
def everything(monkeypatch):
    """An environment that lacks nothing, whatever the one the tests run in lacks."""
    row = {"name": "ml-100k", "state": doctor.PRESENT, "version": "", "fix": ""}
    monkeypatch.setattr(doctor, "check_data", lambda: [row])


def pretend(monkeypatch, **versions):
    """Let single distributions have other versions, or none."""
    real = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda name: versions.get(name, real(name)))


def test_complete_installation(everything, capsys):
    assert doctor.main([]) == 0
    text = capsys.readouterr().out
    assert "Ready." in text and "To do:" not in text
    assert all(name in text for name in ("numpy", "recbole", "hyperopt", "ml-100k", "GPU"))
    assert all(fix.name in text for fix in FIXES)


def test_json_says_the_same(everything, capsys):
    assert doctor.main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["complete"] is True
    assert {row["name"] for row in found["packages"]} >= {"python", "recbole", "torch"}
    assert {row["name"]: row["state"] for row in found["fixes"]}["use-gpu"] == "active"
    assert found["device"]["processors"] >= 1


def test_missing_package_is_named_with_its_command(everything, monkeypatch, capsys):
    pretend(monkeypatch, texttable=(), scipy=())
    assert doctor.main([]) == 1
    todo = capsys.readouterr().out.split("To do:")[1]
    assert "texttable: pip install texttable" in todo
    assert "scipy: pip install 'scipy>=1.12,<1.19'" in todo


@pytest.mark.parametrize(("python", "option"), [((3, 11), ""), ((3, 13), "--no-deps ")])
def test_missing_recbole_asks_for_the_command_of_this_python(
    everything, monkeypatch, capsys, python, option
):
    pretend(monkeypatch, recbole=())
    monkeypatch.setattr(sys, "version_info", python)
    assert doctor.main([]) == 1
    assert f"recbole: pip install {option}recbole==1.2.1\n" in capsys.readouterr().out


def test_recbole_1_2_0_does_not_do(everything, monkeypatch):
    pretend(monkeypatch, recbole=(1, 2, 0))
    assert doctor.main([]) == 1


def test_untested_version_is_told_but_is_no_failure(everything, monkeypatch, capsys):
    pretend(monkeypatch, torch=(9, 0))
    assert doctor.main([]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("  torch"))
    assert doctor.OUTSIDE in line and "torch>=2.5.1,<2.16" in line


def test_missing_text_features_are_a_failure(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(doctor.importlib.resources, "files", lambda _: tmp_path)
    states = {row["name"]: row["state"] for row in doctor.check_data()}
    assert states == {"ml-100k": doctor.PRESENT, "ml-100k text features": doctor.MISSING}
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "ml-100k.text.npy").write_bytes(b"")
    assert {row["state"] for row in doctor.check_data()} == {doctor.PRESENT}


def test_ranges_are_those_of_setup():
    text = (ROOT / "setup.py").read_text("utf-8")
    for name, (first, end) in doctor.TESTED.items():
        found = re.search(rf'"{name}>=([\d.]+),<([\d.]+)"', text)
        assert found is not None, name
        assert tuple(map(int, found[1].split("."))) == first
        assert tuple(map(int, found[2].split("."))) == end
    for name in doctor.NEEDED_BY_RECBOLE:
        assert re.search(rf'"{name}[=>]=', text), name
    assert f"recbole=={'.'.join(map(str, doctor.RECBOLE_VERSION))};" in text


BLOCKER = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('recbole', 'torch', 'numpy', 'scipy', 'pandas'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Gone())
from recbole_slif import doctor
from recbole_slif.__main__ import main
doctor.installed = lambda name: ()
doctor.importlib.util.find_spec = lambda name: None
sys.exit(main(sys.argv[1:]))
"""


def run_where_all_is_missing(*words):
    command = [sys.executable, "-c", BLOCKER, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_runs_where_recbole_and_torch_are_missing():
    done = run_where_all_is_missing("doctor")
    assert done.returncode == 1, done.stderr
    assert "recbole: pip install" in done.stdout and "torch: pip install" in done.stdout


def test_other_commands_send_to_the_doctor_in_one_line():
    done = run_where_all_is_missing("--model=BPR")
    assert done.returncode == 1
    assert re.fullmatch(r"error: No module named '\w+'; `[^`]+ doctor` says .*\n", done.stderr)

"""Each fix is needed where it says so, works, and does nothing elsewhere."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from recbole_slif import compat
from recbole_slif.compat.hooks import HookFinder

NAMES = [fix.name for fix in compat.FIXES]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def outcomes():
    if not hasattr(os, "fork"):
        pytest.skip("the probes fork")
    done = subprocess.run(
        [sys.executable, str(HERE / "compat_probes.py")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_fix_cures_its_fault(outcomes, name):
    assert outcomes[name]["with"] == ""


@pytest.mark.parametrize("name", NAMES)
def test_fault_is_there_without_the_fix_exactly_where_it_is_needed(outcomes, name):
    assert bool(outcomes[name]["without"]) == outcomes[name]["needed"], outcomes[name]


def test_names_are_unique_and_every_fix_says_what_it_answers():
    assert len(set(NAMES)) == len(NAMES)
    assert all(fix.fault and fix.upstream and fix.modules for fix in compat.FIXES)


def test_apply_again_changes_nothing():
    before = list(sys.meta_path)
    compat.apply()
    assert sys.meta_path == before


def test_report_follows_the_imports():
    import recbole.config  # noqa: F401

    states = {row["name"]: row["state"] for row in compat.report()}
    assert set(states) == set(NAMES)
    assert states["use-gpu"] == "active"
    assert set(states.values()) <= {"active", "waiting", "not needed"}


def test_importing_the_package_imports_neither_recbole_nor_ray():
    code = (
        "import sys, recbole_slif; assert not {'recbole', 'torch', 'ray'} & set(sys.modules);"
        "import recbole.config, recbole.data, recbole.trainer, recbole.utils;"
        "assert 'ray' not in sys.modules and 'thop' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE.parent)


@pytest.fixture
def finder(tmp_path, monkeypatch):
    (tmp_path / "slif_hooked.py").write_text("VALUE = 1\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    finder = HookFinder()
    sys.meta_path.insert(0, finder)
    yield finder
    sys.meta_path.remove(finder)
    sys.modules.pop("slif_hooked", None)


def test_hook_runs_around_the_import_and_leaves_the_module_ordinary(finder):
    seen = []
    finder.watch("slif_hooked", _recording(seen))
    import slif_hooked

    assert seen == [("before", False), ("after", True)]
    assert type(slif_hooked.__loader__).__name__ == "SourceFileLoader"
    assert slif_hooked.__spec__.loader is slif_hooked.__loader__


def test_hook_runs_at_once_on_a_loaded_module(finder):
    seen = []
    sys.modules["slif_hooked"] = types.ModuleType("slif_hooked")
    finder.watch("slif_hooked", _recording(seen))
    assert seen == [("before", False), ("after", False)]


def _recording(seen):
    from contextlib import contextmanager

    @contextmanager
    def around(module):
        seen.append(("before", hasattr(module, "VALUE")))
        yield
        seen.append(("after", hasattr(module, "VALUE")))

    return around


def test_numpy_names_that_exist_are_kept(monkeypatch):
    import numpy as np

    from recbole_slif.compat import libraries

    sentinel = object()
    monkeypatch.setattr(np, "long", sentinel, raising=False)
    libraries.add_numpy_names(np)
    assert np.long is sentinel

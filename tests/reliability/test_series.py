"""The fast part of the long checks: some cases of each, made in the same way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the checks fork")
@pytest.mark.parametrize(
    ("checks", "more"),
    [
        (["kills", "stops", "disk", "determinism"], ["--cases=2"]),
        (["long"], ["--cases=3", "--case=BPR: 3 runs"]),
    ],
)
def test_some_cases_of_each_check_pass(tmp_path, checks, more):
    """In a process of its own, as a process that has trained must not be forked."""
    out = tmp_path / "out.json"
    words = [sys.executable, "-m", "reliability", f"--only={','.join(checks)}", "--minutes=9"]
    words += ["--models=BPR", *more, f"--out={out}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    found = json.loads(out.read_text())["checks"]
    assert list(found) == checks
    wanted = 1 if checks == ["long"] else 2
    for entry in found.values():
        assert entry["passed"] + entry["skipped"] == wanted
        assert entry["passed"] == wanted or entry is found["disk"]

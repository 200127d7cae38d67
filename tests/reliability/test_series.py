"""The fast part of the long checks: some cases of each, made in the same way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the checks fork")
def test_some_cases_of_each_check_pass(tmp_path):
    """In a process of its own, as a process that has trained must not be forked."""
    out = tmp_path / "out.json"
    words = [sys.executable, "-m", "reliability", "--only=kills,stops,disk", "--minutes=9"]
    words += ["--models=BPR", "--cases=2", f"--out={out}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    found = json.loads(out.read_text())["checks"]
    assert found["kills"]["passed"] == found["stops"]["passed"] == 2
    assert found["disk"]["passed"] + found["disk"]["skipped"] == 2

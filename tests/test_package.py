"""What importing the package sets up."""

import importlib
import os

import pytest

import recbole_slif


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(monkeypatch, before, after):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if before:
        monkeypatch.setenv("OMP_WAIT_POLICY", before)
    importlib.reload(recbole_slif)
    assert os.environ["OMP_WAIT_POLICY"] == after

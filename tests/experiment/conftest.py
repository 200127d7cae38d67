"""What the tests of experiments share."""

import pytest

from recbole_slif.experiment import runner as runner_module


@pytest.fixture
def trained(monkeypatch):
    """The runs that are trained, in order."""
    seen = []
    run_one = runner_module.run_one

    def counting(run, *rest):
        seen.append((run.cell, run.seed))
        return run_one(run, *rest)

    monkeypatch.setattr(runner_module, "run_one", counting)
    return seen

"""A run whose ranking loss never moved is told from one that learned."""

import logging
import math

import pytest

from recbole_slif import quick_start
from recbole_slif.plateau import stood_still
from tests.running import settings


def epochs(*losses):
    return [{"epoch": at, "loss": loss} for at, loss in enumerate(losses)]


STILL = 20 * math.log(2)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (epochs(*[{"bpr": STILL - at / 1000, "inter": 80.0 - at} for at in range(25)]), True),
        (epochs(*[{"bpr": STILL * 0.98**at, "inter": 80.0} for at in range(25)]), False),
        (epochs(*[{"bpr": STILL, "inter": 80.0}] * 24, {"bpr": STILL * 0.98}), False),
        (epochs(*[STILL] * 5), True),  # one loss has no name
        (epochs(*[STILL] * 4), False),  # too few to tell
        (epochs(*[{"knowledge": 2.0}] * 9), False),  # no ranking loss by name
        (epochs(*[{"bpr": STILL}] * 9, {"knowledge": 2.0}), False),
        (epochs(*[0.0] * 9), False),  # nothing to train, as Pop
        ([{"epoch": 0}] * 9, False),
        ([], False),
    ],
)
def test_what_counts_as_standing_still(history, expected):
    assert stood_still(history) is expected


@pytest.mark.parametrize(("rate", "said"), [(1e-7, True), (0.05, False)])
def test_run_that_has_not_learned_says_so(tmp_path, caplog, rate, said):
    chosen = settings(tmp_path, epochs=6, learning_rate=rate, stopping_step=50)
    with caplog.at_level(logging.WARNING):
        quick_start.run("SLIFMR", "toy", None, chosen, verbose=False)
    assert ("has not learned to rank" in caplog.text) is said

"""A best value at an end of its space is named, and nothing else is."""

import math

import pytest

from recbole_slif import hyper
from recbole_slif.hyper.edges import edge_notes
from recbole_slif.hyper.space import Parameter
from tests.hyper.test_command import words


def note_of(kind, values, best, allowed=lambda name, value: True):
    notes = edge_notes([Parameter("rate", kind, tuple(values))], {"rate": best}, allowed)
    assert len(notes) <= 1
    return notes[0] if notes else None


@pytest.mark.parametrize(
    ("kind", "values", "best", "told"),
    [
        ("choice", [0.01, 0.001, 0.1], 0.1, "largest"),
        ("choice", [0.01, 0.001, 0.1], 0.001, "smallest"),
        ("choice", [0.01, 0.001, 0.1], 0.01, None),
        ("choice", [3], 3, None),
        ("choice", [1, 1], 1, None),
        ("choice", [2, "all"], 2, None),
        ("choice", [True, False], True, None),
        ("choice", ["[64]", "[64, 32]"], [64], None),
        ("uniform", [0, 1], 0.96, "largest"),
        ("uniform", [0, 1], 0.94, None),
        ("uniform", [0, 1], 0.04, "smallest"),
        ("quniform", [0, 10, 1], 10.0, "largest"),
        ("quniform", [1, 10, 4], 8.0, "largest"),  # 0, 4 and 8 are what is drawn
        ("quniform", [1, 10, 4], 4.0, None),
        ("loguniform", [math.log(1e-4), math.log(1e-2)], 1.2e-4, "smallest"),
        ("loguniform", [math.log(1e-4), math.log(1e-2)], 1e-3, None),
    ],
)
def test_ends_are_told(kind, values, best, told):
    note = note_of(kind, values, best)
    assert (note is not None) is (told is not None)
    if told:
        assert f" is the {told} that was searched" in note and note.startswith("rate: ")


def test_end_that_is_the_limit_of_the_key_is_none():
    def at_most_two(name, value):
        return name == "rate" and 0 <= value <= 2

    assert note_of("choice", [0, 1, 2], 0, at_most_two) is None
    assert note_of("choice", [0.0, 1.0, 2.0], 2.0, at_most_two) is None
    assert note_of("choice", [0.0, 1.0, 1.9], 1.9, at_most_two) is not None


def test_end_of_a_range_of_whole_numbers_is_told():
    def whole(name, value):
        return name == "rate" and float(value).is_integer() and value >= 1

    assert "64 is the largest" in note_of("quniform", [16, 64, 16], 64.0, whole)
    assert "16 is the smallest" in note_of("quniform", [16, 64, 16], 16.0, whole)
    assert note_of("quniform", [1, 4, 1], 1.0, whole) is None


def test_command_tells_and_leaves_limits_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def objective(values, *rest, **more):
        score = values["learning_rate"] - values["reg_weight"]
        return {"best_valid_score": score, "valid_score_bigger": True, "best_valid_result": {}}

    monkeypatch.setattr(hyper.cli.quick_start, "objective", objective)
    space = "learning_rate choice [1e-9, 0.05]\nreg_weight choice [0.0, 100.0]\n"
    assert hyper.main(words(tmp_path, space=space)) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert notes == [
        "note    learning_rate: 0.05 is the largest that was searched; try larger values"
    ]

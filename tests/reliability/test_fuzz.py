"""A share of the fuzzing on every run, and proof that a fault would be seen."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_slif.config_yaml import read_literal
from recbole_slif.errors import DataError
from recbole_slif.plain import read_json
from reliability import fuzz, keys, metrics
from reliability.frame import Setting
from reliability.fuzz.engine import Draw, FoundFault, damaged, judge
from reliability.fuzz.settings import misspelt

# SlifConfig is what costs: kinds that settle one are met less often here
CASES = {"configuration file": 8, "value of a key": 8, "option of the command line": 8,
         "key, misspelt": 8, "search file": 8, "command line": 16, "report": 12}  # fmt: skip
OTHERS = 34
CALM = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return fuzz.kinds(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("number", range(20))
def test_damage_of_each_kind_is_read_or_refused(kinds, number):
    name = list(kinds)[number]
    for at in range(CASES.get(name, OTHERS)):
        kinds[name][0](Draw(f"ci-{number}-{at}"))


def test_cases_are_repeated_by_their_seed(tmp_path):
    names = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        setting = Setting(3, tmp_path / folder, ("BPR",), 5)
        names.append([case.name for case in fuzz.cases(setting)])
    assert names[0] == names[1] and len(names[0]) == 5


def boom():
    raise KeyError("x")


def lines():
    raise DataError("file\n\x1b[2J")


def silent():
    raise DataError("something is wrong")


@pytest.mark.parametrize(
    ("action", "planted", "said"),
    [
        (boom, False, "KeyError"),
        (silent, False, "names neither file nor key"),
        (lambda: 1, True, "accepted"),
    ],
)
def test_a_fault_is_seen(action, planted, said):
    with pytest.raises(FoundFault, match=said):
        judge(action, ["file"], planted)


def test_what_is_right_is_let_through():
    assert judge(lambda: 1, ["file"]) == (True, 1)
    assert judge(lines, ["file"], planted=True) == (False, None)


def test_damage_changes_bytes():
    sound = b"user_id:token\titem_id:token\nu1\ti1\n"
    found = {damaged(sound, Draw(seed)) for seed in range(50)}
    assert len(found - {sound}) > 40
    assert all(misspelt("epochs", Draw(seed)) != "epochs" for seed in range(50))


@CALM
@given(st.text(max_size=60))
def test_any_text_is_a_value(text):
    read_literal(text)


@CALM
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=20))
def test_any_value_survives_as_a_literal(value):
    assert read_literal(repr(value)) == value or isinstance(value, str)


@CALM
@given(st.binary(max_size=60))
def test_any_bytes_are_json_or_a_value_error(data):
    with contextlib.suppress(ValueError):
        read_json(data)


# ---- keys and metrics --------------------------------------------------------------------------


def test_every_key_misspelt_is_refused_with_the_right_suggestion(tmp_path):
    found = list(keys.cases(Setting(0, tmp_path, ("BPR",), 10_000)))
    assert len(found) > 1000
    for case in found[::4]:
        case.run()


def test_a_wrong_suggestion_is_seen():
    def refuse():
        raise keys.ConfigError("file: key 'epcohs' is not known; did you mean 'seed'?")

    with pytest.raises(AssertionError, match="'epcohs' for 'epochs'"):
        keys.suggested("epcohs", "epochs", ["epochs", "seed"], refuse)
    with pytest.raises(AssertionError, match="is accepted"):
        keys.suggested("epcohs", "epochs", ["epochs"], lambda: None)
    assert keys.as_near("tau", "taus") and not keys.as_near("tau", "seed")


@pytest.mark.parametrize("part", range(4))
def test_metrics_equal_loops(part):
    for number in range(50):
        metrics.compare(1, 50 * part + number)


def test_a_metric_that_is_off_is_seen(monkeypatch):
    monkeypatch.setattr(metrics, "found", lambda problem: {"recall@1": 2.0})
    with pytest.raises(AssertionError, match="recall"):
        metrics.compare(1, 0)

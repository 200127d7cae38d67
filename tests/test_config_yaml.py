"""Settings are read as plain data: numbers, words, lists, types and limits."""

from pathlib import Path

import pytest

from recbole_slif.config_keys import parse_limits, parse_type
from recbole_slif.config_yaml import read_literal, read_settings, split_names


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_yaml_numbers_and_words(tmp_path):
    text = "a: 1e-3\nb: off\nc: 5\nd: .5\ne: yes\nf: true\ng: ~\nh: 1.e2\ni: -2E+3\nj: 1.2.3\n"
    path = Path(write(tmp_path / "y.yaml", text))
    assert read_settings(path) == {
        "a": 0.001, "b": "off", "c": 5, "d": 0.5, "e": "yes",
        "f": True, "g": None, "h": 100.0, "i": -2000.0, "j": "1.2.3",
    }  # fmt: skip
    assert read_settings(Path(write(path, ""))) == {}


def test_recboles_yaml_reader_is_left_alone():
    import yaml

    assert yaml.safe_load("a: off") == {"a": False}


def test_split_names(tmp_path):
    spaced = write(tmp_path / "a b.yaml", "")
    assert split_names("x.yaml, y.yaml  z.yaml") == ["x.yaml", "y.yaml", "z.yaml"]
    assert split_names([spaced, "u,v"]) == [spaced, "u", "v"]
    assert split_names(None) == split_names("") == []


@pytest.mark.parametrize(
    ("text", "value"),
    [("[1, 'a']", [1, "a"]), ("TRUE", True), ("None", None), ("~", None), ("a b", "a b"),
     ("1e-3", 0.001), ("{'a': 1}", {"a": 1}), ("os.getcwd()", "os.getcwd()"), ("'x'", "x")],
)  # fmt: skip
def test_read_literal(text, value):
    assert read_literal(text) == value


def test_parse_type():
    assert parse_type("str: a|b c|d") == ((str,), ("a", "b c", "d"), False)
    assert parse_type("list of int or None") == ((list, tuple), (), True)
    assert parse_type("file name of a model") == ((), (), True)
    assert parse_type("int: >= 1") == ((int,), (), False)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [(">= 1", [1, 7, [2, 3], "word", None], [0, -1, [2, 0]]), ("> 0", [0.1], [0, 0.0, -1]),
     ("0 to 1", [0, 1, 0.5], [1.01, -0.1, float("nan")])],
)  # fmt: skip
def test_limits(text, inside, outside):
    limits = parse_limits(text)
    assert all(map(limits.hold, inside))
    assert not any(map(limits.hold, outside))


def test_choices_are_no_limits():
    assert parse_limits("none|kg|mm") is None


@pytest.mark.parametrize("text", ["[open", "{a: [}", "[a: b: c]", "[!!python/name:os.system ]"])
def test_what_is_no_list_stays_text(text):
    assert read_literal(text) == text

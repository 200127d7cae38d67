"""Raw reviews: times in every unit, and ratings whose columns stand the other way round."""

import json

import pytest

from dataset_tools.__main__ import main
from tests.dataset_tools.test_interactions import body, called


@pytest.mark.parametrize("factor", [1_000, 10**6, 10**9])
def test_times_finer_than_seconds_are_read_as_seconds(tmp_path, factor):
    words = ["--format", "json", "--columns", "user_id", "parent_asin", "rating", "timestamp"]
    words += ["--from", "2020-05-01", "--to", "2020-05-31"]
    names = ("user_id", "parent_asin", "rating", "timestamp")
    rows = [("A", "B1", 4, 1_588_687_728 * factor), ("A", "B2", 5, 1_420_070_400 * factor)]
    rows.append(("A", "B3", 5, str(1_588_687_728 * factor)))
    lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    _, files = called(tmp_path, lines, *words)
    assert body(files["toy.inter"]) == [
        ["A", item, rating, "1588687728"] for item, rating in (("B1", "4"), ("B3", "5"))
    ]


def test_ratings_of_2018_with_the_item_first_are_refused(tmp_path, capsys):
    lines = ["0143026860,A1V6B6TNIC10QE,1.0,1424304000", "B00005N7P0,A2XQ5LZHTD4AFT,5.0,1418860800"]
    assert called(tmp_path, lines, "--format", "amazon-csv") == (2, {})
    said = "line 1: the item stands before the user, as in Amazon's ratings of 2018; use "
    hint = "--format csv --no-header --columns 2 1 3 4"
    assert said + hint in capsys.readouterr().err
    code, files = called(tmp_path, lines, *hint.split())
    assert code == 0 and body(files["toy.inter"])[0][:2] == ["A1V6B6TNIC10QE", "0143026860"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["json", "--columns", "a", "b", "-", "a"], "--columns: 'a' is there twice"),
        (["csv", "--columns", "a", "a"], "--columns: 'a' is there twice"),
        (["csv", "--columns", "a", "b", "--width", "4"], "--width: goes with --no-header"),
        (["yelp-json", "--no-header"], "--no-header: goes with --format csv"),
    ],
)
def test_columns_and_options_that_say_nothing_are_refused(tmp_path, capsys, words, said):
    words = ["interactions", "x", "--name", "toy", "--out", str(tmp_path), "--format", *words]
    assert main(words) == 2
    assert said in capsys.readouterr().err

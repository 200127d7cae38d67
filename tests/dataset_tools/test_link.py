"""`link`: KB4Rec's files, ambiguous links, faults, and the items of the data set alone."""

import json
import random

import pytest

from dataset_tools.__main__ import main
from tests.dataset_tools.test_interactions import small_pieces

LINES = [
    "B1\tm.01",
    "B2\tm.02",
    "B2\tm.0",
    "B3 m.03",
    "B4\tm.03",
    "B10\tm.03",
    "B1\tm.01",
    "B9\tm.9",
]
GIVEN = (
    "items with several entities",
    "entities with several items",
    "links left out by these rules",
)


def linked(tmp_path, lines, *words, out="out"):
    raw, report = tmp_path / "ab2fb.txt", tmp_path / "report.json"
    raw.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    )
    report.unlink(missing_ok=True)
    words = ["link", str(raw), "--name", "toy", "--out", str(tmp_path / out), *words]
    code = main([*words, "--report", str(report)])
    found = json.loads(report.read_text()) if report.exists() else None
    path = tmp_path / out / "toy.link"
    return code, path.read_text().splitlines()[1:] if path.exists() else None, found


def test_links_follow_the_rules_and_are_counted(tmp_path):
    _, lines, report = linked(tmp_path, LINES)
    assert lines == ["B1\tm.01", "B2\tm.0", "B3\tm.03", "B4\tm.03", "B9\tm.9", "B10\tm.03"]
    assert [report["counts"][name] for name in GIVEN] == [1, 1, 1]
    assert report["counts"]["repeated lines left out"] == 1
    _, lines, report = linked(
        tmp_path, LINES, "--several-entities", "all", "--several-items", "first"
    )
    assert lines == ["B1\tm.01", "B2\tm.0", "B2\tm.02", "B3\tm.03", "B9\tm.9"]
    assert report["counts"]["links left out by these rules"] == 2
    _, lines, _ = linked(tmp_path, LINES, "--several-items", "none")
    assert lines == ["B1\tm.01", "B2\tm.0", "B9\tm.9"]


@pytest.mark.parametrize("rules", [[], ["--several-entities", "all", "--several-items", "first"]])
def test_shuffled_lines_give_the_same_file(tmp_path, rules):
    before = linked(tmp_path, LINES, *rules)[1]
    for seed in range(5):
        lines = list(LINES)
        random.Random(seed).shuffle(lines)  # noqa: S311
        assert linked(tmp_path, lines, *rules)[1] == before


@pytest.mark.parametrize("items", ["all", "first", "none"])
@pytest.mark.parametrize("entities", ["first", "all"])
def test_the_size_of_pieces_changes_nothing(tmp_path, monkeypatch, items, entities):
    lines = [f"B{n % 7}\tm.{n * n % 11}" for n in range(60)] + [f"C{n}\tm.9{n}" for n in range(3)]
    words = ["--several-items", items, "--several-entities", entities]
    whole = linked(tmp_path, lines, *words)
    assert len(whole[1]) > 1
    small_pieces(monkeypatch)
    for size in (1, 2, 3):
        monkeypatch.setattr("dataset_tools.row_file.CHUNK", size)
        assert linked(tmp_path, lines, *words) == whole


def test_only_items_of_the_data_set_stay(tmp_path):
    (tmp_path / "toy.inter").write_text("user_id:token\titem_id:token\nu\tB1\nu\tB77\nv\tB1\n")
    (tmp_path / "toy.v.ids").write_text("B4\n")
    words = ["--items", str(tmp_path / "toy.inter"), str(tmp_path / "toy.v.ids")]
    _, lines, report = linked(tmp_path, LINES, *words)
    assert lines == ["B1\tm.01", "B4\tm.03"]
    assert report["counts"]["links of items that the data set does not have"] == 5
    assert report["counts"]["items of the data set without link"] == 1


def test_faulty_lines_leave_the_others(tmp_path, capsys):
    good = linked(tmp_path, LINES)[1]
    bad = [LINES[0], "B5", "B5\tm.1\tm.2", b"B\xff\tm.5", "\tm.7", *LINES[1:]]
    _, lines, report = linked(tmp_path, bad)
    assert lines == good
    assert sorted(line for entry in report["faults"] for line in entry["lines"]) == [2, 3, 4, 5]
    code, lines, _ = linked(tmp_path, bad, "--strict", out="strict")
    assert (code, lines) == (2, None)
    (tmp_path / "x.ids").write_text("other\n")
    assert linked(tmp_path, LINES, "--items", str(tmp_path / "x.ids"), out="none")[0] == 2
    assert "no link is left" in capsys.readouterr().err

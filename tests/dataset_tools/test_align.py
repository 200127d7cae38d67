"""`align`: files that agree, that leave something over, and that are wrong, all named at once."""

import json

import numpy as np
import pytest

from dataset_tools.__main__ import main
from recbole_slif.config import SlifConfig
from recbole_slif.data.loaders import prepare_data
from tests.toy import edit_lines


def aligned(tmp_path, *words):
    report = tmp_path / "report.json"
    base = ["align", "--dataset", "toy", "--data-path", str(tmp_path), "--report", str(report)]
    code = main([*base, "--set", "use_gpu=False", *words])
    return code, json.loads(report.read_text())


def by_file(report):
    return {entry["file"]: entry for entry in report["files"]}


def test_files_that_agree(tmp_path, make_dataset, capsys):
    make_dataset()
    code, report = aligned(tmp_path)
    assert code == 0 and report["agree"] and report["problems"] == []
    files = by_file(report)
    assert files["toy.inter"]["items"] == 15 and files["toy.inter"]["lacking"] == 0
    assert (files["toy.link"]["items"], files["toy.link"]["lacking"]) == (13, 2)
    assert (files["toy.visual.npy"]["rows"], files["toy.visual.npy"]["items"]) == (13, 13)
    assert files["toy.text.npy"]["lacking"] == 1
    assert report["statistics"]["items"] == 15
    shown = capsys.readouterr().out
    assert "all files agree" in shown and "items lacking" in shown


def test_what_is_left_over_is_noted_and_wrong_only_when_strict(tmp_path, make_dataset, capsys):
    folder = make_dataset()
    edit_lines(folder / "toy.link", lambda lines: [*lines, "i99\te1", "i3\tnowhere", "i4\tend"])
    edit_lines(folder / "toy.link", lambda lines: [*lines, "i99\te2", "i5\tnowhere"])
    edit_lines(folder / "toy.kg", lambda lines: [*lines, "e1\tr0\tend"])  # a tail alone
    ids = (folder / "toy.text.ids").read_text().replace("i7\n", "i77\n")
    (folder / "toy.text.ids").write_text(ids)
    edit_lines(folder / "toy.inter", lambda lines: [*lines, lines[1]])
    code, report = aligned(tmp_path)
    assert code == 0
    files = by_file(report)
    assert files["toy.link"]["foreign"] == 2
    assert files["toy.link"]["notes"] == {"links to entities outside the graph": 2}
    assert files["toy.text.npy"]["foreign"] == 1 and files["toy.text.npy"]["lacking"] == 2
    assert files["toy.inter"]["notes"] == {"repeated interactions": 1}
    shown = capsys.readouterr().out
    assert "note: toy.text.npy: 1 rows of items without interactions" in shown
    assert aligned(tmp_path, "--strict")[0] == 1
    assert "the files do not agree" in capsys.readouterr().out


def test_each_part_of_a_split_says_which_items_it_lacks(tmp_path, make_dataset):
    folder = make_dataset(benchmark=True)
    files = by_file(aligned(tmp_path)[1])
    for part in ("train", "test"):
        lines = (folder / f"toy.{part}.inter").read_text().splitlines()[1:]
        items = {line.split("\t")[1] for line in lines}
        found = files[f"toy.{part}.inter"]
        assert (found["items"], found["lacking"]) == (len(items), 15 - len(items))
    assert files["toy.test.inter"]["lacking"] > 0


def test_every_wrong_file_is_named(tmp_path, make_dataset, capsys):
    folder = make_dataset()
    edit_lines(folder / "toy.kg", lambda lines: [*lines[:4], "e1\tr1", *lines[4:]])
    edit_lines(folder / "toy.text.ids", lambda lines: lines[1:])
    np.save(folder / "toy.visual.npy", np.ones(4))
    code, report = aligned(tmp_path)
    assert code == 1 and not report["agree"]
    wrong = {entry["file"] for entry in report["files"] if entry["problem"]}
    assert wrong == {"toy.kg", "toy.text.npy", "toy.visual.npy"}
    shown = capsys.readouterr().out
    assert "line 5: 2 column(s)" in shown and "13 tokens for 14 rows" in shown
    assert len(report["problems"]) == 3


def test_files_wrong_only_together_are_found(tmp_path, make_dataset):
    folder = make_dataset()
    (folder / "toy.link").unlink()
    code, report = aligned(tmp_path)
    assert code == 1
    assert not any(entry["problem"] for entry in report["files"])
    assert "toy.link" in report["problems"][0]


def test_files_are_read_by_the_separator_and_encoding_of_the_settings(tmp_path, make_dataset):
    folder = make_dataset()
    for suffix in ("inter", "kg", "link", "item"):
        path = folder / f"toy.{suffix}"
        text = path.read_text(encoding="utf-8").replace("\t", ";").replace("u1;", "é1;")
        path.write_bytes(text.encode("latin-1"))
    code, report = aligned(tmp_path, "--set", "field_separator=;", "encoding=latin-1")
    assert code == 0 and report["problems"] == []
    files = by_file(report)
    assert (files["toy.inter"]["items"], files["toy.inter"]["lacking"]) == (15, 0)
    assert (files["toy.link"]["items"], files["toy.item"]["items"]) == (13, 15)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_features_are_written_in_the_order_of_items(tmp_path, make_dataset, dtype):
    folder = make_dataset(dtype=dtype)
    matrix, ids = np.load(folder / "toy.text.npy"), (folder / "toy.text.ids").read_text().split()
    matrix = np.vstack([matrix, np.ones((1, 4)), np.full((1, 4), np.nan)]).astype(dtype)
    gone = next(f"i{item}" for item in range(15) if f"i{item}" not in ids)
    np.save(folder / "toy.text.npy", matrix)
    (folder / "toy.text.ids").write_text("\n".join([*ids, "other", gone]) + "\n")
    out = tmp_path / "out" / "toy"
    assert aligned(tmp_path, "--out", str(out))[0] == 0
    written = (out / "toy.text.ids").read_text().split()
    assert written == sorted(ids, key=lambda token: (len(token), token))
    stored = np.load(out / "toy.text.npy")
    assert stored.dtype == dtype
    for token, row in zip(written, stored, strict=True):
        assert np.allclose(row, matrix[ids.index(token)], rtol=1e-6)
    lines = (out / "toy.presence.tsv").read_text().splitlines()
    assert lines[0] == "item_id:token\tknowledge:float\ttext:float\tvisual:float"
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in lines[1:]}
    assert len(rows) == 15 and rows[gone][1] == "0" and rows["i14"][0] == "0"
    settings = {"data_path": str(tmp_path), "use_gpu": False, "feature_path": str(out)}
    before = prepare_data(SlifConfig("BPR", "toy", None, {**settings, "feature_path": None}))
    after = prepare_data(SlifConfig("BPR", "toy", None, settings))
    for name, part in before.dataset.features.items():
        assert np.array_equal(part.matrix, after.dataset.features[name].matrix)

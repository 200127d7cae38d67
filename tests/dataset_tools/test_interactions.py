"""`interactions`: every raw layout, faults, filters, one per pair, k-core, splits, kills."""

import ast
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dataset_tools import dates, reviews
from dataset_tools.__main__ import main
from dataset_tools.faults import Faults
from dataset_tools.row_file import RowWriter
from recbole_slif.config import SlifConfig
from recbole_slif.data.loaders import prepare_data

ROOT = Path(__file__).parents[2]
BOOK = ROOT.parent / "shared" / "data" / "amazon-book"
DAY = 86_400


def made_up(count=900, seed=3):
    rng = np.random.default_rng(seed)
    users, items = rng.zipf(1.4, count) % 60, rng.zipf(1.4, count) % 30
    return [
        (f"U{user}", f"B{item}", int(rng.integers(1, 6)), 1_500_000_000 + DAY * (n % 37))
        for n, (user, item) in enumerate(zip(users, items, strict=True))
    ]


ROWS = made_up()


def as_lines(kind, rows=ROWS):
    if kind == "amazon-csv":
        return [f"{user},{item},{rating}.0,{time}" for user, item, rating, time in rows]
    if kind == "csv":
        head = 'who;what;"how much";when'
        return [head, *(f'"{u}";{i};{r};"{t}"' for u, i, r, t in rows)]
    if kind == "yelp-json":
        named = [
            {
                "review_id": "x",
                "user_id": user,
                "business_id": item,
                "stars": rating,
                "date": time_text(when),
                "text": '<p>Good &amp; "cheap"\ttea</p>\n',
            }
            for user, item, rating, when in rows
        ]
        return [json.dumps(entry) for entry in named]
    named = [
        {"reviewerID": user, "asin": item, "helpful": [0, 1], "overall": float(rating)}
        | {"reviewText": 'It\'s <br/> "fine"', "unixReviewTime": time}
        for user, item, rating, time in rows
    ]
    return [repr(entry) if kind == "python" else json.dumps(entry) for entry in named]


def time_text(when):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(when))


def called(tmp_path, lines, *words, out="out", zipped=False, name="toy"):
    raw = tmp_path / "raw.txt"
    content = "".join(f"{line}\n" for line in lines).encode()
    raw.write_bytes(gzip.compress(content) if zipped else content)
    folder = tmp_path / out
    code = main(["interactions", str(raw), "--name", name, "--out", str(folder), *words])
    return code, {path.name: path.read_text() for path in sorted(folder.glob("*"))}


def body(text):
    return [line.split("\t") for line in text.splitlines()[1:]]


COLUMNS = ["--columns", "who", "what", "how much", "when", "--separator", "semicolon"]
LAYOUTS = {
    "amazon-json": ["--format", "amazon-json"],
    "python": ["--format", "amazon-json"],
    "amazon-csv": ["--format", "amazon-csv"],
    "yelp-json": ["--format", "yelp-json"],
    "csv": ["--format", "csv", *COLUMNS],
}


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_layout_gives_the_same_interactions(tmp_path, kind, zipped):
    code, files = called(tmp_path, as_lines(kind), *LAYOUTS[kind], zipped=zipped)
    assert code == 0 and list(files) == ["toy.inter"]
    newest = {}
    for user, item, rating, when in ROWS:
        newest[user, item] = max(newest.get((user, item), (0, 0)), (when, rating))
    expected = [
        [user, item, str(rating), str(when)] for (user, item), (when, rating) in newest.items()
    ]
    expected.sort(key=lambda row: (len(row[0]), row[0], len(row[1]), row[1]))
    assert files["toy.inter"].splitlines()[0] == (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    )
    assert body(files["toy.inter"]) == expected


@pytest.mark.parametrize("kind", LAYOUTS)
def test_shuffled_lines_give_the_same_bytes(tmp_path, kind):
    words = [*LAYOUTS[kind], "--core", "4", "--split", "ratio", "--min-rating", "2"]
    _, before = called(tmp_path, as_lines(kind), *words)
    rows = list(ROWS)
    random.Random(5).shuffle(rows)  # noqa: S311
    _, after = called(tmp_path, as_lines(kind, rows), *words, out="again")
    assert before == after and len(before) == 3


BAD = {
    "amazon-json": [
        b'{"reviewerID": "U1", "asin"',
        b'{"reviewerID": "U1", "overall": 5.0}',
        b'{"reviewerID": "U1", "asin": "a\\tb", "overall": 5.0}',
        b'{"reviewerID": "U1", "asin": "B1", "overall": "good"}',
        b'{"reviewerID": "U\xff1", "asin": "B1"}',
        b'{"reviewerID": ["U1"], "asin": "B1"}',
        b"{'reviewerID': __import__('os').getcwd(), 'asin': 'B1'}",
        b"U1,B1,5.0",
        b'{"reviewerID": "U1", "asin": "B1", "unixReviewTime": "yesterday"}',
        b'{"reviewerID": "U1", "asin": "\\u0000"}',
    ],
    "csv": [b"U1;B1;5", b"U1;B1;5;1;2", b";B1;5;1500000000", b'"U1;B1;5;1', b"U1;B1;nan;1", b"\0"],
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_lines_are_counted_with_their_numbers_and_change_no_other(tmp_path, kind, capsys):
    lines = [line.encode() for line in as_lines(kind)]
    good = called(tmp_path, [line.decode() for line in lines], *LAYOUTS[kind])[1]
    places = []
    for offset, bad in enumerate(BAD[kind]):
        lines.insert(50 + 7 * offset, bad)
        places.append(51 + 7 * offset)
    raw, report = tmp_path / "bad.txt", tmp_path / "report.json"
    raw.write_bytes(b"\n".join(lines))
    words = ["interactions", str(raw), "--name", "toy", "--out", str(tmp_path / "bad")]
    assert main([*words, *LAYOUTS[kind], "--report", str(report)]) == 0
    assert (tmp_path / "bad" / "toy.inter").read_text() == good["toy.inter"]
    faults = json.loads(report.read_text())["faults"]
    assert sorted(line for entry in faults for line in entry["lines"]) == places
    assert sum(entry["count"] for entry in faults) == len(BAD[kind])
    capsys.readouterr()
    assert main([*words, *LAYOUTS[kind], "--strict"]) == 2
    assert "faults in all" in capsys.readouterr().err


def test_a_dictionary_of_python_is_read_and_never_run():
    parse = reviews._json_parser(reviews._KNOWN["amazon-json"])
    line = "{'reviewerID': 'it\\'s', 'asin': u'B', 'overall': 4.0, 'x': {'y': (1, None)}}"
    assert ast.literal_eval(line)["x"] == {"y": (1, None)}
    assert parse(line) == ("it's", "B", 4.0, None)
    assert parse("{'asin': [].append(1)}") is None
    assert parse("{" + "(" * 5000) is None
    assert parse("{'asin': '" + "x" * (1 << 18) + "'}") is None


def test_a_truncated_archive_is_a_fault_and_its_whole_lines_count(tmp_path, capsys):
    content = gzip.compress("\n".join(as_lines("amazon-csv", made_up(20_000))).encode())
    raw = tmp_path / "raw.csv.gz"
    raw.write_bytes(content[: len(content) // 2])
    words = ["interactions", str(raw), "--format", "amazon-csv", "--name", "toy"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert "archive breaks off" in capsys.readouterr().err
    assert len((tmp_path / "out/toy.inter").read_text().splitlines()) > 100


def test_rating_and_date_filters_are_counted(tmp_path, capsys):
    rows = [("a", "x", 3, 0), ("a", "y", 4, DAY), ("b", "x", 5, 2 * DAY), ("b", "y", 5, 3 * DAY)]
    words = ["--min-rating", "4", "--from", "1970-01-02", "--to", "1970-01-03"]
    _, files = called(tmp_path, as_lines("amazon-csv", rows), "--format", "amazon-csv", *words)
    assert [row[:2] for row in body(files["toy.inter"])] == [["a", "y"], ["b", "x"]]
    shown = " ".join(capsys.readouterr().out.split())
    assert "below --min-rating or without rating 1" in shown
    assert "outside --from and --to or without time 1" in shown


def small_pieces(monkeypatch):
    """Have a few hundred rows go through as many pieces as many millions do."""
    for name, size in (("_BATCH", 40), ("_SORTED", 90), ("_MERGED", 60), ("_LEAST_PIECE", 3)):
        monkeypatch.setattr(f"dataset_tools.row_store.{name}", size)
    for name, size in (("_MERGED_BYTES", 90), ("_LEAST_PIECE", 7), ("_GAP", 1), ("_STEP", 3)):
        monkeypatch.setattr(f"dataset_tools.token_order.{name}", size)
    for name, size in (("_BATCH", 25), ("_AT_ONCE", 8)):
        monkeypatch.setattr(f"dataset_tools.item_spool.{name}", size)
    monkeypatch.setattr("dataset_tools.row_file.CHUNK", 11)
    monkeypatch.setattr("dataset_tools.writing._ROWS", 13)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--keep", "first"],
        ["--core", "4", "--split", "ratio"],
        ["--core", "3", "--split", "ratio", "--order", "time"],
        ["--user-core", "5", "--split", "leave-one-out"],
    ],
)
def test_the_size_of_pieces_changes_no_byte(tmp_path, monkeypatch, words):
    lines = as_lines("amazon-csv", made_up(1500, 9))
    words = ["--format", "amazon-csv", *words]
    report = tmp_path / "report.json"
    code, whole = called(tmp_path, lines, *words, "--report", str(report))
    before = report.read_text()
    small_pieces(monkeypatch)
    assert called(tmp_path, lines, *words, "--report", str(report), out="b") == (code, whole)
    assert code == 0 and report.read_text() == before


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    def full(self, rows):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RowWriter, "write", full)
    code, files = called(tmp_path, as_lines("csv"), *LAYOUTS["csv"])
    assert code == 2 and files == {}
    assert "rows cannot be kept there (No space left on device)" in capsys.readouterr().err


def test_the_split_is_the_one_that_training_would_draw(tmp_path):
    lines = as_lines("amazon-csv", made_up(700, 8))
    words = ["--format", "amazon-csv", "--core", "2"]
    called(tmp_path, lines, *words, out="whole/toy")
    called(tmp_path, lines, *words, "--split", "ratio", "--seed", "11", out="split/toy")
    found = []
    for place in ("whole", "split"):
        config = SlifConfig("BPR", "toy", argv=[f"--data_path={tmp_path / place}", "--seed=11"])
        found.append(prepare_data(config))
    assert [bundle.statistics["protocol"] for bundle in found] == ["ratio_811", "benchmark"]
    assert found[0].fingerprint == found[1].fingerprint
    assert found[0].statistics["split"] == found[1].statistics["split"]


def test_leave_one_out_holds_out_the_last(tmp_path):
    rows = [("a", f"x{n}", 1, DAY * (n * 7 % 5)) for n in range(5)]
    rows += [("b", "x1", 1, 5), ("b", "x2", 1, 9), ("c", "x3", 1, 1)]
    words = ["--format", "amazon-csv", "--split", "leave-one-out"]
    _, files = called(tmp_path, as_lines("amazon-csv", rows), *words)
    assert [row[:2] for row in body(files["toy.test.inter"])] == [["a", "x2"], ["b", "x2"]]
    assert [row[:2] for row in body(files["toy.valid.inter"])] == [["a", "x4"]]
    assert len(body(files["toy.train.inter"])) == 5


def test_a_split_by_time_needs_times(tmp_path, capsys):
    words = ["--format", "csv", "--columns", "who", "what", "--separator", ";"]
    lines = as_lines("csv")
    assert called(tmp_path, lines, *words, "--split", "ratio", "--order", "time")[0] == 2
    assert "no time" in capsys.readouterr().err
    code, files = called(tmp_path, lines, *words, "--split", "leave-one-out", "--order", "random")
    assert code == 0
    assert files["toy.test.inter"].splitlines()[0] == "user_id:token\titem_id:token"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "csv", "--columns", "who", "where"], "no column 'where'; it has who, what"),
        (["--format", "csv", "--columns", "who"], "needs the columns of user and item"),
        (["--format", "yelp-json", "--columns", "a", "b"], "has its own"),
        (["--format", "csv", "--columns", "a", "b", "--no-header"], "must be a number"),
        (["--format", "csv", "--columns", "who", "what", "--separator", "::"], "no single"),
        (["--format", "csv", "--columns", "1", "3", "--no-header", "--width", "2"], "--width: 2"),
        (["--format", "amazon-csv"], "no interaction is usable"),
        (["--format", "csv", *COLUMNS, "--core", "999"], "lower --core"),
        (["--format", "csv", *COLUMNS, "--core", "0"], "at least 1"),
        (["--format", "csv", *COLUMNS, "--from", "May"], "'May' is no date"),
        (["--format", "csv", *COLUMNS, "--from", "2001-01-01", "--to", "2000-01-01"], "lies after"),
        (["--format", "csv", *COLUMNS, "--ratios", "0", "1", "1"], "train must be above 0"),
        (["--format", "csv", *COLUMNS, "--ratios", "1", "nan", "1"], "train must be above 0"),
        (["--format", "csv", *COLUMNS, "--ratios", "1", "1", "1"], "goes with --split ratio"),
        (["--format", "csv", *COLUMNS, "--order", "time"], "--order: goes"),
        (["--format", "csv", *COLUMNS, "--seed", "-1"], "--seed: -1 must be"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys, words, said):
    if "," not in words and "--separator" not in words and "--columns" in words:
        words = [*words, "--separator", "semicolon"]
    code, files = called(tmp_path, as_lines("csv"), *words)
    assert code == 2 and files == {}
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and said in error
    assert not [name for name in os.listdir(tmp_path / "out")] if (tmp_path / "out").exists() else 1


@pytest.mark.skipif(not BOOK.is_dir(), reason="the public amazon-book files are not here")
def test_the_public_amazon_book_is_not_ten_core_and_its_core_is_known(tmp_path):
    files = [str(BOOK / f"amazon-book.{part}.inter") for part in ("train", "test")]
    words = ["--format", "csv", "--separator", "tab", "--columns", "user_id", "item_id"]
    report = tmp_path / "report.json"
    words += ["--core", "10", "--name", "book", "--out", str(tmp_path), "--report", str(report)]
    assert main(["interactions", *files, *words]) == 0
    counts = json.loads(report.read_text())["counts"]
    assert (counts["their users"], counts["usable interactions"]) == (70_679, 846_434)
    assert (counts["users"], counts["items"], counts["interactions"]) == (18_072, 12_063, 441_383)


def test_files_of_another_split_are_not_read_beside_the_new_ones(tmp_path, capsys):
    lines, words = as_lines("csv"), LAYOUTS["csv"]
    assert called(tmp_path, lines, *words)[0] == 0
    assert called(tmp_path, lines, *words)[0] == 0
    assert called(tmp_path, lines, *words, "--split", "ratio")[0] == 2
    assert "another split" in capsys.readouterr().err


def test_a_part_that_has_become_empty_does_not_live_on(tmp_path):
    lines, words = as_lines("csv"), [*LAYOUTS["csv"], "--split", "ratio"]
    assert len(called(tmp_path, lines, *words)[1]) == 3
    _, files = called(tmp_path, lines, *words, "--ratios", "8", "0", "2")
    assert list(files) == ["toy.test.inter", "toy.train.inter"]


def test_columns_without_header_and_atomic_files_as_input(tmp_path):
    _, plain = called(tmp_path, as_lines("csv"), *LAYOUTS["csv"])
    rows = as_lines("csv")[1:]
    words = ["--format", "csv", "--columns", "1", "2", "3", "4", "--no-header", "--separator", ";"]
    assert called(tmp_path, rows, *words, out="b")[1] == plain
    words = ["--columns", "user_id", "item_id", "rating", "timestamp", "--separator", "tab"]
    lines = plain["toy.inter"].splitlines()
    assert called(tmp_path, lines, "--format", "csv", *words, out="c")[1] == plain


def test_a_killed_run_leaves_nothing_that_changes_the_next(tmp_path):
    raw = tmp_path / "raw.csv"
    raw.write_text("\n".join(as_lines("amazon-csv", made_up(120_000))) + "\n")
    words = [sys.executable, "-m", "dataset_tools", "interactions", str(raw), "--name", "toy"]
    words += ["--format", "amazon-csv", "--core", "2", "--split", "ratio", "--out"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    kept = {"cwd": ROOT, "env": env, "stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    subprocess.run([*words, str(tmp_path / "whole")], check=True, **kept)
    killed = 0
    for attempt in range(6):
        run = subprocess.Popen([*words, str(tmp_path / "cut")], **kept)
        limit = time.monotonic() + 30
        while time.monotonic() < limit and not (tmp_path / "cut").exists():
            time.sleep(0.005)
        time.sleep(0.1 * attempt)
        killed += run.poll() is None
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert killed >= 1
    subprocess.run([*words, str(tmp_path / "cut")], check=True, **kept)
    names = ["toy.test.inter", "toy.train.inter", "toy.valid.inter"]
    assert sorted(os.listdir(tmp_path / "cut")) == names
    for name in names:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_dates_and_numbers_of_time():
    assert dates.time_of("2018-07-07 22:09:11") == 1531001351
    assert dates.time_of("1970-01-01T01:00:00+01:00") == 0
    assert dates.time_of("2018-07-07T22:09:11Z") == 1531001351
    assert dates.time_of("12") == dates.time_of(12) == 12
    assert np.isnan(dates.time_of(None)) and np.isnan(dates.time_of(" "))
    for bad in ("soon", "inf", float("nan"), True):
        with pytest.raises(ValueError):
            dates.time_of(bad)


def test_dates_do_not_follow_the_clock_of_the_place(monkeypatch):
    with monkeypatch.context() as place:
        place.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        found = dates.seconds_of("1970-01-02")
    time.tzset()
    assert found == DAY


def test_cells_of_a_line_do_not_depend_on_the_lines_around_it(tmp_path):
    path, faults = tmp_path / "t.csv", Faults()
    path.write_text('a,b\n"open,2\n3,4\n"5,""x""",6\n7,8"\n9,"open\n')
    assert list(reviews.read_cells(path, ",", "utf-8", faults)) == [
        (1, ["a", "b"]),
        (3, ["3", "4"]),
        (4, ['5,"x"', "6"]),
        (5, ["7", '8"']),
    ]
    assert [(entry["kind"], entry["lines"]) for entry in faults.report()] == [
        ("lines with unbalanced quotes", [2, 6])
    ]


def test_a_quote_that_is_not_closed_makes_a_line_faulty():
    assert reviews.split_line('u1,"a, b",5', ",") == ["u1", "a, b", "5"]
    for line in ('u1,i1,"5', 'u1,"i1"x,5', 'u1,"i1,5'):
        assert reviews.split_line(line, ",") is None

"""Commands that keep a journal go on after a kill: the same bytes, and nothing done twice."""

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dataset_tools.__main__ import main
from dataset_tools.faults import Faults
from dataset_tools.journal import Journal
from dataset_tools.reading import read_text
from tests.dataset_tools.killed import child
from tests.dataset_tools.test_interactions import as_lines, made_up, small_pieces

ROOT = Path(__file__).parents[2]


class Kill(BaseException):
    """Ends a run in the middle, as a stop by the keyboard does."""


def write_raw(tmp_path, kind):
    """Files with faulty lines; the last is packed."""
    rng = random.Random(3)  # noqa: S311
    if kind == "interactions":
        first, second = as_lines("csv", made_up(700)), as_lines("csv", made_up(500, 4))
        broken = ["U1;B1;5", '"U1;B1;5;1', "a;b;c;d"]
    elif kind == "link":
        pairs = [f"B{rng.randrange(90)}\tm.{rng.randrange(60)}" for _ in range(900)]
        first, second = pairs[:500], pairs[500:]
        broken = ["B1", "B1\tm.1\tm.2", "\tm.1"]
    elif kind == "attributes":
        first, second = None, ["sku,tags,price,title", *(product(rng) for _ in range(700))]
        broken = ["p1,x", ",a|b,3,t", 'p1,"x,3,t']
    else:
        first, second = None, [business(rng) for _ in range(600)]
        broken = ["{x", json.dumps({"business_id": None}), business(rng, "y3", "(((")]
    for place, line in zip((30, 333, 340), broken, strict=True):
        for lines in (first, second):
            if lines:
                lines.insert(place, line)
    (tmp_path / "known.ids").write_text("".join(f"{kind[0]}{n}\n" for n in range(0, 400, 3)))
    paths = [tmp_path / "second.txt.gz"]
    paths[0].write_bytes(gzip.compress("\n".join(second).encode(), mtime=0))
    if first:
        paths.insert(0, tmp_path / "first.txt")
        paths[0].write_text("\n".join(first) + "\n")
    return [str(path) for path in paths]


def product(rng):
    """A line of a table, of an item that may have another line."""
    tags = "|".join(f"t{rng.randrange(9)}" for _ in range(rng.randrange(4)))
    price = rng.choice([str(rng.randrange(90)), "cheap", ""])
    return f"a{rng.randrange(400)},{tags},{price},Thing <b>{rng.randrange(50)}</b>"


def business(rng, item=None, odd="True"):
    """A line of Yelp's file."""
    return json.dumps(
        {
            "business_id": item or f"y{rng.randrange(400)}",
            "city": f"C{rng.randrange(9)}",
            "categories": [f"K{rng.randrange(20)}" for _ in range(rng.randrange(5))],
            "attributes": {"WiFi": odd},
        }
    )


COLUMNS = ["--columns", "who", "what", "how much", "when", "--separator", "semicolon"]
WORDS = {
    "interactions": ["--format", "csv", *COLUMNS, "--core", "4", "--split", "ratio"],
    "link": ["--several-items", "first"],
    "attributes": [
        *("--item-column", "sku", "--lists", "tags", "--numbers", "price", "--texts", "title"),
        *("--min-items", "2", "--items", "known.ids"),
    ],
    "yelp_kg": ["--min-relation", "3", "--items", "known.ids"],
}
# Folders of partial work, the one that reads first.
LEFT = {
    "interactions": ["interactions"],
    "link": ["links"],
    "attributes": ["items", "facts"],
    "yelp_kg": ["items", "facts"],
}


def command(kind, paths, out):
    known = str(Path(paths[0]).parent / "known.ids")
    words = [known if word == "known.ids" else word for word in WORDS[kind]]
    return [kind, *paths, "--name", "toy", "--out", str(out), *words]


def run(kind, paths, out):
    report = out.with_suffix(".json")
    assert main([*command(kind, paths, out), "--report", str(report)]) == 0
    files = {path.name: path.read_bytes() for path in out.iterdir()}
    return files, json.loads(report.read_text())


@pytest.mark.parametrize("kind", WORDS)
def test_a_stop_after_any_entry_loses_nothing_and_repeats_nothing(tmp_path, monkeypatch, kind):
    small_pieces(monkeypatch)
    paths = write_raw(tmp_path, kind)
    whole, stop_at, met = run(kind, paths, tmp_path / "whole"), -1, []
    add = Journal.add

    def counted(self, *files, **entry):
        if len(met) == stop_at:
            raise Kill
        met.append((sorted(entry), entry.get("batch")))
        add(self, *files, **entry)

    monkeypatch.setattr(Journal, "add", counted)
    assert run(kind, paths, tmp_path / "again") == whole
    total = list(met)
    assert len(total) > 20
    for stop_at in range(len(total)):
        met.clear()
        with pytest.raises(Kill):
            run(kind, paths, tmp_path / "cut")
        before, stopped_at = list(met), stop_at
        met.clear()
        stop_at = -1
        assert run(kind, paths, tmp_path / "cut") == whole, stopped_at
        # What was entered before the stop is not entered again.
        assert before + met == total, stopped_at
        for path in (tmp_path / "cut").iterdir():
            path.unlink()


CHILD = child(
    {
        "row_store": {"_BATCH": 20, "_SORTED": 90, "_MERGED": 60},
        "item_spool": {"_BATCH": 20},
        "writing": {"_ROWS": 13},
    },
    0.004,
)


@pytest.mark.parametrize("kind", WORDS)
def test_kills_at_random_moments_lose_nothing_and_repeat_no_kept_line(tmp_path, kind):
    paths, out, log = write_raw(tmp_path, kind), tmp_path / "out", tmp_path / "log"
    whole = run(kind, paths, tmp_path / "whole")[0]
    ready = log.with_suffix(".ready")
    words = command(kind, paths, out)
    rng, kills = random.Random(kind), 0  # noqa: S311
    folders = [out / f".toy.{name}.partial" for name in LEFT[kind]]
    journal = folders[0] / "journal"
    begins, code = (Path(paths[0]).name, 0), None
    for attempt in range(60):
        ready.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(log), *words],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not ready.exists() and child.poll() is None:
            time.sleep(0.002)
        if attempt < 30:  # a busy machine comes to its end only if it is let
            time.sleep(rng.uniform(0.03, 0.2) * (1 + attempt / 5))
            child.send_signal(signal.SIGKILL)
        code = child.wait()
        if log.exists():
            name, after = log.read_text().splitlines()[0].split()
            assert (name, int(after)) == begins
        if code == 0 or (kills and not journal.exists()):
            break  # the journal goes when all is written
        kills += journal.exists()
        places = [json.loads(line).get("place") for line in kept_lines(journal)]
        places = [place for place in places if place]
        if places:
            begins = (Path(paths[places[-1]["file"]]).name, places[-1]["line"])
    assert kills >= 2 and begins[0] == "second.txt.gz" and begins[1] > 0
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole


def kept_lines(journal):
    return journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []


def test_other_options_or_another_file_begin_anew(tmp_path, monkeypatch):
    small_pieces(monkeypatch)
    paths, out = write_raw(tmp_path, "interactions"), tmp_path / "cut"
    words = ["interactions", *paths, "--name", "toy", "--out", str(out), *WORDS["interactions"]]
    add = Journal.add

    def stop(self, *files, **entry):
        add(self, *files, **entry)
        if "sorted" in entry:
            raise Kill

    def cut():
        with monkeypatch.context() as patch, pytest.raises(Kill):
            patch.setattr(Journal, "add", stop)
            main(words)

    def finished(*more):
        assert main([*words, *more]) == 0
        found = {path.name: path.read_bytes() for path in out.iterdir()}
        for path in out.iterdir():
            path.unlink()
        return found

    fresh = finished("--min-rating", "3")
    cut()
    assert finished("--min-rating", "3") == fresh
    cut()
    text = Path(paths[0]).read_text()
    Path(paths[0]).write_text(text.replace('"U1"', '"U7"'))
    changed = finished()
    assert changed == finished()
    Path(paths[0]).write_text(text)
    assert changed != finished()


KEPT = {
    "interactions": [
        ("batch", "rows"),
        ("batch", "user.runs"),
        ("users", "user.tokens"),
        ("items", "item.offsets"),
        ("items", "item.ranks"),
        ("sorted", "sorted"),
        ("pairs", "pairs"),
        ("round", "core1"),
        ("split", "train"),
    ],
    "attributes": [
        ("paths", "entries"),
        ("paths", "index"),
        ("paths", "item.runs"),
        ("items", "item.tokens"),
        ("ranges", "entries"),
    ],
}


@pytest.mark.parametrize("kind", KEPT)
def test_a_torn_or_shortened_store_is_not_trusted(tmp_path, monkeypatch, kind):
    small_pieces(monkeypatch)
    paths, out = write_raw(tmp_path, kind), tmp_path / "cut"
    whole = run(kind, paths, tmp_path / "whole")
    folder = out / f".toy.{LEFT[kind][0]}.partial"
    add = Journal.add
    for key, file in KEPT[kind]:

        def stop(self, *files, key=key, **entry):
            add(self, *files, **entry)
            if key in entry:
                raise Kill

        with monkeypatch.context() as patch, pytest.raises(Kill):
            patch.setattr(Journal, "add", stop)
            run(kind, paths, out)
        data = (folder / file).read_bytes()
        (folder / file).write_bytes(data[: len(data) // 2])
        with (folder / "journal").open("ab") as journal:
            journal.write(b'{"batch": 7, "torn')
        assert run(kind, paths, out) == whole, file
        for path in out.iterdir():
            path.unlink()


WRITTEN = {
    "interactions": ["toy.train.inter", "toy.valid.inter", "toy.test.inter"],
    "attributes": ["toy.kg", "toy.link", "toy.item"],
    "yelp_kg": ["toy.kg", "toy.link"],
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_written_file_is_written_again_only_where_somebody_changed_it(
    tmp_path, monkeypatch, kind
):
    paths, out = write_raw(tmp_path, kind), tmp_path / "cut"
    whole = run(kind, paths, tmp_path / "whole")
    add, files = Journal.add, WRITTEN[kind]

    def stop(self, *names, **entry):
        add(self, *names, **entry)
        if files[-1] in entry:
            raise Kill

    def killed():
        with monkeypatch.context() as patch, pytest.raises(Kill):
            patch.setattr(Journal, "add", stop)
            run(kind, paths, out)
        return [(out / name).stat().st_ino for name in files]

    written = killed()
    assert run(kind, paths, out) == whole
    assert [(out / name).stat().st_ino for name in files] == written
    killed()
    (out / files[0]).write_text("mine")
    (out / files[1]).unlink()
    assert run(kind, paths, out) == whole


def test_two_runs_in_one_folder_do_not_meet(tmp_path, capsys, monkeypatch):
    paths, out = write_raw(tmp_path, "interactions"), tmp_path / "out"
    words = ["interactions", *paths, "--name", "toy", "--out", str(out), *WORDS["interactions"]]
    journal = Journal(out / ".toy.interactions.partial" / "journal", {})
    journal.path.parent.mkdir(parents=True)
    journal.open()
    assert main(words) == 2
    assert "another run is at work there" in capsys.readouterr().err
    journal.close()
    assert main(words) == 0


@pytest.mark.parametrize("packed", [False, True])
def test_reading_from_a_line_on_is_the_rest_of_reading_all(tmp_path, monkeypatch, packed):
    monkeypatch.setattr("dataset_tools.reading.BLOCK_BYTES", 64)
    monkeypatch.setattr("dataset_tools.reading.LONGEST_LINE", 400)
    rng = random.Random(2)  # noqa: S311
    lines = [b"x" * rng.randrange(30) for _ in range(120)]
    lines[20], lines[50], lines[80] = b"y" * 900, b"a\0b", b"\xff"
    data = b"\xef\xbb\xbf" + b"\n".join(lines)
    path = tmp_path / ("x.gz" if packed else "x")
    path.write_bytes(gzip.compress(data) if packed else data)
    faults = Faults()
    found = list(read_text(path, faults))
    places = [(e["kind"], line) for e in faults.report() for line in e["lines"]]
    assert len(places) == 3 - packed
    for after in range(122):
        rest = Faults()
        assert list(read_text(path, rest, after=after)) == [x for x in found if x[0] > after]
        left = [(e["kind"], line) for e in rest.report() for line in e["lines"]]
        assert left == [place for place in places if place[1] > after]

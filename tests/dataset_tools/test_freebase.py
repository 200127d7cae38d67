# ruff: noqa: S311 - random rows, no secrets
"""`freebase`: the stream against plain loops, faults, order, memory of places, kills."""

import bz2
import gzip
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dataset_tools.__main__ import main
from dataset_tools.freebase import ids, linked_keys
from dataset_tools.freebase.blocks import BrokenDumpError, Place, read_dump
from dataset_tools.freebase.scan import Frontier, scan_block
from dataset_tools.freebase.spill import Relations, Spill
from recbole_slif.errors import DataError
from tests.dataset_tools.freebase_dump import LINKED, NS, freebase, line, oracle, toy_dump
from tests.toy import write_table

ROOT = Path(__file__).parents[2]


@pytest.fixture
def link(tmp_path):
    path = tmp_path / "toy.link"
    linked = ["m.00", "m.05", "m.0a", "m.0zzz", "g.13_z"]
    write_table(path, ["item_id:token", "entity_id:token"], [(f"i{e}", e) for e in linked])
    return path


@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("roles", ["both", "head"])
@pytest.mark.parametrize("least", [(1, 1), (2, 3)])
def test_output_equals_loops(tmp_path, link, hops, roles, least):
    rows = toy_dump(size=9000, entities=120)
    dump = tmp_path / "dump.gz"
    dump.write_bytes(gzip.compress("".join(rows).encode()))
    options = ["--hops", str(hops), "--roles", roles, "--min-entity", str(least[0])]
    written = freebase(dump, link, tmp_path / "out", *options, "--min-relation", str(least[1]))
    assert written == oracle(rows, LINKED, hops, roles == "both", *least)
    assert written.count("\n") > 10
    assert os.listdir(tmp_path / "out") == ["toy.kg"]


def test_two_runs_do_not_write_into_one_file_of_triples(tmp_path, link, capsys):
    dump, out = tmp_path / "dump", tmp_path / "out"
    dump.write_text("".join(toy_dump(size=50)))
    words = ["--hops", "1", "--min-entity", "1", "--min-relation", "1"]
    whole = freebase(dump, link, tmp_path / "whole", *words)
    (out / ".toy.freebase").mkdir(parents=True)
    spill = Spill(out / ".toy.freebase" / "found.bin", 0)
    more = ["--dump", str(dump), "--link", str(link), "--out", str(out), *words]
    assert main(["freebase", *more]) == 2
    assert "another run is at work there" in capsys.readouterr().err
    spill.close()
    assert freebase(dump, link, out, *words) == whole


def test_linked_entities_stay_and_the_filter_repeats_itself(tmp_path, link, capsys):
    stay = [line("m.00", "r1", "m.0x1"), line("m.05", "r1", "m.0x1")]
    # Without its end the chain loses what stood before it, round by round.
    chain = [line("m.0a", "r2", "m.0y1"), line("m.0y1", "r2", "m.0y2")]
    dump = tmp_path / "dump"
    dump.write_text("".join([*chain, *stay]))
    words = ["--hops", "2", "--min-entity", "2", "--min-relation", "2"]
    written = freebase(dump, link, tmp_path / "out", *words)
    assert written.splitlines()[1:] == ["m.00\tr1\tm.0x1", "m.05\tr1\tm.0x1"]
    shown = " ".join(capsys.readouterr().out.split())
    assert "rounds of the frequency filter 3" in shown


def test_order_of_lines_and_kind_of_file_change_nothing(tmp_path, link):
    zstandard = pytest.importorskip("zstandard")
    rows = toy_dump()
    plain = "".join(rows).encode()
    expected = oracle(rows, LINKED, 2, True, 2, 2)
    shuffled = random.Random(1).sample(rows, len(rows))
    halves = [plain[: len(plain) // 2], plain[len(plain) // 2 :]]
    kinds = {
        "plain.nt": plain,
        "no-end.nt": plain[:-1],
        "shuffled.gz": gzip.compress("".join(shuffled).encode()),
        "members.gz": b"".join(map(gzip.compress, halves)) + bytes(100),
        "dump.zst": b"".join(map(zstandard.compress, halves)),
    }
    for name, content in kinds.items():
        (tmp_path / name).write_bytes(content)
        options = ["--min-entity", "2", "--min-relation", "2"]
        assert freebase(tmp_path / name, link, tmp_path / "out", *options) == expected, name


def test_small_blocks_and_many_buckets_change_nothing(tmp_path, link, monkeypatch):
    from dataset_tools.freebase import graph, spill

    monkeypatch.setattr(graph, "_BUCKET", 40)
    monkeypatch.setattr(graph, "CHUNK", 33)
    monkeypatch.setattr(spill, "CHUNK", 77)
    monkeypatch.setattr(read_dump, "__defaults__", (None, 1000))
    rows = toy_dump()
    (tmp_path / "d.nt").write_text("".join(rows))
    written = freebase(tmp_path / "d.nt", link, tmp_path, "--min-entity", "3")
    assert written == oracle(rows, LINKED, 2, True, 3, 50)


def test_relations_can_be_chosen(tmp_path, link):
    rows = toy_dump()
    (tmp_path / "d.nt").write_text("".join(rows))
    least = ["--min-entity", "1", "--min-relation", "1"]
    dropped = freebase(tmp_path / "d.nt", link, tmp_path, *least, "--drop-relations", "a.b.r3")
    assert dropped == oracle(rows, LINKED, 2, True, 1, 1, "a.b.r3")
    taken = freebase(tmp_path / "d.nt", link, tmp_path, *least, "--relations", "a.*.r1*")
    assert {row.split("\t")[1] for row in taken.splitlines()[1:]} == {
        "a.b.r1",
        "a.b.r10",
        "a.b.r11",
    }


BAD = [
    "",
    "not a triple\n",
    line("m.00", "a.b.r1", "m.01").replace("\t", " "),
    line("m.00", "a.b.r1", "m.01")[:-12] + "\n",
    line("m.00", "a.b.r1", "m.01").replace("\t.", "\t.\t."),
    line("m.00", "a.b.r1", "m.01").replace("\t.\n", "\t.\r\n"),
    line("m.00", "a\0b", "m.01"),
]


def test_faults_are_counted_with_lines_and_change_no_other_row(tmp_path, link, capsys):
    rows = toy_dump()
    mixed = rows[:]
    at = [5, 100, 101, 900, 3000, 3500]
    for place, bad in zip(at, BAD[1:], strict=True):
        mixed.insert(place, bad)
    mixed.insert(1, "\n")
    ids_bad = [line("m.00", "a.b", "m.0UPPER"), line("m.00", "a.b", "m." + "a" * 13)]
    mixed += [*ids_bad, "\udcff\n"]
    text = "".join(mixed).encode("utf-8", "surrogateescape")
    (tmp_path / "d.nt").write_bytes(text)
    written = freebase(
        tmp_path / "d.nt", link, tmp_path, "--min-relation", "1", "--min-entity", "1"
    )
    assert written == oracle(rows, LINKED, 2, True, 1, 1)
    err = capsys.readouterr().err
    lines = [place + 2 for place in at] + [len(mixed)]
    assert (
        f"7 lines without the four cells of an N-triple (line {', '.join(map(str, lines))})" in err
    )
    assert (
        f"2 lines at wanted entities with other cells that hold no id (line {len(mixed) - 2}, "
        in err
    )
    words = ["freebase", "--dump", str(tmp_path / "d.nt"), "--link", str(link)]
    assert main([*words, "--out", str(tmp_path / "strict"), "--strict"]) == 2
    assert not (tmp_path / "strict" / "toy.kg").exists()


def test_rows_are_counted_by_kind(tmp_path, link, capsys):
    rows = toy_dump()
    (tmp_path / "d.nt").write_text("".join(rows))
    freebase(tmp_path / "d.nt", link, tmp_path)
    shown = " ".join(capsys.readouterr().out.split())
    english = sum(
        row.endswith(('"a"@en\t.\n', "x>\t.\n", '"q"@en-GB\t.\n')) and '"' in row for row in rows
    )
    other = sum(row.endswith(("@fr\t.\n", "@zh-Hant\t.\n")) for row in rows)
    assert english and other
    assert f"literals (none or en) {english:,}" in shown
    assert f"literals of other languages {other:,}" in shown


@pytest.mark.parametrize("harm", ["cut", "flip"])
def test_a_damaged_archive_gives_what_came_before(tmp_path, link, harm, capsys):
    rows = toy_dump(size=20000)
    first, second = "".join(rows[:9000]).encode(), "".join(rows[9000:]).encode()
    packed = gzip.compress(second)
    middle = len(packed) // 2
    # A changed check sum shows at the end alone; what stands before it is sound.
    packed = packed[:middle] if harm == "cut" else packed[:-8] + b"12345678"
    (tmp_path / "d.gz").write_bytes(gzip.compress(first) + packed)
    written = freebase(
        tmp_path / "d.gz", link, tmp_path, "--min-entity", "1", "--min-relation", "1"
    )
    err = capsys.readouterr().err
    assert "what follows is lost (line" in err and ("breaks off" in err) == (harm == "cut")
    found = int(err.split("lost (line ")[1].split(")")[0]) - 1
    assert 9000 <= found < len(rows)
    assert written == oracle(rows[:found], LINKED, 2, True, 1, 1)


def test_reading_goes_on_at_any_place(tmp_path):
    rows = toy_dump(size=3000)
    parts = ["".join(rows[at : at + 500]).encode() for at in range(0, len(rows), 500)]
    path = tmp_path / "d.gz"
    path.write_bytes(b"".join(map(gzip.compress, parts)))
    whole = list(read_dump(path, block=700))
    texts = [block.text[: block.size].tobytes() for block in whole]
    assert b"".join(texts) == b"".join(parts)
    assert len({block.place.member for block in whole}) == len(parts)
    for number in range(0, len(whole), 7):
        rest = [b.text[: b.size].tobytes() for b in read_dump(path, whole[number].place, 900)]
        assert b"".join(rest) == b"".join(texts[number + 1 :])
        assert whole[number].place.member_at <= whole[number].place.done


def test_a_damaged_archive_gives_the_same_text_wherever_reading_began(tmp_path, monkeypatch):
    monkeypatch.setattr("dataset_tools.freebase.blocks._READ", 64)
    rows = toy_dump(size=1200)
    parts = ["".join(rows[at : at + 200]).encode() for at in range(0, len(rows), 200)]
    packed = [gzip.compress(part) for part in parts]
    middle = len(packed[-1]) // 2
    packed[-1] = packed[-1][:middle] + bytes(40) + packed[-1][middle + 40 :]
    path = tmp_path / "d.gz"
    path.write_bytes(b"".join(packed))

    def text_from(place, places):
        found = []
        try:
            for block in read_dump(path, place, 300):
                found.append(block.text[: block.size].tobytes())
                places.append(block.place)
        except BrokenDumpError:
            return b"".join(found)
        raise AssertionError("the damage was not seen")

    places = []
    whole = text_from(None, places)
    assert len(b"".join(parts[:-1])) <= len(whole) < len(b"".join(parts))
    for place in places:
        assert text_from(place, []) == whole[place.done :]


def test_a_bomb_is_read_in_small_pieces(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"x" * (100 << 20)))
    with pytest.raises(Exception, match="no N-triples file"):
        list(read_dump(path))
    short = gzip.compress((b"y" * 99 + b"\n") * (1 << 18))
    path.write_bytes(short)
    assert sum(block.size for block in read_dump(path)) == 100 << 18


def test_keys_spell_and_sort_like_their_ids():
    rng = random.Random(3)
    letters = ids.CHARACTERS.decode()
    words = {
        rng.choice("gm") + "." + "".join(rng.choices(letters, k=rng.randint(1, 12)))
        for _ in range(3000)
    } | {"m." + "z" * 12, "g.0", "m.0"}
    keys, foreign = ids.keys_of(words)
    assert not foreign
    assert ids.tokens(keys) == sorted(words)
    same, foreign = ids.keys_of(
        ["/m/0abc", f"<{NS}m.0abc>", "m.0abc", "Q42", "m.", "m.0ABC", "m.é"]
    )
    assert ids.tokens(same) == ["m.0abc"] and foreign == ["Q42", "m.", "m.0ABC", "m.é"]


def test_relations_that_share_a_hash_are_told_apart(monkeypatch):
    from dataset_tools.freebase import spill

    monkeypatch.setattr(spill, "_FACTOR", np.uint64(0))
    text = (line("m.00", "a.b.c", "m.01") + line("m.00", "a.b.d", "m.01")).encode()
    block = np.frombuffer(text + bytes(64), dtype=np.uint8)
    found = scan_block(block, len(text), Frontier(ids.keys_of(["m.00"])[0]), False, None)
    relations = Relations()
    names = [relations.names[code] for code in relations.codes(block, found)]
    assert names == ["a.b.c", "a.b.d"]


def test_a_pipe_is_read_once_a_hop(tmp_path, link):
    rows = toy_dump()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def feed():
        for _ in range(2):
            with pipe.open("wb") as file:
                file.write(gzip.compress("".join(rows).encode()))
            time.sleep(0.2)

    thread = threading.Thread(target=feed)
    thread.start()
    written = freebase(pipe, link, tmp_path, "--min-entity", "1", "--min-relation", "1")
    thread.join()
    assert written == oracle(rows, LINKED, 2, True, 1, 1)


def test_records_behind_a_saved_state_are_cut_off(tmp_path):
    def heads_of(records, *more):
        spill = Spill(tmp_path / "records", records)
        for heads in more:
            spill.add(np.array(heads), np.zeros(len(heads)), np.zeros(len(heads)))
        spill.sync()
        found = [int(head) for rows in spill.read("look") for head in rows["head"]]
        spill.close()
        return found

    assert heads_of(0, [5, 3], [9]) == [5, 3, 9]
    assert heads_of(2, [7]) == [5, 3, 7]  # the third had been written, but no state knew it
    assert heads_of(3) == [5, 3, 7]
    with pytest.raises(DataError, match="is shorter than its state says"):
        heads_of(4)
    assert heads_of(3) == [5, 3, 7]


def test_killed_and_continued_gives_the_same_bytes(tmp_path, link):
    rows = toy_dump(size=60000, entities=30000)
    parts = ["".join(rows[at : at + 6000]).encode() for at in range(0, len(rows), 6000)]
    dump = tmp_path / "d.gz"
    dump.write_bytes(b"".join(map(gzip.compress, parts)))
    words = ["freebase", "--dump", str(dump), "--link", str(link), "--hops", "3"]
    words += ["--min-entity", "1", "--min-relation", "1", "--report", str(tmp_path / "report.json")]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    report = (tmp_path / "report.json").read_bytes()
    out = tmp_path / "killed"
    # Blocks so small, and a state after each, that a kill lands between two of many states.
    code = (
        "import sys, time\nfrom dataset_tools.freebase import blocks, walk\n"
        "blocks.read_dump.__defaults__ = (None, 20000)\n"
        "take = walk.Walk._take\n"
        "def slow(self, *a):\n    time.sleep(0.04)\n    take(self, *a)\n"
        "walk.Walk._take = slow\n"
        "from dataset_tools.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *words, "--out", str(out), "--save-every", "0"]
    kills, rng = 0, random.Random(5)
    state = out / ".toy.freebase" / "state.json"
    for _ in range(4):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        before = state.read_bytes() if state.is_file() else b""
        for _ in range(600):
            time.sleep(0.05)
            if process.poll() is not None or (state.is_file() and state.read_bytes() != before):
                break
        time.sleep(rng.random() * 0.4)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills >= 3
    last = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert (out / "toy.kg").read_bytes() == (tmp_path / "whole" / "toy.kg").read_bytes()
    assert (tmp_path / "report.json").read_bytes() == report
    assert os.listdir(out) == ["toy.kg"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--hops", "0"], "--hops"),
        (["--dump", "absent.gz"], "absent.gz"),
        (["--max-entities", "5"], "--max-entities"),
        (["--relations", "no.such"], "no triple"),
        (["--min-entity", "1", "--min-relation", "100000"], "--min-relation"),
    ],
)
def test_mistakes_are_one_line(tmp_path, link, more, words, capsys):
    (tmp_path / "d.nt").write_text("".join(toy_dump()))
    given = ["--dump", str(tmp_path / "d.nt"), "--link", str(link), "--out", str(tmp_path)]
    assert main(["freebase", *given, *more]) == 2
    err = [row for row in capsys.readouterr().err.splitlines() if row.startswith("error: ")]
    assert len(err) == 1 and words in err[0]


def test_links_that_are_no_ids_are_counted(tmp_path):
    path = tmp_path / "x.link"
    write_table(path, ["item_id:token", "entity_id:token"], [("1", "Q5"), ("2", "m.0a")])
    keys, faults = linked_keys(path)
    assert ids.tokens(keys) == ["m.0a"]
    assert faults.summary() == ["x.link: 1 links to what is no Freebase id (line 2)"]
    write_table(path, ["item_id:token", "entity_id:token"], [("1", "Q5")])
    with pytest.raises(Exception, match="no entity_id is a Freebase id"):
        linked_keys(path)


def test_place_is_plain(tmp_path):
    (tmp_path / "x.bz2").write_bytes(bz2.compress(b"a"))
    assert list(read_dump(tmp_path / "x.bz2", Place()))  # not N-triples; the scan counts it


@pytest.mark.parametrize("word", ["/m/0abc", f"<{NS}m.0abc>"])
def test_links_that_spell_ids_otherwise_than_the_dump_are_refused(tmp_path, word):
    path = tmp_path / "x.link"
    write_table(path, ["item_id:token", "entity_id:token"], [("i1", "m.0x"), ("i2", word)])
    with pytest.raises(DataError, match=r"line 3: '.*' is 'm.0abc' in the \.kg to come"):
        linked_keys(path)

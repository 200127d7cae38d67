"""`release`: the text files of KGAT, KGIN and KGCL become atomic files; counts are checked."""

import json
import random
from pathlib import Path

import pytest

from dataset_tools import manifest
from dataset_tools.__main__ import main
from recbole_slif.config import SlifConfig
from recbole_slif.data.loaders import prepare_data
from recbole_slif.data.tables import read_table

SHARED = Path(__file__).parents[3] / "shared" / "data"
BOOK, IFASHION = SHARED / "amazon-book", SHARED / "alibaba-ifashion"
FILES = {
    "train.txt": ["0 0 1 2", "1 2 3", "2 0 3 1 3", "3 4", "4"],
    "test.txt": ["0 3", "1 0", "2 2"],
    "kg_final.txt": ["0 0 5", "1 0 5", "5 1 6", "2 1 6", "0 0 5"],
    "item_list.txt": ["org_id remap_id freebase_id", *(f"B{i} {i} m.{i}" for i in range(5))],
    "user_list.txt": ["org_id remap_id", *(f"A{i} {i}" for i in range(4))],
    "entity_list.txt": ["org_id remap_id", "m.0 0", "the long name 5", "m.5 6"],
    "relation_list.txt": ["org_id remap_id", "http://rdf.freebase.com/ns/book.genre 0"],
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "raw").mkdir()
    for name, lines in FILES.items():
        (tmp_path / "raw" / name).write_text("\n".join(lines) + "\n")
    return tmp_path / "raw"


def imported(folder, *words, out="toy", name="toy"):
    out = folder.parent / out
    code = main(["release", str(folder), "--name", name, "--out", str(out), *words])
    return code, {path.name: path.read_text() for path in sorted(out.glob("*"))}


def test_a_release_becomes_atomic_files_with_its_split(folder, capsys):
    code, files = imported(folder)
    assert code == 0
    assert files["toy.train.inter"].split("\n")[1:4] == ["0\t0", "0\t1", "0\t2"]
    assert files["toy.test.inter"] == "user_id:token\titem_id:token\n0\t3\n1\t0\n2\t2\n"
    assert files["toy.kg"].splitlines()[1:] == [
        "m.0\tbook.genre\tthe long name",
        "e1\tbook.genre\tthe long name",
        "e2\tr1\tm.5",
        "the long name\tr1\tm.5",
    ]
    assert files["toy.link"].splitlines()[1:] == ["0\tm.0", "1\te1", "2\te2"]
    assert files["toy.item"].splitlines()[1] == "0\tB0\tm.0"
    shown = " ".join(capsys.readouterr().out.split())
    for text in (
        "interactions 12",
        "repeated pairs left out of train 1",
        "users without items in train 1",
        "repeated triples left out 1",
        "entities 2",
        "linked_items 3",
        "no published counts are known",
    ):
        assert text in shown, text


def test_the_files_train_as_they_are(folder):
    imported(folder)
    bundle = prepare_data(
        SlifConfig("KGAT", "toy", argv=[f"--data_path={folder.parent}", "--valid_ratio=0"])
    )
    assert bundle.statistics["protocol"] == "benchmark"
    assert bundle.statistics["linked_items"] == 3
    assert bundle.statistics["triples"] == 4


def test_kgcl_numbers_its_tails_apart(folder):
    (folder / "kg_final.txt").unlink()
    (folder / "kg.txt").write_text("0 0 0\n1 0 0\n2 1 1\n")
    for name in ("entity_list.txt", "relation_list.txt"):
        (folder / name).unlink()
    _, files = imported(folder)
    assert files["toy.kg"].splitlines()[1:] == ["i0\tr0\te0", "i1\tr0\te0", "i2\tr1\te1"]
    assert files["toy.link"].splitlines()[1:] == ["0\ti0", "1\ti1", "2\ti2"]
    _, shared = imported(folder, "--entities", "shared", out="other")
    assert shared["toy.kg"].splitlines()[1:] == ["e0\tr0\te0", "e1\tr0\te0", "e2\tr1\te1"]
    (folder / "kg.txt").write_text("7 0 0\n")
    assert imported(folder, "--entities", "separate", out="third") == (2, {})


def test_a_validation_file_stays_one(folder):
    (folder / "valid.txt").write_text("0 4\n1 4\n")
    _, files = imported(folder)
    assert files["toy.valid.inter"].splitlines()[1:] == ["0\t4", "1\t4"]
    assert files["toy.train.inter"].splitlines()[1:4] == ["0\t0", "0\t1", "0\t2"]


@pytest.mark.parametrize("part", ["valid.inter", "inter"])
def test_parts_of_another_split_are_refused(folder, capsys, part):
    stale = folder.parent / "toy" / f"toy.{part}"
    stale.parent.mkdir()
    stale.write_text("user_id:token\titem_id:token\n0\t3\n")
    code, files = imported(folder)
    assert code == 2 and list(files) == [stale.name]
    assert f"{stale}: is there from another split" in capsys.readouterr().err
    stale.unlink()
    assert imported(folder)[0] == imported(folder)[0] == 0


def test_the_last_item_is_one_and_an_item_of_the_graph_alone_is_none(folder, capsys):
    (folder / "train.txt").write_text("0 0 1\n1 2\n3 6\n")
    (folder / "test.txt").write_text("0 2\n")
    # Items are 0 to 6; 4 and 5 have no interaction, 7 is no item.
    (folder / "kg_final.txt").write_text("6 0 7\n4 0 7\n0 1 6\n")
    _, files = imported(folder)
    assert files["toy.link"].splitlines()[1:] == ["0\tm.0", "6\tm.5"]
    shown = " ".join(capsys.readouterr().out.split())
    assert " entities 1 " in shown and " linked_items 2 " in shown


def test_triples_are_sorted_by_head_relation_and_tail(folder):
    (folder / "kg_final.txt").write_text("1 0 5\n0 1 5\n0 0 6\n0 0 5\n")
    _, files = imported(folder)
    assert [line.split("\t") for line in files["toy.kg"].splitlines()[1:]] == [
        ["m.0", "book.genre", "the long name"],
        ["m.0", "book.genre", "m.5"],
        ["m.0", "r1", "the long name"],
        ["e1", "book.genre", "the long name"],
    ]


def test_two_entities_of_one_name_stay_two(folder):
    (folder / "entity_list.txt").write_text("org_id remap_id\nm.0 0\nm.5 5\nm.5 6\n")
    _, files = imported(folder)
    tails = [line.split("\t")[2] for line in files["toy.kg"].splitlines()[1:]]
    assert tails == ["m.5", "m.5", "e6", "e6"]


def test_a_name_that_is_the_label_of_another_id_is_not_taken(folder):
    # 6 is the largest id, so that no entity is called e7 by its number.
    (folder / "entity_list.txt").write_text("org_id remap_id\ne6 0\ne7 1\ne05 2\ne2 5\n")
    _, files = imported(folder)
    nodes = [line.split("\t")[::2] for line in files["toy.kg"].splitlines()[1:]]
    assert nodes == [["e0", "e5"], ["e7", "e5"], ["e05", "e6"], ["e5", "e6"]]


def test_original_ids_become_tokens_where_asked_for(folder, capsys):
    _, files = imported(folder, "--original-ids")
    assert files["toy.test.inter"].splitlines()[1:] == ["A0\tB3", "A1\tB0", "A2\tB2"]
    assert files["toy.link"].splitlines()[1] == "B0\tm.0"
    (folder / "user_list.txt").write_text("org_id remap_id\nA0 0\n")
    assert imported(folder, "--original-ids", out="b") == (2, {})
    assert "no original id for user 1" in capsys.readouterr().err


def test_shuffled_lines_give_the_same_bytes(folder):
    _, before = imported(folder)
    for path in folder.iterdir():
        head, *rest = path.read_text().splitlines()
        lines = [head, *rest] if "list" in path.name else [*rest, head]
        start = 1 if "list" in path.name else 0
        body = lines[start:]
        random.Random(1).shuffle(body)  # noqa: S311
        path.write_text("\n".join(lines[:start] + body) + "\n")
    _, after = imported(folder, out="again")
    assert list(before.values()) == list(after.values())


def test_bad_lines_are_counted_and_leave_the_others(folder, capsys):
    _, before = imported(folder)
    for name, bad in {
        "train.txt": b"0 1 x\n-1 2\n\xff 3\n",
        "kg_final.txt": b"0 1\n1 2 3 4\n",
        "item_list.txt": b"B9 nine m.9\nB7 0 m.7\n",
    }.items():
        path = folder / name
        path.write_bytes(path.read_bytes() + bad)
    report = folder.parent / "report.json"
    code, after = imported(folder, "--report", str(report), out="again")
    assert code == 0 and list(before.values()) == list(after.values())
    faults = json.loads(report.read_text())["faults"]
    assert [(entry["file"], entry["count"], entry["lines"]) for entry in faults] == [
        ("item_list.txt", 1, [8]),
        ("item_list.txt", 1, [7]),
        ("kg_final.txt", 2, [6, 7]),
        ("train.txt", 3, [6, 7, 8]),
    ]
    assert "(line 6, 7, 8)" in capsys.readouterr().err
    assert imported(folder, "--strict", out="third") == (2, {})


def test_counts_that_differ_are_printed_and_refused_only_when_strict(folder, capsys, monkeypatch):
    counts = {"users": 5, "items": 5, "interactions": 12, "relations": 39}
    known = {
        "toy": {"releases": {"kgat": {"counts": counts}}, "papers": {"Paper, Table I": counts}}
    }
    monkeypatch.setattr(manifest, "manifest", lambda: known)
    assert imported(folder)[0] == 0
    shown = capsys.readouterr().out
    assert "release kgat: 2 of 4 published counts agree" in shown
    assert "users 4 (published 5), relations 2 (published 39)" in shown
    assert "Paper, Table I: 2 of 4" in shown
    assert imported(folder, "--strict", out="b") == (2, {})
    assert "users 4 (published 5)" in capsys.readouterr().err


def test_a_list_that_lacks_a_blank_is_read_as_meant(folder):
    ids = ["ydU", "1wE", "73d", "0", "xx"]
    lines = [f"{name} {number}{name}" for number, name in enumerate(ids)]
    (folder / "item_list.txt").write_text("\n".join(["org_id remap_id freebase_id", *lines]))
    _, files = imported(folder, "--original-ids", "--strict")
    assert files["toy.item"].splitlines()[1:] == [f"{name}\t{name}\t{name}" for name in ids]
    assert files["toy.test.inter"].splitlines()[1:] == ["A0\t0", "A1\tydU", "A2\t73d"]


def test_sizes_that_differ_are_printed(folder, capsys, monkeypatch):
    sizes = {"train.txt": 5, "test.txt": (folder / "test.txt").stat().st_size, "kg.txt": 3}
    entry = {"counts": {"users": 4}, "files": sizes}
    monkeypatch.setattr(manifest, "manifest", lambda: {"toy": {"releases": {"kgat": entry}}})
    assert imported(folder, "--strict")[0] == 0
    shown = capsys.readouterr().out
    assert "train.txt: 30 bytes, the release's has 5" in shown
    assert shown.count("the release's has") == 1


def test_missing_files_are_named(tmp_path, capsys):
    assert imported(tmp_path)[0] == 2
    assert "train.txt: no such file" in capsys.readouterr().err


def test_the_error_of_the_file_that_is_read_first_is_told(folder, capsys):
    (folder / "entity_list.txt").write_bytes(b"PK\x03\x04")
    assert imported(folder, "--entities", "separate") == (2, {})
    assert "head 5 is beyond the 5 items" in capsys.readouterr().err
    (folder / "kg_final.txt").write_bytes(b"PK\x03\x04")
    (folder / "test.txt").write_text("0\n1\n")
    assert imported(folder) == (2, {})
    assert "test.txt: no interactions" in capsys.readouterr().err


def test_two_items_of_one_original_id_are_refused(folder, capsys):
    path = folder / "item_list.txt"
    path.write_text(path.read_text().replace("B3", "B2"))
    assert imported(folder, "--original-ids") == (2, {})
    assert "two items have one original id" in capsys.readouterr().err
    assert imported(folder)[0] == 0


def as_release(folder, name, cut):
    """Write public atomic files as the text files that they come from."""
    raw = folder / "raw"
    raw.mkdir()
    for part in ("train", "test"):
        frame = read_table(SHARED / name / f"{name}.{part}.inter").frame
        frame = frame.apply(lambda column: column.str[cut:])
        items = frame.groupby("user_id", sort=False)["item_id"].agg(" ".join)
        lines = [f"{user} {listed}" for user, listed in items.items()]
        (raw / f"{part}.txt").write_text("\n".join(lines) + "\n")
    return raw


@pytest.mark.skipif(not IFASHION.is_dir(), reason="the public alibaba-ifashion files are not here")
def test_alibaba_ifashion_has_all_published_counts(tmp_path, capsys):
    raw = as_release(tmp_path, "alibaba-ifashion", 1)
    triples = read_table(IFASHION / "alibaba-ifashion.kg").frame
    triples = triples.apply(lambda column: column.str[1:])
    lines = (" ".join(row) for row in triples.itertuples(index=False))
    (raw / "kg_final.txt").write_text("\n".join(lines) + "\n")
    code, files = imported(raw, "--strict", "--kind", "kgin", name="alibaba-ifashion")
    assert code == 0
    assert "release kgin: 8 of 8 published counts agree" in capsys.readouterr().out
    theirs = (IFASHION / "alibaba-ifashion.kg").read_text().splitlines()
    assert set(files["alibaba-ifashion.kg"].splitlines()) == set(theirs)


@pytest.mark.skipif(not BOOK.is_dir(), reason="the public amazon-book files are not here")
def test_amazon_book_has_the_counts_of_table_one(tmp_path, capsys):
    raw = as_release(tmp_path, "amazon-book", 0)
    report = tmp_path / "report.json"
    code, files = imported(raw, "--strict", "--report", str(report), name="amazon-book")
    assert code == 0
    shown = capsys.readouterr().out
    # What is missing are the 88 users whom test.txt lists without an item.
    assert "test.txt: 1,477,425 bytes, the release's has 1,478,039" in shown
    assert "train.txt: 3," not in shown
    assert "SLIF-MR, Table I: 3 of 8 published counts agree; not in these files" in shown
    assert "KGAT, data table: 0 of 1" in shown
    assert sum(text.count("\n") - 1 for text in files.values()) == 846_434
    for part in ("train", "test"):
        ours = files[f"amazon-book.{part}.inter"].splitlines()
        theirs = (BOOK / f"amazon-book.{part}.inter").read_text().splitlines()
        assert set(ours) == set(theirs)
    counts = json.loads(report.read_text())["counts"]
    assert (counts["users"], counts["items"], counts["interactions"]) == (70_679, 24_915, 846_434)

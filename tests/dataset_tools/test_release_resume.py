"""`release` works on disk in pieces, equal to plain Python, and goes on after a kill."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from dataset_tools import release_files
from dataset_tools.__main__ import main
from dataset_tools.journal import Journal
from tests.dataset_tools.killed import child
from tests.dataset_tools.test_resume import ROOT, Kill, kept_lines

SIZES = {
    "release_reading": {"_ROWS": 100, "BATCH": 40, "BATCH_CHARS": 400},
    "number_file": {"_SORTED": 50, "_MERGED": 20, "_LEAST_PIECE": 3, "CHUNK": 40},
    "token_order": {"_MERGED_BYTES": 90, "_LEAST_PIECE": 7, "_STEP": 3, "_READ_BYTES": 50},
    "marks": {"_PIECE": 1},
}


def small_pieces(monkeypatch):
    """Have a few hundred rows go through as many pieces as many millions do."""
    for module, sizes in SIZES.items():
        for name, size in sizes.items():
            monkeypatch.setattr(f"dataset_tools.{module}.{name}", size)


def write_release(folder, seed=1):
    """Repeated pairs and triples, users without items, faulty lines, names twice, ids with gaps."""
    rng = random.Random(seed)  # noqa: S311
    folder.mkdir(parents=True)
    lines = {}
    for part, count in (("train", 60), ("valid", 15), ("test", 25)):
        lists = [
            [3 * rng.randrange(30), *rng.choices(range(0, 80, 2), k=rng.randrange(7))]
            for _ in range(count)
        ]
        lines[part] = [" ".join(map(str, numbers)) for numbers in lists]
        # The last line is faulty as well: it must not be counted twice after a stop behind it.
        lines[part][count // 2 : count // 2] = ["7 x"]
        lines[part].append("8 y")
    triples = [(rng.randrange(90), 5 * rng.randrange(4), rng.randrange(130)) for _ in range(300)]
    lines["kg_final"] = [" ".join(map(str, triple)) for triple in triples]
    lines["kg_final"][100:100] = ["1 2", "1 2 3 4", "1 2 -3"]
    lines["kg_final"].append("5")
    head = "org_id remap_id"
    lines["user_list"] = [head, *(f"A {n} {n}" for n in rng.sample(range(90), 90)), "B 4"]
    items = [f"B{n} {n} m.{n}" for n in rng.sample(range(130), 130)]
    lines["item_list"] = [f"{head} freebase_id", *items, "B9 nine m.9"]
    names = ["same", "e5", "e05", "e999", "http://rdf.freebase.com/ns/m.1", "m.1"]
    lines["entity_list"] = [
        head,
        *(f"{rng.choice(names)} {rng.randrange(140)}" for _ in range(30)),
        *(f"n{n} {n}" for n in rng.sample(range(140), 70)),
    ]
    lines["relation_list"] = [head, "http://rdf.freebase.com/ns/is.in 5", "r0 10", "r11 15"]
    for name, text in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(text) + "\n")
    return folder


def run(folder, out, *words):
    report = out.with_suffix(".json")
    report.unlink(missing_ok=True)
    words = ["release", str(folder), "--name", "toy", "--out", str(out), *words]
    assert main([*words, "--report", str(report)]) == 0
    files = {path.name: path.read_bytes() for path in sorted(out.iterdir())}
    return files, json.loads(report.read_text())


def plain(folder, original):
    """Return the files of a release as plain Python makes them, with shared entities."""
    read = {path.stem: path.read_text().splitlines() for path in folder.iterdir()}

    def ids(line):
        return tuple(int(word) if word.isdigit() else -1 for word in line.split())

    def listed(name):
        found = {}
        for line in read[name][1:]:
            words = line.split()
            words = words if name == "item_list" else [" ".join(words[:-1]), words[-1]]
            if words[1].isdigit():
                found.setdefault(int(words[1]), (words[0], *words[2:]))
        return found

    def labels(names, prefix, used):
        found, taken = {}, {f"{prefix}{n}" for n in range(max(used) + 1)}
        for n in sorted(used):
            name = names.get(n, ("",))[0].removeprefix("http://rdf.freebase.com/ns/")
            found[n] = f"{prefix}{n}" if not name or name in taken else name
            taken.add(found[n])
        return found

    lists = {
        part: sorted(
            {(row[0], item) for row in map(ids, read[part]) if -1 not in row for item in row[1:]}
        )
        for part in ("train", "valid", "test")
    }
    met = {item for pairs in lists.values() for _, item in pairs}
    users, items = listed("user_list"), listed("item_list")
    user = {n: name[0] if original else str(n) for n, name in users.items()}
    item = {n: items[n][0] if original and n in met else str(n) for n in items}
    triples = {row for row in map(ids, read["kg_final"]) if len(row) == 3 and -1 not in row}
    nodes = {end for head, _, tail in triples for end in (head, tail)}
    entity = labels(listed("entity_list"), "e", nodes)
    relation = labels(listed("relation_list"), "r", {row[1] for row in triples})
    head = {"inter": "user_id item_id", "kg": "head_id relation_id tail_id"}
    head |= {"link": "item_id entity_id", "item": "item_id original_id freebase_id"}
    rows = {f"{part}.inter": [(user[a], item[b]) for a, b in lists[part]] for part in lists}
    rows["kg"] = [(entity[h], relation[r], entity[t]) for h, r, t in sorted(triples)]
    rows["link"] = [(item[n], entity[n]) for n in sorted(met & nodes)]
    rows["item"] = [(item[n], *items[n]) for n in sorted(items) if n <= max(met)]
    return {
        f"toy.{name}": "".join(
            "\t".join(row) + "\n"
            for row in [[f"{column}:token" for column in head[name.split(".")[-1]].split()], *found]
        ).encode()
        for name, found in sorted(rows.items())
    }


@pytest.mark.parametrize("words", [[], ["--original-ids"]])
def test_pieces_of_any_size_give_what_plain_python_does(tmp_path, monkeypatch, words):
    for seed in range(3):
        folder = write_release(tmp_path / f"raw{seed}", seed)
        whole = run(folder, tmp_path / f"whole{seed}", *words)
        assert whole[0] == plain(folder, bool(words))
        with monkeypatch.context() as patch:
            small_pieces(patch)
            assert run(folder, tmp_path / f"pieces{seed}", *words) == whole
    counts, faults = whole[1]["counts"], whole[1]["faults"]
    assert counts["entities_with_items"] == counts["entities"] + counts["items"]
    met, again = set(), []
    for number, line in enumerate((folder / "entity_list.txt").read_text().splitlines(), start=1):
        again += [number] if line.split()[-1] in met else []
        met.add(line.split()[-1])
    assert [fault for fault in faults if fault["kind"] == "ids listed again"] == [
        {"file": file, "kind": "ids listed again", "count": len(lines), "lines": lines[:10]}
        for file, lines in (("entity_list.txt", again), ("user_list.txt", [92]))
    ]


def test_few_interactions_are_counted_over_all_parts(tmp_path, monkeypatch):
    small_pieces(monkeypatch)
    folder = tmp_path / "raw"
    folder.mkdir()
    # User 0 has ten items in two files, one of them in both; user 1 has nine.
    (folder / "train.txt").write_text("0 0 1 2 3 4 5 6 7 8\n1 0 1 2 3 4 5 6 7 8\n2 0\n")
    (folder / "test.txt").write_text("0 8 9\n" + "".join(f"{user} 0\n" for user in range(3, 10)))
    counts = run(folder, tmp_path / "out")[1]["counts"]
    assert (counts["users"], counts["users_below_10"]) == (10, 9)
    assert (counts["items"], counts["items_below_10"]) == (10, 9)
    assert counts["users_without_test"] == 2
    assert counts["interactions"] == counts["train"] + counts["test"] - 1


def test_lines_of_many_items_are_read_without_a_text_for_each(tmp_path, monkeypatch):
    folder = write_release(tmp_path / "raw")
    with (folder / "train.txt").open("a") as file:
        file.write(
            f"1 {' 2' * 50}\n1 {' 2' * 50} 1234567890\n1 {' 2' * 50} x\n1 {' 2' * 50}\t4\r\n"
        )
    whole = run(folder, tmp_path / "whole")
    monkeypatch.setattr(release_files, "_LONG_LINE", 20)
    assert run(folder, tmp_path / "long") == whole


@pytest.mark.parametrize("text", ["", "remap_id\n5\n", "org_id\nA\n"])
def test_a_list_without_two_columns_gives_no_name(tmp_path, text):
    folder = write_release(tmp_path / "raw")
    (folder / "entity_list.txt").write_text(text)
    report = run(folder, tmp_path / "out")[1]
    faults = [fault for fault in report["faults"] if fault["file"] == "entity_list.txt"]
    assert sum(fault["count"] for fault in faults) == text.count("\n") - ("remap" in text)


def test_a_stop_after_any_entry_loses_nothing_and_repeats_nothing(tmp_path, monkeypatch):
    small_pieces(monkeypatch)
    folder, stop_at, met = write_release(tmp_path / "raw"), -1, []
    whole = run(folder, tmp_path / "whole", "--original-ids")
    add = Journal.add

    def counted(self, *files, **entry):
        if len(met) == stop_at:
            raise Kill
        met.append(sorted(entry))
        add(self, *files, **entry)

    monkeypatch.setattr(Journal, "add", counted)
    assert run(folder, tmp_path / "again", "--original-ids") == whole
    total = list(met)
    # Runs of seven files, what is sorted of six kinds, the names of four, and six files.
    assert len(total) > 30 and len({tuple(entry) for entry in total}) > 16
    for stop_at in range(len(total)):
        met.clear()
        with pytest.raises(Kill):
            run(folder, tmp_path / "cut", "--original-ids")
        before, stopped_at = list(met), stop_at
        met.clear()
        stop_at = -1
        assert run(folder, tmp_path / "cut", "--original-ids") == whole, stopped_at
        # What was entered before the stop is not entered again.
        assert before + met == total, stopped_at
        for path in (tmp_path / "cut").iterdir():
            path.unlink()


CHILD = child(SIZES, 0.03)


def test_kills_at_random_moments_lose_nothing_and_repeat_no_kept_line(tmp_path):
    folder, out, log = write_release(tmp_path / "raw"), tmp_path / "out", tmp_path / "log"
    whole = run(folder, tmp_path / "whole")[0]
    files = ["train", "valid", "test", "kg_final"]
    files += [f"{what}_list" for what in ("user", "item", "entity", "relation")] + ["none is left"]
    ready, journal = log.with_suffix(".ready"), out / ".toy.release.partial" / "journal"
    words = ["release", str(folder), "--name", "toy", "--out", str(out)]
    rng, kills, begins, tries = random.Random(5), 0, ("train.txt", 0), 0  # noqa: S311

    def child():
        ready.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, str(log), *words],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def begun():
        name, after = log.read_text().splitlines()[0].split()
        return name, int(after)

    while tries < 30 and (kills < 3 or begins[0] == "train.txt"):
        killed = child()
        while not ready.exists() and killed.poll() is None:
            time.sleep(0.002)
        # Longer and longer, so that a slow machine gets on as well.
        time.sleep(rng.uniform(0.03, 0.3) * (1 + tries / 3))
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        tries, kills = tries + 1, kills + journal.exists()
        if log.exists() and log.read_text().endswith("\n"):
            assert begun() == begins
        entries = [json.loads(line) for line in kept_lines(journal)]
        places = [entry["place"] for entry in entries if "place" in entry]
        if places:
            begins = (f"{files[places[-1]['file']]}.txt", places[-1]["line"])
    assert kills >= 2 and begins[0] != "train.txt"
    assert child().wait() == 0
    assert begins[0] == "none is left.txt" or begun() == begins
    assert {path.name: path.read_bytes() for path in sorted(out.iterdir())} == whole


def cut_at(key, folder, out, monkeypatch, *words):
    """Stop a run once an entry with a key is there."""
    add = Journal.add

    def stop(self, *files, **entry):
        add(self, *files, **entry)
        if key in entry:
            raise Kill

    with monkeypatch.context() as patch, pytest.raises(Kill):
        patch.setattr(Journal, "add", stop)
        run(folder, out, *words)


def test_another_option_or_file_begins_anew(tmp_path, monkeypatch):
    small_pieces(monkeypatch)
    folder, out = write_release(tmp_path / "raw"), tmp_path / "cut"
    fresh = run(folder, tmp_path / "fresh", "--original-ids")
    cut_at("toy.kg", folder, out, monkeypatch)
    assert run(folder, out, "--original-ids") == fresh
    for name in ("train.txt", "kg_final.txt", "item_list.txt"):
        before = run(folder, tmp_path / "before")
        shutil.rmtree(out)
        cut_at("toy.link", folder, out, monkeypatch)
        data = (folder / name).read_text()
        (folder / name).write_text(data.replace("4", "6"))
        changed = run(folder, tmp_path / "changed")
        assert run(folder, out) == changed and changed != before
    shutil.rmtree(out)
    cut_at("toy.link", folder, out, monkeypatch)
    (folder / "user_list.txt").unlink()
    assert run(folder, out) == run(folder, tmp_path / "without")


def test_a_torn_or_shortened_file_is_not_trusted(tmp_path, monkeypatch):
    small_pieces(monkeypatch)
    folder, out = write_release(tmp_path / "raw"), tmp_path / "cut"
    whole = run(folder, tmp_path / "whole")
    kept = [
        ("interactions", "interactions"),
        ("triples", "triples"),
        ("item", "item.texts"),
        ("entity", "entity"),
        ("entity names", "entity.names"),
        ("entity names", "entity.named"),
        ("interactions", "triples.runs"),
    ]
    for key, file in kept:
        cut_at(key, folder, out, monkeypatch)
        partial = out / ".toy.release.partial"
        data = (partial / file).read_bytes()
        (partial / file).write_bytes(data[: len(data) // 2])
        with (partial / "journal").open("ab") as journal:
            journal.write(b'{"runs": 7, "torn')
        assert run(folder, out) == whole, file
        shutil.rmtree(out)


def test_a_written_file_that_somebody_changed_is_written_again(tmp_path, monkeypatch):
    folder, out = write_release(tmp_path / "raw"), tmp_path / "cut"
    whole = run(folder, tmp_path / "whole")
    cut_at("toy.link", folder, out, monkeypatch)
    (out / "toy.train.inter").write_text("mine")
    (out / "toy.kg").unlink()
    assert run(folder, out) == whole

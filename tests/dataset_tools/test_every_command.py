"""What is asked of every command: shuffled input, faulty lines, bars, strictness, examples."""

import gzip
import json
import random
import shlex
from pathlib import Path

import numpy as np
import pytest

from dataset_tools.__main__ import COMMANDS, command_parser, main
from tests.dataset_tools.commands import CALLS, bars_of, contents, stand_ins, words_of

WITH_FAULTS = [name for name, call in CALLS.items() if call.bad]


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    pytest.importorskip("PIL.Image", reason="needs pillow")
    stand_ins(monkeypatch)


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def made(name, place, out, *more):
    """Run a call that must end well; return what it wrote."""
    assert main([*words_of(CALLS[name], place, out), *more]) == 0
    return contents(out)


def shuffle_rows(stem, rng):
    """Bring the rows of a feature file into another order."""
    matrix, tokens = np.load(f"{stem}.npy"), Path(f"{stem}.ids").read_text().split()
    order = rng.sample(range(len(tokens)), len(tokens))
    np.save(f"{stem}.npy", matrix[order])
    Path(f"{stem}.ids").write_text("".join(f"{tokens[row]}\n" for row in order))


@pytest.mark.parametrize("name", CALLS)
def test_shuffled_input_gives_the_same_bytes(tmp_path, place, name):
    call, rng = CALLS[name], random.Random(name)  # noqa: S311
    call.make(place, random.Random(1))  # noqa: S311
    whole = made(name, place, tmp_path / "a")
    assert whole
    for path, heads in call.files:
        lines = (place / path).read_bytes().splitlines(keepends=True)
        rest = rng.sample(lines[heads:], len(lines) - heads)
        assert rest != lines[heads:]
        (place / path).write_bytes(b"".join([*lines[:heads], *rest]))
    for path in place.rglob("*.ids"):
        shuffle_rows(path.with_suffix(""), rng)
    assert made(name, place, tmp_path / "b") == whole


@pytest.mark.parametrize("name", WITH_FAULTS)
def test_faulty_lines_are_reported_by_number_and_change_no_byte(tmp_path, place, name):
    call = CALLS[name]
    call.make(place, random.Random(2))  # noqa: S311
    whole, (path, heads) = made(name, place, tmp_path / "a"), call.files[0]
    lines = (place / path).read_bytes().split(b"\n")[:-1]
    numbers = []
    for at, line in enumerate(call.bad):
        place_of = heads + 2 * at + 1
        lines.insert(place_of, line)
        numbers.append(place_of + 1)
    # The last member of the archive is cut off.
    packed = gzip.compress(b"\n".join(lines) + b"\n") + gzip.compress(b"lost" * 99)[:15]
    (place / path).write_bytes(packed)
    report = tmp_path / "report.json"
    assert made(name, place, tmp_path / "b", "--report", str(report)) == whole
    faults = json.loads(report.read_text())["faults"]
    found = sorted(line for entry in faults for line in entry["lines"])
    twice = [entry for entry in faults if "already has a line" in entry["kind"]]
    if twice:  # of two lines of an item the later one is told
        numbers, found = numbers[:-1], [line for line in found if line not in twice[0]["lines"]]
    assert found == [*numbers, len(lines) + 1]
    assert sum(entry["count"] for entry in faults) == len(call.bad) + 1


@pytest.mark.parametrize("name", WITH_FAULTS)
def test_a_strict_command_writes_nothing(tmp_path, place, capsys, name):
    call = CALLS[name]
    call.make(place, random.Random(2))  # noqa: S311
    path, heads = call.files[0]
    lines = (place / path).read_bytes().split(b"\n")
    lines.insert(heads + 1, call.bad[0])
    (place / path).write_bytes(b"\n".join(lines))
    out = tmp_path / "out"
    assert main([*words_of(call, place, out), "--strict"]) == 2
    assert f"line {heads + 2}" in capsys.readouterr().err
    written = [name for name in contents(out) if not name.startswith(".")] if out.exists() else []
    assert written == []


@pytest.mark.parametrize("name", CALLS)
def test_each_file_is_read_under_a_bar_of_its_bytes(tmp_path, place, monkeypatch, name):
    shown = bars_of(monkeypatch)
    call = CALLS[name]
    call.make(place, random.Random(3))  # noqa: S311
    made(name, place, tmp_path / "out")
    assert all(bar.n == bar.total for bar in shown), [(b.desc, b.n, b.total) for b in shown]
    sizes = [bar.total for bar in shown if bar.unit == "B"]
    read = [place / path for path, _ in call.files] + list(place.rglob("*.npy"))
    for path in read:
        if name != "freebase" or path.suffix != ".link":
            size = path.stat().st_size
            body = size - 128 if path.suffix == ".npy" else size
            assert any(size == known or body == known for known in sizes), path


def examples(command):
    """Return the words of each example of a command."""
    lines = command_parser(command).epilog.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("  python -m dataset_tools")]


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_are_understood(command):
    found = examples(command)
    assert found
    for words in found:
        assert words[3] == command
        command_parser(command).parse_args(words[4:])

"""`describe`, `align` and `noise` write the same bytes on disk as in memory."""

import json
import os

import numpy as np
import pytest

from dataset_tools.__main__ import main
from tests.dataset_tools.test_disk_data import CASES, small_pieces, write_messy
from tests.toy import write_table


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def both(tmp_path, monkeypatch, capsys, *words):
    """Run a command on disk in small pieces, then in memory; return what each wrote and said."""
    found = []
    for place in ("disk", "memory"):
        with monkeypatch.context() as patch:
            if place == "disk":
                small_pieces(patch)
            else:
                patch.setattr("dataset_tools.disk_data.fits", lambda config: False)
            out = tmp_path / place
            base = ["--dataset", "toy", "--data-path", str(tmp_path), "--out", str(out)]
            code = main([*words[:1], *base, *words[1:]])
        said = capsys.readouterr()
        text = f"{said.out}{said.err}".replace(str(out), "OUT")
        found.append((code, text, files(out) if out.is_dir() else {}))
    return found


def prepare(tmp_path, seed, case):
    options = dict(CASES[case])
    settings = options.pop("set", {})
    folder = write_messy(tmp_path / "toy", seed, **options)
    if "" in options.get("parts", ()):
        (folder / "toy.inter").unlink()
    keys = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    return ["--set", "use_gpu=False", *keys]


@pytest.mark.parametrize("case", CASES)
def test_describe_counts_alike(tmp_path, monkeypatch, capsys, case):
    keys = prepare(tmp_path, 7, case)
    disk, memory = both(tmp_path, monkeypatch, capsys, "describe", *keys)
    assert disk == memory and disk[0] == 0 and list(disk[2]) == ["toy.describe.json"]


@pytest.mark.parametrize("case", CASES)
def test_align_writes_alike(tmp_path, monkeypatch, capsys, case):
    keys = prepare(tmp_path, 8, case)
    report = tmp_path / "report.json"
    disk, memory = both(tmp_path, monkeypatch, capsys, "align", "--report", str(report), *keys)
    assert disk == memory and disk[0] == 0
    assert "toy.presence.tsv" in disk[2]


def kinds_of(case):
    options = CASES[case]
    found = ["inter"]
    found += ["kg"] if options.get("graph", True) else []
    return [*found, "modality"] if options.get("features", True) else found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [3, 4])
def test_noise_draws_alike(tmp_path, monkeypatch, capsys, case, seed):
    keys = prepare(tmp_path, seed, case)
    kinds = kinds_of(case)
    words = ["--kinds", *kinds, "--levels", "0.05", "0.15", "--seed", str(seed), *keys]
    disk, memory = both(tmp_path, monkeypatch, capsys, "noise", *words)
    assert disk == memory and disk[0] == 0
    assert len({name.split("/")[0] for name in disk[2]}) == 2 * len(kinds)


@pytest.mark.parametrize("place", [0, 9, 17])
def test_one_number_beyond_half_precision_keeps_all_in_float32(
    tmp_path, monkeypatch, capsys, place
):
    folder = write_messy(tmp_path / "toy", 5)
    matrix = np.ones((18, 3), dtype=np.float32)
    matrix[place, 1] = 0.1
    np.save(folder / "toy.visual.npy", matrix)
    (folder / "toy.visual.ids").write_text("".join(f"i{n}\n" for n in range(18)))
    words = ["--kinds", "inter", "--levels", "0.1", "--set", "use_gpu=False"]
    disk, memory = both(tmp_path, monkeypatch, capsys, "noise", *words)
    assert disk == memory and disk[0] == 0
    stored = np.load(tmp_path / "disk" / "inter-0.1" / "toy" / "toy.visual.npy")
    assert stored.dtype == np.float32


def test_columns_in_another_order_and_colliding_names(tmp_path, monkeypatch, capsys):
    folder = write_messy(tmp_path / "toy", 6)
    lines = [line.split("\t") for line in (folder / "toy.inter").read_text().splitlines()]
    table = [(item, user) for user, item in lines[1:]]
    write_table(folder / "toy.inter", ["item_id:token", "user_id:token"], table)
    more = "item=i2\tr1\t_item=i4\n_item=i4\tr2\titem=i5\n"
    (folder / "toy.kg").write_text((folder / "toy.kg").read_text() + more)
    words = ["--kinds", "inter", "kg", "--levels", "0.2", "--set", "use_gpu=False"]
    disk, memory = both(tmp_path, monkeypatch, capsys, "noise", *words)
    assert disk == memory and disk[0] == 0
    assert disk[2]["kg-0.2/toy/toy.train.inter"].startswith(b"item_id:token\tuser_id:token\n")
    assert b"\t__item=" in disk[2]["kg-0.2/toy/toy.link"]


def test_too_much_noise_is_refused_alike(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "toy"
    folder.mkdir()
    pairs = [(f"u{user}", f"i{item}") for user in range(6) for item in range(9)]
    pairs = [pair for pair in pairs if pair[0][1:] != pair[1][1:]]
    write_table(folder / "toy.inter", ["user_id:token", "item_id:token"], pairs)
    words = ["--kinds", "inter", "--levels", "0.1", "0.9", "--set", "use_gpu=False"]
    disk, memory = both(tmp_path, monkeypatch, capsys, "noise", *words)
    assert disk == memory and disk[0] == 2
    assert "can be replaced by something new" in disk[1]


def test_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys):
    write_messy(tmp_path / "toy", 6)

    def full(self, *columns):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dataset_tools.number_file.NumberWriter.write", full)
    words = ["describe", "--dataset", "toy", "--data-path", str(tmp_path), "--out", str(tmp_path)]
    assert main([*words, "--set", "use_gpu=False"]) == 2
    assert "cannot be kept there (No space left on device)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_what_a_killed_run_left_goes_and_what_another_uses_stays(tmp_path):
    write_messy(tmp_path / "toy", 6)
    out = tmp_path / "out"
    dead, alive = (out / f".dataset.{number}.partial" for number in (999_999_999, os.getppid()))
    for folder in (dead, alive):
        folder.mkdir(parents=True)
        (folder / "rows").write_text("x")
    words = ["describe", "--dataset", "toy", "--data-path", str(tmp_path), "--out", str(out)]
    assert main([*words, "--set", "use_gpu=False"]) == 0
    assert not dead.exists() and (alive / "rows").exists()

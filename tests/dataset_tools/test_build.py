"""`build`: from miniatures of the raw formats through whole recipes to a trained SLIFMR epoch."""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset_tools import recipes
from dataset_tools.__main__ import main
from recbole_slif.errors import ConfigError
from recbole_slif.quick_start import run
from tests.dataset_tools.commands import bars_of
from tests.dataset_tools.raw_files import ITEMS, write_amazon, write_kgat, write_yelp

ROOT = Path(__file__).parents[2]
SMALL = ["core=2", "min_entity=1", "min_relation=1", "encoder=letter_counter"]
STUB = """
import sys, types
import numpy as np, torch
package = types.ModuleType("letter_counter")
class Letters:
    def encode(self, sentences, **options):
        return np.array([[s.count(c) for c in "abcdefk0123456789"] for s in sentences], np.float32)
class Colours:
    def prepare(self, picture):
        return torch.from_numpy(np.asarray(picture, dtype=np.float32).copy())
    def encode(self, batch):
        return batch.mean(dim=(1, 2)).numpy()
package.load_model = lambda device=None: Letters()
package.load_backbone = lambda weights, device: Colours()
sys.modules["letter_counter"] = package
"""
BOTH = ["amazon-book.inter", "amazon-book.kg", "amazon-book.link"]
FILES = [*BOTH, *(f"amazon-book.{m}.{e}" for m in ("text", "visual") for e in ("npy", "ids"))]


@pytest.fixture(autouse=True)
def stub(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "letter_counter", types.ModuleType("letter_counter"))
    exec(STUB, {})  # noqa: S102 - the text that a process of its own runs, too
    monkeypatch.chdir(tmp_path)


def build(recipe, *words, settings=()):
    pairs = [word for setting in settings for word in ("--set", setting)]
    return main(["build", recipe, *map(str, words), *pairs])


def contents(folder, names=FILES):
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def train(name, tmp_path, protocol="ratio_811"):
    """One epoch of SLIFMR on what was built."""
    overrides = {
        "data_path": str(tmp_path / "dataset"),
        "epochs": 1,
        "protocol": protocol,
        "embedding_size": 8,
        "train_batch_size": 64,
        "use_gpu": False,
        "topk": [5],
        "valid_metric": "Recall@5",
        "checkpoint_dir": str(tmp_path / "saved"),
    }
    result = run("SLIFMR", name, overrides=overrides, saved=False, verbose=False)
    assert result.status == "finished", result.error
    return result


def test_amazon_from_raw_files_to_a_trained_epoch(tmp_path, capsys):
    raw = write_amazon(tmp_path / "raw")
    words = ["amazon-book", "--route", "raw", "--raw", raw]
    assert build(*words, settings=SMALL) == 0
    folder = tmp_path / "dataset" / "amazon-book"
    assert (folder / "amazon-book.kg").read_text().count("\n") == 1 + ITEMS + 4
    assert np.load(folder / "amazon-book.visual.npy").shape == (ITEMS, 4096)
    assert sorted(os.listdir(folder)) == sorted([*FILES, ".amazon-book.build.json"])
    err = capsys.readouterr().err
    assert "1 line of broken JSON" in err and "1 line without the four cells" in err
    result = train("amazon-book", tmp_path)
    assert result.test and 0 <= result.test["recall@5"] <= 1
    before = contents(folder)
    shutil.rmtree(folder)
    shutil.rmtree(raw)
    write_amazon(raw, seed=5)
    assert build(*words, settings=SMALL) == 0
    assert contents(folder) == before


def test_yelp_from_raw_files_to_a_trained_epoch(tmp_path):
    raw = write_yelp(tmp_path / "raw")
    settings = ["core=2", "min_items=1", "encoder=letter_counter", "backbone=letter_counter"]
    assert build("yelp2018", "--route", "raw", "--raw", raw, settings=settings) == 0
    folder = tmp_path / "dataset" / "yelp2018"
    assert len((folder / "yelp2018.visual.ids").read_text().split()) == ITEMS
    assert "attributes::BusinessParking::lot" in (folder / "yelp2018.kg").read_text()
    train("yelp2018", tmp_path)


def test_a_release_to_a_trained_epoch(tmp_path, capsys):
    raw = write_amazon(tmp_path / "raw")
    write_kgat(raw / "Data" / "amazon-book")
    assert build("amazon-book", "--raw", raw, settings=["encoder=letter_counter"]) == 0
    folder = tmp_path / "dataset" / "amazon-book"
    assert len((folder / "amazon-book.visual.ids").read_text().split()) == ITEMS
    train("amazon-book", tmp_path, "benchmark")
    assert "published" in capsys.readouterr().out


def steps_run(capsys):
    lines = capsys.readouterr().out.splitlines()
    return [
        line.split("] ")[1].split(":")[0]
        for line in lines
        if line.startswith("[") and not line.endswith((": finished", ": left out"))
    ]


def test_finished_steps_are_left_out_and_never_stale(tmp_path, capsys):
    raw = write_amazon(tmp_path / "raw")
    words = ["amazon-book", "--route", "raw", "--raw", raw]
    everything = ["interactions", "links", "graph", "text", "images", "check"]
    assert build(*words, settings=SMALL) == 0
    assert steps_run(capsys) == everything
    assert build(*words, settings=SMALL) == 0
    assert steps_run(capsys) == ["check"]
    assert build(*words, settings=[*SMALL, "hops=1"]) == 0
    assert steps_run(capsys) == ["graph", "check"]
    # An input that changes in content, though neither in size nor date.
    links = raw / "Linkage" / "ab2fb.txt"
    stamp, text = links.stat(), links.read_text()
    links.write_text(text.replace("m.01\n", "m.0f\n"))
    os.utime(links, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert build(*words, settings=[*SMALL, "hops=1"]) == 0
    assert steps_run(capsys) == ["links", "graph", "check"]
    folder = tmp_path / "dataset" / "amazon-book"
    whole = contents(folder)
    with (folder / "amazon-book.text.ids").open("a") as file:
        file.write("spoiled\n")
    (folder / "amazon-book.visual.npy").unlink()
    assert build(*words, settings=[*SMALL, "hops=1"]) == 0
    assert steps_run(capsys) == ["text", "images", "check"]
    assert contents(folder) == whole
    assert build(*words, "--force", settings=[*SMALL, "hops=1"]) == 0
    assert steps_run(capsys) == everything


def test_the_plan_names_what_is_missing(tmp_path, capsys):
    raw = write_amazon(tmp_path / "raw")
    (raw / "meta_Books.json.gz").unlink()
    (raw / "freebase-rdf-latest.gz").unlink()
    words = ["amazon-book", "--route", "raw", "--raw", raw]
    assert build(*words, "--dry-run", settings=SMALL) == 0
    shown = capsys.readouterr().out
    assert "left out   text" in shown and "to do      graph" in shown
    assert f"missing    {raw}/meta_Books.json.gz: from https://jmcauley" in shown
    assert not (tmp_path / "dataset").exists()
    assert build(*words, settings=SMALL) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and "freebase-rdf-latest.gz is missing (1 in all" in err
    write_amazon(raw)
    (raw / "meta_Books.json.gz").unlink()
    assert build(*words, settings=SMALL) == 0
    assert "text: left out" in capsys.readouterr().out


def test_killed_and_continued_gives_the_same_bytes(tmp_path):
    raw = write_amazon(tmp_path / "raw")
    words = ["build", "amazon-book", "--route", "raw", "--raw", str(raw), "--data-path"]
    pairs = [word for setting in SMALL for word in ("--set", setting)]
    code = f"{STUB}\nfrom dataset_tools.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    assert main([*words, str(tmp_path / "whole"), *pairs]) == 0
    rng = random.Random(7)  # noqa: S311
    for number in range(3):
        process = subprocess.Popen(
            [*command, str(tmp_path / "killed"), *pairs], env=env, stdout=-1, stderr=-3, text=True
        )
        for line in process.stdout:
            if line.startswith(f"[{number + 2}/"):
                break
        time.sleep(rng.random() * 0.2)
        process.kill()
        process.communicate()
    done = subprocess.run(
        [*command, str(tmp_path / "killed"), *pairs], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "[1/6] interactions: finished" in done.stdout
    folders = [tmp_path / place / "amazon-book" for place in ("whole", "killed")]
    assert contents(folders[0]) == contents(folders[1])


OWN = """
about: a shop
settings: {least: 1}
routes:
  table:
    files: {orders: {path: orders.csv, url: URL}}
    steps:
      - name: interactions
        run: >-
          interactions {orders} --format csv --columns who what --core {least} --name {name}
          --out {out}
        writes: ["{name}.inter"]
"""


def test_a_recipe_of_ones_own_downloads_when_asked(tmp_path, capsys, monkeypatch):
    source = tmp_path / "elsewhere" / "o r.csv"
    source.parent.mkdir()
    source.write_text("who,what\nann,cup\nbob,cup\nann,pan\n")
    (tmp_path / "shop.yaml").write_text(OWN.replace("URL", source.as_uri()))
    words = ["shop.yaml", "--raw", tmp_path / "raw files"]
    assert build(*words) == 2
    assert "orders.csv is missing" in capsys.readouterr().err
    shown = bars_of(monkeypatch)
    assert build(*words, "--download", "--name", "market") == 0
    looked = [bar for bar in shown if bar.desc == "look at orders.csv"]
    size = source.stat().st_size
    assert looked and all((bar.unit, bar.n, bar.total) == ("B", size, size) for bar in looked)
    assert (tmp_path / "dataset" / "market" / "market.inter").read_text().count("\n") == 4


def test_another_version_runs_steps_again_and_a_stop_is_no_failure(tmp_path, monkeypatch, capsys):
    (tmp_path / "shop.yaml").write_text(OWN)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "orders.csv").write_text("who,what\nann,cup\nbob,cup\nann,pan\n")
    words = ["shop.yaml", "--raw", tmp_path / "raw"]

    def stop(options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dataset_tools.interactions.run", stop)
        assert build(*words) == 130
    assert "failed" not in capsys.readouterr().err
    assert build(*words) == 0 and steps_run(capsys) == ["interactions"]
    assert build(*words) == 0 and steps_run(capsys) == []
    monkeypatch.setattr("recbole_slif.__version__", "another")
    assert build(*words) == 0 and steps_run(capsys) == ["interactions"]


def test_a_failing_step_stops_and_is_named(tmp_path, capsys):
    (tmp_path / "shop.yaml").write_text(OWN)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "orders.csv").write_text("a,b\n1,2\n")
    assert build("shop.yaml", "--raw", tmp_path / "raw") == 2
    err = capsys.readouterr().err.splitlines()
    assert "no column 'who'" in err[-2] and "step 'interactions' failed" in err[-1]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("routes:", "rutes:", "did you mean 'routes'"),
        ("    files:", "    flies:", "did you mean 'files'"),
        ("path: orders.csv", "path: ../orders.csv", "must lie below --raw"),
        ("path: orders.csv", "pth: orders.csv", "did you mean 'path'"),
        ("{orders} --format", "{order} --format", "did you mean 'orders'"),
        (
            "        run: >-\n          interactions",
            "        run: >-\n          interaction",
            "did you mean 'interactions'",
        ),
        ("settings: {least: 1}", "settings: {orders: 1, least: 1}", "two things"),
        ("settings: {least: 1}", "settings: {least: [1]}", "one value"),
        ('writes: ["{name}.inter"]', "writes: [1]", "list of file names"),
        ('writes: ["{name}.inter"]', "optional: often", "must be a bool"),
        ("- name: interactions\n        run", "- run", "'name' is missing"),
    ],
)
def test_recipes_are_checked(old, new, words, tmp_path):
    assert old in OWN
    path = tmp_path / "shop.yaml"
    path.write_text(OWN.replace(old, new))
    with pytest.raises(ConfigError, match=words):
        recipes.load_routes("shop", path)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["amazon-bok"], "did you mean 'amazon-book'"),
        (["amazon-book", "--route", "row"], "release, raw"),
        (["amazon-book", "--set", "cor=3"], "did you mean 'core'"),
        (["amazon-book", "--set", "core"], "KEY=VALUE"),
        (["amazon-book", "--name", "../x"], "--name"),
        (["absent.yaml"], "absent.yaml"),
    ],
)
def test_mistakes_are_one_line(words, text, capsys):
    assert build(*words, "--dry-run") == 2
    err = capsys.readouterr().err
    assert text in err and err.count("\n") == 1


@pytest.mark.parametrize("name", recipes.shipped())
def test_commands_of_shipped_recipes_are_understood(name):
    from dataset_tools.__main__ import command_parser

    for route in recipes.load_routes(name, recipes.shipped()[name]).values():
        values = dict.fromkeys([*route.files, *recipes.PLACES], "x") | route.settings
        for step in route.steps:
            words = recipes.fill(step.run, values)
            command_parser(words[0]).parse_args(words[1:])
        for source in route.files.values():
            assert source.origin.startswith("https://"), source


def test_stub_is_used():
    assert torch.is_tensor(sys.modules["letter_counter"].load_backbone(None, "cpu").prepare([[1]]))

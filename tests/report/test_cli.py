"""The command writes everything from records, and a page that loads nothing."""

import csv
import json
import platform
import re
import sys
from html.parser import HTMLParser
from importlib import metadata

import pytest

from recbole_slif import __version__, cli
from tests.report.folders import cell, failed, line, metrics, write_folder, write_users

FILES = {
    "table.md",
    "table.tex",
    "table.csv",
    "significance.md",
    "significance.csv",
    "index.html",
    "table2-recall20.png",
    "table2-recall20.pdf",
}
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags close in order; collects addresses and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.words = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for key, value in attrs if key in ("src", "href", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def folder_of(folder, **changes):
    """Write two models with per-user values, one that needs features and one that failed."""
    cells = [cell("KGAT"), cell("BM3", needs=["features"]), cell("Bad<b>"), cell("SLIFMR")]
    kgat, _, bad, ours = cells
    lines = [failed(bad, seed, "loss is not finite") for seed in (1, 2, 3)]
    for planned, level in ((kgat, 0.1), (ours, 0.2)):
        for seed in (1, 2, 3):
            found = line(planned, seed, test=metrics(level + 0.001 * seed * level, 0.1, 0.02))
            values = [level + 0.01 * (at % 3) * level for at in range(6)]
            lines.append(write_users(folder, found, recall=values))
    return write_folder(folder, cells, lines, **changes)


def test_the_command_writes_tables_tests_figures_and_page(tmp_path, capsys):
    folder = folder_of(tmp_path / "mine")
    assert cli.main(["report", str(folder), "--metrics=recall@20"]) == 0
    out = folder / "report"
    assert {path.name for path in out.iterdir()} == FILES
    assert "index.html" in capsys.readouterr().out
    assert "| SLIFMR | **0.2004 ± 0.0002** |" in (out / "table.md").read_text()
    assert r"SLIFMR & \textbf{0.2004 $\pm$ 0.0002}" in (out / "table.tex").read_text()
    rows = {row["model"]: row for row in csv.DictReader((out / "table.csv").open())}
    assert float(rows["SLIFMR"]["recall@20 mean"]) == pytest.approx(0.2004)
    tests = list(csv.DictReader((out / "significance.csv").open()))
    assert [(row["over"], row["direction"]) for row in tests] == [
        ("users", "SLIFMR above KGAT"),
        ("seeds", "SLIFMR above KGAT"),
    ]
    assert float(tests[0]["t p"]) < 0.05


def test_the_page_holds_all_and_loads_nothing(tmp_path):
    folder = folder_of(tmp_path / "mine", quick=True)
    assert cli.main(["report", str(folder), "--metrics=recall@20"]) == 0
    raw = (folder / "report/index.html").read_text("utf-8")
    page = Page(raw)
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not re.search(r"https?:|//|url\(|@import|<script|<link", re.sub(r'src="[^"]*"', "", raw))
    for words in (
        "A comparison",
        "protocol ratio_811",
        "--quick",
        "SLIFMR above KGAT: shown by both tests",
        "this is toy",
        "Not run: BM3 needs features",
        "Failed: Bad<b>, seed 1, 2, 3: loss is not finite",
        "recbole-slif experiment mine",
        "recbole-slif report",
        "commit 5d776e4e65cd",
        "torch 2.13.0",
        "split cff20fd6cb03e055",
        "embedding_size 64",
        f"this report: python {platform.python_version()}, recbole_slif {__version__}",
        f"matplotlib {metadata.version('matplotlib')}",
    ):
        assert words in page.text, words


def test_the_report_is_the_same_each_time_and_changes_no_record(tmp_path):
    folder = folder_of(tmp_path / "mine")
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    words = ["report", str(folder), "--metrics=recall@20"]
    assert cli.main(words) == 0
    first = {path.name: path.read_bytes() for path in (folder / "report").iterdir()}
    assert cli.main(words) == 0
    assert {path.name: path.read_bytes() for path in (folder / "report").iterdir()} == first
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_out_subject_paper_and_figures_are_options(tmp_path, capsys, monkeypatch):
    folder, out = folder_of(tmp_path / "mine"), tmp_path / "elsewhere"
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = ["report", str(folder), f"--out={out}", "--subject=KGAT", "--no-paper"]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert "pip install 'recbole-slif[report]'" in error and "--no-figures" in error
    assert not out.exists()
    assert cli.main([*words, "--no-figures"]) == 0
    assert not (folder / "report").exists()
    assert not list(out.glob("*.png"))
    assert "KGAT above SLIFMR" in (out / "significance.md").read_text()
    assert "paper" not in (out / "table.md").read_text()
    unknown = [word.replace("KGAT", "Nobody") for word in words]
    assert cli.main([*unknown, "--no-figures"]) == 2
    assert "no cell is 'Nobody'; there are KGAT" in capsys.readouterr().err


def test_mistakes_are_one_line(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    folder = folder_of(tmp_path / "mine")
    assert cli.main(["report", str(folder), "--metrics=hit@3"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "plan.json' is missing" in lines[0]
    assert "no run has 'hit@3'" in lines[1]


def test_an_experiment_that_only_counts(tmp_path):
    folder = write_folder(tmp_path, [], [], artefact="table1", dataset="amazon-book+toy",
                          protocol="benchmark, ratio_811", quick=True)  # fmt: skip
    counts = {"users": 70679, "items": 24915, "interactions": 846434, "density": 0.000481,
              "entities": 50000, "entities_without_items": 29714, "relations": 39,
              "triples": 686516, "linked_items": 24000}  # fmt: skip
    book = {"dataset": "amazon-book", "protocol": "benchmark", **counts, "features": {"text": 9},
            "split": [3, 2, 1], "fingerprint": "0123456789abcdef",
            "versions": {"torch": "2.13.0"}, "commit": "abc"}  # fmt: skip
    toy = {"dataset": "toy", "protocol": "ratio_811", **counts, "features": {}}
    (folder / "statistics.json").write_text(json.dumps([book, toy]))
    assert cli.main(["report", str(folder)]) == 0
    out = folder / "report"
    lines = (out / "table.md").read_text().splitlines()
    assert "| count | amazon-book | amazon-book (paper) | toy |" in lines
    assert "| Users | 70,679 | 70,679 | 70,679 |" in lines
    assert "| Density | 0.00048 | 0.00048 | 0.00048 |" in lines
    assert "| Items with text features | 9 | 24,915 | 0 |" in lines
    assert next(csv.DictReader((out / "table.csv").open()))["triples"] == "686516"
    shown = Page((out / "index.html").read_text("utf-8")).text
    assert "amazon-book: split 0123456789abcdef, train/validation/test 3/2/1" in shown
    assert "this report: python" in shown
    assert "1 data sets counted: torch 2.13.0; commit abc" in shown
    assert "1 data sets counted: versions unknown; commit unknown" in shown
    assert "few epochs" not in shown, "nothing was trained"
    assert cli.main(["report", str(folder), "--no-paper"]) == 0
    assert "(paper)" not in (out / "table.md").read_text()

"""Attacks by records: plans, runs, per-user files, claims and trials that somebody else wrote."""

from __future__ import annotations

import importlib.util
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.errors import SlifError
from recbole_slif.experiment.claims import Claims
from recbole_slif.experiment.folder import Folder
from recbole_slif.experiment.shared import unpacked
from recbole_slif.hyper.results import TrialsFile
from recbole_slif.recommend import Recommendation, render
from recbole_slif.report.collect import read_experiment
from recbole_slif.report.render import latex_text, markdown_text
from reliability.hostile.arena import Arena, Attack, called, refused, require, turned_away

SCRIPT = "<script>alert(1)</script>"
HANDLER = '"><img src=x onerror=alert(1)>'
SUCCESS = 0


def run_line(cell: str, **changes: Any) -> dict[str, Any]:
    """Return the record of a finished run."""
    return {
        "run_id": "r", "status": "finished", "model": "BPR", "dataset": "toy", "seed": 1,
        "cell": cell, "settings_hash": f"{cell}-1", "fingerprint": "f", "config": {},
        "test": {"recall@20": 0.5, "ndcg@20": 0.25, "precision@20": 0.1}, "error": None,
        "epochs": [{"seconds": {"train": 1.0}}], "seconds": 1.0, "per_user": None, **changes,
    }  # fmt: skip


def folder_of(lines: list[dict[str, Any]], **changes: Any) -> Path:
    """Write an experiment's folder; returns it."""
    folder = Path("saved/experiments/mine-toy")
    folder.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(line["cell"] for line in lines))
    cells = [{"key": name, "model": "BPR", "label": name, "group": name} for name in names]
    plan = {"schema": 1, "experiment": "mine", "artefact": "table2", "dataset": "toy", "title": "t",
            "protocol": "ratio_811", "seeds": [1], "cells": cells}  # fmt: skip
    (folder / "plan.json").write_text(json.dumps({**plan, **changes}), "utf-8")
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "runs.jsonl").write_text(text, "utf-8")
    return folder


def _figures() -> list[str]:
    """Draw where the library for it is installed."""
    return [] if importlib.util.find_spec("matplotlib") else ["--no-figures"]


def _shown_as_text(arena: Arena) -> None:
    """Whatever names and errors hold, a page shows it as text."""
    lines = [
        run_line(f"A {SCRIPT}"),
        run_line(HANDLER, status="failed", error=f"{SCRIPT} {HANDLER}", test=None),
    ]
    note = f"{SCRIPT}{HANDLER}"
    folder = folder_of(lines, title=note, artefact=note, command=["x", note], experiment=note)
    code, _, told = called(["report", str(folder), *_figures()])
    require(code == SUCCESS, told[-300:])
    page = (folder / "report/index.html").read_text("utf-8")
    for bad in ("<script", "<img src=x", "onerror=alert(1)>"):
        require(bad not in page, f"the page holds {bad}")
    require("&lt;script&gt;" in page, "the page lost the text")
    markdown = (folder / "report/table.md").read_text("utf-8")
    require(SCRIPT not in markdown, "the Markdown holds a script")


def _climbing_figures(arena: Arena) -> None:
    """Names of groups and cells do not become paths."""
    cells = [
        {"key": f"c{number}", "model": "BPR", "label": f"c{number}", "x": float(number),
         "series": "../../../canary", "group": "../../../canary"}
        for number in range(2)
    ]  # fmt: skip
    folder = folder_of([run_line("c0"), run_line("c1")], cells=cells, artefact="fig6")
    code, _, told = called(["report", str(folder), *_figures()])
    require(code == SUCCESS, told[-300:])


def _formulas(arena: Arena) -> None:
    """Names that LaTeX, matplotlib or Markdown would read as commands stay text."""
    names = [r"\input{/etc/passwd}", r"$\frac{1$", r"\write18{touch x}", "[a](javascript:x)"]
    folder = folder_of([run_line(name) for name in names], title=r"$\bad{$ \immediate")
    code, _, told = called(["report", str(folder), *_figures()])
    require(code == SUCCESS, told[-300:])
    for name in names[:3]:
        require("\\input{" not in latex_text(name) and "\\write" not in latex_text(name), name)
    require("[a](" not in markdown_text(names[3]), "Markdown keeps a link")


def _per_user(write: Callable[[Arena, Path], str]) -> Callable[[Arena], None]:
    """Attack by the file of per-user metrics that a run names."""

    def run(arena: Arena) -> None:
        folder = folder_of([run_line("a"), run_line("b")])
        named = write(arena, folder)
        folder_of([run_line("a", per_user=named), run_line("b", per_user=named)])
        experiment = read_experiment(folder)
        refused(lambda: experiment.per_user(experiment.runs[0]), "per-user file")

    return run


def _objects(arena: Arena, folder: Path) -> str:
    np.savez(folder / "p.npz", users=np.array([arena.bomb], dtype=object), allow_pickle=True)
    return "p.npz"


def _member(content: bytes) -> Callable[[Arena, Path], str]:
    def write(arena: Arena, folder: Path) -> str:
        with zipfile.ZipFile(folder / "p.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("users.npy", content)
            archive.writestr("../../../../canary", b"written")
        return "p.npz"

    return write


def _outside(arena: Arena, folder: Path) -> str:
    np.savez(folder.parent / "other.npz", users=np.arange(3))
    return "../other.npz"


def _torn(arena: Arena, folder: Path) -> str:
    (folder / "p.npz").write_bytes(b"PK\x03\x04" + bytes(100))
    return "p.npz"


def _described(shape: str) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n"
    stream = io.BytesIO()
    stream.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode())
    return stream.getvalue() + bytes(1 << 20)


def _climbing_hash(arena: Arena) -> None:
    """What a line calls its settings is never a path that is cleared."""
    precious = Path("precious")
    precious.mkdir()
    folder = folder_of([run_line("a", settings_hash="../../../../../precious")])
    shown = Folder(folder)
    require(len(shown.recorded().finished) == 1, "the line was not read")
    refused(lambda: shown.clear_work("../../../../precious"), "settings")
    refused(lambda: shown.write_per_user("../../precious/x", {"user": np.arange(2)}), "settings")
    require(precious.is_dir(), "a folder outside was removed")


def _claims(arena: Arena) -> None:
    """Claims hold JSON of any kind and end as no claim of a living process."""
    Path("claims").mkdir()
    for number, text in enumerate(("[1]", '"x"', "{}", "[" * 100_000, '{"pid": "x", "place": 3}')):
        Path(f"claims/name{number}.0").write_text(text, "utf-8")
        claims = Claims(Path("claims"), stale_after=3600.0)
        require(claims.held(f"name{number}") in (True, False), "no answer")
    require(Claims(Path("claims")).take("fresh") is not None, "a free run is not claimed")


def _trials(arena: Arena) -> None:
    """Trials that somebody wrote are read as JSON or left out."""
    whole = '{"score": 0.5, "params": {"a": 1}, "bigger": true, "scope": ""}'
    rows = ["[]", "3", '"x"', '{"score": 1}', '{"score": 1, "params": 2}', whole, "[" * 100_000]
    Path("x.trials.jsonl").write_text("\n".join(rows), "utf-8")
    require(len(TrialsFile(Path("x.trials.jsonl"), "").read()) == 1, "the whole line was not kept")


def _packed_line(arena: Arena) -> None:
    """Hundreds of megabytes of zeros in what a shared storage says of a run."""
    import base64
    import zlib

    packer = zlib.compressobj(1)
    text = b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    attrs = {"line": 1, "line:0": base64.b64encode(text).decode()}
    try:
        unpacked("line", attrs)
    except (SlifError, ValueError, zlib.error):
        return
    raise AssertionError("all of it was unpacked")


def _spreadsheets(arena: Arena) -> None:
    """A list for a spreadsheet holds no cell that it would calculate."""
    bad = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", '=HYPERLINK("x")']
    found = [Recommendation(f"u{at}", 1, "i1", 0.5, title) for at, title in enumerate(bad)]
    for form in ("csv", "tsv"):
        for row in render(found, form).splitlines()[1:]:
            cells = [cell.strip('"') for cell in row.split("," if form == "csv" else "\t")]
            wrong = [cell for cell in cells if cell.startswith(("=", "+", "@")) or
                     (cell.startswith("-") and not cell[1:2].isdigit())]  # fmt: skip
            require(not wrong, f"a cell of {form} would be calculated: {wrong}")


def _mistyped(changes: Mapping[str, Any]) -> Callable[[Arena], None]:
    """Attack by a plan of wrong types."""

    def run(arena: Arena) -> None:
        folder = folder_of([run_line("a")], **changes)
        turned_away(["report", str(folder), "--no-figures"], "plan.json")

    return run


ATTACKS = [
    Attack("page: scripts in names and errors", _shown_as_text),
    Attack("page: groups that climb out", _climbing_figures),
    Attack("page: formulas and links in names", _formulas),
    Attack("per-user file: pickled objects", _per_user(_objects)),
    Attack("per-user file: a pickle for a member", _per_user(_member(b"cos\nsystem\n(S'x'\ntR."))),
    Attack("per-user file: 10^12 users", _per_user(_member(_described("(1000000000000,)")))),
    Attack("per-user file: outside the folder", _per_user(_outside)),
    Attack("per-user file: /etc/passwd", _per_user(lambda arena, folder: "/etc/passwd")),
    Attack("per-user file: no archive", _per_user(_torn)),
    Attack("runs: a hash that climbs out", _climbing_hash),
    Attack("plan: a text for the cells", _mistyped({"cells": "a"})),
    Attack("plan: a number for a name", _mistyped({"seeds": {"a": 1}})),
    Attack("claims: any JSON", _claims),
    Attack("trials: any JSON", _trials),
    Attack("storage: packed zeros", _packed_line),
    Attack("lists: formulas for a spreadsheet", _spreadsheets),
]

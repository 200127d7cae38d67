"""Fuzzing of what the package wrote itself: checkpoints, plans, runs and trials."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from recbole_slif import checkpoint
from recbole_slif.checkpoint import Checkpoint
from recbole_slif.errors import SlifError
from recbole_slif.experiment.folder import Folder
from recbole_slif.hyper.results import TrialsFile
from recbole_slif.report.cli import report_command
from recbole_slif.report.collect import read_experiment
from reliability.fuzz.engine import Draw, FoundFault, damaged, judge, working_in
from reliability.fuzz.settings import VALUES, spoil
from reliability.hostile.records import folder_of, run_line

TRIAL = {
    "params": {"learning_rate": 0.1},
    "score": 0.5,
    "bigger": True,
    "valid": {"recall@20": 1},
    "scope": "",
}


class Records:
    """Sound records, of which each case damages one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "records"
        self.folder.mkdir()
        state = {"model": {"weights": torch.arange(6.0).view(2, 3)}, "list": [1, (2, "x")]}
        self.path = self.folder / "last.pt"
        checkpoint.save(self.path, Checkpoint({"model": "BPR", "epoch": 3}, state))
        self.sound = self.path.read_bytes()
        with working_in(self.folder):
            changes = {"statistics": {"users": 3}, "versions": {"torch": "2"}, "commit": "abc",
                       "protocol": {"protocol": "auto"}, "device": {"type": "cpu"}}  # fmt: skip
            lines = [run_line(name, **changes) for name in ("a", "b")]
            self.experiment = self.folder / folder_of(lines, command=["experiment", "mine"])
        self.plan = (self.experiment / "plan.json").read_bytes()
        self.runs = (self.experiment / "runs.jsonl").read_bytes()

    def checkpoint(self, draw: Draw) -> None:
        """Damage the bytes of a checkpoint; what is accepted holds the saved numbers."""
        self.path.write_bytes(damaged(self.sound, draw))
        fine, found = judge(lambda: checkpoint.load(self.path), ["last.pt"], told="last.pt")
        if fine and not isinstance(found.state, dict):
            raise FoundFault(f"last.pt: a state that is a {type(found.state).__name__}")

    def header(self, draw: Draw) -> None:
        """Put any value anywhere into the header of a checkpoint."""
        payload = torch.load(io.BytesIO(self.sound), weights_only=True)
        content = json.loads(payload["header"])
        spoil(content, draw)
        told = f"last.pt with the header {content!r:.300}"
        torch.save({**payload, "header": json.dumps(content)}, self.path)
        fine, _ = judge(lambda: checkpoint.load(self.path), ["last.pt"], told=told)
        if fine:
            names = ["checkpoint", "model", "data set", "last.pt", "BPR"]
            judge(lambda: checkpoint.load_model(self.path), names, True, told)

    def report(self, draw: Draw) -> None:
        """Damage a plan or the lines of runs and make the report."""
        tree = draw.random() < 0.7
        name = draw.choice(["plan.json", "runs.jsonl"])
        sound = self.plan if name == "plan.json" else self.runs
        data = self._spoilt(sound, draw) if tree else damaged(sound, draw)
        (self.experiment / name).write_bytes(data)
        told = f"{name} {data!r:.600}"
        shutil.rmtree(self.experiment / "report", ignore_errors=True)

        def make() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                report_command([str(self.experiment), "--no-figures"])

        try:
            judge(make, [self.experiment.name, "runs of different", "--metrics", "metric"],
                  told=told)  # fmt: skip
        finally:
            (self.experiment / "plan.json").write_bytes(self.plan)
            (self.experiment / "runs.jsonl").write_bytes(self.runs)

    def _spoilt(self, sound: bytes, draw: Draw) -> bytes:
        lines: list[Any] = [json.loads(line) for line in sound.splitlines()]
        spoil(draw.choice(lines), draw)
        return "".join(json.dumps(line) + "\n" for line in lines).encode()

    def folder_lines(self, draw: Draw) -> None:
        """Damage the lines of runs and read what is recorded; whole lines are never lost."""
        data = damaged(self.runs, draw)
        (self.experiment / "runs.jsonl").write_bytes(data)
        whole = [line for line in data.split(b"\n") if line in self.runs.split(b"\n") and line]
        folder = Folder(self.experiment)
        fine, found = judge(folder.lines, ["runs.jsonl"], told=f"runs.jsonl {data!r:.300}")
        if fine and len(found) < len(whole):
            raise FoundFault(f"runs.jsonl {data!r:.300}: {len(found)} of {len(whole)} lines read")
        judge(folder.recorded, ["runs.jsonl"], told=f"runs.jsonl {data!r:.600}")
        (self.experiment / "runs.jsonl").write_bytes(self.runs)

    def trials(self, draw: Draw) -> None:
        """Put any value into a trial, or damage its line."""
        row = json.loads(json.dumps(TRIAL))
        spoil(row, draw)
        data = f"{json.dumps(row)}\n{json.dumps(TRIAL)}\n".encode()
        if draw.random() < 0.5:
            data = damaged(data, draw)
        path = self.folder / "x.trials.jsonl"
        path.write_bytes(data)
        fine, found = judge(TrialsFile(path, "").read, ["x.trials.jsonl"], told=f"{data!r:.300}")
        if fine:
            for one in found.values():
                float(one["score"])

    def per_user(self, draw: Draw) -> None:
        """Name any text for the file of per-user metrics."""
        name = str(draw.choice([*VALUES, "..", "/", "\0", "a\0b", "plan.json", "."]))
        lines = [json.loads(line) for line in self.runs.splitlines()]
        for line in lines:
            line["per_user"] = name
        (self.experiment / "runs.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
        experiment = read_experiment(self.experiment)
        with contextlib.suppress(SlifError):
            judge(lambda: experiment.per_user(experiment.runs[0]), ["per-user file"],
                  told=f"per_user {name!r:.60}")  # fmt: skip
        (self.experiment / "runs.jsonl").write_bytes(self.runs)

"""How long runs take, judged by what is recorded of the same model on the same data set."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_slif.experiment.folder import Folder
from recbole_slif.experiment.plan import Plan, PlannedRun
from recbole_slif.records import seconds_of

_MOST_RECORDS = 500


@dataclass(frozen=True)
class _Sample:
    """Seconds of a finished run: of one epoch, of all else, and how many epochs it had."""

    epoch: float
    rest: float
    epochs: int


def clock(seconds: float) -> str:
    """Write seconds as `12 s`, `3:20 min` or `2:05 h`."""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


class Times:
    """What runs took, by cell where one is recorded, else by model."""

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        self._by_cell: dict[str, list[_Sample]] = {}
        self._by_model: dict[str, list[_Sample]] = {}

    def take(self, line: Mapping[str, Any]) -> None:
        """Learn from the record of a run; others than finished ones teach nothing."""
        epochs = line.get("epochs") or []
        if line.get("status") != "finished" or line.get("dataset") != self.dataset or not epochs:
            return
        try:
            spent, whole = seconds_of(epochs), float(line.get("seconds") or 0.0)
        except (KeyError, TypeError, ValueError, AttributeError):  # a file of another kind
            return
        # a resumed run's own seconds do not count what was done before
        rest = max(whole - spent, 0.0)
        sample = _Sample(spent / len(epochs), rest, len(epochs))
        self._by_model.setdefault(str(line.get("model")), []).append(sample)
        if "cell" in line:
            self._by_cell.setdefault(str(line["cell"]), []).append(sample)

    def expected(self, run: PlannedRun) -> float | None:
        """Return the seconds a run should take, None if nothing like it is recorded."""
        samples = self._by_cell.get(run.cell) or self._by_model.get(run.recipe.model)
        if not samples:
            return None
        # a median, since a run beside others takes several times as long
        epoch = statistics.median(sample.epoch for sample in samples)
        rest = statistics.median(sample.rest for sample in samples)
        epochs = statistics.median(sample.epochs for sample in samples)
        longest = max(sample.epochs for sample in samples)
        if run.epochs > longest and all(sample.epochs == longest for sample in samples):
            epochs = run.epochs  # all of them were cut short, as in a quick form
        return rest + epoch * min(epochs, run.epochs)

    def total(self, runs: Iterable[PlannedRun]) -> tuple[float, int]:
        """Return the seconds of the runs that can be judged, and the number of the others."""
        expected = [self.expected(run) for run in runs]
        known = [seconds for seconds in expected if seconds is not None]
        return sum(known), len(expected) - len(known)


def recorded_times(plan: Plan, folder: Folder, records: Path, reuse: Sequence[str] = ()) -> Times:
    """Read the times of this folder, of the experiments beside it, and of single runs.

    Args:
        plan: names the data set.
        folder: of the experiment.
        records: folder of the JSON records of single runs.
        reuse: folders of further experiments.
    """
    times = Times(plan.dataset)
    beside = folder.path.resolve().parent.glob("*/runs.jsonl")
    others = {*(path.parent for path in beside), *(Path(name).resolve() for name in reuse)}
    for path in sorted({*others, folder.path.resolve()}):
        for line in Folder(path).lines():
            times.take(line)
    singles = sorted(records.glob("*.json"), key=lambda path: path.name)[-_MOST_RECORDS:]
    for path in singles:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            times.take(content)
    return times

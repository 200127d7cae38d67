"""What the records of an experiment hold, as objects that answer for means and seconds."""

from __future__ import annotations

import statistics
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.errors import SlifError
from recbole_slif.plateau import stood_still

# RecBole's metrics of which less is better.
SMALLER = frozenset({"averagepopularity", "giniindex", "logloss", "mae", "rmse"})
_MOST_BYTES = 4 << 30
_UNREADABLE = (
    OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, MemoryError,
    NotImplementedError, OverflowError, RecursionError, SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_NEEDS = {"features": "features", "knowledge": "a knowledge graph"}


def _refuse_floods(archive: zipfile.ZipFile) -> None:
    """Refuse an archive of arrays that unpacks to more than any run has users.

    Raises:
        ValueError: it does.
    """
    if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
        raise ValueError(f"it unpacks to more than {_MOST_BYTES >> 30} GiB")


def _refuse_raw(found: Mapping[str, Any]) -> None:
    """Refuse members that are no arrays of one dimension; numpy hands out other bytes as they are.

    Raises:
        ValueError: there is one.
    """
    for key, array in found.items():
        if not isinstance(array, np.ndarray) or array.ndim != 1:
            raise ValueError(f"'{key}' is no array of one dimension")


def smaller_is_better(metric: str) -> bool:
    """Tell whether less of a metric is better."""
    return metric.partition("@")[0].lower() in SMALLER


@dataclass(frozen=True)
class Run:
    """One line of `runs.jsonl`."""

    line: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """Training seed."""
        return int(self.line["seed"])

    @property
    def test(self) -> dict[str, float]:
        """Test metrics that have a value."""
        found = (self.line.get("test") or {}).items()
        return {name: float(value) for name, value in found if value is not None}

    @property
    def history(self) -> list[dict[str, Any]]:
        """What each epoch left: losses, seconds, validation."""
        return self.line.get("epochs") or []

    @property
    def epochs(self) -> list[dict[str, float]]:
        """Seconds of the parts of each epoch."""
        return [epoch["seconds"] for epoch in self.history if epoch.get("seconds")]

    def seconds_per_epoch(self, part: str) -> float | None:
        """Return the mean seconds that an epoch spent on a part, None if it was not measured."""
        found = [seconds[part] for seconds in self.epochs if part in seconds]
        return statistics.fmean(found) if found else None


@dataclass(frozen=True)
class Cell:
    """What was trained with each seed.

    Attributes:
        key, model, label, group, series, x, overrides: as the plan has them.
        noise: `kind:level`, None for clean data.
        needs: what the data lacks; such a cell is not run.
        runs: finished runs in the order of the plan's seeds.
        failed: the latest line of each run that failed and was not repeated.
        open_seeds: seeds of which there is no line.
    """

    key: str
    model: str
    label: str
    group: str = ""
    series: str = ""
    x: float | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    noise: str | None = None
    needs: tuple[str, ...] = ()
    runs: tuple[Run, ...] = ()
    failed: tuple[Run, ...] = ()
    open_seeds: tuple[int, ...] = ()

    def values(self, metric: str) -> dict[int, float]:
        """Return seed -> test value of a metric."""
        return {run.seed: run.test[metric] for run in self.runs if metric in run.test}

    def mean(self, metric: str) -> float | None:
        """Return the mean over seeds, None if no run has the metric."""
        found = list(self.values(metric).values())
        return statistics.fmean(found) if found else None

    def deviation(self, metric: str) -> float | None:
        """Return the sample standard deviation over seeds, None for fewer than two."""
        found = list(self.values(metric).values())
        return statistics.stdev(found) if len(found) > 1 else None

    def average_seconds(self, part: str) -> float | None:
        """Return the mean over runs of the seconds an epoch spent on a part."""
        found = [run.seconds_per_epoch(part) for run in self.runs]
        known = [value for value in found if value is not None]
        return statistics.fmean(known) if known else None

    @cached_property
    def unlearned(self) -> int:
        """Number of runs that ended before their ranking loss had moved."""
        return sum(stood_still(run.history) for run in self.runs)

    @property
    def learned(self) -> bool:
        """Whether its values are those of a model that has learned to rank, at least in part."""
        return self.unlearned < len(self.runs)

    @property
    def state(self) -> str:
        """Say why there are no values; empty where there are some."""
        if self.needs:
            return "needs " + " and ".join(_NEEDS.get(name, name) for name in self.needs)
        if self.runs:
            return ""
        return "failed" if self.failed else "not run"


@dataclass(frozen=True)
class Experiment:
    """An experiment on one data set, as its records have it.

    Attributes:
        folder: where the records lie.
        name, artefact, title, dataset, seeds, quick, command: as the plan has them.
        protocol: of the runs, with the candidates if they are not all items.
        cells: in the plan's order.
        counts: content of `statistics.json`, for experiments that only count.
        notes: what a reader should know of the records themselves.
    """

    folder: Path
    name: str
    artefact: str
    title: str
    dataset: str
    protocol: str
    seeds: tuple[int, ...]
    quick: bool = False
    command: tuple[str, ...] = ()
    cells: tuple[Cell, ...] = ()
    counts: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def runs(self) -> list[Run]:
        """All finished runs."""
        return [run for cell in self.cells for run in cell.runs]

    def metrics(self) -> list[str]:
        """Return the names of all test metrics, in the order of the records."""
        return list(dict.fromkeys(name for run in self.runs for name in run.test))

    def per_user(self, run: Run) -> dict[str, np.ndarray] | None:
        """Return the per-user metrics of a run, None if it left none.

        Raises:
            SlifError: the file is missing or damaged.
        """
        name = run.line.get("per_user")
        if not name:
            return None
        path = self.folder / str(name)
        try:
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise ValueError("it lies outside the experiment's folder")
            with np.load(path, allow_pickle=False) as content:
                _refuse_floods(content.zip)
                found = {key: content[key] for key in content.files}
            _refuse_raw(found)
        except _UNREADABLE as error:
            raise SlifError(
                f"per-user file '{path}' cannot be read: {error}; remove the run's line from "
                "runs.jsonl and go on with --resume"
            ) from error
        lengths = {len(array) for array in found.values()}
        if "users" not in found or len(lengths) > 1:
            raise SlifError(f"per-user file '{path}' must hold 'users' and metrics of its length")
        return found

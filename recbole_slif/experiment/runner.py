"""Goes through a plan: claims a run, trains it, records it, and goes on whatever happens."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recbole_slif.errors import DataError
from recbole_slif.experiment.board import Board, RunClaim
from recbole_slif.experiment.folder import NOT_HERE, Folder, Recorded
from recbole_slif.experiment.plan import Plan, PlannedRun
from recbole_slif.experiment.pool import DataPool
from recbole_slif.experiment.progress import Progress
from recbole_slif.experiment.single import run_one

POLL = 1.0
Reused = tuple[Folder, dict[str, Any]]


def outstanding(plan: Plan, folder: Folder) -> dict[str, list[PlannedRun]]:
    """Return hash -> planned runs that have no line yet."""
    finished = folder.recorded().finished
    left = {
        text: [run for run in runs if (run.cell, text) not in finished]
        for text, runs in plan.groups.items()
    }
    return {text: runs for text, runs in left.items() if runs}


@dataclass(frozen=True)
class Options:
    """How the runs are carried out.

    Attributes:
        debug: print the traceback of a run that fails.
        keep_checkpoints: leave the checkpoints of finished runs in the folder.
        reuse: finished runs of other experiments that are taken over, see `reusable`.
    """

    debug: bool = False
    keep_checkpoints: bool = False
    reuse: Mapping[str, Reused] = field(default_factory=dict)


def reusable(plan: Plan, folders: Sequence[str]) -> dict[str, Reused]:
    """Return hash -> folder and line of finished runs that other experiments recorded."""
    found = {}
    for other in map(Folder, folders):
        for line in other.lines():
            if line["settings_hash"] in plan.groups and line["status"] == "finished":
                found[line["settings_hash"]] = (other, line)
    return found


class Runner:
    """Works on a plan until every run of it is recorded, beside others that do the same.

    Args:
        plan: what is to be run.
        folder: where it is recorded.
        pool: loaded data, shared by the runs.
        claims: who is at what.
        failed_before: hash -> lines of failures that were there when the experiment was started.
        progress: what is shown.
        options: how runs are carried out.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Folder,
        pool: DataPool,
        claims: Board,
        failed_before: dict[str, int],
        progress: Progress,
        options: Options,
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.pool = pool
        self.claims = claims
        self.failed_before = failed_before
        self.progress = progress
        self.options = options

    def work(self) -> None:
        """Run what nobody else is at; wait for what others are at, and take it over if they end.

        What other experiments have recorded comes first, so that a stop loses none of it.

        Raises:
            TrainingStoppedError: Ctrl-C or SIGTERM; what is recorded stays.
        """
        order = sorted(self.plan.groups, key=lambda text: text not in self.options.reuse)
        for text in order:
            self._tidy(text)
        while True:
            for lines in self.claims.refresh(self.folder):
                self.progress.done(lines)
            busy = [text for text in order if not self._settled(text)]
            if not busy:
                return
            progressed = False
            for text in busy:
                if self._settled(text):
                    continue
                claim = self.claims.take(text)
                if claim is not None:
                    progressed = True
                    with claim:
                        self._run(text, claim)
            if not progressed:
                time.sleep(POLL)

    def _settled(self, text: str) -> bool:
        """Tell whether a run is finished for all its cells, or failed since the start."""
        known = self.folder.recorded()
        if failed_since(known, self.failed_before, text):
            return True
        return all((run.cell, text) in known.finished for run in self.plan.groups[text])

    def _tidy(self, text: str) -> None:
        """Remove what a kill after the last line left of a recorded run."""
        left = self.folder.work(text).exists() and not self.options.keep_checkpoints
        if self._settled(text):
            claim = self.claims.clearing(text, left)
            if claim is not None:
                with claim:
                    if left:
                        self.folder.clear_work(text)

    def _run(self, text: str, claim: RunClaim) -> None:
        """Run what was claimed, unless it was recorded before the claim was made."""
        if self._settled(text):
            return
        runs = self.plan.groups[text]
        content = self._known(text)
        if content is None:
            self.progress.start(runs[0])
            content = run_one(
                runs[0],
                self.folder,
                self.pool,
                self.plan.command,
                self.progress.epoch,
                self.options.debug,
            )
        finished = self.folder.recorded().finished
        lines = [{**content, "cell": run.cell} for run in runs if (run.cell, text) not in finished]
        if not claim.holds():
            return  # taken over while this process was held up: the result is the other's to record
        if not self._settled(text) and claim.record(self.folder, lines):
            self.progress.done(lines)
        if not (self.options.keep_checkpoints and content["status"] == "finished"):
            self.folder.clear_work(text)
        gc.collect()  # models and optimizers hold one another

    def _known(self, text: str) -> dict[str, Any] | None:
        """Return the record of another cell, or experiment, under the same settings."""
        if text not in self.folder.recorded().hashes:
            return self._taken_over(text)
        for line in self.folder.lines():
            if line["settings_hash"] == text and line["status"] == "finished":
                return line
        raise DataError(f"'{self.folder.runs_file}' has lost lines while it was read")

    def _taken_over(self, text: str) -> dict[str, Any] | None:
        """Return the record of another experiment and bring its per-user metrics, if there."""
        if text not in self.options.reuse:
            return None
        other, line = self.options.reuse[text]
        content = {**line, "reused": other.path.name}
        if not line.get("per_user"):
            return content
        source = other.per_user_file(line)
        if source is None:
            return {**content, **NOT_HERE}
        return {**content, "per_user": self.folder.keep_per_user(text, source.read_bytes())}


def failed_since(known: Recorded, failed_before: Mapping[str, int], text: str) -> bool:
    """Tell whether the run of a settings hash failed since the start."""
    return known.failed.get(text, 0) > failed_before.get(text, 0)


def failures(plan: Plan, folder: Folder, failed_before: dict[str, int]) -> list[dict[str, Any]]:
    """Return the latest line of each planned run that failed since the start."""
    settled = folder.recorded()
    wanted = {
        (run.cell, run.settings_hash)
        for run in plan.runs
        if failed_since(settled, failed_before, run.settings_hash)
    }
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for line in folder.lines():
        key = (line["cell"], line["settings_hash"])
        if key in wanted and line["status"] != "finished":
            latest[key] = line
    done: Sequence[tuple[str, str]] = list(settled.finished)
    return [line for key, line in latest.items() if key not in done]

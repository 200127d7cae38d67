"""What is shown while an experiment runs: one line for each run, one that changes within a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from time import perf_counter
from typing import Any, TextIO

from recbole_slif.experiment.estimate import Times, clock
from recbole_slif.experiment.plan import Plan, PlannedRun

_EVERY = 60.0
_WIDTH = 110


class Progress:
    """Counts runs and tells how far the one at hand is.

    Args:
        plan: all runs.
        recorded: how many of them have a line.
        times: what runs took; it learns from each that ends.
        workers: processes that share the work, for the time that is left.
        stream: what is written to; None shows nothing.
        taken: hashes of the runs that are taken from other experiments, which takes no time.
    """

    def __init__(
        self,
        plan: Plan,
        recorded: int,
        times: Times,
        workers: int = 1,
        stream: TextIO | None = None,
        taken: Collection[str] = (),
    ) -> None:
        self.total = len(plan.runs)
        self.recorded = recorded
        self.times = times
        self.workers = workers
        self.stream = stream
        self._left = {
            (run.cell, run.seed): run for run in plan.runs if run.settings_hash not in taken
        }
        self._live = bool(stream is not None and stream.isatty())
        self._current: PlannedRun | None = None
        self._began = self._told = perf_counter()

    def drop(self, finished: Mapping[tuple[str, str], Any] | set[tuple[str, str]]) -> None:
        """Leave runs that are recorded out of the time that is left."""
        self._left = {
            key: run
            for key, run in self._left.items()
            if (run.cell, run.settings_hash) not in finished
        }

    def start(self, run: PlannedRun) -> None:
        """Begin a run."""
        self._current, self._began = run, perf_counter()
        self._told = self._began
        self._fleeting(f"{self._count(1)} {run.title}: loading")

    def epoch(self, trainer: Any) -> None:
        """Tell of an epoch, at each on a terminal, else once a minute."""
        now = perf_counter()
        if self._current is None or not (self._live or now - self._told >= _EVERY):
            return
        self._told = now
        number, name = trainer.epochs_done or len(trainer.history), str(trainer.valid_metric)
        best = f"best {name} {trainer.best_valid_score:.4f} of epoch {trainer.best_epoch}"
        text = f"epoch {number} of at most {self._current.epochs}, {best}"
        text = f"{self._count(1)} {self._current.title}: {text}, {clock(now - self._began)}"
        if self._live:
            self._fleeting(text)
        else:
            self._say(text)

    def fleeting(self, text: str) -> None:
        """Show a line that the next one replaces, on a terminal alone."""
        self._fleeting(text)

    def done(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Tell of a run that ended; `lines` are its records, one for each cell."""
        for line in lines:
            self.recorded += 1
            self._left.pop((line["cell"], line["seed"]), None)
        line = lines[0]
        self.times.take(line)
        title = self._title(line)
        if line["status"] != "finished":
            self._say(f"{self._count(0)} {title}: failed: {line.get('error')}")
            return
        metric = str(line.get("valid_metric") or "").lower()
        told = [
            f"{part} {metric} {line[part][metric]:.4f}"
            for part in ("valid", "test")
            if metric in (line.get(part) or {})
        ]
        told += [f"best epoch {line.get('best_epoch')}", clock(float(line.get("seconds") or 0))]
        if "reused" in line:
            told.append(f"taken from {line['reused']}")
        self._say(f"{self._count(0)} {title}: {', '.join(told)}{self._rest()}")

    def _title(self, line: Mapping[str, Any]) -> str:
        return f"{line['cell']}, seed {line['seed']}"

    def _rest(self) -> str:
        if not self._left:
            return ""
        distinct = {run.settings_hash: run for run in self._left.values()}
        known, unknown = self.times.total(distinct.values())
        more = f" and {unknown} runs of unknown time" if unknown else ""
        return f"; left about {clock(known / self.workers)}{more}"

    def _count(self, ahead: int) -> str:
        width = len(str(self.total))
        return f"[{min(self.recorded + ahead, self.total):>{width}}/{self.total}]"

    def _fleeting(self, text: str) -> None:
        if self._live and self.stream is not None:
            self.stream.write(f"\r{text[:_WIDTH]:<{_WIDTH}}")
            self.stream.flush()

    def _say(self, text: str) -> None:
        if self.stream is not None:
            start = f"\r{'':<{_WIDTH}}\r" if self._live else ""
            self.stream.write(f"{start}{text}\n")
            self.stream.flush()

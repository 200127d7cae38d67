"""A search that processes and machines share through a storage of Optuna's."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tqdm import tqdm

from recbole_slif.console import one_line
from recbole_slif.errors import ConfigError, SlifError
from recbole_slif.hyper.draws import Draws, losses
from recbole_slif.hyper.results import Row, Train, trained_row
from recbole_slif.hyper.space import Parameter, check_algorithm
from recbole_slif.interrupt import TrainingStoppedError
from recbole_slif.processes import STOPPED, begin_worker, leave_with, run_processes, settle_broken
from recbole_slif.sharing.address import Address
from recbole_slif.sharing.study import (
    FAILED,
    FINISHED,
    LOST,
    RUNNING,
    Attempt,
    Held,
    Piece,
    SharedStudy,
)

POLL = 1.0
_MOST_LOSSES = 3
_IDENTITY = "identity"


@dataclass(frozen=True)
class Task:
    """A search, as every process that joins it needs it.

    Attributes:
        train: takes the trial's settings and returns what `quick_start.objective` returns.
        parameters: what is searched.
        maximize: whether greater validation scores are better.
        algo: `exhaustive`, `random` or `bayes`.
        max_evals: most trials of the whole study; None means all combinations or 100.
        seed: of the draws.
        early_stop: trials without progress after which random and bayes end.
        debug: let an unexpected failure of a training end the search.
    """

    train: Train
    parameters: tuple[Parameter, ...]
    maximize: bool
    algo: str = "exhaustive"
    max_evals: int | None = None
    seed: int = 2020
    early_stop: int = 10
    debug: bool = False

    def draws(self) -> Draws:
        """Return what chooses the settings.

        Raises:
            ConfigError: the algorithm is unknown or cannot search these parameters.
        """
        check_algorithm(self.algo, self.parameters)
        return Draws(self.parameters, self.algo, self.max_evals, self.seed, self.maximize)


def study_name(title: str, identity: Mapping[str, Any]) -> str:
    """Return the default name of a study: `title` and a hash of all that decides its scores."""
    return f"{title}-{short_hash(identity)}"


def short_hash(content: Mapping[str, Any]) -> str:
    """Return a hash of what JSON can hold, 12 digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name what differs between the identities of two searches."""
    told = []
    for part in sorted({*found, *wanted}):
        here, there = wanted.get(part), found.get(part)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            told += differences(there, here)
        elif here != there:
            told.append(f"{part} ({_short(there)}, here {_short(here)})")
    return told


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def join_study(study: SharedStudy, identity: Mapping[str, Any]) -> None:
    """Note what a study searches, or see that it is the same.

    Raises:
        ConfigError: the study's trials have other ranges, settings or data.
    """
    there = study.notes().get(_IDENTITY)
    if there is None:
        study.note(_IDENTITY, dict(identity))
        return
    told = differences(there, json.loads(json.dumps(identity)))
    if told:
        raise ConfigError(
            f"study '{study.name}' in '{study.address.shown}' has trials under other settings: "
            f"{', '.join(told)}; name another with --study, or leave --study out"
        )


def other_studies(study: SharedStudy, title: str, identity: Mapping[str, Any]) -> str | None:
    """Return a notice if the storage holds searches of the same title under other settings."""
    names = [name for name in study.names() if name.startswith(f"{title}-") and name != study.name]
    if not names:
        return None
    there = study.notes(names[-1]).get(_IDENTITY) or {}
    told = differences(there, json.loads(json.dumps(identity)))
    return (
        f"'{study.address.shown}' also holds {len(names)} searches of {title} under other "
        f"settings, whose trials do not count here; {names[-1]} differs in: {', '.join(told)}"
    )


def without_progress(task: Task, counted: Sequence[Attempt]) -> bool:
    """Tell whether as many trials as are allowed have ended since the best one."""
    best, since = None, 0
    for one in counted:
        since += one.state != RUNNING
        if one.value is None:
            continue
        if best is None or (one.value > best if task.maximize else one.value < best):
            best, since = one.value, 0
    return since >= task.early_stop


class SharedSearch:
    """One process's part in a search.

    Args:
        task: what is searched and how.
        study: what has been tried and who is at what.
        show: called with all trials whenever this process has looked at them.
    """

    def __init__(
        self,
        task: Task,
        study: SharedStudy,
        show: Callable[[Sequence[Attempt]], None] = lambda attempts: None,
    ) -> None:
        self.task = task
        self.study = study
        self.show = show
        self.draws = task.draws()

    def work(self) -> None:
        """Try settings until the search is over, also for the processes beside this one.

        Raises:
            ConfigError: settings that no trial can use.
            TrainingStoppedError: Ctrl-C or SIGTERM; the settings at hand are free again.
        """
        while True:
            attempts = self.study.attempts()
            self.show(attempts)
            over = self.enough(attempts)
            if over and not any(one.state == RUNNING for one in attempts):
                return
            piece = None if over else self.draws.next(attempts)
            if piece is None or not self._try(piece, attempts):
                self._wait(piece)

    def enough(self, attempts: Sequence[Attempt]) -> bool:
        """Tell whether no further trial is to begin."""
        counted = [one for one in attempts if one.state != LOST]
        if len(counted) >= self.draws.limit:
            return True
        return self.task.algo != "exhaustive" and without_progress(self.task, counted)

    def _wait(self, piece: Piece | None) -> None:
        """Let others go on; who was too late for a piece looks again almost at once."""
        time.sleep(POLL if piece is None else POLL / 20)

    def _try(self, piece: Piece, attempts: Sequence[Attempt]) -> bool:
        known = [one for one in attempts if one.key == piece.key and one.state != LOST]
        held = self.study.take(piece, partial(_forbids, piece, bool(known)), self.draws.limit)
        if held is None:
            return False
        with held:
            if known:
                self._repeat(held, known[0])
            else:
                self._finish(held, self._row(piece, attempts))
        return True

    def _repeat(self, held: Held, earlier: Attempt) -> None:
        """Take the result of an earlier trial with the same settings."""
        attrs = {"row": earlier.attrs["row"], "repeats": earlier.number}
        held.finish(attrs, earlier.value)

    def _row(self, piece: Piece, attempts: Sequence[Attempt]) -> Row:
        settings = dict(piece.attrs["settings"])
        if losses(attempts, piece.key) >= _MOST_LOSSES:
            text = f"its process ended {_MOST_LOSSES} times before it was done"
            return {"params": settings, "score": None, "error": text}
        try:
            return trained_row(self.task.train, settings)
        except (SlifError, OSError):
            raise
        except Exception as error:
            if self.task.debug:
                raise
            text = f"{type(error).__name__}: {one_line(error)}"
            return {"params": settings, "score": None, "error": text}

    def _finish(self, held: Held, row: Row) -> None:
        held.finish({"row": row}, row["score"])


def _forbids(piece: Piece, repeats: bool, earlier: Attempt) -> bool:
    """Tell whether an earlier trial is at the same draw or, but for a repetition, settings."""
    if earlier.state == LOST:
        return False
    draw = piece.attrs.get("draw")
    if draw is not None and earlier.attrs.get("draw") == draw:
        return True
    return earlier.key == piece.key and (earlier.state == RUNNING or not repeats)


def rows_of(attempts: Sequence[Attempt]) -> list[Row]:
    """Return the rows of all trials that ended, in the order they were begun."""
    return [one.attrs["row"] for one in attempts if one.state in (FINISHED, FAILED)]


class Bar:
    """A progress bar over the trials of a whole study."""

    def __init__(self, task: Task) -> None:
        self._maximize = task.maximize
        self._bar = tqdm(total=task.draws().limit, unit="trial")

    def show(self, attempts: Sequence[Attempt]) -> None:
        """Show how far the study is."""
        ended = [one for one in attempts if one.state in (FINISHED, FAILED)]
        scores = [one.value for one in ended if one.value is not None]
        if scores:
            best = (max if self._maximize else min)(scores)
            self._bar.set_postfix(best=f"{best:.6f}", refresh=False)
        if len(ended) != self._bar.n:
            self._bar.n = len(ended)
            self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


def _worker(task: Task, address: Address, name: str, parent: int, threads: int) -> None:
    begin_worker(threads)
    try:
        study = SharedStudy(address, name, task.maximize, on_beat=leave_with(parent))
        SharedSearch(task, study).work()
    except (TrainingStoppedError, KeyboardInterrupt):
        sys.exit(STOPPED)
    except (SlifError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)


def run_shared(task: Task, study: SharedStudy, workers: int = 1) -> list[Row]:
    """Search until the study is done, with `workers` processes of this machine.

    Returns:
        The rows of all trials of the study, from every machine.

    Raises:
        TrainingStoppedError: Ctrl-C or SIGTERM; finished trials are kept.
        SlifError: the processes ended before the work did.
    """
    bar = Bar(task)
    try:
        if workers == 1:
            SharedSearch(task, study, bar.show).work()
        else:
            _side_by_side(task, study, workers, bar)
        attempts = study.attempts()
        bar.show(attempts)
    except (TrainingStoppedError, KeyboardInterrupt):
        raise TrainingStoppedError(
            f"stopped; finished trials are kept in '{study.address.shown}', go on with the same "
            "command"
        ) from None
    finally:
        bar.close()
    return rows_of(attempts)


def _side_by_side(task: Task, study: SharedStudy, workers: int, bar: Bar) -> None:
    arguments = (task, study.address, study.name)
    broken = run_processes(workers, _worker, arguments, lambda: bar.show(study.attempts()))

    def done() -> bool:
        return SharedSearch(task, study).enough(study.attempts())

    settle_broken(broken, workers, done, "go on with the same command")

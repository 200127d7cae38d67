"""Checks, their cases, and the loop that runs them until they are through or time is up."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from tqdm import tqdm

FAILURES_KEPT = 50
Figures = Mapping[str, Any]


class CaseSkipped(Exception):  # noqa: N818 - said by a case that cannot be tried here, with the reason
    """A case cannot be tried on this machine; its text says why."""


@dataclass(frozen=True)
class Setting:
    """What the cases of a check are made from.

    Attributes:
        seed: of everything a check draws; the same seed gives the same cases.
        folder: scratch folder of the check, empty at its start.
        models: names of the models to try.
        cases: how many cases are wanted; a check may stop earlier if it has no more.
    """

    seed: int
    folder: Path
    models: tuple[str, ...]
    cases: int


@dataclass(frozen=True)
class Case:
    """One try.

    Attributes:
        name: says all it takes to make it again, for instance `LightGCN: killed at save 3`.
        run: raises to fail, raises `CaseSkipped` if it cannot be tried; may return figures to
            be kept in the result under the case's name.
    """

    name: str
    run: Callable[[], Figures | None]


@dataclass(frozen=True)
class Check:
    """One promise and where its cases come from.

    Attributes:
        name: as named by `--only`.
        summary: the promise in one line.
        source: `module:function`; the function takes a `Setting` and yields cases. The module is
            imported when the check is run.
        cases: how many cases make the check whole.
    """

    name: str
    summary: str
    source: str
    cases: int

    def make(self, setting: Setting) -> Iterable[Case]:
        """Return the cases."""
        module, _, function = self.source.partition(":")
        return getattr(importlib.import_module(module), function)(setting)


@dataclass
class Outcome:
    """What became of a check.

    Attributes:
        wanted: cases that make the check whole.
        passed, failed, skipped: how many cases ended so.
        whole: all cases were tried; False if time was up before, or only some were asked for.
        in_time: time was not up before the last case that was asked for.
        failures: case and error, at most `FAILURES_KEPT`.
        skips: reason -> how many cases were skipped for it.
        figures: case -> what it measured.
    """

    check: str
    summary: str
    wanted: int
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    whole: bool = False
    in_time: bool = False
    seconds: float = 0.0
    failures: list[dict[str, str]] = field(default_factory=list)
    skips: dict[str, int] = field(default_factory=dict)
    figures: dict[str, Figures] = field(default_factory=dict)

    @property
    def tried(self) -> int:
        """Cases that were run to a verdict."""
        return self.passed + self.failed

    def take(self, case: Case) -> None:
        """Run a case and count it."""
        try:
            figures = case.run()
        except CaseSkipped as skip:
            self.skipped += 1
            self.skips[str(skip)] = self.skips.get(str(skip), 0) + 1
        except Exception as error:
            self.fail(case.name, error)
        else:
            self.passed += 1
            if figures:
                self.figures[case.name] = dict(figures)

    def fail(self, name: str, error: Exception) -> None:
        """Count a failure and keep what it takes to find it."""
        self.failed += 1
        if len(self.failures) < FAILURES_KEPT:
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
            self.failures.append({"case": name, "error": text})


def run_check(check: Check, setting: Setting, until: float, only: str | None = None) -> Outcome:
    """Run a check's cases.

    Args:
        check: the check.
        setting: what its cases are made from.
        until: value of `time.monotonic` at which no further case is begun.
        only: run only cases whose name matches this regular expression.
    """
    outcome = Outcome(check.name, check.summary, setting.cases)
    started = monotonic()
    shutil.rmtree(setting.folder, ignore_errors=True)
    setting.folder.mkdir(parents=True)
    try:
        with tqdm(total=setting.cases, desc=check.name, ncols=100, disable=None) as bar:
            _run_cases(check, setting, until, only, outcome, bar)
    except Exception as error:  # the making of cases went wrong, not a case
        outcome.fail(f"{check.name}: before a case", error)
    outcome.seconds = monotonic() - started
    return outcome


def _run_cases(
    check: Check, setting: Setting, until: float, only: str | None, outcome: Outcome, bar: tqdm
) -> None:
    for case in check.make(setting):
        if only is not None and not re.search(only, case.name):
            continue
        if monotonic() >= until:
            return
        failed = outcome.failed
        outcome.take(case)
        bar.update()
        if outcome.failed > failed:
            error = outcome.failures[-1]["error"]
            bar.write(f"FAILED {check.name}: {case.name}: {error}", file=sys.stderr)
        bar.set_postfix_str(f"{outcome.failed} failed")
    outcome.in_time, outcome.whole = True, only is None


def run_checks(
    checks: Sequence[Check],
    seconds: float,
    setting: Setting,
    only: str | None = None,
    keep: bool = False,
) -> list[Outcome]:
    """Run checks one after the other; each may take an equal share of the time that is left.

    Args:
        checks: what to run.
        seconds: the time budget; a case that has begun is finished.
        setting: seed, models and scratch folder; `cases` of 0 takes each check's own number.
        only: run only cases whose name matches this regular expression.
        keep: leave the scratch folders of the checks in place.
    """
    # The lock that tqdm takes by default is shared with forked children: one that is killed while
    # it holds the lock would stop this process for ever.
    tqdm.set_lock(threading.RLock())
    tqdm.monitor_interval = 0  # a thread that held the lock at a fork would stop the child
    end, outcomes = monotonic() + seconds, []
    for number, check in enumerate(checks):
        now = monotonic()
        share = max(end - now, 0.0) / (len(checks) - number)
        own = Setting(
            setting.seed,
            setting.folder / check.name,
            setting.models,
            setting.cases or check.cases,
        )
        outcomes.append(run_check(check, own, now + share, only))
        if not keep:
            shutil.rmtree(own.folder, ignore_errors=True)
    return outcomes

"""Runs and experiments that are killed or stopped, and go on to the end of the untouched ones."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from recbole_slif.console import EXIT_STOPPED
from reliability import runs
from reliability.experiments import OUT, experiment_line, experiment_outcome
from reliability.forks import Child, Ended, run_child
from reliability.frame import Case, Setting
from reliability.plants import count_all, signalled

RUN_REGIONS = ("load", "batch", "refresh", "evaluation", "save")
MOMENTS = ("any time", *RUN_REGIONS[1:], "experiment", "batch", "refresh", "any time", "save")
_ANOTHER_KILL = 0.25
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_GO_ON = re.compile(r"(\d+) epochs are kept, go on with (--resume=\S+)$")


@dataclass
class Ground:
    """Where the tries take place: the data, and each model's run as it goes when left alone."""

    folder: Path
    references: dict[str, Ended] = field(default_factory=dict)

    def __post_init__(self) -> None:
        runs.warm_up()
        self.data = runs.write_data(self.folder / "data")
        self.notes = self.folder / "notes"

    def line(self, model: str) -> list[str]:
        """Return the command line of a model's run."""
        return runs.words(model, self.data)

    def place(self, number: int) -> Path:
        """Return the working folder of try `number`."""
        return self.folder / f"case-{number}"

    def reference(self, model: str) -> Ended:
        """Return the untouched run of a model, with the calls of each region; made once."""
        if model not in self.references:
            action = partial(count_all, RUN_REGIONS, partial(runs.trained, self.line(model)))
            self._make(model, action, self.folder / f"whole-{model}")
        return self.references[model]

    def experiment(self, models: Sequence[str]) -> Ended:
        """Return the untouched experiment of some models; made once."""
        name = "+".join(models)
        if name not in self.references:
            place = self.folder / f"whole-{name}"
            action = partial(
                count_all, ("ledger",), partial(experiment_outcome, self.series(place, models))
            )
            self._make(name, action, place)
        return self.references[name]

    def series(self, place: Path, models: Sequence[str]) -> list[str]:
        """Write an experiment file of some models into `place`; return its command line."""
        place.mkdir(parents=True, exist_ok=True)
        content = {"title": "Killed", "artefact": "table2", "models": list(models), "seeds": 1}
        (place / "series.yaml").write_text(yaml.safe_dump(content), "utf-8")
        return experiment_line(self.data)

    def _make(self, name: str, action: Any, place: Path) -> None:
        ended = run_child(action, place, self.notes)
        if ended.status != 0:
            raise RuntimeError(f"{name} does not run untouched: {ended.err[-500:]}")
        self.references[name] = ended


def cases(setting: Setting) -> Iterator[Case]:
    """Yield kills over all models, moments and depths."""
    ground = Ground(setting.folder)
    for number in range(setting.cases):
        model = setting.models[number % len(setting.models)]
        moment = MOMENTS[(number // len(setting.models)) % len(MOMENTS)]
        rng = np.random.default_rng([setting.seed, 1, number])
        if moment == "experiment":
            other = setting.models[(number + 1) % len(setting.models)]
            pair = tuple(dict.fromkeys((model, other)))
            run = partial(_kill_experiment, ground, number, pair, rng)
        else:
            run = partial(_kill_run, ground, number, model, moment, rng)
        yield Case(f"#{number} {model}: SIGKILL, {moment}", run)


def _kill_run(
    ground: Ground, number: int, model: str, moment: str, rng: np.random.Generator
) -> None:
    whole, place = ground.reference(model), ground.place(number)
    line = ground.line(model)
    _killed(partial(runs.command, line), moment, whole, ground, place, rng)
    while rng.random() < _ANOTHER_KILL:
        _killed(partial(runs.command, _way_on(place, line)), "any time", whole, ground, place, rng)
    _require_same_end(run_child(partial(runs.trained, _way_on(place, line)), place, ground.notes),
                      whole, place)  # fmt: skip


def _kill_experiment(
    ground: Ground, number: int, models: Sequence[str], rng: np.random.Generator
) -> None:
    whole, place = ground.experiment(models), ground.place(number)
    line = ground.series(place, models)
    moment = "ledger" if rng.random() < 0.5 else "any time"
    _killed(partial(runs.command, line), moment, whole, ground, place, rng)
    begun = (place / OUT / "plan.json").exists()
    line += ["--resume"] if begun else []
    resumed = run_child(partial(experiment_outcome, line), place, ground.notes)
    _require_same_end(resumed, whole, place)


def _killed(
    action: Any,
    moment: str,
    whole: Ended,
    ground: Ground,
    place: Path,
    rng: np.random.Generator,
) -> None:
    """Start an action and kill it: after some time, or at some call inside a region."""
    if moment == "any time":
        child = Child(action, place, ground.notes)
        child.kill_after(float(rng.uniform(0.05, 1.0)) * whole.seconds)
    else:
        at = 1 + int(rng.integers(whole.answer["calls"][moment] * 0.97))
        child = Child(partial(_planted, moment, at, signal.SIGKILL, action), place, ground.notes)
    ended = child.wait()
    late = ended.status == 0  # the run was over before the kill: it must still be resumed
    if ended.status != -signal.SIGKILL and not late:
        raise AssertionError(f"ended with {ended.status} before the kill: {ended.err[-300:]}")


def _planted(moment: str, at: int, number: int, action: Any) -> Any:
    signalled(moment, at, number)
    return action()


def _way_on(place: Path, line: list[str]) -> list[str]:
    """Return the command that goes on: `--resume`, or the first one if no epoch was finished."""
    kept = [folder for folder in runs.run_folders(place / "saved") if (folder / "last.pt").exists()]
    return [f"--resume={kept[-1].relative_to(place)}"] if kept else line


def _require_same_end(found: Ended, whole: Ended, place: Path) -> None:
    found.require_status(what="did not go on, ended")
    runs.require_equal(found.answer["outcome"], whole.answer["outcome"])
    runs_made = [path for path in place.rglob(f"*-{runs.DATASET}-*") if path.is_dir()]
    abandoned = [path.name for path in runs_made if not (path / "last.pt").exists()]
    left = [str(path) for path in place.rglob(".*") if path.is_file()]
    left = [path for path in left if not any(name in path for name in abandoned)]
    if left:
        raise AssertionError(f"temporary files are left: {left}")


def stops(setting: Setting) -> Iterator[Case]:
    """Yield SIGTERM and Ctrl-C over all models; each line that is printed is followed."""
    ground = Ground(setting.folder)
    for number in range(setting.cases):
        model = setting.models[number % len(setting.models)]
        turn = number // len(setting.models)
        kind = _SIGNALS[turn % 2]
        moment = RUN_REGIONS[(number + turn // 2) % len(RUN_REGIONS)]
        rng = np.random.default_rng([setting.seed, 2, number])
        run = partial(_stop_run, ground, number, model, moment, kind, rng)
        yield Case(f"#{number} {model}: {kind.name}, {moment}", run)


def _stop_run(
    ground: Ground,
    number: int,
    model: str,
    moment: str,
    kind: signal.Signals,
    rng: np.random.Generator,
) -> None:
    whole, place = ground.reference(model), ground.place(number)
    line = ground.line(model)
    at = 1 + int(rng.integers(whole.answer["calls"][moment] * 0.97))
    action = partial(_planted, moment, at, kind, partial(runs.command, line))
    ended = run_child(action, place, ground.notes)
    late = ended.status == 0  # it came in the last lines of the run: there is nothing to stop
    line = _way_on(place, line) if late else _printed_way(ended, kind, line)
    _require_same_end(run_child(partial(runs.trained, line), place, ground.notes), whole, place)


def _printed_way(ended: Ended, kind: signal.Signals, line: list[str]) -> list[str]:
    """Return the command that the stopped run printed.

    Raises:
        AssertionError: it did not stop as promised, or said nothing of use.
    """
    said = ended.last_line()
    if ended.status != EXIT_STOPPED or not said.startswith(f"stopped by {kind.name}; "):
        raise AssertionError(f"ended with {ended.status}, said '{said}'")
    found = _GO_ON.search(said)
    if found:
        return shlex.split(found[2])
    if not said.endswith("no epoch was finished, nothing is kept"):
        raise AssertionError(f"does not say how to go on: '{said}'")
    return line

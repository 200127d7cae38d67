"""Memory over many epochs, and what a run, a comparison or an experiment leaves in its process."""

from __future__ import annotations

import gc
import os
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from recbole_slif.config import SlifConfig
from recbole_slif.stages import Hooks, execute
from reliability import runs
from reliability.experiments import experiment_line
from reliability.forks import run_child
from reliability.frame import Case, Figures, Setting
from reliability.kills import Ground

UPDATES = 100
WARM_UP = 10  # epochs, in which caches fill and the allocator finds its size
MOST_GROWTH = 0.01
_REPEATS = 3


def cases(setting: Setting) -> Iterator[Case]:
    """Yield the self-loop over many updates, then what each model's runs leave behind."""
    ground = Ground(setting.folder)
    wanted = [
        Case(
            f"SLIFMR: memory over {UPDATES} self-loop updates",
            partial(_memory, ground, UPDATES),
        ),
        Case("an experiment with two workers", partial(_experiment, ground)),
    ]
    for model in setting.models:
        wanted.append(
            Case(f"{model}: {_REPEATS} runs in one process", partial(_run, ground, model))
        )
    yield from wanted[: setting.cases]


def _memory(ground: Ground, updates: int) -> Figures:
    line = runs.words("SLIFMR", ground.data, epochs=WARM_UP + updates, stopping_step=10**6)
    ended = run_child(partial(memory_over_epochs, line), ground.folder / "memory", ground.notes)
    ended.require_status()
    found = ended.answer["figures"]
    if found["updates"] < updates:
        raise AssertionError(f"only {found['updates']} updates were made")
    for name in ("resident", "traced"):
        if found[f"{name}_growth"] > MOST_GROWTH:
            raise AssertionError(f"{name} memory grew: {found}")
    return found


def memory_over_epochs(line: Sequence[str]) -> dict[str, Any]:
    """Train as a command line says; measure memory after the warm-up and at the end."""
    options = dict(word.removeprefix("--").split("=", 1) for word in line)
    model, dataset = options.pop("model"), options.pop("dataset")
    settings = [f"--{key}={value}" for key, value in options.items()]
    config = SlifConfig(model, dataset, None, None, settings)
    epochs: list[tuple[int, int]] = []

    def measure(trainer: Any) -> None:
        if len(epochs) == WARM_UP - 1:
            tracemalloc.start()
        gc.collect()
        traced = tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0
        epochs.append((psutil.Process().memory_info().rss, traced))

    execute(config, verbose=False, hooks=Hooks(on_epoch=measure))
    tracemalloc.stop()
    (warm, traced_warm), (end, traced_end) = epochs[WARM_UP], epochs[-1]
    figures = {
        "updates": len(epochs) - WARM_UP,
        "resident_mib": round(warm / 2**20, 1),
        "resident_growth": round((end - warm) / warm, 5),
        "traced_growth": round((traced_end - traced_warm) / warm, 5),
    }
    return {"status": 0, "figures": figures}


def held() -> dict[str, Any]:
    """Return what this process holds of the system: handles, threads, children, temporary files."""
    process = psutil.Process()
    names = [_target(path) for path in Path("/proc/self/fd").glob("*")]
    return {
        "files": sorted(name for name in names if name and not name.startswith("/proc/")),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "children": len(process.children(recursive=True)),
        "temporary": sorted(os.listdir(tempfile.gettempdir())),
    }


def _target(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:  # the handle that listed them
        return ""


def held_around(
    action: Callable[[], dict[str, Any]], repeats: int, before_that: int = 0
) -> dict[str, Any]:
    """Run an action some times; return its last answer and what was held before and after.

    Args:
        action: answers with its `status`.
        repeats: how often it is run between the two looks.
        before_that: how often it is run before the first look.
    """
    own = Path("own-temporary").resolve()
    own.mkdir()
    os.environ["TMPDIR"], tempfile.tempdir = str(own), None
    answer: dict[str, Any] = {}
    for number in range(before_that + repeats):
        if number == before_that:
            gc.collect()
            before = held()
        answer = action()
        if answer["status"]:
            break
    gc.collect()
    return {**answer, "before": before, "after": held()}


def _require_all_returned(
    ground: Ground, name: str, action: Any, repeats: int, before_that: int = 0
) -> None:
    around = partial(held_around, action, repeats, before_that)
    ended = run_child(around, ground.folder / name, ground.notes)
    ended.require_status()
    runs.require_equal(ended.answer["after"], ended.answer["before"], "held after")


def _run(ground: Ground, model: str) -> None:
    action = partial(runs.command, ground.line(model))
    _require_all_returned(ground, f"held-{model}", action, _REPEATS)


def _experiment(ground: Ground) -> None:
    place = ground.folder / "held-experiment"
    ground.series(place, ["BPR", "SLIFMR"])
    line = experiment_line(ground.data, "--workers=2")
    # Python keeps one helper and its pipe for all processes that are ever started: it is there
    # after the first experiment.
    _require_all_returned(ground, place.name, _Numbered(line), 1, 1)


class _Numbered:
    """Runs an experiment, each time into a folder of its own."""

    def __init__(self, line: Sequence[str]) -> None:
        self._line, self._number = line, 0

    def __call__(self) -> dict[str, Any]:
        """Run the next one."""
        self._number += 1
        words = [word for word in self._line if not word.startswith("--out=")]
        return runs.command([*words, f"--out=out-{self._number}"])

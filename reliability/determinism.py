"""The same run again, with another hash seed, with loading processes, on more threads.

As a module of its own, `python -m reliability.determinism FOLDER MODEL ...`, it makes the runs of
some models in a new interpreter and prints what they ended with.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from recbole_slif import checkpoint
from recbole_slif.testing.toy import write_toy
from reliability import runs
from reliability.forks import run_child
from reliability.frame import Case, Figures, Setting
from reliability.kills import Ground

_LARGER = {"embedding_size": 64, "train_batch_size": 1024, "epochs": 2}
_USERS, _ITEMS = 600, 900  # tables large enough for torch to share them out among threads


def cases(setting: Setting) -> Iterator[Case]:
    """Yield four comparisons a model; the last one only measures."""
    ground = Ground(setting.folder)
    hashed = _InNewInterpreter(ground, setting.models)
    kinds: dict[str, Callable[[str], Figures | None]] = {
        "the same seed again": partial(_again, ground),
        "another PYTHONHASHSEED": hashed.compare,
        "two loading processes": partial(_again, ground, worker=2),
        "one and two threads": _Threads(setting.folder / "threads").compare,
    }
    wanted = [(kind, model) for kind in kinds for model in setting.models]
    for kind, model in wanted[: setting.cases]:
        yield Case(f"{model}: {kind}", partial(kinds[kind], model))


def _again(ground: Ground, model: str, **changes: Any) -> None:
    wanted = ground.reference(model).answer["outcome"]
    line = runs.words(model, ground.data, **changes)
    place = ground.folder / "-".join(["again", model, *changes])
    found = run_child(partial(runs.trained, line), place, ground.notes)
    found.require_status()
    for name in changes:
        found.answer["outcome"]["record"]["config"].pop(name)
    wanted_config = wanted["record"]["config"]
    kept = {name: value for name, value in wanted_config.items() if name not in changes}
    wanted = {**wanted, "record": {**wanted["record"], "config": kept}}
    runs.require_equal(found.answer["outcome"], wanted)


class _InNewInterpreter:
    """The runs of all models in an interpreter that hashes strings in another way."""

    def __init__(self, ground: Ground, models: Sequence[str]) -> None:
        self._ground, self._models = ground, models
        self._found: dict[str, Any] | None = None

    def compare(self, model: str) -> None:
        """Require the end of the run that this process made."""
        if self._found is None:
            self._found = self._runs()
        wanted = self._ground.reference(model).answer["outcome"]
        runs.require_equal(self._found[model], wanted)

    def _runs(self) -> dict[str, Any]:
        here = os.environ.get("PYTHONHASHSEED", "random")
        names = {"PYTHONHASHSEED": "2" if here == "1" else "1"}
        folder = str(self._ground.folder / "hashed")
        words = [sys.executable, "-m", "reliability.determinism", folder, *self._models]
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, env={**os.environ, **names}
        )
        if done.returncode:
            raise AssertionError(f"ended with {done.returncode}: {done.stderr[-300:]}")
        return json.loads(done.stdout.splitlines()[-1])


class _Threads:
    """Runs on one thread and on two; how far they are apart is measured, not judged."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data: Path | None = None

    def compare(self, model: str) -> Figures:
        """Return the largest relative differences of losses, metrics and weights."""
        if self._data is None:
            self._data = self._folder / "data"
            write_toy(self._data, runs.DATASET, n_users=_USERS, n_items=_ITEMS)
        line = runs.words(model, self._data, **_LARGER)
        found = []
        for threads in (1, 2):
            place = self._folder / f"{model}-{threads}"
            ended = run_child(partial(_on_threads, threads, line), place, self._folder / "notes")
            ended.require_status()
            found.append((ended.answer["record"], _weights(place)))
        (one, weights), (two, others) = found
        return {
            "losses": apart(_losses(one), _losses(two)),
            "metrics": apart(one["test"], two["test"]),
            "weights": max(_tensors_apart(weights[name], others[name]) for name in weights),
        }


def _on_threads(threads: int, line: list[str]) -> dict[str, Any]:
    torch.set_num_threads(threads)
    ended = runs.command(line)
    (folder,) = runs.run_folders()
    return {**ended, "record": runs.record_of(folder)}


def _weights(place: Path) -> Mapping[str, torch.Tensor]:
    (folder,) = runs.run_folders(place / "saved")
    return checkpoint.load(folder / "last.pt").state["model"]["parameters"]


def _losses(record: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for entry in record["epochs"]:
        parts = entry["loss"] if isinstance(entry["loss"], dict) else {"loss": entry["loss"]}
        found.update({f"{entry['epoch']} {name}": value for name, value in parts.items()})
    return found


def apart(left: Mapping[str, float], right: Mapping[str, float]) -> float:
    """Return the largest difference of two values of one name, over the larger of the two."""
    pairs = [(left[name], right[name]) for name in left]
    largest = [(abs(one - two), max(abs(one), abs(two))) for one, two in pairs]
    return max((gap / size if size else 0.0 for gap, size in largest), default=0.0)


def _tensors_apart(left: torch.Tensor, right: torch.Tensor) -> float:
    """Return the largest difference of two elements, over the largest element."""
    if not left.is_floating_point() or not left.numel():
        return 0.0
    size = float(left.abs().max())
    gap = float((left - right).abs().max())
    return gap / size if size and math.isfinite(gap) else gap


def main(words: Sequence[str]) -> int:
    """Make the runs of models and print their ends as one line of JSON."""
    ground = Ground(Path(words[0]))
    found = {model: ground.reference(model).answer["outcome"] for model in words[1:]}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

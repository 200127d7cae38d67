"""A search whose trainings are noted in a file, and a process that joins it.

python -m tests.hyper.joining ADDRESS FOLDER [--algo=...] [--max_evals=...] [--ready=FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

from recbole_slif.hyper import Parameter
from recbole_slif.hyper.shared_search import Task, run_shared
from recbole_slif.sharing.address import read_address
from recbole_slif.sharing.study import SharedStudy

GRID = (Parameter("a", "choice", (1, 2, 3, 4)), Parameter("b", "choice", ("x", "y")))
LINE = (Parameter("a", "uniform", (0.0, 6.0)), Parameter("b", "choice", ("x", "y")))


def score(settings: dict[str, Any]) -> float:
    """The best is at a=3, b='y'."""
    return 1.0 - 0.1 * abs(settings["a"] - 3) + (0.05 if settings["b"] == "y" else 0.0)


def train(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Note the training and its process; hang in it while the file `hang` names these settings.

    Of processes that began together the first waits in its training for the second one's, which a
    quick machine would otherwise leave nothing to do.
    """
    key = json.dumps(settings, sort_keys=True)
    with (folder / "trained").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"pid": os.getpid(), "settings": settings}) + "\n")
    time.sleep(0.05)
    patience = time.monotonic() + 30.0
    while (folder / "go").exists() and time.monotonic() < patience:
        if len({one["pid"] for one in trained(folder)}) > 1:
            break
        time.sleep(0.02)
    hang = folder / "hang"
    while hang.is_file() and hang.read_text() == key:
        time.sleep(0.02)
    return {"best_valid_score": score(settings), "valid_score_bigger": True,
            "best_valid_result": {"recall@5": score(settings)}}  # fmt: skip


def trained(folder: Path) -> list[dict[str, Any]]:
    """Return what was trained, in order."""
    path = folder / "trained"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def task_of(folder: Path, algo: str = "exhaustive", **changes: Any) -> Task:
    """Return a search over the grid, or over the line for the algorithms that draw."""
    space = GRID if algo == "exhaustive" else LINE
    given = {"train": partial(train, folder), "parameters": space, "maximize": True, "algo": algo}
    return Task(**{**given, "early_stop": 100, **changes})


def main() -> None:
    """Join a search."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--algo", default="exhaustive")
    parser.add_argument("--max_evals", type=int)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--study", default="toy")
    parser.add_argument("--ready", help="file to make before waiting for the file `go`")
    asked = parser.parse_args()
    if asked.ready:
        (asked.folder / asked.ready).touch()
        while not (asked.folder / "go").exists():
            time.sleep(0.005)
    study = SharedStudy(read_address(asked.address), asked.study)
    task = task_of(asked.folder, asked.algo, max_evals=asked.max_evals)
    print(json.dumps(run_shared(task, study, asked.workers)))


if __name__ == "__main__":
    main()

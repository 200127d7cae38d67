"""Runs made by one process, or by several: `python -m tests.shared_runs FOLDER` in each of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from recbole_slif import factory, process_group, quick_start
from recbole_slif.config import SlifConfig
from recbole_slif.errors import SlifError
from recbole_slif.model.general.lightgcn import LightGCN
from recbole_slif.stages import Hooks, execute
from tests.running import settings

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 400.0


class Troubled(LightGCN):
    """Process 1 meets what `trouble` says in the second batch of epoch 1, once."""

    shares_batches = True
    config_defaults: ClassVar = {"trouble": "none"}
    met: ClassVar[set[str]] = set()

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.trouble = config["trouble"]

    def pre_epoch(self, epoch):
        self.epoch, self.batch = epoch, -1

    def calculate_loss(self, interaction):
        self.batch += 1
        loss = super().calculate_loss(interaction)
        trouble = self.trouble
        if (self.epoch, self.batch, process_group.rank()) == (1, 1, 1) and trouble not in self.met:
            self.met.add(trouble)
            if trouble == "signal":
                os.kill(os.getpid(), signal.SIGTERM)
            elif trouble == "error":
                raise ValueError("no more memory")
            elif trouble == "nan":
                loss = loss * float("nan")
            elif trouble == "drift":
                self.user_embedding.weight.data[1] += 0.1
        return loss


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What `torchrun` tells each process."""
    names = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    return {**os.environ, **{key: str(value) for key, value in {**names, **place}.items()}}


def start(folder: Path, size: int) -> None:
    """Let `size` processes make the runs of `folder/cases.json`; results lie in `folder`.

    Another program may take the port between its choice and its use: then they start once more.
    """
    assert any(_ended(folder, size) == [0] * size for _ in range(2))


def _ended(folder: Path, size: int) -> list[int | None]:
    """Start the processes; return their exit codes, None for one that others or time ended."""
    port = free_port()
    command = [sys.executable, "-m", "tests.shared_runs", str(folder)]
    started = [
        subprocess.Popen(command, cwd=ROOT, env=environment(rank, size, port))
        for rank in range(size)
    ]
    until = time.monotonic() + LONGEST
    try:
        while time.monotonic() < until:
            codes = [process.poll() for process in started]
            if None not in codes or any(codes):
                break
            time.sleep(0.1)
    finally:
        for process in started:
            process.kill()
            process.wait()
    return codes


def outcome(folder: Path, case: Mapping[str, Any]) -> dict[str, Any]:
    """Make one run; return what it learned in each epoch, or the error it ended with."""
    torch.set_default_dtype(getattr(torch, case.get("dtype", "float32")))
    weights: list[dict[str, Any]] = []
    found: dict[str, Any] = {"weights": weights}

    def keep(trainer: Any) -> None:
        state = trainer.model.state_dict()
        weights.append({name: value.clone() for name, value in state.items()})

    def finish(trainer: Any, bundle: Any) -> None:
        found["history"] = [
            {key: value for key, value in entry.items() if key != "seconds"}
            for entry in trainer.history
        ]
        users = trainer.blocked.latest_per_user(bundle.test_data)
        found["users"] = {key: torch.from_numpy(values) for key, values in users.items()}

    hooks = Hooks(on_epoch=keep, on_test=finish)
    model = Troubled if case["model"] == "Troubled" else case["model"]
    chosen = {"eval_block_users": case.get("block", 4), **case["settings"]}
    try:
        process_group.begin()
        if "resume" in case:
            file = Path(case["resume"]) / "last.pt"
            header = quick_start.files.load(file).header
            config = factory.rebuild_config(header, chosen, model)
            result = execute(config, file, verbose=False, hooks=hooks)
        else:
            config = SlifConfig(model, "toy", overrides=settings(folder, **chosen))
            result = execute(config, verbose=False, hooks=hooks)
    except SlifError as error:
        found["error"] = f"{type(error).__name__}: {error}"
        return found
    except ValueError as error:
        found["error"] = f"{type(error).__name__}: {error}"
        return found
    finally:
        torch.set_default_dtype(torch.float32)
    found |= {"test": result.test, "best_epoch": result.best_epoch, "valid": result.valid}
    found |= {"record": result.record and str(result.record), "folder": str(result.folder)}
    return found


def main(folder: Path) -> None:
    """Make all runs as one of the processes; the folder of an earlier run is named by its place."""
    cases = json.loads((folder / "cases.json").read_text())
    found: dict[str, Any] = {}
    for name, case in cases.items():
        if "resume" in case:
            case = {**case, "resume": saved_folder(found[case["resume"]])}
        found[name] = outcome(folder, case)
    torch.save(found, folder / f"rank{process_group.rank()}.pt")


def saved_folder(found: Mapping[str, Any]) -> str:
    """Return the folder of a run, which one that was stopped names in its message."""
    return found.get("folder") or found["error"].partition("--resume=")[2]


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.chdir(sys.argv[1])
    main(Path(sys.argv[1]))

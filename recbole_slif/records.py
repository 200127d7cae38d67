"""One JSON file for each run: what a report needs, and nothing that names the machine."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

import recbole_slif
from recbole_slif import process_group
from recbole_slif.atomic_files import write_atomic
from recbole_slif.errors import ConfigError, DataError
from recbole_slif.plain import read_json

SCHEMA = 1
_LIBRARIES = ("torch", "numpy", "scipy", "pandas", "recbole")


def plain(value: Any) -> Any:
    """Turn a value into what JSON can hold; a number that is not finite becomes null."""
    if isinstance(value, bool | int | str) or value is None:
        return portable(value) if isinstance(value, str) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(entry) for entry in value]
    if isinstance(value, type):
        return value.__name__
    return portable(str(value))


def seconds_of(epochs: Iterable[Mapping[str, Any]]) -> float:
    """Add up the seconds of a record's epochs, their evaluations and graphs included."""
    return float(sum(sum(entry["seconds"].values()) for entry in epochs))


def portable(text: str) -> str:
    """Make a path relative to the working folder; of one that lies elsewhere keep the last part."""
    if "=" in text and text.startswith("--"):
        name, _, value = text.partition("=")
        return f"{name}={portable(value)}"
    if not os.path.isabs(text):
        return text
    relative = os.path.relpath(text)
    return Path(text).name if relative.startswith("..") else Path(relative).as_posix()


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the libraries that decide numbers."""
    found = {"python": platform.python_version(), "recbole_slif": recbole_slif.__version__}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def commit() -> str | None:
    """Return the git commit of the package's source folder, None if it is installed."""
    root = Path(recbole_slif.__file__).resolve().parent.parent
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    command = [git, "-C", str(root), "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return answer.stdout.strip() or None


def device_description(device: Any) -> dict[str, Any]:
    """Describe the kind of hardware, not the host."""
    described: dict[str, Any] = {
        "type": str(device).partition(":")[0],
        "system": platform.system(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }
    if described["type"] == "cuda" and torch.cuda.is_available():
        described["name"] = torch.cuda.get_device_name(device)
    return described


def _peak_bytes() -> int:
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_memory(device: Any) -> dict[str, float]:
    """Return the most memory held so far in MiB: by the process, and on the GPU if one is used."""
    used = _peak_bytes()
    peak = {"process_mib": round(used / 2**20, 1)}
    if str(device).startswith("cuda") and torch.cuda.is_available():
        peak["cuda_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return peak


def precision_over_recall(result: Mapping[str, Any] | None) -> dict[str, float]:
    """Return Precision@K / Recall@K for each K that has both, a check of the split protocol.

    With one held-out item a user the ratio is 1 / K; larger values mean larger test sets.
    """
    ratios = {}
    for name, precision in (result or {}).items():
        recall = (result or {}).get(name.replace("precision@", "recall@"))
        if name.startswith("precision@") and recall:
            ratios[name.partition("@")[2]] = round(float(precision) / float(recall), 4)
    return ratios


def record_folder(config: Any) -> Path:
    """Return the folder records are written to: `record_dir`, else `runs` below the checkpoints."""
    return Path(config["record_dir"] or Path(config["checkpoint_dir"]) / "runs")


class RunRecord:
    """The record of one run; `write` may be called at any time and replaces the file as a whole.

    Args:
        config: the run's configuration.
        run_id: names the file.
        command: how the run was started.
    """

    def __init__(self, config: Any, run_id: str, command: Sequence[str] = ()) -> None:
        self.path = record_folder(config) / f"{run_id}.json"
        self.content: dict[str, Any] = {
            "schema": SCHEMA,
            "run_id": run_id,
            "status": "running",
            "model": config["model"],
            "dataset": config["dataset"],
            "seed": config["seed"],
            "split_seed": config["split_seed"],
            "protocol": {key: config[key] for key in ("protocol", "eval_args", "unlinked_items")},
            "command": list(command),
            "config": dict(config.final_config_dict),
            "departures": config.departures,
            "versions": versions(),
            "commit": commit(),
            "device": device_description(config["device"]),
            "processes": process_group.description(config),
        }

    def update(self, **entries: Any) -> None:
        """Set entries of the record."""
        self.content.update(entries)

    def take_training(self, trainer: Any) -> None:
        """Copy the trainer's history, best epoch and score."""
        self.update(
            epochs=trainer.history,
            best_epoch=trainer.best_epoch,
            valid_metric=trainer.valid_metric,
            best_valid_score=trainer.best_valid_score,
            valid=trainer.best_valid_result,
            checkpoints=trainer.run_folder,
            peak_memory=peak_memory(trainer.device),
        )

    def write(self) -> Path:
        """Write the file atomically and return its path.

        Raises:
            ConfigError: its folder cannot be made or written to.
        """
        text = json.dumps(plain(self.content), indent=1, allow_nan=False)
        try:
            write_atomic(self.path, (text + "\n").encode())
        except OSError as error:
            raise ConfigError(
                f"record '{self.path}' cannot be written ({error.strerror}); "
                "set checkpoint_dir, or record_dir, to a folder that can be"
            ) from error
        return self.path


def read_record(path: Path | str) -> dict[str, Any]:
    """Read a record.

    Raises:
        DataError: the file is missing or no record of this package.
    """
    try:
        content = read_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"record '{path}' cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise DataError(f"record '{path}' is not a run record of schema {SCHEMA}")
    return content

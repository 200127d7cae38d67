"""The small run that is tried again and again, and all that must be equal about its end."""

from __future__ import annotations

import copy
import hashlib
import importlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from recbole_slif import checkpoint
from recbole_slif.__main__ import main
from recbole_slif.config import SlifConfig
from recbole_slif.recommend import recommend
from recbole_slif.records import read_record
from recbole_slif.registry import MODELS
from recbole_slif.testing.toy import write_toy

DATASET = "toy"
USERS, ITEMS = 24, 44
LIST_LENGTH = 20
SETTINGS: Mapping[str, Any] = {
    "dataset": DATASET,
    "protocol": "benchmark",
    "checkpoint_dir": "saved",
    "use_gpu": False,
    "use_tuned": False,
    "epochs": 3,
    "train_batch_size": 48,
    "embedding_size": 8,
    "learning_rate": 0.01,
    "state": "ERROR",
    "show_progress": False,
}
_TIMES = ("run_id", "seconds", "peak_memory", "checkpoints", "command", "commit")
_PLACES = ("checkpoint_dir", "record_dir", "data_path", "run_folder")


def warm_up() -> None:
    """Load in this process what each child would otherwise load for itself."""
    loaded_late = ("recbole_slif.experiment.cli", "tensorboard", "torch._dynamo", "sympy")
    for name in (*loaded_late, *(entry.path for entry in MODELS.values())):
        importlib.import_module(name)
    if not hasattr(yaml.load, "__wrapped__"):
        yaml.load = _remembering(yaml.load)
    with tempfile.TemporaryDirectory() as folder:
        data = write_data(Path(folder))
        for name in MODELS:  # reads the settings files, which the children then need not parse
            SlifConfig(name, DATASET, None, None, words(name, data)[1:])


def _remembering(parse: Callable[..., Any]) -> Callable[..., Any]:
    """Return a YAML parser that parses each text once."""
    known: dict[tuple[str, type], Any] = {}

    @wraps(parse)
    def load(stream: Any, Loader: type) -> Any:  # noqa: N803 - the name is yaml's
        text = stream.read() if hasattr(stream, "read") else stream
        if (text, Loader) not in known:
            known[text, Loader] = parse(text, Loader)
        return copy.deepcopy(known[text, Loader])

    return load


def write_data(folder: Path) -> Path:
    """Write the data set below `folder`; return the value for `data_path`."""
    write_toy(folder, DATASET, n_users=USERS, n_items=ITEMS)
    return folder


def words(model: str, data: Path, **changes: Any) -> list[str]:
    """Return the command line of a small run."""
    chosen = {"model": model, "data_path": data, **SETTINGS, **changes}
    return [f"--{key}={value}" for key, value in chosen.items()]


def command(line: Sequence[str]) -> dict[str, Any]:
    """Run a command as a user would; the answer of a child that does nothing else."""
    return {"status": main(line)}


def run_folders(place: Path = Path("saved")) -> list[Path]:
    """Return the run folders below a checkpoint folder, the one written to last at the end."""
    folders = {path.parent for path in place.glob("*/*.pt")}
    return sorted(folders, key=lambda path: path.stat().st_mtime_ns)


def trained(line: Sequence[str], place: Path = Path("saved")) -> dict[str, Any]:
    """Run a command and say what the run below `place` ended with."""
    status = main(line)
    folders = run_folders(place)
    found = outcome(folders[-1]) if status == 0 and folders else None
    return {"status": status, "outcome": found}


def outcome(folder: Path) -> dict[str, Any]:
    """Return what must be equal: losses, metrics, top-20 lists, every tensor of the checkpoints."""
    return {
        "record": timeless(record_of(folder)),
        "lists": lists(folder),
        "tensors": {
            name: tensor_digests(folder / name)
            for name in ("best.pt", "last.pt")
            if (folder / name).is_file()
        },
    }


def record_of(folder: Path) -> dict[str, Any]:
    """Return the record of the run whose folder this is."""
    return read_record(folder.parent / "runs" / f"{folder.name}.json")


def lists(folder: Path) -> list[str]:
    """Return the top-20 lists of the best epoch, with scores to the bit."""
    found = recommend(folder, k=LIST_LENGTH)
    return [f"{entry.user} {entry.rank} {entry.item} {entry.score!r}" for entry in found]


def timeless(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without what differs from one time or place to another."""
    kept = copy.deepcopy({key: value for key, value in record.items() if key not in _TIMES})
    kept["config"] = {key: value for key, value in kept["config"].items() if key not in _PLACES}
    for epoch in kept.get("epochs") or []:
        epoch.pop("seconds")
    return kept


def tensor_digests(path: Path) -> dict[str, str]:
    """Return a digest of each tensor and array in a checkpoint, by its place in the tree."""
    found: dict[str, str] = {}
    _digests(checkpoint.load(path).state, path.name, found)
    return found


def _digests(value: Any, name: str, found: dict[str, str]) -> None:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if key not in ("seconds", "losses"):  # wall time; losses are compared in the record
                _digests(entry, f"{name}/{key}", found)
    elif isinstance(value, list | tuple):
        for at, entry in enumerate(value):
            _digests(entry, f"{name}/{at}", found)
    elif isinstance(value, torch.Tensor | np.ndarray):
        array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
        content = f"{array.dtype}{array.shape}".encode() + array.tobytes()
        found[name] = hashlib.blake2b(content, digest_size=8).hexdigest()


def require_equal(found: Any, wanted: Any, place: str = "outcome") -> None:
    """Raise `AssertionError` at the first difference, with its place.

    Raises:
        AssertionError: the two differ.
    """
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        if set(found) != set(wanted):
            raise AssertionError(f"{place}: {sorted(set(found) ^ set(wanted))} is in one only")
        for key, entry in wanted.items():
            require_equal(found[key], entry, f"{place}/{key}")
    elif isinstance(wanted, list) and isinstance(found, list) and len(found) == len(wanted):
        for at, entry in enumerate(wanted):
            require_equal(found[at], entry, f"{place}/{at}")
    elif found != wanted:
        raise AssertionError(f"{place}: {str(found)[:200]} instead of {str(wanted)[:200]}")

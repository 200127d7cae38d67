"""A small experiment and what must be equal about its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.__main__ import main
from recbole_slif.experiment.folder import Folder
from reliability import runs

OUT = Path("out")
_PLACED = ("model", "dataset", "data_path", "checkpoint_dir")


def experiment_line(data: Path, *more: str) -> list[str]:
    """Return the command line of the experiment file `series.yaml`."""
    chosen = {key: value for key, value in runs.SETTINGS.items() if key not in _PLACED}
    settings = [f"--{key}={value}" for key, value in chosen.items()]
    places = [f"--out={OUT}", f"--dataset={runs.DATASET}", f"--data_path={data}"]
    return ["experiment", "series.yaml", "--keep_checkpoints", *places, *settings, *more]


def experiment_outcome(line: Sequence[str]) -> dict[str, Any]:
    """Run an experiment; say what its folder ends with: lines, per-user metrics, lists, tensors."""
    status = main(line)
    found = {}
    if status == 0:
        for entry in Folder(OUT).lines():
            cell = f"{entry['cell']} {entry['seed']}"
            if cell in found:
                raise AssertionError(f"{cell} is recorded twice")
            found[cell] = _cell(entry)
        if any((OUT / "claims").iterdir()):
            raise AssertionError("claims are left")
    return {"status": status, "outcome": found}


def _cell(entry: dict[str, Any]) -> dict[str, Any]:
    folder = OUT / "work" / entry["settings_hash"] / entry["run_id"]
    with np.load(OUT / entry["per_user"], allow_pickle=False) as arrays:
        per_user = {name: arrays[name].tolist() for name in arrays.files}
    return {
        "record": runs.timeless(entry),
        "per_user": per_user,
        "lists": runs.lists(folder),
        "tensors": runs.tensor_digests(folder / "best.pt"),
    }

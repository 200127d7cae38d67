"""Experiment folders written by hand, so that every number of a report is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FINGERPRINT = "cff20fd6cb03e055"


def cell(model: str, **changes: Any) -> dict[str, Any]:
    """Return a planned cell; its key is made of model, overrides and noise."""
    overrides = changes.get("overrides", {})
    noise = changes.get("noise")
    parts = [model, *(f"{key}={value}" for key, value in overrides.items())]
    key = "|".join([*parts, *([f"noise={noise}"] if noise else [])])
    plain = {"key": key, "model": model, "label": model, "group": "all", "x": None, "series": model,
             "overrides": overrides, "noise": noise, "needs": []}  # fmt: skip
    return {**plain, **changes}


def line(planned: Mapping[str, Any], seed: int, **changes: Any) -> dict[str, Any]:
    """Return the line of a finished run; `test` holds its metrics."""
    key = planned["key"]
    content = {
        "schema": 1,
        "run_id": f"{key}-{seed}",
        "status": "finished",
        "model": planned["model"],
        "dataset": "toy",
        "seed": seed,
        "protocol": {"protocol": "auto", "eval_args": {"mode": {"valid": "full", "test": "full"}}},
        "config": {"embedding_size": 64, "learning_rate": 0.001, "seed": seed,
                   **planned["overrides"]},
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "commit": "5d776e4e65cd",
        "device": {"type": "cpu"},
        "statistics": {"protocol": "ratio_811", "users": 6, "items": 9, "split": [40, 6, 6]},
        "fingerprint": FINGERPRINT,
        "epochs": [{"epoch": at, "seconds": {"refresh": 0.5, "train": 2.0, "evaluate": 0.1}}
                   for at in range(2)],
        "test": {"recall@20": 0.1, "ndcg@20": 0.05, "precision@20": 0.01},
        "error": None,
        "seconds": 60.0,
        "cell": key,
        "settings_hash": f"{key}-{seed}",
        "noise": planned["noise"],
        "per_user": None,
    }  # fmt: skip
    return {**content, **changes}


# Epochs of a run that ended before its ranking loss had moved, and of one that has learned.
STILL = tuple({"epoch": at, "loss": {"bpr": 13.86, "inter": 80.0 - at}} for at in range(9))
MOVED = (*STILL, {"epoch": 9, "loss": {"bpr": 5.0, "inter": 70.0}})


def failed(planned: Mapping[str, Any], seed: int, error: str) -> dict[str, Any]:
    """Return the line of a failed run, which has neither metrics nor split."""
    found = line(planned, seed, status="failed", error=error, test=None, epochs=[])
    return {**found, "fingerprint": None, "statistics": None}


def metrics(recall: float, ndcg: float, precision: float) -> dict[str, float]:
    """Return test metrics at 20."""
    return {"recall@20": recall, "ndcg@20": ndcg, "precision@20": precision}


def write_folder(
    folder: Path,
    cells: Sequence[Mapping[str, Any]],
    lines: Sequence[Mapping[str, Any]],
    **changes: Any,
) -> Path:
    """Write plan and runs; the plan's seeds are those of the lines unless they are given."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds = sorted({one["seed"] for one in lines})
    runs = [
        {"cell": one["key"], "seed": seed, "settings_hash": f"{one['key']}-{seed}"}
        for one in cells
        for seed in changes.get("seeds", seeds)
    ]
    plan = {"schema": 1, "experiment": "mine", "artefact": "table2", "dataset": "toy",
            "protocol": "ratio_811", "seeds": seeds, "quick": False, "title": "A comparison",
            "cells": list(cells), "command": ["experiment", "mine"], "runs": runs}  # fmt: skip
    plan |= changes
    (folder / "plan.json").write_text(json.dumps(plan), "utf-8")
    text = "".join(json.dumps(one) + "\n" for one in lines)
    (folder / "runs.jsonl").write_text(text, "utf-8")
    return folder


def write_users(folder: Path, found: dict[str, Any], **values: Sequence[float]) -> dict[str, Any]:
    """Write per-user values of a line (`recall=[...]` for recall@20); return it naming the file."""
    name = f"per_user/{found['settings_hash'].replace('|', '_')}.npz"
    (folder / "per_user").mkdir(parents=True, exist_ok=True)
    users = values.pop("users", range(1, 1 + len(next(iter(values.values())))))
    arrays = {f"{metric}@20": np.array(value, np.float64) for metric, value in values.items()}
    np.savez(folder / name, users=np.array(users), **arrays)
    return {**found, "per_user": name}

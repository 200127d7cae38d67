"""What a plan and the lines of runs must look like before a report reads numbers from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_slif.errors import SlifError

NONE = type(None)
_TEXT, _NUMBER, _WHOLE = (str,), (int, float), (int,)
_PLAN: Mapping[str, tuple[type, ...]] = {
    "experiment": _TEXT,
    "artefact": _TEXT,
    "dataset": _TEXT,
    "protocol": _TEXT,
    "title": _TEXT,
    "seeds": (list,),
    "cells": (list,),
    "runs": (list,),
    "command": (list,),
    "quick": (bool,),
}
_CELL: Mapping[str, tuple[type, ...]] = {
    "key": _TEXT,
    "model": _TEXT,
    "label": (str, NONE),
    "group": (str, NONE),
    "series": (str, NONE),
    "x": (*_NUMBER, NONE),
    "overrides": (dict, NONE),
    "noise": (str, NONE),
    "needs": (list, NONE),
}
_LINE: Mapping[str, tuple[type, ...]] = {
    "cell": _TEXT,
    "status": _TEXT,
    "seed": _WHOLE,
    "settings_hash": (str, NONE),
    "model": (str, NONE),
    "dataset": (str, NONE),
    "test": (dict, NONE),
    "epochs": (list, NONE),
    "config": (dict, NONE),
    "departures": (dict, NONE),
    "versions": (dict, NONE),
    "device": (dict, NONE),
    "statistics": (dict, NONE),
    "protocol": (dict, NONE),
    "fingerprint": (str, NONE),
    "commit": (str, NONE),
    "noise": (str, NONE),
    "per_user": (str, NONE),
    "error": (str, NONE),
    "seconds": (*_NUMBER, NONE),
    "peak_memory": (dict, NONE),
}


def wrong_field(content: Any, fields: Mapping[str, tuple[type, ...]]) -> str | None:
    """Return the first field that is there and of a wrong type, None if there is none."""
    if not isinstance(content, Mapping):
        return "it"
    for name, types in fields.items():
        if name in content and not _fits(content[name], types):
            return name
    return None


def _fits(value: Any, types: tuple[type, ...]) -> bool:
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def check_plan(plan: Mapping[str, Any], path: Path) -> None:
    """Check the types of a plan.

    Raises:
        SlifError: naming the file and the field.
    """
    wrong = wrong_field(plan, _PLAN)
    if wrong is None and not all(_fits(seed, _WHOLE) for seed in plan["seeds"]):
        wrong = "seeds"
    if wrong is None and not all(isinstance(word, str) for word in plan.get("command", ())):
        wrong = "command"
    for at, cell in enumerate(plan["cells"] if wrong is None else (), start=1):
        field = wrong_field(cell, _CELL)
        if field is None and not {"key", "model"} <= set(cell):
            field = "key, or model,"
        if field is None and not all(isinstance(name, str) for name in cell.get("needs") or ()):
            field = "needs"
        wrong = wrong or (field and f"cells {at}, {field}")
    for run in plan.get("runs", ()) if wrong is None else ():
        if wrong_field(run, _LINE) or not {"cell", "settings_hash"} <= set(run):
            wrong = "runs"
    if wrong is not None:
        raise SlifError(f"'{path}' is damaged: {wrong} is of the wrong type; run it again")


def is_whole(line: Any) -> bool:
    """Tell whether a line of `runs.jsonl` is one that a report can read."""
    if wrong_field(line, _LINE) or not {"cell", "status", "seed"} <= set(line):
        return False
    metrics = (line.get("test") or {}).values()
    history = line.get("epochs") or []
    return all(_fits(value, (*_NUMBER, NONE)) for value in metrics) and all(map(_is_epoch, history))


def _is_epoch(epoch: Any) -> bool:
    seconds = epoch.get("seconds") if isinstance(epoch, Mapping) else 0
    if seconds is None:
        return True
    return isinstance(seconds, Mapping) and all(_fits(part, _NUMBER) for part in seconds.values())

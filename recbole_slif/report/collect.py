"""Reads the folder of an experiment: plan, lines of runs, counts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_slif.errors import SlifError
from recbole_slif.plain import read_json
from recbole_slif.registry import shown_name
from recbole_slif.report.entries import Cell, Experiment, Run
from recbole_slif.report.fairness import (
    mixed_code,
    protocol_of_all,
    reconstructions,
    refuse_mixture,
    unlearned,
)
from recbole_slif.report.shape import check_plan, is_whole

SCHEMA = 1
_PLAN_KEYS = ("experiment", "artefact", "dataset", "protocol", "seeds", "title", "cells")


def read_experiment(folder: Path | str) -> Experiment:
    """Read the folder of an experiment.

    Raises:
        SlifError: it is no such folder, a file is damaged, or its runs saw different splits.
    """
    folder = Path(folder)
    plan = _read_json(folder / "plan.json", dict)
    if plan.get("schema") != SCHEMA:
        raise SlifError(
            f"'{folder / 'plan.json'}' has schema {plan.get('schema')!r}, not {SCHEMA}; "
            "run the experiment with this version"
        )
    absent = [key for key in _PLAN_KEYS if key not in plan]
    if absent:
        raise SlifError(f"'{folder / 'plan.json'}' lacks {', '.join(absent)}; run it again")
    check_plan(plan, folder / "plan.json")
    lines, notes = _read_lines(folder / "runs.jsonl")
    counts: list[Any] = []
    if (folder / "statistics.json").is_file():
        counts = _read_json(folder / "statistics.json", list)
    if not lines and not counts:
        raise SlifError(f"'{folder}' holds no run yet; run the experiment first")
    cells, more = _fill(plan, lines)
    refuse_mixture(plan, cells)
    return Experiment(
        folder,
        plan["experiment"],
        plan["artefact"],
        plan["title"],
        plan["dataset"],
        protocol_of_all(cells, plan["protocol"]),
        tuple(plan["seeds"]),
        bool(plan.get("quick", False)),
        tuple(plan.get("command", ())),
        cells,
        tuple(counts),
        (*notes, *more, *mixed_code(cells), *unlearned(cells), *reconstructions(cells)),
    )


def _read_json(path: Path, kind: type) -> Any:
    try:
        content = read_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SlifError(f"'{path}' is missing; name the folder of an experiment "
                        "(saved/experiments/NAME-DATASET)") from None  # fmt: skip
    except (OSError, ValueError) as error:
        raise SlifError(f"'{path}' cannot be read: {error}") from error
    if not isinstance(content, kind):
        raise SlifError(f"'{path}' must hold a {kind.__name__}; run the experiment again")
    return content


def _read_lines(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the whole lines of a file, and a note if some are damaged (a kill, a full disk)."""
    if not path.is_file():
        return [], []
    found, damaged = [], 0
    for raw in path.read_bytes().splitlines():
        try:
            line = read_json(raw)
        except ValueError:
            line = None
        if is_whole(line):
            found.append(line)
        else:
            damaged += bool(raw.strip())
    notes = [f"{damaged} damaged lines of {path.name} were left out"] if damaged else []
    return found, notes


def _fill(
    plan: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]
) -> tuple[tuple[Cell, ...], list[str]]:
    """Give each planned cell its runs; lines that are not planned do not count and are said.

    A command for fewer models or seeds plans less than the folder holds, which is no fault of the
    runs; under other settings than planned they are of no use.
    """
    planned = {(run["cell"], run["settings_hash"]) for run in plan.get("runs", ())}
    keys = {cell["key"] for cell in plan["cells"]}
    latest: dict[tuple[str, int], Mapping[str, Any]] = {}
    stale = outside = 0
    for line in lines:
        place = (line["cell"], int(line["seed"]))
        fits = (line["cell"], line.get("settings_hash")) in planned if planned else (
            place[0] in keys and place[1] in plan["seeds"]
        )  # fmt: skip
        if not fits and (place[0] not in keys or place[1] not in plan["seeds"]):
            outside += 1
        elif not fits:
            stale += 1
        elif line["status"] == "finished" or latest.get(place, line)["status"] != "finished":
            latest[place] = line
    notes = []
    if outside:
        notes.append(
            f"{outside} recorded runs are left out, since the plan, which is of the last command, "
            "does not hold their cells or seeds"
        )
    if stale:
        notes.append(f"{stale} recorded runs have other settings than the plan and are left out")
    cells = tuple(_cell(entry, plan["seeds"], latest) for entry in plan["cells"])
    return cells, notes


def _cell(
    entry: Mapping[str, Any],
    seeds: Iterable[int],
    latest: Mapping[tuple[str, int], Mapping[str, Any]],
) -> Cell:
    found = {seed: latest.get((entry["key"], seed)) for seed in seeds}
    runs = [Run(line) for line in found.values() if line and line["status"] == "finished"]
    failed = [Run(line) for line in found.values() if line and line["status"] != "finished"]
    needs = tuple(entry.get("needs") or ())
    x, model = entry.get("x"), entry["model"]
    noise = entry.get("noise") or entry["key"].partition("|noise=")[2] or None
    return Cell(
        entry["key"],
        model,
        _shown(str(entry.get("label") or model), model),
        str(entry.get("group") or ""),
        _shown(str(entry.get("series") or model), model),
        None if x is None or not math.isfinite(x) else float(x),
        entry.get("overrides") or {},
        noise,
        needs,
        tuple(runs),
        tuple(failed),
        () if needs else tuple(seed for seed, line in found.items() if line is None),
    )


def _shown(text: str, model: str) -> str:
    """Mark a name that begins with the model's, see `shown_name`."""
    rest = text.removeprefix(model)
    return text if rest == text else shown_name(model) + rest

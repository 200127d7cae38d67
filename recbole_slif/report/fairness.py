"""One split and one protocol for all that stands in one table; what limits its runs is noted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_slif.errors import SlifError
from recbole_slif.registry import shown_name
from recbole_slif.report.entries import Cell


def protocol_of(line: Mapping[str, Any], otherwise: str) -> str:
    """Return the split protocol that a run really used, with its candidates if not all items."""
    asked = line.get("protocol") or {}
    name = (line.get("statistics") or {}).get("protocol") or otherwise
    mode = (asked.get("eval_args") or {}).get("mode")
    test = mode.get("test") if isinstance(mode, Mapping) else mode
    return name if test in (None, "full") else f"{name} with candidates {test}"


def protocol_of_all(cells: Sequence[Cell], otherwise: str) -> str:
    """Return the one protocol of all runs; the plan's, which has no candidates, before the first.

    Args:
        cells: that `refuse_mixture` let pass.
        otherwise: the plan's protocol.
    """
    first = next((run for cell in cells for run in cell.runs), None)
    return otherwise if first is None else protocol_of(first.line, otherwise)


def refuse_mixture(plan: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """Refuse runs on different data, protocols or splits.

    Noise in interactions changes the train part, so there runs of the same noise and seed must
    agree with one another.

    Raises:
        SlifError: naming two values that differ and the cells that have them.
    """
    datasets: dict[Any, dict[str, str]] = {}
    for cell in cells:
        for run in cell.runs:
            kind, _, level = (cell.noise or "").partition(":")
            noisy = kind == "inter" and float(level or 0) > 0
            scope = f"split with noise {cell.noise}, seed {run.seed}" if noisy else "split"
            protocol = protocol_of(run.line, plan["protocol"])
            seen = (
                ("data set", str(run.line.get("dataset") or plan["dataset"])),
                ("protocol", protocol),
                (scope, run.line.get("fingerprint")),
            )
            for what, value in seen:
                if value is not None:
                    datasets.setdefault(what, {}).setdefault(str(value), cell.key)
    datasets.setdefault("data set", {}).setdefault(str(plan["dataset"]), "plan.json")
    for what, values in datasets.items():
        if len(values) > 1:
            (one, here), (other, there) = list(values.items())[:2]
            raise SlifError(
                f"runs of different {what} must not stand in one table: '{one}' ({here}) and "
                f"'{other}' ({there}); report them from folders of their own"
            )


def mixed_code(cells: Sequence[Cell]) -> list[str]:
    """Say so if runs come from several versions of the code or of libraries."""
    lines = [run.line for cell in cells for run in cell.runs]
    notes = []
    commits = sorted({str(line.get("commit") or "unknown")[:10] for line in lines})
    if len(commits) > 1:
        notes.append(f"runs come from {len(commits)} commits: {', '.join(commits)}")
    versions = {json.dumps(line.get("versions") or {}, sort_keys=True) for line in lines}
    if len(versions) > 1:
        notes.append(f"runs come from {len(versions)} sets of library versions")
    devices = sorted({str((line.get("device") or {}).get("type")) for line in lines})
    if len(devices) > 1:
        notes.append(f"runs come from several kinds of device: {', '.join(devices)}")
    return notes


def reconstructions(cells: Sequence[Cell]) -> list[str]:
    """Say of which models the equations are not their authors'."""
    models = dict.fromkeys(cell.model for cell in cells if shown_name(cell.model) != cell.model)
    return [f"{', '.join(models)}: a reconstruction, its equations are ours"] if models else []


def unlearned(cells: Sequence[Cell]) -> list[str]:
    """Name the cells with runs that ended before their ranking loss had moved."""
    told = [
        f"{cell.label} ({cell.unlearned} of {len(cell.runs)})" for cell in cells if cell.unlearned
    ]
    if not told:
        return []
    return [
        "runs that ended before their ranking loss had moved, so that they rank as an untrained "
        f"model does: {', '.join(told)}"
    ]

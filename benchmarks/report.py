"""From seconds of parts to epochs, ratios, targets and a Markdown page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.dataset import ArrayDataset, HeldOut
from benchmarks.generate import SyntheticData
from benchmarks.real import AMAZON_BOOK
from benchmarks.sides import Plan

EVALUATED_USERS = 41_113
"""Amazon-Book's users with at least 5 training items, who have validation items."""
_LEAST_ITEMS = 5

_STEP = ("forward", "backward", "optimizer")
COMPARED = (*_STEP, "step", "epoch start", "epoch", "evaluation", "evaluation default")

# what the project set out to reach: line, part of the epoch, largest ratio to RecBole's line
_BOUNDS = (
    ("LightGCN", "step", 1 / 8),
    ("SLIFMR step, pruned", "epoch", 1.25),
    ("SLIFMR step", "epoch", 1.25),
    ("SLIFMR epoch, pruned", "epoch", 0.55),
    ("SLIFMR epoch", "epoch", 0.55),
)
_MEMORY_LABEL, _MEMORY_GIB = "SLIFMR step", 4.0


def counts(data: SyntheticData) -> dict[str, int]:
    """Count what a data set holds, [PAD] and inverse triples left out."""
    graph = data.knowledge
    return {
        "n_users": data.n_users - 1,
        "n_items": data.n_items - 1,
        "n_pairs": len(data.users),
        "n_entities": graph.n_entities - 1,
        "n_relations": graph.n_relations - 1,
        "n_triples": graph.n_triples,
    }


def evaluated_users(name: str, dataset: ArrayDataset) -> int:
    """Return how many users an evaluation ranks: those with enough training items to hold out."""
    if name == AMAZON_BOOK:
        return EVALUATED_USERS
    return max(int((np.bincount(dataset.users) >= _LEAST_ITEMS).sum()), 1)


def whole_epoch(
    parts: Mapping[str, float],
    dataset: ArrayDataset,
    batch_size: int,
    held_out: HeldOut,
    evaluated: int = EVALUATED_USERS,
) -> dict[str, float]:
    """Add `step`, `epoch`, and the `evaluation`s of all users to the measured seconds.

    An epoch is its start, a step for each batch of interactions and, where the model has such a
    phase, a knowledge step for each batch of triples and their inverses.
    """
    found = dict(parts)
    found["step"] = sum(parts[name] for name in _STEP)
    steps = math.ceil(dataset.inter_num / batch_size)
    triple_steps = math.ceil(len(dataset.triples[0]) / batch_size)
    found["epoch"] = (
        parts["epoch start"]
        + steps * found["step"]
        + triple_steps * parts.get("knowledge step", 0.0)
    )
    scale = evaluated / len(held_out.uid_list)
    for name, ranking in (("evaluation", "ranking"), ("evaluation default", "ranking default")):
        if ranking in parts:
            found[name] = parts["propagation"] + scale * parts[ranking]
    return found


def ratios(
    run: Mapping[str, Mapping[str, float]], plans: Sequence[Plan]
) -> dict[str, dict[str, float]]:
    """Divide each of our lines by its RecBole line, part by part.

    Returns:
        For each label: ratios below 1 where ours is faster. `evaluation default` divides by
        RecBole's evaluation at its default of one user at once.
    """
    found = {}
    for plan in plans:
        if plan.ours and plan.against in run:
            own, other = run[plan.label], run[plan.against]
            found[plan.label] = {
                part: own[part if part in own else "evaluation"] / other[part]
                for part in COMPARED
                if other.get(part)
            }
    return found


def targets(
    found: Mapping[str, Mapping[str, Mapping[str, float]]], builds: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Compare with what was set out: rows of `what`, `bound`, `found` and `reached`.

    Args:
        found: Ratios for each number of threads.
        builds: Peaks of memory by label.
    """
    rows = []
    for threads, run in found.items():
        for label, part, bound in _BOUNDS:
            if label in run:
                what = f"{label}: {part}, {threads} thread(s), of RecBole's LightGCN"
                rows.append(_row(what, bound, run[label][part]))
    peak = builds.get(_MEMORY_LABEL, {}).get("peak_process_gib")
    if peak is not None:
        rows.append(_row(f"{_MEMORY_LABEL}: peak memory of the process, GiB", _MEMORY_GIB, peak))
    return rows


def _row(what: str, bound: float, found: float) -> dict[str, Any]:
    return {"what": what, "bound": bound, "found": found, "reached": found <= bound}


def markdown(result: Mapping[str, Any]) -> str:
    """Write a result as a page: machine, seconds, ratios, memory and targets."""
    lines = [*_heading(result)]
    for threads, run in result["seconds"].items():
        clock = "CPU" if result["clocks"][threads] == "process_time" else "wall-clock"
        lines += ["", f"## Seconds ({clock}), {threads} thread(s)", ""]
        columns = (*_STEP, "step", "knowledge step", "epoch start", "epoch", "evaluation")
        lines += _table(columns, run, "{:.3f}")
        lines += ["", f"## Ours / RecBole, {threads} thread(s)", ""]
        lines += _table(COMPARED, result["ratios"][threads], "{:.3f}")
    lines += ["", "## Building and memory (GiB)", ""]
    lines += _table(("seconds", "peak_process_gib", "peak_model_gib"), result["builds"], "{:.2f}")
    lines += ["", "## Targets", "", "| target | at most | found | reached |", "|---|---|---|---|"]
    lines += [
        f"| {row['what']} | {row['bound']:.3f} | {row['found']:.3f} "
        f"| {'yes' if row['reached'] else 'no'} |"
        for row in result["targets"]
    ]
    return "\n".join(lines)


def _heading(result: Mapping[str, Any]) -> list[str]:
    sizes = result["sizes"]
    machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
    found = ", ".join(
        f"{sizes[f'n_{name}']:,} {name}"
        for name in ("users", "items", "pairs", "entities", "relations", "triples")
    )
    return [
        f"# Ours beside RecBole, {result['date']}",
        "",
        f"{machine}.",
        "",
        f"{result['dataset']}: {result['interactions']} interactions, {result['knowledge']} "
        f"knowledge graph; {found}; batch {result['batch_size']}.",
        f"Medians of {result['timed_steps']} steps per side taken in turn; an epoch is "
        f"extrapolated to {result['steps_per_epoch']} steps, an evaluation from "
        f"{result['ranked_users']:,} to {result['evaluated_users']:,} users.",
    ]


def _table(
    columns: Sequence[str], rows: Mapping[str, Mapping[str, float | None]], style: str
) -> list[str]:
    lines = ["| model | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for label, row in rows.items():
        cells = ("" if row.get(name) is None else style.format(row[name]) for name in columns)
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines

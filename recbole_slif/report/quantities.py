"""What is counted from the means of cells: gains, losses, ratios, times, and what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recbole_slif.report.entries import Cell, Experiment, smaller_is_better
from recbole_slif.report.published import paper_value
from recbole_slif.report.sections import Section, subject

# A Precision/Recall ratio this far from the median says that a row saw another protocol.
_RATIO_BAND = 0.2


def baselines(section: Section, asked: str | None = None) -> list[Cell]:
    """Return the cells that an improvement is counted against: those of other models."""
    one = subject(section, asked)
    if one is None or len(section.models) < 2:
        return []
    return [cell for cell in section.cells if cell.model != one.model]


def gain(value: float, reference: float, smaller: bool = False) -> float:
    """Return by how many per cent a value is better than a reference."""
    return (reference - value if smaller else value - reference) / abs(reference) * 100.0


def improvement(
    section: Section, metric: str, asked: str | None = None
) -> tuple[float, Cell] | None:
    """Return the gain of the subject in per cent over the best baseline, and that baseline.

    None where one of the two has no value, or the best baseline's is 0.
    """
    others = [cell for cell in baselines(section, asked) if cell.mean(metric) is not None]
    mine = subject(section, asked)
    value = None if mine is None else mine.mean(metric)
    if not others or value is None:
        return None
    smaller = smaller_is_better(metric)
    best = (min if smaller else max)(others, key=lambda cell: cell.mean(metric) or 0.0)
    reference = best.mean(metric)
    return (gain(value, reference, smaller), best) if reference else None


def ratio(cell: Cell, k: str) -> float | None:
    """Return Precision@K / Recall@K of the means, None if a run has not both."""
    precision, recall = cell.mean(f"precision@{k}"), cell.mean(f"recall@{k}")
    return None if precision is None or not recall else precision / recall


def metric_k(metrics: Sequence[str]) -> str:
    """Return the K of the first metric."""
    return metrics[0].partition("@")[2] if metrics else ""


def protocol_check(cells: Sequence[Cell], metrics: Sequence[str]) -> str | None:
    """Say what Precision/Recall tells of the split, and which rows stand apart.

    Lists of a model that has not learned say nothing of it and are left out.
    """
    k = metric_k(metrics)
    learned = [cell for cell in cells if cell.learned]
    found = {cell.label: one for cell in learned if (one := ratio(cell, k)) is not None}
    if not found:
        return None
    middle = sorted(found.values())[len(found) // 2]
    apart = [
        f"{label} ({one:.3f})"
        for label, one in found.items()
        if abs(one - middle) > _RATIO_BAND * middle
    ]
    low, high = (f"{end(found.values()):.3f}" for end in (min, max))
    span = low if low == high else f"{low} to {high}"
    text = f"Protocol check: Precision@{k}/Recall@{k} is {span}"
    if not apart:
        return f"{text}, as it should be on one test split."
    return f"{text}; {', '.join(apart)} stand apart from {middle:.3f}: look for another protocol."


def epoch_seconds(cell: Cell) -> float | None:
    """Return the mean wall time of an epoch without evaluation."""
    parts = [cell.average_seconds(part) for part in ("train", "refresh")]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def drop(curve: Sequence[Cell], metric: str, level: float) -> float | None:
    """Return by how many per cent a level above 0 is worse than the clean one.

    None where the curve lacks one of the two.
    """
    known = {cell.x: cell.mean(metric) for cell in curve}
    clean, last = known.get(0), known.get(level)
    if not clean or last is None:
        return None
    # what is lost is what the clean level is ahead, so the direction is the opposite one
    return gain(last, clean, not smaller_is_better(metric))


def trouble(cells: Sequence[Cell]) -> list[str]:
    """Name failed runs and seeds that are missing."""
    notes = []
    for cell in cells:
        reasons: dict[str, list[int]] = {}
        for run in cell.failed:
            error = run.line.get("error") or "no reason recorded"
            reasons.setdefault(str(error), []).append(run.seed)
        for error, seeds in reasons.items():
            notes.append(f"Failed: {cell.key}, seed {', '.join(map(str, seeds))}: {error}")
        if cell.open_seeds:
            shown = ", ".join(map(str, cell.open_seeds))
            notes.append(f"Not run yet: {cell.key}, seed {shown}")
    return notes


def plain_rows(
    experiment: Experiment, found: Sequence[Section], asked: str | None = None, paper: bool = True
) -> list[dict[str, Any]]:
    """Return one row for each cell with everything that can be computed with, for the CSV."""
    metrics = experiment.metrics()
    return [
        _plain_row(experiment, section, cell, metrics, asked, paper)
        for section in found
        for cell in section.cells
    ]


def _plain_row(
    experiment: Experiment,
    section: Section,
    cell: Cell,
    metrics: Sequence[str],
    asked: str | None,
    paper: bool,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "experiment": experiment.name,
        "dataset": experiment.dataset,
        "protocol": experiment.protocol,
        "section": section.name,
        "cell": cell.key,
        "model": cell.model,
        "label": cell.label,
        "group": cell.group,
        "series": cell.series,
        "x": cell.x,
        "seeds": len(cell.runs),
        "failed": len(cell.failed),
        "state": cell.state or "finished",
    }
    for metric in metrics:
        row |= {f"{metric} mean": cell.mean(metric), f"{metric} std": cell.deviation(metric)}
        if subject(section, asked) is cell and not section.is_grid:
            one = improvement(section, metric, asked)
            row[f"{metric} improvement %"] = None if one is None else one[0]
        if paper:
            row[f"{metric} paper"] = paper_value(experiment, cell, metric)
    for k in dict.fromkeys(metric.partition("@")[2] for metric in metrics if "@" in metric):
        row[f"precision/recall@{k}"] = ratio(cell, k)
    for part in ("train", "refresh", "evaluate"):
        row[f"{part} s/epoch"] = cell.average_seconds(part)
    return row

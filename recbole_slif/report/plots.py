"""Figures for print: lines for sweeps and noise, bars for variants, seconds for intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.report.canvas import (
    OTHER_COLOUR,
    OURS_COLOUR,
    WIDTH,
    Figure,
    file_name,
    line_look,
    require_matplotlib,
    save_figure,
)
from recbole_slif.report.entries import Cell, Experiment
from recbole_slif.report.published import paper_value
from recbole_slif.report.quantities import epoch_seconds
from recbole_slif.report.sections import OURS, Section, metric_title, subject

PAPER = "#555555"
_LOG_SPAN = 100.0
_LETTER = 0.026  # width of a letter as a share of the x axis
_HANDLE, _LEGEND = 0.17, 1.15  # widths of a line with its gaps and of a legend, likewise
_USUAL_ROWS, _ROW = 2, 0.16  # of a legend, and the height of a further one in inches


def draw(
    experiment: Experiment,
    section: Section,
    metrics: Sequence[str],
    folder: Path,
    asked: str | None = None,
    paper: bool = True,
) -> list[Figure]:
    """Draw a section as PNG and PDF.

    Args:
        experiment: what was run.
        section: what to draw.
        metrics: one figure for each.
        folder: where the files go.
        asked: the cell that stands out, as in the tables.
        paper: show the paper's values where they are comparable.

    Returns:
        The figures; none of a section that has no values.

    Raises:
        SlifError: matplotlib is missing.
    """
    require_matplotlib()
    found = []
    for metric in metrics:
        if not any(cell.mean(metric) is not None for cell in section.cells):
            continue
        name = file_name(experiment.artefact, section.name, metric.replace("@", ""))
        title = section.title or experiment.title
        if section.levels:
            caption = f"{title}: {metric_title(metric)} by {section.axis}{_band(section, metric)}"
            if any(_told_apart(cells, metric)[1] for cells in section.curves.values()):
                caption += "; triangles stand for runs that had not learned to rank, far below"
            size = (WIDTH, 2.5)
            paint = _lines(experiment, section, metric, paper)
        else:
            caption = f"{title}: {metric_title(metric)}{_whiskers(section, metric)}"
            size = (WIDTH, 0.7 + 0.24 * len(section.cells))
            paint = _bars(experiment, section, metric, asked, paper)
        found.append(save_figure(folder, name, caption, size, paint))
    timed = [cell for cell in section.cells if epoch_seconds(cell) is not None]
    if experiment.artefact == "table4" and timed:
        name = file_name(experiment.artefact, section.name, "seconds")
        caption = f"{experiment.title}: wall time of an epoch, without evaluation"
        size = (WIDTH, 0.9 + 0.24 * len(timed))
        found.append(save_figure(folder, name, caption, size, _seconds(timed)))
    return found


def _band(section: Section, metric: str) -> str:
    spread = any(cell.deviation(metric) is not None for cell in section.cells)
    return "; the bands are one standard deviation over seeds" if spread else ""


def _whiskers(section: Section, metric: str) -> str:
    spread = any(cell.deviation(metric) is not None for cell in section.cells)
    return "; the whiskers are one standard deviation over seeds" if spread else ""


# ---- lines -----------------------------------------------------------------------------------


def _lines(
    experiment: Experiment, section: Section, metric: str, paper: bool
) -> Callable[[Any], None]:
    scale = 100.0 if section.is_noise else 1.0

    def paint(axes: Any) -> None:
        others = 0
        for name, cells in section.curves.items():
            known, low = _told_apart(cells, metric)
            if not known:
                continue
            ours = name == OURS
            look = line_look(ours, others)
            others += not ours
            _curve(axes, name, known, metric, scale, look)
            if low:
                axes.plot([(cell.x or 0.0) * scale for cell in low], [0.03] * len(low),
                          transform=axes.get_xaxis_transform(), linestyle="none", marker="v",
                          markersize=5, color=look["color"], markerfacecolor="white",
                          label=f"{name}, not learned")  # fmt: skip
        flat = [cell for cell in section.flat if cell.mean(metric) is not None]
        for cell in flat:
            axes.axhline(cell.mean(metric), color="#000000", linewidth=1, linestyle=":",
                         label=cell.label)  # fmt: skip
        if paper and not section.is_grid:
            _paper_line(axes, experiment, section, metric)
        _x_axis(axes, section, scale)
        axes.set_ylabel(metric_title(metric))
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        _legend(axes)

    return paint


def _legend(axes: Any) -> None:
    """Name the curves above them, if there are several; the figure grows with the rows."""
    labels = axes.get_legend_handles_labels()[1]
    if len(labels) < 2:
        return
    columns = next((count for count in (3, 2) if _fit(labels, count)), 1)
    more = max(-(-len(labels) // columns) - _USUAL_ROWS, 0)
    axes.figure.set_figheight(axes.figure.get_figheight() + more * _ROW)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns,
                handlelength=2.2, columnspacing=1.0)  # fmt: skip


def _fit(labels: Sequence[str], columns: int) -> bool:
    """Tell whether a legend of so many columns fits; matplotlib parts its entries like this."""
    parts = [part for part in np.array_split(np.array(labels), columns) if len(part)]
    letters = sum(max(map(len, part)) for part in parts)
    return len(parts) * _HANDLE + letters * _LETTER <= _LEGEND


def _told_apart(cells: Sequence[Cell], metric: str) -> tuple[list[Cell], list[Cell]]:
    """Return the points of a curve, and those so low that it would look flat beside them."""
    known = [cell for cell in cells if cell.mean(metric) is not None]
    learned = [cell for cell in known if cell.learned]
    return (learned, [cell for cell in known if not cell.learned]) if learned else (known, [])


def _curve(
    axes: Any,
    name: str,
    cells: Sequence[Cell],
    metric: str,
    scale: float,
    look: Mapping[str, Any],
) -> None:
    places = [(cell.x or 0.0) * scale for cell in cells]
    means = [cell.mean(metric) or 0.0 for cell in cells]
    axes.plot(places, means, label=name, linewidth=1.2, markersize=4, **look)
    # a point of one seed has no spread, not one of 0: the band leaves it out
    found = [cell.deviation(metric) for cell in cells]
    spread = [math.nan if one is None else one for one in found]
    if not all(map(math.isnan, spread)):
        low = [mean - one for mean, one in zip(means, spread, strict=True)]
        high = [mean + one for mean, one in zip(means, spread, strict=True)]
        axes.fill_between(places, low, high, color=look["color"], alpha=0.18, linewidth=0)


def _paper_line(axes: Any, experiment: Experiment, section: Section, metric: str) -> None:
    found = [
        (cell.x, value)
        for cells in section.curves.values()
        for cell in cells
        if (value := paper_value(experiment, cell, metric)) is not None
    ]
    if found:
        places, values = zip(*found, strict=True)
        axes.plot(places, values, color=PAPER, marker="D", markerfacecolor="white", markersize=4,
                  linewidth=1, linestyle="--", label="paper")  # fmt: skip


def _x_axis(axes: Any, section: Section, scale: float) -> None:
    """Put a tick at each level; spread levels of several magnitudes by their logarithm."""
    levels = [level * scale for level in section.levels]
    places = levels
    if levels[0] > 0 and levels[-1] / levels[0] >= _LOG_SPAN:
        axes.set_xscale("log")
        places = [math.log(level) for level in levels]
    axes.set_xticks(levels, _apart(places, [f"{level:g}" for level in levels]))
    axes.set_xticks([], minor=True)
    axes.set_xlabel(section.axis)


def _apart(places: Sequence[float], labels: Sequence[str]) -> list[str]:
    """Empty the labels that would run into the one before."""
    span = (places[-1] - places[0]) or 1.0
    kept: list[str] = []
    end = -math.inf
    for place, label in zip(places, labels, strict=True):
        at, half = (place - places[0]) / span, _LETTER * (len(label) + 1) / 2
        free = at - half >= end
        kept.append(label if free else "")
        end = at + half if free else end
    return kept


# ---- bars ------------------------------------------------------------------------------------


def _bars(
    experiment: Experiment, section: Section, metric: str, asked: str | None, paper: bool
) -> Callable[[Any], None]:
    one = subject(section, asked)

    def paint(axes: Any) -> None:
        cells = list(section.cells)
        means = [cell.mean(metric) for cell in cells]
        spread = [cell.deviation(metric) or 0.0 for cell in cells]
        theirs = [paper_value(experiment, cell, metric) if paper else None for cell in cells]
        far = max([*(value or 0.0 for value in means), *(value or 0.0 for value in theirs)])
        shift = 0.02 * far
        for at, cell in enumerate(cells):
            value = means[at]
            if value is None:
                # right of the paper's mark, if there is one
                start = shift if theirs[at] is None else (theirs[at] or 0.0) + 2 * shift
                axes.text(start, at, cell.state or "no value", va="center", color="#333333")
                continue
            colour, hatch = (OURS_COLOUR, "//") if cell is one else (OTHER_COLOUR, None)
            axes.barh(at, value, height=0.7, color=colour, hatch=hatch, edgecolor="white",
                      linewidth=0)  # fmt: skip
            if cell.deviation(metric) is not None:
                axes.errorbar(value, at, xerr=spread[at], color="#000000", linewidth=1, capsize=2)
            end = max(value + spread[at] + shift, (theirs[at] or 0.0) + 2 * shift)
            axes.text(end, at, f"{value:.4f}", va="center")
        marked = [(value, at) for at, value in enumerate(theirs) if value is not None]
        if marked:
            places, rows = zip(*marked, strict=True)
            axes.plot(places, rows, linestyle="none", marker="D", markersize=4, color=PAPER,
                      markerfacecolor="white", label="paper")  # fmt: skip
            axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        _names(axes, [cell.label for cell in cells])
        axes.set_xlim(0, far * 1.24 if far else 1.0)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(metric_title(metric))

    return paint


def _names(axes: Any, labels: Sequence[str]) -> None:
    # what stands in brackets takes a line of its own, or it would take width from the bars
    axes.set_yticks(range(len(labels)), [label.replace(" (", "\n(") for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)


def _seconds(cells: Sequence[Cell]) -> Callable[[Any], None]:
    def paint(axes: Any) -> None:
        train = [cell.average_seconds("train") or 0.0 for cell in cells]
        refresh = [cell.average_seconds("refresh") or 0.0 for cell in cells]
        rows = range(len(cells))
        axes.barh(rows, train, height=0.7, color=OTHER_COLOUR, label="training")
        axes.barh(rows, refresh, height=0.7, left=train, color=OURS_COLOUR, hatch="//",
                  edgecolor="white", linewidth=0, label="refresh of graphs")  # fmt: skip
        for at, cell in enumerate(cells):
            axes.text((epoch_seconds(cell) or 0.0) * 1.02, at, f"{epoch_seconds(cell):.2f}",
                      va="center")  # fmt: skip
        far = max(epoch_seconds(cell) or 0.0 for cell in cells)
        _names(axes, [cell.label for cell in cells])
        axes.set_xlim(0, far * 1.2 if far else 1.0)
        axes.set_xlabel("seconds per epoch")
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)

    return paint

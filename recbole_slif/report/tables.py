"""The tables of an experiment, as cells of text with marks; how they are written is apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recbole_slif.registry import shown_name
from recbole_slif.report.entries import Cell, Experiment, smaller_is_better
from recbole_slif.report.published import paper_value
from recbole_slif.report.quantities import (
    drop,
    epoch_seconds,
    gain,
    improvement,
    metric_k,
    protocol_check,
    ratio,
    trouble,
)
from recbole_slif.report.sections import Section, metric_title, subject

BEST, SECOND = "best", "second"
DIGITS = 4


@dataclass(frozen=True)
class Entry:
    """One cell of a table: its text, and `best` or `second` where it is."""

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table to be written.

    Attributes:
        title: caption.
        header: one text for each column; the first column holds names.
        rows: as wide as the header.
        rules: numbers of rows with a line above them.
        notes: lines below the table.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    rules: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def number(mean: float | None, deviation: float | None = None) -> str:
    """Return a value with its deviation, `-` for none."""
    if mean is None:
        return "-"
    spread = "" if deviation is None else f" ± {deviation:.{DIGITS}f}"
    return f"{mean:.{DIGITS}f}{spread}"


def marks(values: Sequence[float | None], smaller: bool = False) -> list[str]:
    """Mark the best and the second of a column as it is shown; what reads the same ties."""
    shown = [None if value is None else round(value, DIGITS) for value in values]
    order = sorted({value for value in shown if value is not None}, reverse=not smaller)
    named = dict(zip(order, (BEST, SECOND), strict=False))
    return ["" if value is None else named.get(value, "") for value in shown]


def seeds_text(experiment: Experiment) -> str:
    """Say over what the means were taken."""
    seeds = experiment.seeds
    if len(seeds) < 2:
        return f"one seed ({', '.join(map(str, seeds))}), so no standard deviation"
    shown = ", ".join(map(str, seeds))
    return f"mean ± standard deviation over {len(seeds)} seeds ({shown})"


def result_tables(
    experiment: Experiment,
    section: Section,
    metrics: Sequence[str],
    asked: str | None = None,
    paper: bool = True,
) -> list[Table]:
    """Return the tables of a section: one, or one for each metric if several curves share x."""
    if section.is_grid:
        tables = [_grid(experiment, section, metric) for metric in metrics]
        notes = (*_notes(section, metrics), *_flat_note(section))
        return [replace(tables[0], notes=notes), *tables[1:]]
    return [_rows(experiment, section, metrics, asked, paper)]


# ---- one row for each cell -------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    title: str
    entries: list[Entry]


def _rows(
    experiment: Experiment,
    section: Section,
    metrics: Sequence[str],
    asked: str | None,
    paper: bool,
) -> Table:
    cells = section.cells
    first = "model" if all(cell.label == shown_name(cell.model) for cell in cells) else "variant"
    columns = [_Column(first, [Entry(cell.label) for cell in cells])]
    groups = [cell.group for cell in cells]
    if len(set(groups)) > 1:
        columns.append(_Column("kind", [Entry(group) for group in groups]))
    if any(cell.runs and len(cell.runs) != len(experiment.seeds) for cell in cells):
        columns.append(_Column("seeds", [Entry(str(len(cell.runs) or "-")) for cell in cells]))
    values = [_metric_column(cells, metric, at == 0) for at, metric in enumerate(metrics)]
    columns += values
    extras = [*_change(section, metrics, asked), *_ratios(cells, metrics)]
    if experiment.artefact == "table4":
        extras += _times(cells)
    if paper:
        extras += _paper(experiment, cells, metrics)
    columns += extras
    rows = [tuple(column.entries[at] for column in columns) for at in range(len(cells))]
    rules = {at for at in range(1, len(cells)) if groups[at] != groups[at - 1]}
    gains = _improvement(section, metrics, asked)
    mine = subject(section, asked)
    if gains and mine is not None:
        found = {column.title: entry for column, entry in zip(values, gains, strict=True)}
        name = f"{mine.label} to best baseline"
        row = [Entry(name), *(found.get(column.title, Entry("")) for column in columns[1:])]
        rules.add(len(rows))
        rows.append(tuple(row))
    return Table(
        section.title or experiment.title,
        tuple(column.title for column in columns),
        tuple(rows),
        frozenset(rules),
        (*_notes(section, metrics), *_change_note(section, asked)),
    )


def _metric_column(cells: Sequence[Cell], metric: str, first: bool) -> _Column:
    """Return the values of a metric; in the first one, cells without say what they need."""
    found = marks([cell.mean(metric) for cell in cells], smaller_is_better(metric))
    entries = []
    for cell, mark in zip(cells, found, strict=True):
        text = number(cell.mean(metric), cell.deviation(metric))
        entries.append(Entry(cell.state if first and cell.state else text, mark))
    return _Column(metric_title(metric), entries)


def _improvement(section: Section, metrics: Sequence[str], asked: str | None) -> list[Entry]:
    found = [improvement(section, metric, asked) for metric in metrics]
    if not any(found):
        return []
    return [Entry("-" if one is None else f"{one[0]:+.2f} % ({one[1].label})") for one in found]


def _change(section: Section, metrics: Sequence[str], asked: str | None) -> list[_Column]:
    """Return by how much each variant is better than the full model in the first metric."""
    one = subject(section, asked)
    if one is None or len(section.models) > 1 or not metrics:
        return []
    metric, reference = metrics[0], one.mean(metrics[0])
    if not reference:
        return []
    entries = []
    for cell in section.cells:
        value = cell.mean(metric)
        if value is None or cell is one:
            entries.append(Entry("-"))
        else:
            change = gain(value, reference, smaller_is_better(metric))
            entries.append(Entry(f"{change:+.2f} %"))
    return [_Column(f"change in {metric_title(metric)}", entries)]


def _change_note(section: Section, asked: str | None) -> list[str]:
    one = subject(section, asked)
    if one is None or len(section.models) > 1:
        return []
    return [f"Changes are against {one.label}; below 0 is worse than it."]


def _ratios(cells: Sequence[Cell], metrics: Sequence[str]) -> list[_Column]:
    found = [ratio(cell, metric_k(metrics)) for cell in cells]
    if not any(found):
        return []
    return [_Column("P/R", [Entry("-" if one is None else f"{one:.3f}") for one in found])]


def _times(cells: Sequence[Cell]) -> list[_Column]:
    def column(title: str, value: Callable[[Cell], float | None]) -> _Column:
        found = [value(cell) for cell in cells]
        return _Column(title, [Entry("-" if one is None else f"{one:.2f}") for one in found])

    return [
        column("s/epoch", epoch_seconds),
        column("of it refresh", lambda cell: cell.average_seconds("refresh")),
    ]


def _paper(experiment: Experiment, cells: Sequence[Cell], metrics: Sequence[str]) -> list[_Column]:
    columns = []
    for metric in metrics:
        found = [paper_value(experiment, cell, metric) for cell in cells]
        if any(found):
            title = f"{metric_title(metric)} (paper)"
            columns.append(_Column(title, [Entry(number(value)) for value in found]))
    return columns


def _notes(section: Section, metrics: Sequence[str]) -> list[str]:
    notes = ["Best value bold, second underlined, as shown; equal values tie."]
    check = protocol_check(section.cells, metrics)
    return [*notes, *([check] if check else []), *trouble(section.cells)]


# ---- one row for each curve ------------------------------------------------------------------


def level_text(section: Section, level: float) -> str:
    """Return a level as the header of a column."""
    return f"{level * 100:g} %" if section.is_noise else f"{level:g}"


def _grid(experiment: Experiment, section: Section, metric: str) -> Table:
    levels, curves = section.levels, section.curves
    lines: list[dict[Any, Cell]] = [{cell.x: cell for cell in line} for line in curves.values()]
    lines += [dict.fromkeys(levels, cell) for cell in section.flat]
    columns: list[list[Entry]] = []
    for place, level in enumerate(levels):
        cells = [line.get(level) for line in lines]
        found = [None if cell is None else cell.mean(metric) for cell in cells]
        marked = marks(found, smaller_is_better(metric))
        column = []
        for cell, mark in zip(cells, marked, strict=True):
            text = "-" if cell is None else number(cell.mean(metric), cell.deviation(metric))
            state = cell.state if cell is not None and place == 0 else ""
            column.append(Entry(state or text, mark))
        columns.append(column)
    header = [section.axis, *(level_text(section, level) for level in levels)]
    if section.is_noise and levels and levels[0] == 0 and len(levels) > 1:
        losses = [drop(cells, metric, levels[-1]) for cells in curves.values()]
        losses += [None] * len(section.flat)
        columns.append([Entry("-" if one is None else f"{one:.1f} %") for one in losses])
        header.append(f"loss at {level_text(section, levels[-1])}")
    names = [*curves, *(cell.label for cell in section.flat)]
    rows = [(Entry(name), *(column[row] for column in columns)) for row, name in enumerate(names)]
    title = f"{section.title or experiment.title}: {metric_title(metric)}"
    rules = frozenset([len(curves)] if section.flat else [])
    return Table(title, tuple(header), tuple(rows), rules)


def _flat_note(section: Section) -> list[str]:
    names = ", ".join(cell.label for cell in section.flat)
    return [f"{names}: no place on the axis, so the same at every level."] if names else []

"""What the tests say, as tables and sentences."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from recbole_slif.report.comparisons import SEEDS, Comparison, Family
from recbole_slif.report.sections import metric_title
from recbole_slif.report.significance import ALPHA, CONFIDENCE, RESAMPLES
from recbole_slif.report.tables import Entry, Table

METHOD = (
    "Every test is paired and one-sided in the direction that its row states: p is small when the "
    "direction holds and near 1 when the opposite does. p values are Holm-corrected over the rows "
    f"of a table, the level is {ALPHA:g}. The interval is a {CONFIDENCE:.0%} bootstrap of the mean "
    f"difference ({RESAMPLES} resamples, percentiles, fixed seed); d_z is mean by standard "
    "deviation of the differences. Tests over users show that a difference of two trained models "
    "is no accident of which users there are; tests over seeds, that it is none of the training's "
    "randomness. With few seeds the bootstrap interval is too narrow."
)


def p_text(value: float) -> str:
    """Return a p value."""
    if math.isnan(value):
        return "-"
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _signed(value: float) -> str:
    return f"{value:+.4f}"


def _row(one: Comparison) -> tuple[Entry, ...]:
    found = one.outcome
    sign = -1.0 if one.smaller else 1.0
    low, high = sorted((sign * found.low, sign * found.high))
    texts = (
        one.direction,
        str(found.n),
        _signed(sign * found.difference),
        f"{_signed(low)} to {_signed(high)}",
        "-" if math.isnan(found.effect) else f"{sign * found.effect:+.2f}",
        p_text(found.t_p),
        p_text(found.t_holm),
        p_text(found.wilcoxon_p),
        p_text(found.wilcoxon_holm),
        one.verdict,
    )
    return tuple(Entry(text) for text in texts)


_HEADER = (
    "tested direction",
    "n",
    "mean difference",
    f"{CONFIDENCE:.0%} interval",
    "d_z",
    "t: p",
    "t: Holm",
    "Wilcoxon: p",
    "Wilcoxon: Holm",
    "result",
)


def family_title(family: Family) -> str:
    """Return the heading of a family."""
    where = f"{family.title}: " if family.title else ""
    over = "over seeds" if family.level == SEEDS else "over users"
    over += "" if family.seed is None else f", seed {family.seed}"
    return f"{where}{metric_title(family.metric)}, paired tests {over}"


def family_table(family: Family) -> Table:
    """Return the tests of a family; without any, its notes say why."""
    rows = tuple(_row(one) for one in family.comparisons)
    return Table(family_title(family), _HEADER, rows, notes=family.notes)


def spoken(text: str) -> str:
    """Return names such as `KGAT, 5%` as `KGAT at 5%`, so that commas part names alone."""
    return re.sub(r", (\d+(?:\.\d+)? ?%)", r" at \1", text)


def family_sentence(family: Family) -> str:
    """Sum a family up in words."""
    title = family_title(family)
    if not family.comparisons:
        return f"{title}: no test ({spoken('; '.join(family.notes))})."
    shown = sum(bool(one.shown) for one in family.comparisons)
    grouped: dict[tuple[str, str], list[str]] = {}
    for one in family.comparisons:
        grouped.setdefault((one.verdict, one.stem), []).append(one.second)
    parts = [
        f"{spoken(stem)} {', '.join(map(spoken, names))}: {verdict}"
        for (verdict, stem), names in grouped.items()
    ]
    text = f"{title}, {shown} of {len(family.comparisons)} directions shown. {'; '.join(parts)}."
    notes = "".join(f" {note[0].upper()}{note[1:]}." for note in map(spoken, family.notes))
    return text + notes


def plain_tests(families: Sequence[Family]) -> list[dict[str, Any]]:
    """Return one row for each comparison, for the CSV."""
    rows = []
    for family in families:
        for one in family.comparisons:
            found = one.outcome
            sign = -1.0 if one.smaller else 1.0
            low, high = sorted((sign * found.low, sign * found.high))
            rows.append(
                {
                    "section": family.section,
                    "metric": family.metric,
                    "over": family.level,
                    "seed": family.seed,
                    "direction": one.direction,
                    "n": found.n,
                    "mean difference": sign * found.difference,
                    "low": low,
                    "high": high,
                    "d_z": sign * found.effect,
                    "t p": found.t_p,
                    "t p holm": found.t_holm,
                    "wilcoxon p": found.wilcoxon_p,
                    "wilcoxon p holm": found.wilcoxon_holm,
                    "result": one.verdict,
                }
            )
    return rows

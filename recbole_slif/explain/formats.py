"""Explanations as JSON, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict

from recbole_slif.explain.explanation import (
    Explanation,
    ItemExplanation,
    UserExplanation,
    ViewPart,
)
from recbole_slif.explain.text import (
    fact_line,
    facts_heading,
    legend,
    listed,
    named,
    neighbours_text,
    standing,
)
from recbole_slif.plain import sheet_cell
from recbole_slif.report.render import markdown_text


def json_text(found: Explanation) -> str:
    """Return everything as one JSON object, the fields of the dataclasses as keys."""
    return json.dumps(asdict(found), ensure_ascii=False, indent=1) + "\n"


def csv_text(found: Explanation) -> str:
    """Return the numbers, one line for each user and item; what a model lacks stays empty."""
    views = list(
        dict.fromkeys(
            view.view for user in found.users for item in user.items for view in item.views
        )
    )
    rest = any(item.rest is not None for user in found.users for item in user.items)
    names = ["user", "rank", "item", "title", "score", "met"]
    names += [f"{view} {what}" for view in views for what in ("weight", "part")]
    names += ["bias part"] * rest + ["shared facts"]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, restval="", lineterminator="\n")
    writer.writeheader()
    for user in found.users:
        writer.writerows(_numbers(user.user, item) for item in user.items)
    return stream.getvalue()


def _numbers(user: str, item: ItemExplanation) -> dict[str, object]:
    title = sheet_cell(item.item.title)
    row: dict[str, object] = {"user": user, "item": item.item.token, "title": title}
    row |= {"rank": item.rank, "score": item.score, "met": item.met, "shared facts": item.n_facts}
    for view in item.views:
        if view.present:
            row |= {f"{view.view} weight": view.weight, f"{view.view} part": view.part}
    if item.rest is not None:
        row["bias part"] = item.rest
    return row


def markdown(found: Explanation) -> str:
    """Return headings, one table of the parts of each score, and lists."""
    lines = [f"# {markdown_text(f'{found.model} on {found.dataset}')}", ""]
    if found.modality_weights:
        shown = [f"{name} {weight:.3f}" for name, weight in found.modality_weights.items()]
        lines += [markdown_text(f"Modality weights of the feature graph: {', '.join(shown)}."), ""]
    lines += [f"- {markdown_text(note)}" for note in (*found.notes, *legend(found))]
    for user in found.users:
        lines += ["", *_user(user)]
    return "\n".join(lines) + "\n"


def _user(user: UserExplanation) -> Iterable[str]:
    yield f"## User {markdown_text(user.user)}"
    yield ""
    yield markdown_text(f"{len(user.history)} training items: {listed(user.history, 6)}.")
    yield ""
    views = list(dict.fromkeys(view.view for item in user.items for view in item.views))
    header = ["rank", "item", "score", *views]
    yield "| " + " | ".join(header) + " |"
    yield "|" + "|".join(["---:", "---", *["---:"] * (len(views) + 1)]) + "|"
    for item in user.items:
        parts = {view.view: view for view in item.views}
        cells = ["-" if item.rank is None else str(item.rank), named(item.item)]
        cells += [f"{item.score:.4f}", *(_view(parts.get(name)) for name in views)]
        yield "| " + " | ".join(map(markdown_text, cells)) + " |"
    if views:
        yield ""
        yield "Below each view: its weight and, after it, its part of the score."
    for item in user.items:
        yield ""
        yield from _item(item)


def _view(view: ViewPart | None) -> str:
    if view is None or not view.present:
        return "missing"
    weight = "-" if view.weight is None else f"{view.weight:.3f}"
    return f"{weight}, {view.part:+.4f}"


def _item(item: ItemExplanation) -> Iterable[str]:
    place = "-" if item.rank is None else f"{item.rank}"
    yield f"### {markdown_text(f'{place} {named(item.item)}')}"
    yield ""
    if standing(item):
        yield f"- {markdown_text(standing(item))}"
    for name, found in item.graphs.items():
        yield f"- {markdown_text(f'nearest in the {name}: {neighbours_text(found)}')}"
    yield f"- {markdown_text(facts_heading(item))}"
    for fact in item.facts:
        with_whom = "" if fact.direct else f" (with {listed(fact.history, 4)})"
        yield f"  - {markdown_text(fact_line(fact) + with_whom)}"

"""The paper's own figures, and when they may stand beside ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from recbole_slif.report.entries import Cell, Experiment

TABLES = {"table1": "Table I", "table2": "Table II", "table3": "Table III", "table4": "Table IV"}
_FIGURES = ("fig5", "fig6", "fig7")
_KEYS = {"table3": "ablation", "table4": "sge_interval"}


@cache
def published() -> Mapping[str, Any]:
    """Return the content of `published.json`."""
    text = resources.files(__package__).joinpath("published.json").read_text("utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def why_not(experiment: Experiment) -> str | None:
    """Say in a sentence why the paper's values cannot stand beside ours; None if they can."""
    content = published()
    artefact = experiment.artefact
    if artefact in _FIGURES:
        return (
            "The paper gives this artefact as a figure without numbers, so none of its values "
            "stand beside ours."
        )
    if artefact not in TABLES:
        return "The paper has no table of this artefact, so none of its values stand beside ours."
    known = content[artefact]
    if experiment.dataset not in known:
        return (
            f"The paper's values ({TABLES[artefact]}) are not shown: they are for "
            f"{' and '.join(known)}, this is {experiment.dataset}."
        )
    if experiment.protocol != content["protocol"]:
        return (
            f"The paper's values ({TABLES[artefact]}) are not shown: they rest on the protocol "
            f"{content['protocol']}, this is {experiment.protocol}."
        )
    return None


def source(artefact: str) -> str:
    """Cite the paper's table of an artefact."""
    return f"{published()['source']}, {TABLES[artefact]}"


def remark(artefact: str) -> str:
    """Return what to know of the paper's table of an artefact."""
    return str(published()["notes"].get(artefact, ""))


def paper_value(experiment: Experiment, cell: Cell, metric: str) -> float | None:
    """Return the paper's value of a cell; None if it has none or it may not stand beside ours."""
    content = published()
    if why_not(experiment) is not None or metric not in content["metrics"]:
        return None
    rows = content[experiment.artefact][experiment.dataset]
    row = rows.get(_row_name(experiment.artefact, cell))
    return None if row is None else row[content["metrics"].index(metric)]


def _row_name(artefact: str, cell: Cell) -> str | None:
    """Return the name of a cell's row in the paper's table; None if other settings differ too."""
    if cell.noise:
        return None
    if artefact == "table2":
        return cell.model if not cell.overrides else None
    key = _KEYS.get(artefact)
    if key is None or cell.model != "SLIFMR" or set(cell.overrides) != {key}:
        return None
    return str(cell.overrides[key])

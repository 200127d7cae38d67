"""One HTML page for an experiment, with all it needs inside and nothing that it loads."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from recbole_slif.report import settings
from recbole_slif.report.canvas import Figure
from recbole_slif.report.comparisons import Family
from recbole_slif.report.entries import Experiment
from recbole_slif.report.findings import METHOD, family_sentence, family_table
from recbole_slif.report.quantities import trouble
from recbole_slif.report.render import html_table, html_text
from recbole_slif.report.tables import Table, seeds_text

_CSS = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #444; --paper: #fff; --line: #888;
  --faint: #ccc; --code: #f3f3f3; --warn: #fff4d6; --shade: rgba(0, 0, 0, .22); }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #b8b8b8; --paper: #16181b; --line: #777; --faint: #444;
    --code: #26292e; --warn: #3d3113; --shade: rgba(255, 255, 255, .28); }
}
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: var(--ink);
  background: var(--paper); max-width: 76rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--faint); }
p, li { max-width: 50rem; overflow-wrap: anywhere; }
.lead { color: var(--soft); margin: .1rem 0; }
.warn { background: var(--warn); border-left: 4px solid #e69f00; padding: .4rem .8rem; }
.caption { font-size: .88rem; font-weight: 600; margin: .9rem 0 .3rem; }
.scroll { overflow-x: auto; margin: 0 0 .2rem;
  background: linear-gradient(to left, var(--paper) 30%, transparent) right / 2rem 100%,
    linear-gradient(to left, var(--shade), transparent) right / .8rem 100%;
  background-repeat: no-repeat; background-attachment: local, scroll; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .55rem; text-align: right; white-space: nowrap; vertical-align: top; }
th:first-child { text-align: left; padding-left: 0; }
thead th { white-space: normal; vertical-align: bottom;
  border-top: 2px solid var(--ink); border-bottom: 1px solid var(--ink); }
tbody tr:last-child > * { border-bottom: 2px solid var(--ink); }
tbody th { font-weight: 400; }
tr.rule > * { border-top: 1px solid var(--line); }
.wide td, .wide thead th { white-space: normal; text-align: left; }
.wide td { overflow-wrap: anywhere; min-width: 14rem; }
.tests td:last-child, .tests th:last-child { text-align: left; white-space: normal;
  min-width: 13rem; }
.notes { font-size: .85rem; color: var(--soft); margin: .2rem 0 1rem; padding-left: 1.2rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; }
figure { margin: 0; width: 22rem; max-width: 100%; break-inside: avoid; }
figure img { width: 100%; height: auto; display: block; background: #fff; }
figcaption { font-size: .85rem; color: var(--soft); margin-top: .2rem; }
code { font: .88em ui-monospace, "DejaVu Sans Mono", monospace; background: var(--code);
  padding: .1em .3em; overflow-wrap: anywhere; }
code span { display: inline-block; max-width: 100%; }
details { margin: .6rem 0; }
summary { cursor: pointer; }
@media (max-width: 40rem) {
  .scroll th:first-child { position: sticky; left: 0; background: var(--paper); }
  tbody th { white-space: normal; overflow-wrap: break-word; min-width: 7rem; }
  ul { padding-left: 1.2rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; }
  tr { break-inside: avoid; }
  .caption { break-after: avoid; }
  .scroll { overflow: visible; background: none; }
  table { font-size: 7.5pt; }
  th, td { padding: .15rem .3rem; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""


@dataclass(frozen=True)
class Content:
    """What goes onto a page.

    Attributes:
        experiment: what was run.
        tables: results.
        figures: drawn figures, empty if they were left out.
        families: tests.
        paper: sentences on the paper's values.
        report_command: how the page is made again.
    """

    experiment: Experiment
    tables: Sequence[Table]
    figures: Sequence[Figure]
    families: Sequence[Family]
    paper: Sequence[str]
    report_command: Sequence[str]


def page(content: Content) -> str:
    """Return the page."""
    experiment = content.experiment
    title = f"{experiment.title}, {experiment.dataset}"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html_text(title)}</title><style>{_CSS}</style></head><body>",
        *_head(experiment),
        *(html_table(table) for table in content.tables),
        *_paper(content.paper),
        *_figures(content.figures),
        *_tests(content),
        *_cells(experiment),
        *_settings(content),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _head(experiment: Experiment) -> list[str]:
    lead = [f"{experiment.name} ({experiment.artefact})", f"data set {experiment.dataset}",
            f"protocol {experiment.protocol}"]  # fmt: skip
    found = [f"<h1>{html_text(experiment.title)}</h1>", _line(", ".join(lead), "lead")]
    if experiment.seeds:
        found.append(_line(f"Test split, {seeds_text(experiment)}.", "lead"))
    if experiment.quick and not experiment.counts:
        found.append(_line("Made with --quick: few epochs and small grids, not for reporting.",
                           "warn"))  # fmt: skip
    return [*found, *(_line(note, "warn") for note in experiment.notes)]


def _line(text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f"<p{named}>{html_text(text)}</p>"


def _items(texts: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{html_text(text)}</li>" for text in texts) + "</ul>"


def _paper(sentences: Sequence[str]) -> list[str]:
    if not sentences:
        return []
    return ["<h2>The paper's values</h2>", *(_line(one) for one in sentences)]


def _figures(figures: Sequence[Figure]) -> list[str]:
    if not figures:
        return []
    found = ["<h2>Figures</h2>", '<div class="figures">']
    for figure in figures:
        data = base64.b64encode(figure.png).decode("ascii")
        caption = html_text(figure.caption)
        found.append(
            f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return [*found, "</div>"]


def _tests(content: Content) -> list[str]:
    if content.experiment.counts:
        return []
    found = ["<h2>Significance</h2>"]
    if not content.families:
        text = (
            "No cell stands out by its settings, so nothing is tested; --subject=LABEL names one."
        )
        return [*found, _line(text)]
    found += [_line(METHOD), _items([family_sentence(family) for family in content.families])]
    found.append("<details><summary>All tests in numbers</summary>")
    for family in content.families:
        if family.comparisons:
            found.append(f'<div class="tests">{html_table(family_table(family))}</div>')
    return [*found, "</details>"]


def _cells(experiment: Experiment) -> list[str]:
    skipped = [f"{cell.key} {cell.state}" for cell in experiment.cells if cell.needs]
    found = [*(f"Not run: {text}" for text in skipped), *trouble(experiment.cells)]
    if not experiment.cells:
        return []
    shown = _items(found) if found else _line("None: every planned run is there.")
    return ["<h2>Failed and missing runs</h2>", shown]


def _command(line: str) -> str:
    """Return a command that breaks between its words, not at the hyphens in them."""
    words = " ".join(f"<span>{html_text(word)}</span>" for word in line.split(" "))
    return f"<p><code>{words}</code></p>"


def _settings(content: Content) -> list[str]:
    experiment = content.experiment
    again = [experiment.command, content.report_command]
    codes = [_command(settings.command_line(words)) for words in again if words]
    found = ["<h2>Commands</h2>", *codes]
    if experiment.runs:
        found.append(_line(settings.hours(experiment)))
    made = [*settings.splits(experiment), *settings.versions(experiment), settings.own_versions()]
    found += ["<h2>Data, versions and settings</h2>", _items(made)]
    if not experiment.runs:
        return found
    for table in (settings.own_settings(experiment), settings.shared_settings(experiment)):
        found.append(
            f'<details class="wide"><summary>{html_text(table.title)}</summary>'
            f"{html_table(table)}</details>"
        )
    return found

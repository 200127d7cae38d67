"""Writes tables as Markdown, LaTeX, HTML and CSV; each escapes what its format gives a meaning."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_slif.plain import sheet_cell
from recbole_slif.report.tables import BEST, SECOND, Entry, Table

_MARKDOWN = re.compile(r"([\\`*_|<>\[\]])")
LATEX_HEAD = "% \\usepackage{booktabs,graphicx} in the preamble\n"
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "→": r"$\rightarrow$",
}


def latex_text(text: str) -> str:
    """Escape a text for LaTeX."""
    return "".join(_LATEX.get(sign, sign) for sign in _one_line(text))


def markdown_text(text: str) -> str:
    """Escape a text for a cell or a line of Markdown."""
    return _MARKDOWN.sub(r"\\\1", _one_line(text))


def html_text(text: str) -> str:
    """Escape a text for HTML."""
    return html.escape(str(text))


def _one_line(text: str) -> str:
    return " ".join(str(text).split())


# ---- Markdown --------------------------------------------------------------------------------


def _markdown_entry(entry: Entry) -> str:
    text = markdown_text(entry.text)
    return {BEST: f"**{text}**", SECOND: f"<u>{text}</u>"}.get(entry.mark, text)


def markdown_table(table: Table) -> str:
    """Return a table in GitHub's Markdown with caption and notes."""
    lines = [f"**{markdown_text(table.title)}**", ""]
    lines.append("| " + " | ".join(markdown_text(name) for name in table.header) + " |")
    lines.append("|" + "|".join(["---", *["---:"] * (len(table.header) - 1)]) + "|")
    for row in table.rows:
        lines.append("| " + " | ".join(_markdown_entry(entry) for entry in row) + " |")
    lines += ["", *(f"- {markdown_text(note)}" for note in table.notes)]
    return "\n".join(lines).rstrip() + "\n"


# ---- LaTeX -----------------------------------------------------------------------------------


def _latex_entry(entry: Entry) -> str:
    text = latex_text(entry.text)
    wrapped = {BEST: rf"\textbf{{{text}}}", SECOND: rf"\underline{{{text}}}"}
    return wrapped.get(entry.mark, text)


def _latex_name(name: str, first: bool) -> str:
    """Return a column's name, what stands in brackets at its end on a line of its own."""
    short, bracket, rest = name.rpartition(" (")
    if not bracket:
        return latex_text(name)
    side = "l" if first else "r"
    return rf"\shortstack[{side}]{{{latex_text(short)}\\({latex_text(rest)}}}"


def latex_table(table: Table, caption: str) -> str:
    """Return a LaTeX table for the packages booktabs and graphicx.

    A table wider than the line is scaled down to it, any other keeps its size. Notes become
    comments below it.
    """
    names = [_latex_name(name, not at) for at, name in enumerate(table.header)]
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{latex_text(caption)}}}",
        r"\setlength{\tabcolsep}{4pt}%",
        rf"\sbox0{{\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\toprule",
        " & ".join(names) + r" \\",
        r"\midrule",
    ]
    for at, row in enumerate(table.rows):
        if at in table.rules:
            lines.append(r"\midrule")
        text = " & ".join(_latex_entry(entry) for entry in row)
        # after the end of a row, LaTeX takes these signs for an option of it
        lines.append(("{}" if text.startswith(("[", "*")) else "") + text + r" \\")
    lines += [
        r"\bottomrule",
        r"\end{tabular}}%",
        r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
        r"\end{table}",
    ]
    return "\n".join([*lines, *(f"% {_one_line(note)}" for note in table.notes)]) + "\n"


# ---- HTML ------------------------------------------------------------------------------------


def _html_entry(entry: Entry, tag: str) -> str:
    text = html_text(entry.text)
    wrapped = {BEST: f"<strong>{text}</strong>", SECOND: f"<u>{text}</u>"}.get(entry.mark, text)
    scope = ' scope="row"' if tag == "th" else ""
    return f"<{tag}{scope}>{wrapped}</{tag}>"


def html_table(table: Table) -> str:
    """Return a table in HTML with caption and notes; where it is too wide it scrolls alone."""
    head = "".join(f'<th scope="col">{html_text(name)}</th>' for name in table.header)
    body = []
    for at, row in enumerate(table.rows):
        kind = ' class="rule"' if at in table.rules else ""
        cells = [_html_entry(entry, "td" if place else "th") for place, entry in enumerate(row)]
        body.append(f"<tr{kind}>{''.join(cells)}</tr>")
    notes = "".join(f"<li>{html_text(note)}</li>" for note in table.notes)
    below = f'<ul class="notes">{notes}</ul>' if notes else ""
    title = html_text(table.title)
    return (
        f'<p class="caption">{title}</p>'
        f'<div class="scroll" role="region" aria-label="{title}" tabindex="0">'
        f'<table aria-label="{title}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>{below}"
    )


# ---- CSV -------------------------------------------------------------------------------------


def csv_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV, all their keys as columns; what is missing stays empty."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: sheet_cell(value) for key, value in row.items()} for row in rows)
    return stream.getvalue()

"""The command `report`: everything about an experiment rebuilt from its records."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_slif.atomic_files import make_folder
from recbole_slif.console import Parser, guarded, usable
from recbole_slif.report import published, render
from recbole_slif.report.canvas import Figure, require_matplotlib
from recbole_slif.report.collect import read_experiment
from recbole_slif.report.comparisons import Family, families
from recbole_slif.report.counts import count_rows, count_table
from recbole_slif.report.entries import Experiment
from recbole_slif.report.findings import METHOD, family_sentence, family_table, plain_tests
from recbole_slif.report.page import Content, page
from recbole_slif.report.plots import draw
from recbole_slif.report.quantities import plain_rows
from recbole_slif.report.sections import Section, check_subject, chosen_metrics, sections
from recbole_slif.report.tables import Table, result_tables, seeds_text

_EPILOG = """\
writes into FOLDER/report (or --out): table.md, table.tex, table.csv, significance.md,
significance.csv, each figure as .png and .pdf, and index.html, which holds all of it

examples:
  recbole-slif report saved/experiments/table2_overall-ml-100k
  recbole-slif report saved/experiments/fig6_hyper-ml-100k --metrics=recall@10,ndcg@10
  recbole-slif report saved/experiments/mine-ml-100k --subject=MyModel --out=docs/results/mine
"""


def _parser() -> Parser:
    text = "Tables, figures and tests of an experiment, from its records alone."
    parser = Parser("report", text, _EPILOG)
    parser.add_argument("folder", metavar="FOLDER", help="folder of an experiment")
    parser.add_argument("--out", metavar="FOLDER", help="where to write, default FOLDER/report")
    parser.add_argument("--metrics", help="parted by commas, default recall, ndcg, precision @20")
    parser.add_argument("--subject", help="label of the cell that the others are compared with")
    parser.add_argument(
        "--paper",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the paper's values beside ours where data set and protocol are the same (default)",
    )
    parser.add_argument(
        "--figures",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="draw figures, which needs matplotlib (default)",
    )
    return parser


def report_command(words: Sequence[str]) -> int:
    """Write the report of an experiment."""
    options = _parser().parse_args(words)
    experiment = read_experiment(options.folder)
    if options.figures and not experiment.counts:
        require_matplotlib(", or leave them out with --no-figures")
    out = Path(options.out) if options.out else experiment.folder / "report"
    make_folder(out, "choose another with --out")
    command = ("report", *words)
    if experiment.counts:
        written = _write_counts(experiment, out, options.paper, command)
    else:
        written = _write_results(experiment, out, options, command)
    for path in written:
        print(usable(path))
    return 0


def _write_counts(
    experiment: Experiment, out: Path, paper: bool, command: Sequence[str]
) -> list[Path]:
    table = count_table(experiment, paper)
    files = {
        "table.md": render.markdown_table(table),
        "table.tex": render.LATEX_HEAD + "\n" + render.latex_table(table, table.title),
        "table.csv": render.csv_rows(count_rows(experiment)),
        "index.html": page(Content(experiment, [table], [], [], [], command)),
    }
    return [_write(out / name, text) for name, text in files.items()]


def _write_results(
    experiment: Experiment, out: Path, options: argparse.Namespace, command: Sequence[str]
) -> list[Path]:
    found = sections(experiment)
    check_subject(found, options.subject)
    asked = [name.strip() for name in (options.metrics or "").split(",") if name.strip()]
    metrics = chosen_metrics(experiment, asked)
    tables: list[Table] = []
    tests: list[Family] = []
    figures: list[Figure] = []
    for section in found:
        tables += result_tables(experiment, section, metrics, options.subject, options.paper)
        tests += families(experiment, section, metrics, options.subject)
        if options.figures:
            figures += _drawn(experiment, section, metrics, out, options)
    paper = paper_sentences(experiment) if options.paper else []
    rows = plain_rows(experiment, found, options.subject, options.paper)
    files = {
        "table.md": _markdown(experiment, tables, paper),
        "table.tex": _latex(experiment, tables),
        "table.csv": render.csv_rows(rows),
        "significance.md": significance_text(tests),
        "significance.csv": render.csv_rows(plain_tests(tests)),
        "index.html": page(Content(experiment, tables, figures, tests, paper, command)),
    }
    written = [_write(out / name, text) for name, text in files.items()]
    pictures = [out / f"{one.name}.{kind}" for one in figures for kind in ("png", "pdf")]
    return [*written, *pictures]


def _drawn(
    experiment: Experiment,
    section: Section,
    metrics: Sequence[str],
    out: Path,
    options: argparse.Namespace,
) -> list[Figure]:
    return draw(experiment, section, metrics, out, options.subject, options.paper)


def paper_sentences(experiment: Experiment) -> list[str]:
    """Say what the paper's values beside ours are, or why there are none."""
    reason = published.why_not(experiment)
    if reason is not None:
        return [reason]
    cited = f"Columns named (paper) are {published.source(experiment.artefact)}."
    remark = published.remark(experiment.artefact)
    return [cited, *([remark] if remark else [])]


def _context(experiment: Experiment) -> str:
    quick = "; quick form, not for reporting" if experiment.quick else ""
    return (
        f"{experiment.dataset}, protocol {experiment.protocol}, test split, "
        f"{seeds_text(experiment)}{quick}"
    )


def _markdown(experiment: Experiment, tables: Sequence[Table], paper: Sequence[str]) -> str:
    parts = [f"# {render.markdown_text(experiment.title)}\n"]
    parts.append(render.markdown_text(_context(experiment)) + "\n")
    parts += [f"{render.markdown_text(note)}\n" for note in experiment.notes]
    parts += [render.markdown_table(table) for table in tables]
    parts += [f"{render.markdown_text(sentence)}\n" for sentence in paper]
    return "\n".join(parts)


def _latex(experiment: Experiment, tables: Sequence[Table]) -> str:
    head = render.LATEX_HEAD + "\n"
    context = _context(experiment)
    return head + "\n".join(
        render.latex_table(table, f"{table.title} ({context}).") for table in tables
    )


def significance_text(tests: Sequence[Family]) -> str:
    """Return the tests in Markdown."""
    if not tests:
        return "# Significance\n\nNo cell stands out by its settings, so nothing is tested.\n"
    parts = ["# Significance\n", render.markdown_text(METHOD) + "\n"]
    for family in tests:
        parts.append(render.markdown_text(family_sentence(family)) + "\n")
        if family.comparisons:
            parts.append(render.markdown_table(family_table(family)))
    return "\n".join(parts)


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def main(argv: Sequence[str]) -> int:
    """Write a report; a mistake in the input is one line on stderr and exit code 2."""
    return guarded(report_command, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

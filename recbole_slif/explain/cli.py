"""The command `explain`: why a trained model recommends what it does."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from recbole_slif.atomic_files import write_atomic
from recbole_slif.config_yaml import read_literal, read_options
from recbole_slif.console import Parser, guarded
from recbole_slif.errors import ConfigError
from recbole_slif.explain.explanation import Amounts, Explanation, explain
from recbole_slif.explain.formats import csv_text, json_text, markdown
from recbole_slif.explain.text import Writer
from recbole_slif.trained import (
    add_user_options,
    asked_splits,
    asked_users,
    checkpoint_parser,
)

_EXAMPLES = """
For every model: score, the user's training items, facts of the knowledge graph shared with them.
For SLIFMR also each view's fusion weight and part of the score (the parts add up to the score), and
the nearest items in the correlation graph in force and in the feature graphs.

examples:
  recbole-slif explain --checkpoint=saved/RUN --user=196
  recbole-slif explain --checkpoint=saved/RUN --user=196 --item=50 --facts=20
  recbole-slif explain --checkpoint=saved/RUN --users=all --format=csv --output=why.csv
"""
_FORMATS: dict[str, Callable[[Explanation], str]] = {
    "json": json_text,
    "markdown": markdown,
    "csv": csv_text,
}
_SUFFIXES = {".json": "json", ".md": "markdown", ".csv": "csv", ".txt": "text"}
_WIDTHS = (60, 100)


def _parser() -> Parser:
    parser = checkpoint_parser("explain", "Say why items are recommended to a user.", _EXAMPLES)
    parser.add_argument(
        "--user", action="append", metavar="TOKEN", help="a user token; may be given again"
    )
    add_user_options(parser)
    parser.add_argument(
        "--item",
        action="append",
        default=[],
        metavar="TOKEN",
        help="explain this item, also one not in the list; may be given again",
    )
    parser.add_argument("--topk", type=int, default=10, help="length of each list, default 10")
    parser.add_argument("--facts", type=int, default=5, help="facts shown an item, default 5")
    parser.add_argument(
        "--neighbours", type=int, default=5, help="related items shown a graph, default 5"
    )
    parser.add_argument(
        "--format", choices=["text", *_FORMATS], help="else by the end of --output, else text"
    )
    parser.add_argument(
        "--output", "--output_file", metavar="FILE", help="file to write; else standard output"
    )
    return parser


def _users(user: Sequence[str] | None, users: str | None, file: str | None) -> list[str] | None:
    if not user:
        return asked_users(users, file)
    if users is not None or file is not None:
        raise ConfigError("--user does not go with --users or --users_file; keep one of them")
    return list(user)


def _form(asked: str | None, output: str | None) -> str:
    """Return the format, by the end of the file where none is asked for.

    Raises:
        ConfigError: the file's end says nothing.
    """
    if asked or not output:
        return asked or "text"
    form = _SUFFIXES.get(Path(output).suffix)
    if form is None:
        ends = ", ".join(_SUFFIXES)
        raise ConfigError(f"--output ends in none of {ends} ('{output}'); add --format")
    return form


def _screen() -> Writer:
    """Return a writer for standard output: its width, and colours on a terminal alone."""
    terminal = sys.stdout.isatty()
    low, high = _WIDTHS
    columns = shutil.get_terminal_size((80, 24)).columns if terminal else 80
    colour = terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return Writer(min(max(columns, low), high), colour)


def explain_command(words: Sequence[str]) -> int:
    """Explain as the command line asks."""
    options, extra = _parser().parse_known_args(words)
    users = _users(options.user, options.users, options.users_file)
    form = _form(options.format, options.output)
    found = explain(
        options.checkpoint,
        users,
        options.item,
        Amounts(options.topk, options.facts, options.neighbours),
        asked_splits(options.exclude),
        {key: read_literal(text) for key, text in read_options(extra).items()},
        options.model,
        options.title_column,
    )
    if form in _FORMATS:
        text = _FORMATS[form](found)
    else:
        text = (Writer() if options.output else _screen()).write(found)
    if options.output:
        write_atomic(options.output, text.encode())
    else:
        print(text, end="")
    return 0


def main(argv: Sequence[str]) -> int:
    """Explain; a mistake in the input is one line on stderr and exit code 2."""
    return guarded(explain_command, argv)

"""Top-K lists of a trained model, in the user's own tokens."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_slif.atomic_files import write_atomic
from recbole_slif.config_yaml import read_literal, read_options
from recbole_slif.console import Parser, guarded
from recbole_slif.errors import ConfigError, printable
from recbole_slif.plain import sheet_cell
from recbole_slif.trained import (
    add_user_options,
    asked_splits,
    asked_users,
    check_list_options,
    checkpoint_parser,
    open_trained,
    top_lists,
)

_FORMATS = ("csv", "tsv", "jsonl")


@dataclass(frozen=True)
class Recommendation:
    """One place in a user's list; `rank` counts from 1, `title` is empty if none is known."""

    user: str
    rank: int
    item: str
    score: float
    title: str


def recommend(
    checkpoint: Path | str,
    users: Sequence[str] | None = None,
    k: int = 20,
    exclude: Sequence[str] = ("train", "valid"),
    overrides: Mapping[str, Any] | None = None,
    model: str | type | None = None,
    title_column: str | None = None,
) -> list[Recommendation]:
    """Recommend `k` items to users.

    Args:
        checkpoint: a checkpoint or run folder.
        users: user tokens as in the data files, one named twice counts once; None takes all users.
        k: length of each list; shorter where a user has fewer items left.
        exclude: splits whose items are not recommended to their user.
        overrides: settings to change, such as `data_path`.
        model: class or `module:Class` of a model that is neither ours nor RecBole's.
        title_column: column of the `.item` file with titles; None guesses it.

    Raises:
        CheckpointError: the checkpoint is not usable.
        DataError: a token is not a user of the data set.
        ConfigError: `k` or `exclude` is not usable.
    """
    exclude = [exclude] if isinstance(exclude, str) else exclude
    check_list_options(k, exclude)
    trained = open_trained(checkpoint, overrides, model, title_column)
    found: list[Recommendation] = []
    for user, items, scores in top_lists(trained, trained.user_ids(users), k, exclude):
        token = str(trained.user_tokens[user])
        for rank, (item, score) in enumerate(zip(items, scores, strict=True), start=1):
            name = str(trained.item_tokens[item])
            title = trained.titles.get(name, "")
            found.append(Recommendation(token, rank, name, float(score), title))
    return found


def render(found: Sequence[Recommendation], form: str) -> str:
    """Write recommendations as `csv`, `tsv` (one place a line) or `jsonl` (one user a line)."""
    if form == "jsonl":
        lists: dict[str, list[dict[str, Any]]] = {}
        for entry in found:
            row = {"item": entry.item, "score": entry.score, "title": entry.title}
            lists.setdefault(entry.user, []).append(row)
        lines = [json.dumps({"user": user, "items": rows}) for user, rows in lists.items()]
        return "".join(f"{line}\n" for line in lines)
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="," if form == "csv" else "\t", lineterminator="\n")
    writer.writerow(["user", "rank", "item", "score", "title"])
    for entry in found:
        title = sheet_cell(entry.title)
        writer.writerow([entry.user, entry.rank, entry.item, f"{entry.score:.6g}", title])
    return stream.getvalue()


def _parser() -> Parser:
    parser = checkpoint_parser("recommend", "Write top-K lists of a trained model.")
    add_user_options(parser)
    parser.add_argument("--topk", type=int, default=20, help="length of each list, default 20")
    parser.add_argument(
        "--output", help="file ending in .csv, .tsv or .jsonl; else standard output"
    )
    return parser


def recommend_command(words: Sequence[str]) -> int:
    """Write lists as the command line asks."""
    options, extra = _parser().parse_known_args(words)
    users = asked_users(options.users, options.users_file)
    form = Path(options.output).suffix.lstrip(".") if options.output else "tsv"
    if form not in _FORMATS:
        raise ConfigError(f"--output ends in .csv, .tsv or .jsonl, not '{options.output}'")
    found = recommend(
        options.checkpoint,
        users,
        options.topk,
        asked_splits(options.exclude),
        {key: read_literal(text) for key, text in read_options(extra).items()},
        options.model,
        options.title_column,
    )
    text = render(found, form)
    if options.output:
        write_atomic(options.output, text.encode())
    else:
        print(
            "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n")),
            end="",
        )
    return 0


def main(argv: Sequence[str]) -> int:
    """Recommend; a mistake in the input is one line on stderr and exit code 2."""
    return guarded(recommend_command, argv)

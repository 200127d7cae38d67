"""Top-K lists of a trained model, in the user's own tokens."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_slif.checkpoint import load_model, write_atomic
from recbole_slif.config_yaml import read_literal, read_options
from recbole_slif.console import Parser, guarded
from recbole_slif.errors import ConfigError, DataError
from recbole_slif.evaluation import BLOCK_USERS, BlockScorer, exact_top_k

_TITLES = ("title", "name", "movie_title", "item_name")
_SPLITS = ("train", "valid", "test")
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
) -> list[Recommendation]:
    """Recommend `k` items to users.

    Args:
        checkpoint: a checkpoint or run folder.
        users: user tokens as in the data files; None takes all users.
        k: length of each list; shorter where a user has fewer items left.
        exclude: splits whose items are not recommended to their user.
        overrides: settings to change, such as `data_path`.
        model: class or `module:Class` of a model that is neither ours nor RecBole's.

    Raises:
        CheckpointError: the checkpoint is not usable.
        DataError: a token is not a user of the data set.
        ConfigError: `k` or `exclude` is not usable.
    """
    wrong = [name for name in exclude if name not in _SPLITS]
    if wrong or k < 1:
        fault = f"exclude {wrong[0]!r} is none of {', '.join(_SPLITS)}" if wrong else f"topk is {k}"
        raise ConfigError(fault)
    _, trained, bundle = load_model(checkpoint, overrides, model)
    dataset = bundle.dataset
    ids = _user_ids(dataset, users)
    table = bundle.pairs.table(*exclude)
    history = table.indptr, table.values
    titles = item_titles(dataset)
    scorer = BlockScorer(trained, dataset)
    found: list[Recommendation] = []
    for start in range(0, len(ids), BLOCK_USERS):
        block = ids[start : start + BLOCK_USERS]
        items, scores = _top(scorer, block, history, k)
        for row, user in enumerate(block):
            token = str(dataset.id2token(dataset.uid_field, int(user)))
            kept = [
                entry for entry in zip(items[row], scores[row], strict=True) if entry[1] > -np.inf
            ]
            for rank, (item, score) in enumerate(kept, start=1):
                name = str(dataset.id2token(dataset.iid_field, int(item)))
                found.append(Recommendation(token, rank, name, float(score), titles.get(name, "")))
    return found


@torch.no_grad()
def _top(
    scorer: BlockScorer, users: np.ndarray, history: tuple[np.ndarray, np.ndarray], k: int
) -> tuple[np.ndarray, np.ndarray]:
    scores = scorer.scores(users)
    indptr, items = history
    counts = indptr[users + 1] - indptr[users]
    rows = np.repeat(np.arange(len(users)), counts)
    seen = np.concatenate([items[indptr[user] : indptr[user + 1]] for user in users])
    scores[:, 0] = -np.inf
    scores[torch.from_numpy(rows), torch.from_numpy(seen)] = -np.inf
    top = exact_top_k(scores, min(k, scores.shape[1]))
    return top.cpu().numpy(), torch.gather(scores, 1, top).cpu().numpy()


def _user_ids(dataset: Any, tokens: Sequence[str] | None) -> np.ndarray:
    if tokens is None:
        return np.arange(1, dataset.user_num, dtype=np.int64)
    known = dataset.field2token_id[dataset.uid_field]
    unknown = [token for token in tokens if token not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], [str(token) for token in known], n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise DataError(
            f"user '{unknown[0]}'{more} is not in data set '{dataset.dataset_name}'{hint}"
        )
    return np.array([known[token] for token in tokens], dtype=np.int64)


def item_titles(dataset: Any) -> dict[str, str]:
    """Read item token -> title from the `.item` file; empty if it has no title column."""
    path = Path(dataset.dataset_path) / f"{dataset.dataset_name}.item"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        rows = csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        header = [cell.partition(":")[0] for cell in next(rows, [])]
        wanted = [name for name in header if name in _TITLES]
        wanted += [name for name in header if "title" in name or name.endswith("name")]
        if not wanted or dataset.iid_field not in header:
            return {}
        key, value = header.index(dataset.iid_field), header.index(wanted[0])
        return {row[key]: row[value] for row in rows if len(row) > max(key, value)}


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
        writer.writerow([entry.user, entry.rank, entry.item, f"{entry.score:.6g}", entry.title])
    return stream.getvalue()


def _parser() -> Parser:
    epilog = "Other --key=value options change settings of the checkpoint, such as --data_path."
    parser = Parser("recommend", "Write top-K lists of a trained model.", epilog)
    parser.add_argument(
        "--checkpoint", required=True, metavar="PATH", help="run folder or .pt file"
    )
    parser.add_argument("--model", help="module:Class, for a model of your own")
    parser.add_argument("--users", help="user tokens parted by commas, or all")
    parser.add_argument("--users_file", help="file with one user token a line")
    parser.add_argument("--topk", type=int, default=20, help="length of each list, default 20")
    parser.add_argument(
        "--output", help="file ending in .csv, .tsv or .jsonl; else standard output"
    )
    parser.add_argument(
        "--exclude", default="train,valid", help="splits left out of a user's list, or none"
    )
    return parser


def _asked_users(users: str | None, users_file: str | None) -> list[str] | None:
    if (users is None) == (users_file is None):
        raise ConfigError("name the users: --users=TOKEN,TOKEN, --users=all or --users_file=FILE")
    if users is not None:
        return None if users == "all" else [word for word in users.split(",") if word]
    try:
        lines = Path(str(users_file)).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"users file '{users_file}' cannot be read: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def recommend_command(words: Sequence[str]) -> int:
    """Write lists as the command line asks."""
    options, extra = _parser().parse_known_args(words)
    users = _asked_users(options.users, options.users_file)
    form = Path(options.output).suffix.lstrip(".") if options.output else "tsv"
    if form not in _FORMATS:
        raise ConfigError(f"--output ends in .csv, .tsv or .jsonl, not '{options.output}'")
    exclude = [] if options.exclude == "none" else options.exclude.split(",")
    changes = {key: read_literal(text) for key, text in read_options(extra).items()}
    found = recommend(options.checkpoint, users, options.topk, exclude, changes, options.model)
    text = render(found, form)
    if options.output:
        write_atomic(options.output, text.encode())
    else:
        print(text, end="")
    return 0


def main(argv: Sequence[str]) -> int:
    """Recommend; a mistake in the input is one line on stderr and exit code 2."""
    return guarded(recommend_command, argv)

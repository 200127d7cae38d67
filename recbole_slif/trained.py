"""A trained model opened for use: tokens instead of ids, titles, top-K lists, shared options."""

from __future__ import annotations

import codecs
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_slif.checkpoint import load_model
from recbole_slif.console import Parser
from recbole_slif.data.protocol import option
from recbole_slif.errors import ConfigError, DataError
from recbole_slif.scoring import BlockScorer
from recbole_slif.top_items import TopItems

SPLITS = ("train", "valid", "test")
LISTS_AT_ONCE = 1 << 16  # users whose lists are held
_TITLES = ("title", "name", "movie_title", "item_name")


@dataclass(frozen=True)
class Trained:
    """The model of a checkpoint with its data.

    Attributes:
        config: the configuration it was trained with.
        model: the model in evaluation mode.
        bundle: the data, split as in training.
        title_column: column of the `.item` file that holds titles, None to guess it.
    """

    config: Any
    model: Any
    bundle: Any
    title_column: str | None = None

    @property
    def dataset(self) -> Any:
        """The whole data set, for its tokens and its graph."""
        return self.bundle.dataset

    @cached_property
    def titles(self) -> dict[str, str]:
        """Item token -> title, as far as the `.item` file has one."""
        return item_titles(self.dataset, self.title_column)

    @cached_property
    def item_tokens(self) -> np.ndarray:
        """Token of each item id, `[n_items]`, [PAD] first."""
        return self.dataset.field2id_token[self.dataset.iid_field]

    @cached_property
    def user_tokens(self) -> np.ndarray:
        """Token of each user id, `[n_users]`, [PAD] first."""
        return self.dataset.field2id_token[self.dataset.uid_field]

    def user_ids(self, tokens: Sequence[str] | None) -> np.ndarray:
        """Return the ids of distinct users in the order given, of all for None.

        Raises:
            DataError: a token is not a user; the text names the nearest one.
        """
        if tokens is None:
            return np.arange(1, self.dataset.user_num, dtype=np.int64)
        return self._ids("user", self.dataset.uid_field, list(dict.fromkeys(_as_tokens(tokens))))

    def item_ids(self, tokens: Sequence[str]) -> np.ndarray:
        """Return the ids of items.

        Raises:
            DataError: a token is not an item; the text names the nearest one.
        """
        return self._ids("item", self.dataset.iid_field, _as_tokens(tokens))

    def _ids(self, kind: str, field: str, tokens: Sequence[str]) -> np.ndarray:
        known = self.dataset.field2token_id[field]
        padding = self.dataset.field2id_token[field][0]
        unknown = [token for token in tokens if token == padding or token not in known]
        if unknown:
            names = [str(token) for token in known if token != padding]
            near = difflib.get_close_matches(unknown[0], names, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            name = self.dataset.dataset_name
            raise DataError(f"{kind} '{unknown[0]}'{more} is not in data set '{name}'{hint}")
        return np.array([known[token] for token in tokens], dtype=np.int64)


def _as_tokens(tokens: Sequence[Any] | str) -> list[str]:
    """Return tokens as texts: one text is one token, numbers are read as they are written."""
    return [tokens] if isinstance(tokens, str) else list(map(str, tokens))


def open_trained(
    checkpoint: Path | str,
    overrides: Mapping[str, Any] | None = None,
    model: str | type | None = None,
    title_column: str | None = None,
) -> Trained:
    """Open the model of a checkpoint or run folder with its data.

    Args:
        checkpoint: a checkpoint or run folder.
        overrides: settings to change, such as `data_path`.
        model: class or `module:Class` of a model that is neither ours nor RecBole's.
        title_column: column of the `.item` file that holds titles, None to guess it.

    Raises:
        CheckpointError: the checkpoint is not usable, or the data is not what it was trained on.
        DataError: a data file is not usable, or has no column `title_column`.
    """
    config, built, bundle = load_model(checkpoint, overrides, model)
    found = Trained(config, built, bundle, title_column)
    if title_column is not None:
        _ = found.titles  # a misspelt column is said before anything is computed
    return found


# ---- titles ------------------------------------------------------------------------------------


def item_titles(dataset: Any, column: str | None = None) -> dict[str, str]:
    """Read item token -> title from the `.item` file.

    Args:
        dataset: names folder and item column; `field_separator` and `encoding` are its `config`'s.
        column: the column with the titles; None takes the first whose name says so, and where no
            name does, or there is no file, no item has a title.

    Raises:
        DataError: there is no such column.
    """
    path = Path(dataset.dataset_path) / f"{dataset.dataset_name}.item"
    if not path.is_file():
        if column is not None:
            raise DataError(f"--title_column: there is no '{path}'; leave the option out")
        return {}
    with path.open("rb") as stream:
        rows = _item_rows(stream, dataset.config)
        header = [cell.partition(":")[0].strip() for cell in next(rows, [])]
        wanted = _title_column(header, column, path)
        if wanted is None or dataset.iid_field not in header:
            return {}
        key, value = header.index(dataset.iid_field), header.index(wanted)
        whole = (row for row in rows if len(row) > max(key, value))
        return {row[key].strip(): " ".join(row[value].split()) for row in whole}


def _item_rows(stream: Iterable[bytes], config: Any) -> Iterator[list[str]]:
    """Yield the cells of each line as training parts them: quotes are ordinary characters.

    Titles only adorn, so a line that training would refuse does no harm here.
    """
    separator = option(config, "field_separator", "\t")
    encoding = option(config, "encoding", "utf-8")
    for number, line in enumerate(stream):
        content = line if number else line.removeprefix(codecs.BOM_UTF8)
        yield content.rstrip(b"\r\n").decode(encoding, "replace").split(separator)


def _title_column(header: Sequence[str], asked: str | None, path: Path) -> str | None:
    if asked is not None:
        if asked not in header:
            raise DataError(
                f"{path}: no column '{asked}' for titles; there are {', '.join(header)}"
            )
        return asked
    named = [name for name in header if name in _TITLES]
    named += [name for name in header if "title" in name or name.endswith("name")]
    return named[0] if named else None


# ---- lists -------------------------------------------------------------------------------------


def check_list_options(k: int, exclude: Sequence[str]) -> None:
    """Refuse a length or splits that no list can have.

    Raises:
        ConfigError: `k` is below 1, or `exclude` names no split.
    """
    wrong = [name for name in exclude if name not in SPLITS]
    if wrong or k < 1:
        fault = f"exclude {wrong[0]!r} is none of {', '.join(SPLITS)}" if wrong else f"topk is {k}"
        raise ConfigError(fault)


def top_lists(
    trained: Trained, users: np.ndarray, k: int, exclude: Sequence[str]
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield for each user its id, the items of its list and their scores, best first.

    Args:
        trained: an open checkpoint.
        users: user ids.
        k: length of each list; shorter where a user has fewer items left.
        exclude: splits whose items are not recommended to their user.
    """
    table = trained.bundle.pairs.table(*exclude)
    top = TopItems(
        BlockScorer(trained.model, trained.dataset),
        users,
        lambda positions: table.slice_rows(users[positions]),
        min(k, trained.dataset.item_num),
        trained.config["eval_block_users"],
    )
    for position, items, scores in top.lists(LISTS_AT_ONCE):
        left = scores > -torch.inf
        yield int(users[position]), items[left].numpy(), scores[left].numpy()


# ---- options -----------------------------------------------------------------------------------


def checkpoint_parser(command: str, description: str, examples: str = "") -> Parser:
    """Return a parser with the options of every command that opens a checkpoint."""
    epilog = "Other --key=value options change settings of the checkpoint, such as --data_path."
    parser = Parser(command, description, f"{epilog}\n{examples}" if examples else epilog)
    parser.add_argument(
        "--checkpoint", required=True, metavar="PATH", help="run folder or .pt file"
    )
    parser.add_argument("--model", help="module:Class, for a model of your own")
    parser.add_argument(
        "--title_column", metavar="NAME", help="column of the .item file with titles; else guessed"
    )
    return parser


def add_user_options(parser: Parser) -> None:
    """Add the options that name users and the splits left out of their lists."""
    parser.add_argument("--users", help="user tokens parted by commas, or all")
    parser.add_argument("--users_file", help="file with one user token a line")
    parser.add_argument(
        "--exclude",
        default="train,valid",
        help="splits left out of a user's list, default %(default)s; or none",
    )


def asked_users(users: str | None, users_file: str | None) -> list[str] | None:
    """Read `--users` or `--users_file`; None stands for all users.

    Raises:
        ConfigError: neither or both are given, or nobody is named.
        DataError: the file cannot be read.
    """
    if (users is None) == (users_file is None):
        raise ConfigError("name the users: --users=TOKEN,TOKEN, --users=all or --users_file=FILE")
    if users == "all":
        return None
    try:
        given = Path(str(users_file)).read_text(encoding="utf-8-sig") if users is None else users
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"users file '{users_file}' cannot be read: {error}") from error
    words = given.splitlines() if users is None else given.split(",")
    found = [word.strip() for word in words if word.strip()]
    if not found:
        raise ConfigError(f"{'--users_file' if users is None else '--users'} names no user")
    return found


def asked_splits(text: str) -> list[str]:
    """Read `--exclude`."""
    return [] if text == "none" else [name.strip() for name in text.split(",")]

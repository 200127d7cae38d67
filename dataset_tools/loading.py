"""Reads a whole data set for a command, as training reads it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from recbole_slif.errors import ConfigError

if TYPE_CHECKING:
    from recbole_slif.data.loaders import SplitData


def add_options(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Add the options that name a data set and how it is read."""
    many = {"nargs": "+"} if several else {}
    parser.add_argument("--dataset", required=True, help="name, also ml-100k", **many)
    parser.add_argument("--data-path", default="dataset", help="folder above it: %(default)s")
    parser.add_argument("--config-files", nargs="+", default=[], help="YAML files; later ones win")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="any key that decides what is read: protocol=ratio_811 split_seed=7 missing=mean",
    )


def words(options: argparse.Namespace) -> dict[str, str]:
    """Return key -> text of `--data-path` and `--set`.

    Raises:
        ConfigError: A word of `--set` is no `KEY=VALUE`.
    """
    found = {"data_path": options.data_path}
    for word in options.set:
        key, mark, text = word.partition("=")
        if not mark or not key:
            raise ConfigError(f"--set: '{word}' is not KEY=VALUE")
        found[key] = text
    return found


def load(name: str, options: argparse.Namespace) -> tuple[Any, SplitData]:
    """Read, check and split a data set.

    Returns:
        The configuration and the data.

    Raises:
        ConfigError: A key or value is not usable.
        DataError: The data set is not usable.
    """
    from recbole_slif.config import SlifConfig
    from recbole_slif.data.loaders import read_data

    argv = [f"--{key}={text}" for key, text in words(options).items()]
    # Which model asks does not matter: all see the same data.
    config = SlifConfig("BPR", name, options.config_files, None, argv)
    return config, read_data(config)

"""Reads a whole data set for a command, as training reads it."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_slif.errors import ConfigError

from .scratch_folder import ScratchFolder


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


def configure(name: str, options: argparse.Namespace) -> Any:
    """Return the settings of a data set.

    Raises:
        ConfigError: A key or value is not usable.
    """
    from recbole_slif.config import SlifConfig

    argv = [f"--{key}={text}" for key, text in words(options).items()]
    # Which model asks does not matter: all see the same data.
    return SlifConfig("BPR", name, options.config_files, None, argv)


@contextmanager
def opened(config: Any, out: Path | None, pairs_alone: bool = False) -> Iterator[Any]:
    """Read, check and split a data set: on disk, or in memory where its settings filter it.

    Args:
        config: Settings.
        out: Folder whose place is taken for files on disk; None takes the system's for temporary
            files.
        pairs_alone: In memory also where interactions have other columns than user and item.

    Yields:
        `DiskData` or `SplitData`.

    Raises:
        ConfigError: A key or value is not usable.
        DataError: The data set is not usable, or the files cannot be kept.
    """
    from recbole_slif.data.loaders import read_data

    from .disk_data import fits, read_on_disk

    columns = set(config["load_col"]["inter"]) if config["load_col"] else set()
    if not fits(config) or (pairs_alone and len(columns) != 2):
        yield read_data(config)
        return
    with Scratch(scratch_place(out)) as scratch:
        yield read_on_disk(config, scratch.folder)


def scratch_place(out: Path | None) -> Path:
    """Return a new name for a folder beside the output."""
    place = Path(tempfile.gettempdir()) if out is None else out
    return place / f".dataset.{os.getpid()}.partial"


class Scratch(ScratchFolder):
    """A folder of `scratch_place` for the caller's files; removes those of dead processes."""

    def _open(self) -> None:
        for other in self.folder.parent.glob(".dataset.*.partial"):
            if not _runs(other.name.split(".")[2]):
                shutil.rmtree(other, ignore_errors=True)

    def _close(self) -> None:
        pass


def _runs(number: str) -> bool:
    """Tell whether there is a process of a number, or it cannot be told."""
    if os.name != "posix":
        return True  # elsewhere signal 0 is no question
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except (OSError, ValueError):
        pass
    return True

"""Entry of `python -m dataset_tools` and, installed, `python -m recbole_slif.dataset_tools`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from recbole_slif.errors import SlifError

from . import text


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}",
        description="Make the files of a data set. Each command has its own --help.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    text.add_command(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
    except SlifError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

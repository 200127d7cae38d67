"""Entry of `python -m dataset_tools` and, installed, `python -m recbole_slif.dataset_tools`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence

from recbole_slif.console import Parser, guarded
from recbole_slif.errors import ConfigError

# Each is a module of this package with DESCRIPTION, EXAMPLES, add_options(parser) and
# run(options); it is imported when its command is called, and not before.
COMMANDS = {
    "build": "run a whole recipe, from raw files to a data set that trains",
    "download": "fetch a source, checked by size and checksum; a broken one resumes",
    "release": "import a public KGAT, KGIN or KGCL release and check its counts",
    "interactions": "raw reviews, ratings or any table to .inter: filters, k-core, split",
    "link": "KB4Rec item-to-Freebase files to .link",
    "freebase": "stream a Freebase dump to the .kg around linked items",
    "yelp_kg": "Yelp businesses to .kg and .link",
    "attributes": "a table of item attributes to .kg and .link",
    "text": "encode item texts as NAME.text.npy and NAME.text.ids",
    "images": "encode pictures, or read Amazon's image vectors, as NAME.visual.npy",
    "align": "check that all files of a data set agree; give feature files one row order",
    "describe": "count what a data set holds, as in Table I, with plots",
    "convert": "MMRec folders and RecBole .itememb files to this contract, and back",
    "noise": "write the noisy copies of the robustness study",
}


def offered() -> dict[str, str]:
    """Return command -> what it does, for the modules of this installation."""
    return {
        name: text
        for name, text in COMMANDS.items()
        if importlib.util.find_spec(f".{name}", __package__) is not None
    }


def overview() -> str:
    """Return the list of commands as help text."""
    lines = [f"  {name:<13} {text}" for name, text in offered().items()]
    return "commands (each has its own --help):\n" + "\n".join(lines)


def command_parser(command: str) -> Parser:
    """Return the argument parser of one command."""
    module = importlib.import_module(f".{command}", __package__)
    program = f"python -m {__package__}"
    parser = Parser(command, module.DESCRIPTION, f"examples:\n{module.EXAMPLES}", program)
    module.add_options(parser)
    return parser


def _dispatch(words: Sequence[str]) -> int:
    if not words or words[0].startswith("-"):
        return _without_command(words)
    command, names = words[0], offered()
    if command not in names:
        raise ConfigError(f"command '{command}' is not known; there are {', '.join(names)}")
    options = command_parser(command).parse_args(words[1:])
    module = importlib.import_module(f".{command}", __package__)
    return int(module.run(options) or 0)


def _without_command(words: Sequence[str]) -> int:
    description = "Make the files of a data set: raw dumps and public releases become atomic files."
    parser = Parser("COMMAND", description, overview(), f"python -m {__package__}")
    parser.parse_args(words)
    parser.print_help()
    return 0 if words else 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0, or what the command says; 2 for a mistake in the input, 130 if stopped.
    """
    return guarded(_dispatch, list(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    sys.exit(main())

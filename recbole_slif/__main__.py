"""Where `recbole-slif`, `python -m recbole_slif` and the two scripts begin.

Imports nothing that may be missing before it can say so in one line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_MISSING = 1
_STOPPED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, or name the missing package and who knows the cure.

    Args:
        argv: words after the program's name; None for those of `sys.argv`.

    Returns:
        The command's exit code, 1 if a package is missing, 130 for Ctrl-C while all is loaded.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["doctor"]:
        from recbole_slif.doctor import main as examine

        return examine(words[1:])
    try:
        from recbole_slif.cli import main as run
    except ModuleNotFoundError as error:
        if str(error.name).startswith("recbole_slif"):
            raise
        where = "python -m recbole_slif doctor"
        print(f"error: {error}; `{where}` says what to install", file=sys.stderr)
        return _MISSING
    except KeyboardInterrupt:  # torch and RecBole take seconds to load
        print("stopped by SIGINT", file=sys.stderr)
        return _STOPPED
    return run(words)


if __name__ == "__main__":
    sys.exit(main())

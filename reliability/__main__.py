"""`python -m reliability --minutes=60`: run the long checks, print a table, keep the figures.

A check that fails is shown with the case; the same `--seed` with `--only` and `--case` makes it
again. The exit status is 0 if nothing failed, 1 if something did, 2 for a mistake in the words.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when torch is loaded

from recbole_slif.errors import SlifError
from recbole_slif.registry import MODELS
from reliability.checks import CHECKS
from reliability.frame import Check, Setting, run_checks
from reliability.report import RESULTS, result, table, write_result


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    own = argparse.ArgumentParser(prog="python -m reliability", description=__doc__)
    own.formatter_class = argparse.RawDescriptionHelpFormatter
    lines = [f"  {check.name:<12} {check.summary}" for check in CHECKS]
    own.epilog = "checks:\n" + "\n".join(lines)
    own.add_argument("--minutes", type=float, default=60.0, help="time budget, default 60")
    own.add_argument("--only", help="checks to run, parted by commas; default: all")
    own.add_argument("--models", help="models to try, parted by commas; default: all")
    own.add_argument("--seed", type=int, default=0, help="of all that is drawn, default 0")
    own.add_argument("--cases", type=int, default=0, help="cases a check, default: its own number")
    own.add_argument("--case", help="run only cases whose name matches this regular expression")
    own.add_argument("--out", type=Path, help="JSON file, default: a dated one in results/")
    own.add_argument("--folder", type=Path, help="scratch folder to use and to leave in place")
    return own


def _chosen(text: str | None, known: Sequence[str], option: str) -> list[str]:
    wanted = list(known) if text is None else [word for word in text.split(",") if word]
    strangers = [word for word in wanted if word not in known]
    if strangers or not wanted:
        named = ", ".join(strangers) or "nothing"
        raise SlifError(f"{option}: {named} is not known; there are {', '.join(known)}")
    return wanted


def _run(options: argparse.Namespace, checks: Sequence[Check]) -> int:
    by_name = {check.name: check for check in checks}
    wanted = [by_name[name] for name in _chosen(options.only, list(by_name), "--only")]
    models = tuple(_chosen(options.models, list(MODELS), "--models"))
    with tempfile.TemporaryDirectory(prefix="reliability-") as scratch:
        folder = options.folder.resolve() if options.folder else Path(scratch)
        setting = Setting(options.seed, folder, models, options.cases)
        keep = options.folder is not None
        outcomes = run_checks(wanted, 60 * options.minutes, setting, options.case, keep)
    path = options.out or RESULTS / f"{date.today().isoformat()}.json"
    write_result(path, result(outcomes, options.seed, options.minutes))
    print(table(outcomes))
    print(f"\nkept in {os.path.relpath(path)}")
    return 1 if any(found.failed for found in outcomes) else 0


def main(argv: Sequence[str] | None = None, checks: Sequence[Check] = CHECKS) -> int:
    """Run the checks; returns the exit status."""
    try:
        return _run(parser().parse_args(argv), checks)
    except SlifError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

"""Several processes at one plan; they share nothing but the folder."""

from __future__ import annotations

import contextlib
import json
import sys

from recbole_slif.console import one_line
from recbole_slif.errors import SlifError
from recbole_slif.experiment.board import make_board
from recbole_slif.experiment.estimate import Times
from recbole_slif.experiment.folder import Folder
from recbole_slif.experiment.plan import Plan
from recbole_slif.experiment.pool import DataPool
from recbole_slif.experiment.progress import Progress
from recbole_slif.experiment.runner import Options, Runner, failed_since, outstanding
from recbole_slif.interrupt import TrainingStoppedError
from recbole_slif.processes import STOPPED, begin_worker, leave_with, run_processes, settle_broken
from recbole_slif.sharing.address import Address


def _worker(
    plan: Plan,
    path: str,
    failed_before: dict[str, int],
    options: Options,
    address: Address | None,
    parent: int,
    threads: int,
) -> None:
    begin_worker(threads)
    folder = Folder(path)
    silent = Progress(plan, 0, Times(plan.dataset))
    try:
        board = make_board(plan, folder, address, leave_with(parent))
        Runner(plan, folder, DataPool(), board, failed_before, silent, options).work()
    except (TrainingStoppedError, KeyboardInterrupt):
        sys.exit(STOPPED)
    except (SlifError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)


def run_workers(
    plan: Plan,
    folder: Folder,
    failed_before: dict[str, int],
    progress: Progress,
    options: Options,
    count: int,
    address: Address | None = None,
) -> None:
    """Work on a plan in `count` processes and show what they record.

    Raises:
        TrainingStoppedError: Ctrl-C or SIGTERM; what is recorded stays.
        SlifError: all processes ended before the work did.
    """
    told = folder.runs_file.stat().st_size if folder.runs_file.is_file() else 0

    def watch() -> None:
        nonlocal told
        told = _tell(folder, told, progress)
        progress.fleeting(_at_hand(folder))

    arguments = (plan, str(folder.path), failed_before, options, address)
    broken = run_processes(count, _worker, arguments, watch)
    _tell(folder, told, progress)

    def done() -> bool:
        known = folder.recorded()
        return all(failed_since(known, failed_before, text) for text in outstanding(plan, folder))

    settle_broken(broken, count, done, "go on with the same command and --resume")


def _tell(folder: Folder, told: int, progress: Progress) -> int:
    """Show the lines behind byte `told` of the runs; return where they end."""
    if not folder.runs_file.is_file():
        return told
    with folder.runs_file.open("rb") as stream:
        stream.seek(told)
        fresh = stream.read()
    whole = fresh[: fresh.rfind(b"\n") + 1]
    for raw in whole.splitlines():
        with contextlib.suppress(ValueError):
            progress.done([json.loads(raw)])
    return told + len(whole)


def _at_hand(folder: Folder) -> str:
    """Say which runs the processes are at and in which epoch."""
    shown = []
    for path in sorted((folder.path / "work").glob("*/*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            record = json.loads(path.read_text(encoding="utf-8"))
            epochs = len(record.get("epochs") or [])
            shown.append(f"{record['model']} seed {record['seed']} epoch {epochs}")
    return f"at hand: {'; '.join(shown)}" if shown else ""

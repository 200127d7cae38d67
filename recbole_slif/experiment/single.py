"""One run of an experiment, from its plan to the line that records it."""

from __future__ import annotations

import secrets
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recbole_slif import stages
from recbole_slif.errors import CheckpointError, SlifError
from recbole_slif.experiment.folder import Folder
from recbole_slif.experiment.plan import PlannedRun
from recbole_slif.experiment.pool import DataPool
from recbole_slif.interrupt import TrainingStoppedError
from recbole_slif.records import RunRecord, plain, read_record


def run_one(
    run: PlannedRun,
    folder: Folder,
    pool: DataPool,
    command: Sequence[str] = (),
    on_epoch: Callable[[Any], None] | None = None,
    debug: bool = False,
) -> dict[str, Any]:
    """Train and test a planned run, going on from its last epoch if a kill left one.

    Args:
        run: what is to be run.
        folder: where its checkpoints and per-user metrics go.
        pool: loaded data.
        command: how the experiment was started.
        on_epoch: called with the trainer after each validated epoch.
        debug: print the traceback of a run that fails.

    Returns:
        The run's record, `finished` or `failed`, with `settings_hash`, `noise` and `per_user`.

    Raises:
        TrainingStoppedError: Ctrl-C or SIGTERM; the run's last epoch is kept.
    """
    work = folder.work(run.settings_hash)
    places = {"checkpoint_dir": str(work), "record_dir": str(work)}
    config = run.recipe.config(**places)
    per_user: list[str] = []

    def keep(trainer: Any, bundle: Any) -> None:
        values = trainer.blocked.latest_per_user(bundle.test_data)
        if values is not None:
            per_user.append(folder.write_per_user(run.settings_hash, values))

    hooks = stages.Hooks(lambda settings: pool.bundle(settings, run.noise), on_epoch, keep)
    try:
        content = _executed(config, work, command, hooks)
    except TrainingStoppedError:
        raise
    except Exception as error:
        if debug:
            traceback.print_exc(file=sys.stderr)
        content = _failed(config, work, command, error)
    return {
        **content,
        "settings_hash": run.settings_hash,
        "noise": str(run.noise) if run.noise else None,
        "per_user": per_user[0] if per_user else None,
    }


def _executed(
    config: Any, work: Path, command: Sequence[str], hooks: stages.Hooks
) -> dict[str, Any]:
    left = sorted(work.glob("*/last.pt"), key=lambda path: path.stat().st_mtime)
    if left:
        try:
            result = stages.execute(config, left[-1], command=command, verbose=False, hooks=hooks)
        except CheckpointError:
            pass  # of another version, or damaged: the run begins anew
        else:
            return _record(result.record)
    result = stages.execute(config, command=command, verbose=False, hooks=hooks)
    return _record(result.record)


def _record(path: Path | None) -> dict[str, Any]:
    if path is None:
        raise SlifError("the run left no record")
    return read_record(path)


def _failed(config: Any, work: Path, command: Sequence[str], error: Exception) -> dict[str, Any]:
    """Return the record of a failed run: its own, or one that says what was to be run."""
    text = str(error) if isinstance(error, SlifError) else f"{type(error).__name__}: {error}"
    records = sorted(work.glob("*.json"), key=lambda path: path.stat().st_mtime)
    if records:
        content = read_record(records[-1])
    else:
        # of its own: machines that share a storage tell by it which lines they have
        run_id = f"none-{secrets.token_hex(6)}"
        content = plain(RunRecord(config, run_id, command).content)
    return {**content, "status": "failed", "error": " ".join(text.split()) or "unknown"}

"""The folder of a run: one process at a time, no half-written files, one checkpoint in reserve."""

from __future__ import annotations

import os
from pathlib import Path

from recbole_slif.atomic_files import make_folder, remove_halves
from recbole_slif.checkpoint import BEST, LAST, Checkpoint, load, resolve
from recbole_slif.errors import CheckpointError

try:
    import fcntl
except ImportError:  # Windows has no such locks; there nobody is kept out
    fcntl = None  # type: ignore[assignment]


PREVIOUS = "previous.pt"


class RunFolder:
    """Holds a run folder from `take` to `release`; the system releases what a killed process held.

    Args:
        folder: holds `best.pt` and `last.pt`.
        records: holds the run's record.
    """

    def __init__(self, folder: Path, records: Path) -> None:
        self.folder, self.records = folder, records
        self._handle: int | None = None

    def take(self) -> RunFolder:
        """Make the folder, keep others out, remove half-written files.

        Raises:
            CheckpointError: another process is at this run.
            ConfigError: the folder cannot be made.
        """
        make_folder(self.folder, "set checkpoint_dir to a folder that can be")
        if fcntl is not None:
            self._handle = os.open(self.folder, os.O_RDONLY)
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self._close()
                raise CheckpointError(
                    f"run folder '{self.folder}' is in use by another process; stop that one, or "
                    "wait for its end"
                ) from error
            except OSError:
                pass  # a file system without locks
        self._tidy()
        return self

    def _tidy(self) -> None:
        record = self.records / f"{self.folder.name}.json"
        for path in (self.folder / BEST, self.folder / LAST, record):
            remove_halves(path)

    def release(self) -> None:
        """Let others in; a folder in which nothing was kept is removed."""
        if self._handle is not None:
            self._close()
            if not any(self.folder.iterdir()):
                self.folder.rmdir()

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def keep_previous(folder: Path) -> None:
    """Give `last.pt` the second name `previous.pt`, which it keeps when a new `last.pt` comes.

    Nothing is copied. On a file system without hard links there is no `previous.pt`.
    """
    last, between = folder / LAST, folder / f".{LAST}.{os.getpid()}"
    try:
        os.link(last, between)
        os.replace(between, folder / PREVIOUS)
    except OSError:
        pass
    finally:  # two names of one file are both left by a rename, as after a kill at this place
        between.unlink(missing_ok=True)


def load_last(path: Path | str) -> tuple[Path, Checkpoint, str | None]:
    """Read what a run goes on from: `last.pt`, or `previous.pt` where that one is damaged.

    Args:
        path: a run folder or a checkpoint in it.

    Returns:
        The file, its content, and what was wrong with `last.pt` if it was not taken.

    Raises:
        CheckpointError: there is no usable file.
    """
    file = resolve(path, (LAST, PREVIOUS))
    try:
        return file, load(file), None
    except CheckpointError as error:
        earlier = file.with_name(PREVIOUS)
        if file.name != LAST or not earlier.is_file():
            raise
        try:
            return earlier, load(earlier), str(error)
        except CheckpointError:
            raise error from None


def folder_of(path: Path | str) -> Path:
    """Return the run folder that `path`, a checkpoint or the folder itself, belongs to."""
    path = Path(path)
    return path if path.is_dir() else path.parent

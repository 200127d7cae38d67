"""A folder of files that lives as long as a `with` block, such as what is sorted on disk."""

from __future__ import annotations

import abc
import contextlib
import shutil
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from recbole_slif.errors import DataError

JOURNAL = "journal"
Self = TypeVar("Self", bound="ScratchFolder")


class ScratchFolder(abc.ABC):
    """Base of what keeps its rows in a folder of its own.

    Args:
        folder: Made afresh, unless what a stopped run left there is gone on with; anything else
            there is removed. Folders above it that were not there go again if nothing else came
            into them, so that a command that is refused leaves no empty `--out`.

    Attributes:
        folder: That folder, for files of the caller's as well.
    """

    kept = "rows"  # what is kept there, for messages
    resumes = False  # whether a stop leaves the folder for the next run

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._above: list[Path] = []

    def _left(self) -> bool:
        """Tell whether the folder holds what this run goes on with."""
        return False

    @abc.abstractmethod
    def _open(self) -> None:
        """Open the files in the folder, which has just been made or was left for this run."""

    @abc.abstractmethod
    def _close(self) -> None:
        """Close the files, those that are closed already too."""

    def __enter__(self: Self) -> Self:
        """Make the folder."""
        try:
            if not self._left():
                shutil.rmtree(self.folder, ignore_errors=True)
                self._above = [path for path in self.folder.parents if not path.exists()]
                self.folder.mkdir(parents=True)
            self._open()
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be made ({error.strerror})") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the folder, but not where the block was stopped and the next run goes on.

        Raises:
            DataError: The block ended because the disk is full or cannot be written.
        """
        self._close()
        stopped = kind is not None and not issubclass(kind, Exception)
        if not (stopped and self.resumes):
            # First, so that half a removal is not taken for what a run goes on with.
            (self.folder / JOURNAL).unlink(missing_ok=True)
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # the first that is not empty
                for path in self._above:
                    path.rmdir()
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise DataError(
                f"{self.folder}: {self.kept} cannot be kept there ({reason})"
            ) from error

"""A folder of files that lives as long as a `with` block, such as what is sorted on disk."""

from __future__ import annotations

import abc
import shutil
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from recbole_slif.errors import DataError

Self = TypeVar("Self", bound="ScratchFolder")


class ScratchFolder(abc.ABC):
    """Base of what keeps its rows in a folder of its own.

    Args:
        folder: Made afresh; what a killed run left there is removed.

    Attributes:
        folder: That folder, for files of the caller's as well.
    """

    kept = "rows"  # what is kept there, for messages

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abc.abstractmethod
    def _open(self) -> None:
        """Open the files in the folder, which has just been made."""

    @abc.abstractmethod
    def _close(self) -> None:
        """Close the files, those that are closed already too."""

    def __enter__(self: Self) -> Self:
        """Make the folder."""
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
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
        """Remove the folder.

        Raises:
            DataError: The block ended because the disk is full or cannot be written.
        """
        self._close()
        shutil.rmtree(self.folder, ignore_errors=True)
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise DataError(
                f"{self.folder}: {self.kept} cannot be kept there ({reason})"
            ) from error

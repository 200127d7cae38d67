"""Reads raw files into a store of rows, and goes on after a kill at the line where rows ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .faults import Faults
from .kept_folder import KeptFolder


class ResumedReading:
    """Keeps how far the files are read beside the rows of a store.

    Args:
        store: Receives the rows; its `place` is set.
        paths: Files, read one after the other.
        faults: Receives what a killed run had found.
        counts: Likewise.

    Attributes:
        line: Number of the line under way; the caller sets it before each row.
    """

    def __init__(
        self, store: KeptFolder, paths: Sequence[Path], faults: Faults, counts: Counter[str]
    ) -> None:
        self._store, self._paths = store, paths
        self.faults, self.counts = faults, counts
        self._file, self.line, self._whole = 0, 0, False
        left = store.left_place()
        if left is not None:
            self._file, self.line, self._whole = left["file"], left["line"], left["whole"]
            faults.take(left["faults"])
            counts.update(left["counts"])
        store.place = self._place

    def _place(self) -> dict[str, Any]:
        return {
            "file": self._file,
            "line": self.line,
            "faults": self.faults.report(),
            "counts": dict(self.counts),
        }

    def files(self) -> Iterator[tuple[Path, int]]:
        """Yield the files that are not read whole, each with the line behind which to begin."""
        first, after = len(self._paths) if self._whole else self._file, self.line
        for number in range(first, len(self._paths)):
            self._file, self.line = number, after
            yield self._paths[number], after
            after = 0
        if not self._whole:
            self._store.finish()
            self._whole = True

    def end_file(self) -> None:
        """Note that the file under way is read whole: what is kept now goes on behind it."""
        self._file, self.line = self._file + 1, 0

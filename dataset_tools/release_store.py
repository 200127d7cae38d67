"""The rows and names of a release's files on disk, sorted, whatever their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .faults import KEPT
from .kept_folder import KeptFolder
from .marks import Marks
from .number_file import NumberFile, NumberWriter, distinct_runs, merge_distinct
from .token_order import SortedTokens


class ReleaseStore(KeptFolder):
    """Rows of three numbers, of several kinds, in a folder that lives as long as the `with` block.

    Args:
        folder: Where it lies.
        identity: See `KeptFolder`.
    """

    def __init__(self, folder: Path, identity: dict[str, Any] | None = None) -> None:
        super().__init__(folder, identity)
        self._ends: dict[str, list[int]] = {}
        self._bytes: dict[str, int] = {}

    def _open(self) -> None:
        self.journal.open()
        for entry in self.journal.entries:
            if "runs" in entry:
                self._note(entry["runs"], entry["ends"], entry["bytes"])

    def _close(self) -> None:
        self.journal.close()

    def _note(self, kind: str, ends: Sequence[int], size: int) -> None:
        self._ends.setdefault(kind, []).extend(ends)
        self._bytes[kind] = size

    def take(self, kind: str, columns: Sequence[np.ndarray], names: Sequence[str] = ()) -> None:
        """Keep rows and how far the caller has read.

        Args:
            kind: Of the rows; begins the names of their files.
            columns: Their three numbers, `[n]` uint32 each.
            names: Texts without line ends, which are numbered in the order in which they come.
        """
        if not len(columns[0]):
            return
        size, ends = self._bytes.get(kind, 0), []
        files = [f"{kind}.runs"]
        with NumberWriter(self.folder / files[0], self._rows(kind)) as out:
            for run in distinct_runs(columns):
                out.write(run)
                ends.append(out.size)
        if names:
            files.append(f"{kind}.texts")
            with (self.folder / files[1]).open("r+b" if size else "wb") as texts:
                texts.seek(size)
                texts.truncate()
                texts.write(("\n".join(names) + "\n").encode())
                size = texts.tell()
        self._note(kind, ends, size)
        self.journal.add(files, runs=kind, ends=ends, bytes=size, place=self.place(), whole=False)

    def _rows(self, kind: str) -> int:
        return self._ends[kind][-1] if kind in self._ends else 0

    def take_names(
        self, kind: str, ids: np.ndarray, lines: np.ndarray, names: Sequence[str]
    ) -> None:
        """Keep names of a list, each with its id and line number, `[n]` uint32."""
        first = self._rows(kind)
        numbers = np.arange(first, first + len(names), dtype=np.uint32)
        self.take(kind, (ids, lines, numbers), names)

    def finish(self) -> None:
        """Keep that all is read; no row can be added afterwards."""
        self.journal.add(place=self.place(), whole=True)

    def rows(self, kind: str) -> NumberFile:
        """Return the distinct rows of a kind, sorted, after `finish`."""
        path, runs = self.folder / kind, self.folder / f"{kind}.runs"
        if not self._rows(kind):
            path.touch()
        elif self.journal.last(kind) is None:
            merge_distinct(runs, self._ends[kind], path, kind)
            entry: dict[str, Any] = {kind: True}
            self.journal.add([kind], [runs.name], **entry)
        runs.unlink(missing_ok=True)
        return NumberFile(path)

    def names(self, kind: str) -> ListedNames:
        """Return the names of a list, after `finish`."""
        return ListedNames(self.rows(kind), self.folder / f"{kind}.texts")


class ListedNames:
    """The names of a list by their ids; of two lines for one id the first counts.

    Args:
        rows: Id, line and number of each name, sorted.
        path: The names.
    """

    def __init__(self, rows: NumberFile, path: Path) -> None:
        self._rows = rows
        self._texts = SortedTokens.of_lines(path) if len(rows) else None

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._rows)

    @property
    def width(self) -> int:
        """How many names a line has."""
        if self._texts is None:
            return 0
        return self._texts.texts(np.zeros(1))[0].count("\t") + 1

    def again(self) -> tuple[int, list[int]]:
        """Return how many lines have the id of an earlier one, and the first of these lines."""
        count, lines = 0, np.empty(0, dtype=np.uint32)
        for rows, new in self._firsts("look for ids listed again"):
            lines = np.sort(np.concatenate([lines, rows[~new, 1]]))[:KEPT]
            count += len(rows) - int(new.sum())
        return count, lines.tolist()

    def pieces(
        self, what: str, wanted: Marks | None = None
    ) -> Iterator[tuple[np.ndarray, list[str]]]:
        """Yield ids `[n]` in order and their names, some at a time.

        Args:
            what: What is done with them, for the bar.
            wanted: Ids to give; None gives all.
        """
        if self._texts is None:
            return
        for rows, new in self._firsts(what):
            rows = rows[new if wanted is None else new & wanted.of(rows[:, 0])]
            yield rows[:, 0], self._texts.texts(rows[:, 2])

    def _firsts(self, what: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows, and `[n]` which of them are the first of an id."""
        last = -1
        for rows in self._rows.chunks(what):
            ids = rows[:, 0].astype(np.int64)
            yield rows, np.diff(ids, prepend=last) != 0
            last = int(ids[-1])

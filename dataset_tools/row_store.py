"""Any number of interactions on disk: numbered by their tokens, sorted, one kept of each pair.

Rows are sorted in runs that are then merged in pieces: memory grows neither with the rows nor with
the distinct ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .core_split import best_rows
from .kept_folder import KeptFolder
from .progress import bar
from .row_file import ROW, RowFile, RowWriter
from .sorted_runs import merged_runs
from .token_order import SortedTokens, TokenSorter

# A batch ends at so many rows, or so many characters of their tokens.
_BATCH, _BATCH_CHARS = 1 << 17, 32 << 20
# Rows that are sorted at once, and rows in memory while runs are merged.
_SORTED, _MERGED, _LEAST_PIECE = 1 << 20, 1 << 20, 1 << 8


class RowStore(KeptFolder):
    """Rows of user, item, rating and time in a folder that lives as long as the `with` block.

    Args:
        folder: Where it lies.
        identity: See `KeptFolder`.

    Attributes:
        size: Rows so far.
    """

    def __init__(self, folder: Path, identity: dict[str, Any] | None = None) -> None:
        super().__init__(folder, identity)
        self.size = 0
        self._rows: list[tuple[str, str, float, float]] = []
        self._chars = 0
        self._batches: list[int] = []

    def _open(self) -> None:
        self.journal.open()
        kept = [entry for entry in self.journal.entries if "batch" in entry]
        self._batches = [entry["batch"] for entry in kept]
        self.size = sum(self._batches)
        sorted_already = self.journal.last("sorted") is not None
        self._file = RowWriter(self.folder / "rows", 0 if sorted_already else self.size)
        self._users, self._items = (
            TokenSorter(self.folder, name, [entry[name] for entry in kept])
            for name in ("user", "item")
        )

    def _close(self) -> None:
        for file in (self._users, self._items, self._file, self.journal):
            file.close()

    def add(self, user: str, item: str, rating: float, time: float) -> None:
        """Append a row; tokens hold no tab and no line end."""
        self._rows.append((user, item, rating, time))
        self._chars += len(user) + len(item)
        if len(self._rows) >= _BATCH or self._chars >= _BATCH_CHARS:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        users, items, ratings, times = zip(*self._rows, strict=True)
        self._rows.clear()
        rows = np.empty(len(users), dtype=ROW)
        rows["user"], rows["item"] = self._users.add(users), self._items.add(items)
        rows["rating"], rows["time"] = ratings, times
        self._file.write(rows)
        self._batches.append(len(rows))
        self.size += len(rows)
        self._chars = 0
        self._file.flush()
        tokens: dict[str, Any] = {s.name: s.last() for s in (self._users, self._items)}
        files = ("rows", "user.runs", "item.runs")
        self.journal.add(files, batch=len(rows), **tokens, place=self.place(), whole=False)

    def finish(self) -> None:
        """Write what is still in memory; no row can be added afterwards."""
        self._flush()
        self._file.close()
        self.journal.add(place=self.place(), whole=True)

    def pairs(self, latest: bool) -> tuple[RowFile, SortedTokens, SortedTokens]:
        """Sort all rows by user and item, and keep one of each pair (see `best_rows`).

        Args:
            latest: False keeps the earliest.

        Returns:
            Rows whose users and items are numbers of the tokens beside them.
        """
        users, items = self._merged(self._users), self._merged(self._items)
        done = self.journal.last("sorted")
        ends = done["sorted"] if done else self._sorted_runs(latest, len(items))
        if not done:
            self.journal.add(["sorted"], ["rows", "user.ranks", "item.ranks"], sorted=ends)
        (self.folder / "rows").unlink(missing_ok=True)
        target, source = self.folder / "pairs", self.folder / "sorted"
        if len(ends) == 1:
            return RowFile(source), users, items
        if self.journal.last("pairs") is None:
            _merge(RowFile(source), ends, target, latest, len(items))
            self.journal.add(["pairs"], ["sorted"], pairs=True)
        source.unlink(missing_ok=True)
        return RowFile(target), users, items

    def _sorted_runs(self, latest: bool, n_items: int) -> list[int]:
        """Write sorted runs of distinct pairs; return where each ends."""
        rows = RowFile(self.folder / "rows")
        waiting: list[np.ndarray] = []
        ends: list[int] = []
        at = 0
        with (
            RowWriter(self.folder / "sorted") as out,
            bar(self.size * ROW.itemsize, "sort interactions") as shown,
        ):
            for batch, size in enumerate(self._batches):
                part = rows.read(at, at + size)
                at += size
                part["user"] = self._users.ranks(batch)[part["user"]]
                part["item"] = self._items.ranks(batch)[part["item"]]
                waiting.append(part)
                shown.update(part.nbytes)
                if sum(map(len, waiting)) >= _SORTED or at == self.size:
                    out.write(_distinct(waiting, latest, n_items))
                    ends.append(out.size)
                    waiting = []
        return ends


def _distinct(parts: Sequence[np.ndarray], latest: bool, n_items: int) -> np.ndarray:
    """Return one row of each pair of all parts, by user and item."""
    rows = np.concatenate(parts)
    pair = _pairs(rows, n_items)
    return rows[best_rows(pair, rows["rating"], rows["time"], latest)]


def _pairs(rows: np.ndarray, n_items: int) -> np.ndarray:
    """Return a number for each pair of user and item, `[n]`, in their order."""
    return rows["user"].astype(np.uint64) * np.uint64(n_items) + rows["item"]


def _merge(source: RowFile, ends: Sequence[int], target: Path, latest: bool, n_items: int) -> None:
    """Merge sorted runs, each without repeated pairs, into one such file."""
    piece = max(_MERGED // len(ends), _LEAST_PIECE)

    def last_pair(rows: np.ndarray) -> np.uint64:
        return _pairs(rows[-1:], n_items)[0]

    def up_to(rows: np.ndarray, pair: np.uint64) -> int:
        return int(np.searchsorted(_pairs(rows, n_items), pair, side="right"))

    with (
        RowWriter(target) as out,
        bar(len(source) * ROW.itemsize, "merge interactions") as shown,
    ):
        for parts in merged_runs(source, ends, piece, last_pair, up_to):
            out.write(_distinct(parts, latest, n_items))
            shown.update(sum(part.nbytes for part in parts))

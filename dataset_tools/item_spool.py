"""What a raw file says of its items, on disk, read back one entry an item in canonical order.

Memory holds about thirty bytes for each entry, not the entry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .faults import Faults
from .kept_folder import KeptFolder
from .progress import bar
from .token_order import TokenSorter

# A batch ends at so many entries, or so many characters of their items, or so many bytes of them.
_BATCH, _BATCH_CHARS, _BATCH_BYTES = 1 << 17, 16 << 20, 32 << 20
_AT_ONCE = 1 << 14
# No cell holds it: lines with one are faults, and texts are cleaned of it.
_BETWEEN = "\0"
# Where an entry ends, its line, the number of its file, and of its item in its batch.
_INDEX = np.dtype([("end", "<i8"), ("line", "<i8"), ("file", "<u2"), ("item", "<u4")])
_FILES = ("entries", "index", "item.runs")
Cells = list[str]


class ItemSpool(KeptFolder):
    """Entries of items in a folder that lives as long as the `with` block.

    Args:
        folder: Where it lies.
        identity: See `KeptFolder`.
    """

    kept = "entries"

    def __init__(self, folder: Path, identity: dict[str, Any] | None = None) -> None:
        super().__init__(folder, identity)
        self._batches: list[int] = []
        self._waiting: list[str] = []
        self._index: list[tuple[int, int, int]] = []
        self._paths: list[Path] = []
        self._chars = 0

    def _open(self) -> None:
        self.journal.open()
        kept = [entry for entry in self.journal.entries if "batch" in entry]
        self._batches = [entry["batch"] for entry in kept]
        self._paths = [Path(path) for path in kept[-1]["paths"]] if kept else []
        self._end = self._kept_end = kept[-1]["end"] if kept else 0
        rows = sum(self._batches)
        self._file, self._index_file = (
            (self.folder / name).open("r+b" if kept else "w+b") for name in _FILES[:2]
        )
        for file, size in ((self._file, self._end), (self._index_file, rows * _INDEX.itemsize)):
            file.seek(size)
            file.truncate()
        self._items = TokenSorter(self.folder, "item", [entry["item"] for entry in kept])

    def _close(self) -> None:
        for file in (self._items, self._file, self._index_file, self.journal):
            file.close()

    def add(self, item: str, cells: Sequence[str], path: Path, line: int) -> None:
        """Append an entry; cells hold no NUL.

        Args:
            item: Token.
            cells: What is known of it, at least one.
            path: The file that says so.
            line: Its line.
        """
        data = _BETWEEN.join(cells).encode("utf-8", "surrogatepass")
        self._file.write(data)
        self._end += len(data)
        if not self._paths or self._paths[-1] != path:
            self._paths.append(path)
        self._index.append((self._end, line, len(self._paths) - 1))
        self._waiting.append(item)
        self._chars += len(item)
        if (
            len(self._waiting) >= _BATCH
            or self._chars >= _BATCH_CHARS
            or self._end - self._kept_end >= _BATCH_BYTES
        ):
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows = np.empty(len(self._index), dtype=_INDEX)
        rows["end"], rows["line"], rows["file"] = zip(*self._index, strict=True)
        rows["item"] = self._items.add(self._waiting)
        self._waiting, self._index, self._chars = [], [], 0
        self._index_file.write(rows.tobytes())
        for file in (self._file, self._index_file):
            file.flush()
        self._batches.append(len(rows))
        self._kept_end = self._end
        self.journal.add(
            _FILES,
            batch=len(rows),
            item=self._items.last(),
            end=self._end,
            paths=[str(path) for path in self._paths],
            place=self.place(),
            whole=False,
        )

    def finish(self) -> None:
        """Write what is still in memory; no entry can be added afterwards."""
        self._flush()
        self.journal.add(place=self.place(), whole=True)

    def sort(self, faults: Faults, twice: str) -> None:
        """Sort the items, after `finish`.

        Args:
            faults: Receives the entries of an item that has one already.
            twice: What they are called there.
        """
        self._names = self._merged(self._items)
        index = np.fromfile(self.folder / "index", dtype=_INDEX)
        self._ends = np.concatenate([[0], index["end"]])
        firsts = np.cumsum([0, *self._batches])
        ranks = np.empty(len(index), dtype=np.uint32)
        for batch, (start, stop) in enumerate(pairwise(firsts)):
            ranks[start:stop] = self._items.ranks(batch)[index["item"][start:stop]]
        self._order = np.argsort(ranks, kind="stable")
        self._ranks = ranks[self._order]
        again = self._order[1:][self._ranks[1:] == self._ranks[:-1]]
        for row in np.sort(again).tolist():
            faults.add(twice, self._paths[index["file"][row]], int(index["line"][row]))

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._names)

    def count_in(self, known: Collection[str]) -> int:
        """Return how many of the items are known."""
        return sum(token in known for _, texts in self._names.pieces() for token in texts)

    def rows(
        self, what: str, choose: Callable[[list[Cells]], Cells] = min, first: int = 0
    ) -> Iterator[tuple[str, Cells]]:
        """Yield each item and its entry, shorter tokens first, then by alphabet.

        Args:
            what: What is done with them, for the bar.
            choose: Of several entries of an item.
            first: Items to leave out at the beginning.
        """
        start = int(np.searchsorted(self._ranks, first))
        before = self._order[:start]
        done = int((self._ends[before + 1] - self._ends[before]).sum())
        with bar(int(self._ends[-1]), what, start=done) as shown:
            found = self._entries(start, shown.update)
            for rank, entries in groupby(found, key=lambda entry: entry[0]):
                cells = [cells for _, cells in entries]
                yield self._name(rank), cells[0] if len(cells) == 1 else choose(cells)

    def _name(self, rank: int) -> str:
        """Return an item's token; those after it are read along."""
        first = rank - rank % _AT_ONCE
        if getattr(self, "_named_from", -1) != first:
            numbers = np.arange(first, min(first + _AT_ONCE, len(self._names)))
            self._named, self._named_from = self._names.texts(numbers), first
        return self._named[rank - first]

    def _entries(self, first: int, tell: Callable[[int], object]) -> Iterator[tuple[int, Cells]]:
        """Yield rank and cells of each entry, in order of rank, from a place in that order on."""
        for start in range(first, len(self._order), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            rows = self._order[part]
            ends, starts = self._ends[rows + 1].tolist(), self._ends[rows].tolist()
            for rank, begin, end in zip(self._ranks[part].tolist(), starts, ends, strict=True):
                self._file.seek(begin)
                data = self._file.read(end - begin)
                yield rank, data.decode("utf-8", "surrogatepass").split(_BETWEEN)
            tell(sum(ends) - sum(starts))

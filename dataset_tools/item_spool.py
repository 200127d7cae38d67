"""What a raw file says of its items, on disk, read back one entry an item in canonical order.

Memory holds about thirty bytes for each entry, not the entry.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from .faults import Faults
from .progress import bar
from .scratch_folder import ScratchFolder
from .token_order import NumberedTokens

_AT_ONCE = 1 << 14
# No cell holds it: lines with one are faults, and texts are cleaned of it.
_BETWEEN = "\0"
Cells = list[str]


class ItemSpool(ScratchFolder):
    """Entries of items in a folder that lives as long as the `with` block.

    Args:
        folder: Made afresh; what a killed run left there is removed.
    """

    kept = "entries"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._ends, self._lines, self._files = array("q", [0]), array("q"), array("H")
        self._paths: list[Path] = []

    def _open(self) -> None:
        self._file = (self.folder / "entries").open("w+b")
        self._items = NumberedTokens(self.folder, "item")

    def _close(self) -> None:
        self._items.close()
        self._file.close()

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
        self._ends.append(self._ends[-1] + len(data))
        self._lines.append(line)
        if not self._paths or self._paths[-1] != path:
            self._paths.append(path)
        self._files.append(len(self._paths) - 1)
        self._items.add(item)

    def finish(self, faults: Faults, twice: str) -> None:
        """Sort the items; no entry can be added afterwards.

        Args:
            faults: Receives the entries of an item that has one already.
            twice: What they are called there.
        """
        self._file.flush()
        self._names, self._ranks = self._items.finish()
        self._order = np.argsort(self._ranks, kind="stable")
        sorted_ranks = self._ranks[self._order]
        again = self._order[1:][sorted_ranks[1:] == sorted_ranks[:-1]]
        for row in np.sort(again).tolist():
            faults.add(twice, self._paths[self._files[row]], self._lines[row])

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._names)

    def rows(
        self, what: str, choose: Callable[[list[Cells]], Cells] = min
    ) -> Iterator[tuple[str, Cells]]:
        """Yield each item and its entry, shorter tokens first, then by alphabet.

        Args:
            what: What is done with them, for the bar.
            choose: Of several entries of an item.
        """
        with bar(self._ends[-1], what) as shown:
            for rank, entries in groupby(self._entries(shown.update), key=lambda entry: entry[0]):
                found = [cells for _, _, cells in entries]
                yield self._name(rank), found[0] if len(found) == 1 else choose(found)

    def _name(self, rank: int) -> str:
        """Return an item's token; those after it are read along."""
        first = rank - rank % _AT_ONCE
        if getattr(self, "_named_from", -1) != first:
            numbers = np.arange(first, min(first + _AT_ONCE, len(self._names)))
            self._named, self._named_from = self._names.texts(numbers), first
        return self._named[rank - first]

    def _entries(self, tell: Callable[[int], object]) -> Iterator[tuple[int, int, Cells]]:
        """Yield rank, row and cells of each entry."""
        for start in range(0, len(self._order), _AT_ONCE):
            rows = self._order[start : start + _AT_ONCE]
            size = 0
            for rank, row in zip(self._ranks[rows].tolist(), rows.tolist(), strict=True):
                self._file.seek(self._ends[row])
                data = self._file.read(self._ends[row + 1] - self._ends[row])
                size += len(data)
                yield rank, row, data.decode("utf-8", "surrogatepass").split(_BETWEEN)
            tell(size)

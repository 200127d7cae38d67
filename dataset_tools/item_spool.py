"""What a raw file says of its items, on disk, read back one entry an item in canonical order.

Memory holds about thirty bytes for each entry, not the entry.
"""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from types import TracebackType

import numpy as np

from recbole_slif.errors import DataError

from .faults import Faults
from .progress import bar
from .token_order import SortedTokens, TokenSorter

_BATCH, _AT_ONCE = 1 << 17, 1 << 14
# No cell holds it: lines with one are faults, and texts are cleaned of it.
_BETWEEN = "\0"
Cells = list[str]


class ItemSpool:
    """Entries of items in a folder that lives as long as the `with` block.

    Args:
        folder: Made afresh; what a killed run left there is removed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ends, self._lines, self._files = array("q", [0]), array("q"), array("H")
        self._paths: list[Path] = []
        self._tokens: list[str] = []
        self._places: list[np.ndarray] = []

    def __enter__(self) -> ItemSpool:
        """Make the folder."""
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self._file = (self.folder / "entries").open("w+b")
            self._sorter = TokenSorter(self.folder, "item")
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
        self._sorter.close()
        self._file.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise DataError(f"{self.folder}: entries cannot be kept there ({reason})") from error

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
        self._tokens.append(item)
        if len(self._tokens) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        self._places.append(self._sorter.add(self._tokens))
        self._tokens.clear()

    def finish(self, faults: Faults, twice: str) -> None:
        """Sort the items; no entry can be added afterwards.

        Args:
            faults: Receives the entries of an item that has one already.
            twice: What they are called there.
        """
        if self._tokens:
            self._flush()
        self._file.flush()
        self._names: SortedTokens = self._sorter.merge()
        ranks = [self._sorter.ranks(batch)[place] for batch, place in enumerate(self._places)]
        self._places.clear()
        self._ranks = np.concatenate([np.empty(0, dtype=np.uint32), *ranks])
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

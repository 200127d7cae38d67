"""The text files of the KGAT, KGIN and KGCL releases: lists of items, of names, and triples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from .faults import Faults
from .reading import read_lines, read_text

_DIGITS = 9


@dataclass(frozen=True)
class Pairs:
    """Interactions of one file, sorted by user and item.

    Attributes:
        users: `[n]` ids.
        items: `[n]` ids.
        repeated: Pairs that were left out because they had been there before.
        empty: Users listed without an item.
    """

    users: np.ndarray
    items: np.ndarray
    repeated: int
    empty: int


def _ids(line: bytes) -> list[int] | None:
    """Return the whole numbers of a line, or None if it holds anything else."""
    cells = line.split()
    if all(cell.isdigit() and len(cell) <= _DIGITS for cell in cells):
        return [int(cell) for cell in cells]
    return None


def read_lists(path: Path, faults: Faults) -> Pairs:
    """Read lines of a user id and its item ids.

    Raises:
        DataError: The file cannot be read.
    """
    users: list[int] = []
    counts: list[int] = []
    items: list[int] = []
    for number, line in read_lines(path, faults):
        ids = _ids(line)
        if ids is None:
            faults.add("lines that are not whole numbers", path, number)
            continue
        users.append(ids[0])
        counts.append(len(ids) - 1)
        items += ids[1:]
    owners = np.repeat(np.array(users, dtype=np.int64), np.array(counts, dtype=np.int64))
    pairs = np.unique(np.stack([owners, np.array(items, dtype=np.int64)]), axis=1)
    return Pairs(pairs[0], pairs[1], len(items) - pairs.shape[1], counts.count(0))


def read_triples(path: Path, faults: Faults) -> tuple[np.ndarray, int]:
    """Read lines of head, relation and tail id.

    Returns:
        `[n, 3]` distinct triples in ascending order, and the number of repeated ones.

    Raises:
        DataError: The file cannot be read.
    """
    found: list[int] = []
    for number, line in read_lines(path, faults):
        ids = _ids(line)
        if ids is None or len(ids) != 3:
            faults.add("lines that are not three whole numbers", path, number)
        else:
            found += ids
    triples = np.array(found, dtype=np.int64).reshape(-1, 3)
    distinct = np.unique(triples, axis=0)
    return distinct, len(triples) - len(distinct)


@dataclass(frozen=True)
class Names:
    """A list file: the release's id of each thing and what it was called before.

    Attributes:
        original: Id to original id.
        freebase: Id to Freebase id, where the list has that column.
    """

    original: dict[int, str]
    freebase: dict[int, str]


def _parted(cells: list[str]) -> list[str]:
    """Part `abc 7abc` into `abc`, `7`, `abc`: Yelp's item list lacks that blank throughout."""
    if len(cells) == 2 and len(cells[1]) > len(cells[0]) and cells[1].endswith(cells[0]):
        return [cells[0], cells[1][: -len(cells[0])], cells[0]]
    return cells


def read_names(path: Path, faults: Faults) -> Names:
    """Read `user_list.txt`, `item_list.txt`, `entity_list.txt` or `relation_list.txt`.

    The first line names the columns, `org_id remap_id` or `org_id remap_id freebase_id`; where it
    names none it is data of that width. Of two lines for one id the first counts. A file that is
    absent gives no names.
    """
    names = Names({}, {})
    if not path.is_file():
        return names
    lines: Iterator[tuple[int, str]] = read_text(path, faults)
    first = next(lines, (0, ""))
    width = len(first[1].split())
    if "remap_id" not in first[1].split():
        lines = chain([first], lines)
    for number, line in lines:
        # An original id may hold blanks, but only where it is followed by one column.
        cells = line.rsplit(maxsplit=1) if width == 2 else _parted(line.split())
        if len(cells) != width or not cells[1].isdigit() or len(cells[1]) > _DIGITS:
            faults.add("lines that do not fit the header", path, number)
            continue
        if int(cells[1]) in names.original:
            faults.add("ids listed again", path, number)
            continue
        names.original[int(cells[1])] = " ".join(cells[0].split())
        if width > 2:
            names.freebase[int(cells[1])] = cells[2]
    return names

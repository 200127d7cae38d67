"""The text files of the KGAT, KGIN and KGCL releases: lists of items, of names, and triples."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from .faults import Faults
from .reading import read_lines, read_text

# Nine digits fit 32 bits, and two such ids a key of 64.
_DIGITS, _SHIFT = 9, 32


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
    users, counts, items = array("i"), array("q"), array("i")
    for number, line in read_lines(path, faults):
        ids = _ids(line)
        if ids is None:
            faults.add("lines that are not whole numbers", path, number)
            continue
        users.append(ids[0])
        counts.append(len(ids) - 1)
        items.extend(ids[1:])
    owners = np.repeat(np.array(users, dtype=np.int64), np.array(counts, dtype=np.int64))
    found = distinct_pairs(owners, np.array(items, dtype=np.int64))
    return Pairs(*found, len(items) - len(found[0]), counts.count(0))


def distinct_pairs(users: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct pairs of `[n]` ids, sorted by user and item."""
    keys = np.unique(users << _SHIFT | items)
    return keys >> _SHIFT, keys & ((1 << _SHIFT) - 1)


def read_triples(path: Path, faults: Faults) -> tuple[np.ndarray, int]:
    """Read lines of head, relation and tail id.

    Returns:
        `[n, 3]` int32 distinct triples in ascending order, and the number of repeated ones.

    Raises:
        DataError: The file cannot be read.
    """
    found = array("i")
    for number, line in read_lines(path, faults):
        ids = _ids(line)
        if ids is None or len(ids) != 3:
            faults.add("lines that are not three whole numbers", path, number)
        else:
            found.extend(ids)
    triples = np.array(found, dtype=np.int32).reshape(-1, 3)
    del found
    total = len(triples)
    triples = triples[np.lexsort(triples.T[::-1])]
    new = np.ones(total, dtype=bool)
    new[1:] = (triples[1:] != triples[:-1]).any(axis=1)
    return triples[new], total - int(new.sum())


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

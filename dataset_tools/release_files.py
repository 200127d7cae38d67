"""The text files of the KGAT, KGIN and KGCL releases: lists of items, of names, and triples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .faults import Faults
from .reading import read_lines, read_text

Ids = list[int] | np.ndarray

GRAPHS = ("kg_final.txt", "kg.txt")
LISTS = ("user", "item", "entity", "relation")
# Nine digits fit the 32 bits that an id has on disk.
_DIGITS = 9
_WHOLE_NUMBERS = b"0123456789 \t\n\r\v\f"
_TOO_LONG = re.compile(rb"[0-9]{%d}" % (_DIGITS + 1))
# The cells of a longer line are not held as objects, which take twenty times its bytes.
_LONG_LINE = 1 << 16
_MOST_COLUMNS = 1 << 10


def _ids(line: bytes, most: int = -1) -> Ids | None:
    """Return the whole numbers of a line, or None if it holds anything else or more of them."""
    if most < 0 and len(line) > _LONG_LINE:
        if line.translate(None, _WHOLE_NUMBERS) or _TOO_LONG.search(line):
            return None
        return np.fromstring(line, dtype=np.uint32, sep=" ")
    cells = line.split(None, most)
    if b"".join(cells).isdigit() and max(map(len, cells)) <= _DIGITS:
        return list(map(int, cells))
    return None


def read_lists(path: Path, faults: Faults, after: int = 0) -> Iterator[tuple[int, Ids]]:
    """Yield line number and ids, a user and its items, of the lines behind a line.

    Raises:
        DataError: The file cannot be read.
    """
    for number, line in read_lines(path, faults, after):
        ids = _ids(line)
        if ids is None:
            faults.add("lines that are not whole numbers", path, number)
        else:
            yield number, ids


def read_triples(path: Path, faults: Faults, after: int = 0) -> Iterator[tuple[int, Ids]]:
    """Yield line number and ids, head, relation and tail, of the lines behind a line.

    Raises:
        DataError: The file cannot be read.
    """
    for number, line in read_lines(path, faults, after):
        ids = _ids(line, 3)
        if ids is None or len(ids) != 3:
            faults.add("lines that are not three whole numbers", path, number)
        else:
            yield number, ids


def _parted(cells: list[str]) -> list[str]:
    """Part `abc 7abc` into `abc`, `7`, `abc`: Yelp's item list lacks that blank throughout."""
    if len(cells) == 2 and len(cells[1]) > len(cells[0]) and cells[1].endswith(cells[0]):
        return [cells[0], cells[1][: -len(cells[0])], cells[0]]
    return cells


def read_names(path: Path, faults: Faults, after: int = 0) -> Iterator[tuple[int, int, str]]:
    r"""Yield line number, id and names of `user_list.txt` and the like, behind a line.

    The first line names the columns, `org_id remap_id` or `org_id remap_id freebase_id`; where it
    names none it is data of that width. Names are the original id and, behind a tab, the Freebase
    id, where the list has that column; they hold no other tab and no line end.

    Raises:
        DataError: The file cannot be read.
    """
    columns = _columns(next(read_text(path, Faults()))[1]) if after else []
    for number, line in read_text(path, faults, after=after):
        if not columns:
            columns = _columns(line)
            if "remap_id" in columns:
                continue
        width = len(columns)
        # An original id may hold blanks, but only where it is followed by one column.
        cells = line.rsplit(maxsplit=1) if width == 2 else _parted(_columns(line))
        if not 2 <= len(cells) == width or not _is_id(cells[1]):
            faults.add("lines that do not fit the header", path, number)
            continue
        original = " ".join(cells[0].split())
        yield number, int(cells[1]), f"{original}\t{cells[2]}" if width > 2 else original


def _columns(line: str) -> list[str]:
    return line.split(None, _MOST_COLUMNS)


def _is_id(cell: str) -> bool:
    return cell.isdecimal() and len(cell) <= _DIGITS

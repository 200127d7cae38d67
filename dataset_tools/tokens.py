"""Item tokens of a data set, read from whichever of its files is at hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .faults import Faults
from .reading import read_atomic, read_text
from .reviews import column_places


def read_tokens(paths: Iterable[Path], field: str, faults: Faults) -> set[str]:
    """Return the distinct tokens of a field.

    Args:
        paths: Atomic files with that column (`.inter`, `.item`, `.link`), or `.ids` with one
            token a line.
        field: Name of the column, without type.
        faults: Receives lines of another width.

    Raises:
        DataError: A file cannot be read or lacks the column.
    """
    found: set[str] = set()
    for path in paths:
        if path.suffix == ".ids":
            found.update(line.strip() for _, line in read_text(path, faults))
            continue
        lines = read_atomic(path, faults)
        _, head = next(lines, (1, []))
        (place,) = column_places(path, head, [field])
        found.update(cells[place].strip() for _, cells in lines)
    found.discard("")
    return found


def canonical(tokens: Iterable[str]) -> list[str]:
    """Sort tokens by length, then alphabet: numbers ascend, and the order of lines is forgotten."""
    return sorted(tokens, key=lambda token: (len(token), token))

"""Reads atomic files of a data set in pieces, checked as training checks them, with a bar."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from recbole_slif.data.protocol import option
from recbole_slif.data.tables import Table, read_pieces

from .progress import bar


def pieces_of(
    path: Path,
    required: Collection[str],
    keep: Collection[str] | None = None,
    config: Any = None,
) -> Iterator[Table]:
    """Yield the tables of `read_pieces`.

    Args:
        path: The file.
        required: Fields that must be there.
        keep: Fields to read; None reads all.
        config: Keys `field_separator` and `encoding`; None takes a tab and UTF-8.

    Raises:
        DataError: The file is missing or malformed.
    """
    words = ("\t", "utf-8")
    if config is not None:
        words = (option(config, "field_separator", "\t"), option(config, "encoding", "utf-8"))
    size = path.stat().st_size if path.is_file() else None
    with bar(size, path.name) as shown:
        yield from read_pieces(path, *words, keep, (), required, shown.update)

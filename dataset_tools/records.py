"""Raw JSON lines as dictionaries: Amazon metadata (old dumps are Python), Yelp files."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbole_slif.errors import DataError

from .faults import Faults
from .reading import read_text
from .reviews import literal, token_of

_NO_JSON = "lines of broken JSON"
_NO_ID = "lines without an item id"


def read_records(
    path: Path, field: str, faults: Faults, after: int = 0
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield line number, item token and record of each line behind a line.

    Args:
        path: JSON lines, plain, gzip or zstd.
        field: Of the item's id.
        faults: Receives broken lines, and those without id.
        after: Line behind which to begin.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        msgspec = importlib.import_module("msgspec")
    except ImportError as error:
        raise DataError("reading JSON needs msgspec; pip install 'recbole-slif[tools]'") from error
    decoder = msgspec.json.Decoder()
    for number, line in read_text(path, faults, after=after):
        try:
            record = decoder.decode(line)
        except msgspec.DecodeError:
            record = literal(line)
        if not isinstance(record, dict):
            faults.add(_NO_JSON, path, number)
            continue
        token = token_of(record.get(field))
        if token:
            yield number, token, record
        else:
            faults.add(f"{_NO_ID} ('{field}')", path, number)

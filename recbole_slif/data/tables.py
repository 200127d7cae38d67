"""Reads atomic files (`.inter .kg .link .item .user`) and checks them before RecBole sees them.

A good file is read by compiled code alone. Only when a check fails does Python walk through the
lines, to name the first one that is wrong.
"""

from __future__ import annotations

import codecs
import io
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_slif.errors import DataError

TYPES = ("token", "token_seq", "float", "float_seq")
PIECE = 8 << 20
_HINT = "see docs/DATASETS.md for the format"
_WINDOWS = "files with Windows line ends"


@dataclass(frozen=True)
class Table:
    """One atomic file in memory.

    Attributes:
        frame: A column per field: `token` and sequence columns as `str`, `float` as float64 with
            NaN for an empty cell.
        types: Field name to one of `TYPES`.
        notes: What was put right on the way, with counts.
    """

    frame: pd.DataFrame
    types: dict[str, str]
    notes: Counter[str] = field(default_factory=Counter)


def read_table(
    path: Path,
    separator: str = "\t",
    encoding: str | None = "utf-8",
    keep: Collection[str] | None = None,
    drop: Collection[str] = (),
    required: Collection[str] = (),
) -> Table:
    """Read and check one atomic file.

    Args:
        path: The file.
        separator: One character between the cells of a line.
        encoding: Text encoding of the file.
        keep: Fields to read; None reads all.
        drop: Fields to leave out.
        required: Token fields that must be there and must not be empty in any line.

    Raises:
        DataError: The file cannot be read or is malformed; the text names file, line and fix.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    notes: Counter[str] = Counter()
    data = _clean(path, data, encoding or "utf-8", notes)
    return _checked(path, data, separator, (keep, drop, required), notes)


def read_pieces(
    path: Path,
    separator: str = "\t",
    encoding: str | None = "utf-8",
    keep: Collection[str] | None = None,
    drop: Collection[str] = (),
    required: Collection[str] = (),
    tell: Callable[[int], object] | None = None,
    size: int = PIECE,
) -> Iterator[Table]:
    """Read and check one atomic file in pieces that together are `read_table`'s table.

    Args:
        path: See `read_table`, as for the other arguments.
        separator: .
        encoding: .
        keep: .
        drop: .
        required: .
        tell: Is told how many bytes of the file each piece is, for a progress bar.
        size: About how many bytes are in memory at once.

    Yields:
        At least one table; the counts of all add up to the file's.

    Raises:
        DataError: See `read_table`. Of several mistakes the first piece's is named.
    """
    encoding = encoding or "utf-8"
    head, before, told = b"", 0, False
    try:
        with path.open("rb") as file:
            while (data := file.read(size)) or not before:
                data += file.readline() if not data.endswith(b"\n") else b""
                if tell is not None:
                    tell(len(data))
                lines = data.count(b"\n")
                notes: Counter[str] = Counter()
                data = _clean(path, data, encoding, notes, before)
                if told:
                    notes.pop(_WINDOWS, None)
                told |= _WINDOWS in notes
                if not before:
                    head = data[: data.find(b"\n") + 1]
                else:
                    data = head + data
                rules = (keep, drop, required)
                yield _checked(path, data, separator, rules, notes, max(before - 1, 0))
                before += max(lines, 1)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read ({error.strerror}); {_HINT}")


def _checked(
    path: Path,
    data: bytes,
    separator: str,
    rules: tuple[Collection[str] | None, Collection[str], Collection[str]],
    notes: Counter[str],
    skipped: int = 0,
) -> Table:
    """Check and parse lines below a header.

    Args:
        path: The file, for errors.
        data: The header and what is read of the lines below it, cleaned.
        separator: Between cells.
        rules: Fields to keep, to drop and to require.
        notes: What cleaning put right.
        skipped: Lines between the header and the next line of `data`.
    """
    keep, drop, required = rules
    types = parse_header(path, data, separator)
    missing = [name for name in required if name not in types]
    if missing:
        raise DataError(
            f"{path}: line 1: no column '{missing[0]}' (columns: {', '.join(types)}); "
            "rename the column or set the matching ..._FIELD key"
        )
    for name in required:
        if types[name] != "token":
            raise DataError(
                f"{path}: line 1: column '{name}' holds ids and has type '{types[name]}'; write "
                f"{name}:token"
            )
    notes["blank lines skipped"] += _check_widths(path, data, separator, len(types), skipped)
    wanted = [
        name
        for name in types
        if (keep is None or name in keep or name in required) and name not in drop
    ]
    frame = _parse(data, separator, list(types), wanted)
    tidy = _has_no_blanks(data, separator)
    for name in wanted:
        if types[name] == "float":
            frame[name] = _as_float(path, data, frame[name], name, skipped)
        elif types[name] == "token" and not tidy:
            frame[name] = _strip(frame[name], name, notes)
    if not (tidy and _has_no_empty_cells(data, separator)):
        for name in required:
            _check_filled(path, data, frame[name], name, skipped)
    return Table(frame, {name: types[name] for name in wanted}, notes)


def _clean(path: Path, data: bytes, encoding: str, notes: Counter[str], before: int = 0) -> bytes:
    """Return a file, or its lines behind the first `before`, as UTF-8 without marks.

    These are a byte-order mark and carriage returns. Bytes of other encodings may be half a sign
    and read like a separator.
    """
    if not before and data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
        notes["byte-order mark skipped"] += 1
    nul = data.find(b"\0")
    if nul >= 0:
        line = before + data.count(b"\n", 0, nul) + 1
        raise DataError(
            f"{path}: line {line}: NUL byte (a torn file, or "
            "UTF-16 text); write the file again as UTF-8"
        )
    if b"\r\n" in data:
        data = data.replace(b"\r\n", b"\n")
        notes[_WINDOWS] += 1
    if not before and not data.strip():
        raise DataError(f"{path}: the file is empty; it needs a header line at least, {_HINT}")
    try:
        text = data.decode(encoding)
        return data if codecs.lookup(encoding).name == "utf-8" else text.encode()
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        line = before + data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: line {line}: not {encoding} text; save the file as UTF-8 or set `encoding`"
        ) from error
    except LookupError as error:
        raise DataError(f"encoding: '{encoding}' is not known to Python; use utf-8") from error


def parse_header(path: Path, data: bytes, separator: str) -> dict[str, str]:
    """Return field name to type, from a first line like `user_id:token<TAB>item_id:token`.

    Raises:
        DataError: It is no such line.
    """
    head = data.split(b"\n", 1)[0].decode()
    cells = head.split(separator)
    if len(cells) == 1 and head.count(":") > 1:
        raise DataError(
            f"{path}: line 1: columns are not separated by {separator!r} (spaces for tabs?); "
            "separate the cells of every line with one tab"
        )
    types: dict[str, str] = {}
    for cell in cells:
        name, colon, kind = cell.partition(":")
        if not colon:
            raise DataError(
                f"{path}: line 1: column '{cell}' has no type; the first line must be a header "
                f"like user_id:token{separator}item_id:token"
            )
        if kind not in TYPES:
            raise DataError(
                f"{path}: line 1: column '{name}' has type '{kind}', which is none of "
                f"{', '.join(TYPES)}"
            )
        if name in types:
            raise DataError(f"{path}: line 1: column '{name}' occurs twice; rename or remove one")
        types[name] = kind
    return types


def _check_widths(path: Path, data: bytes, separator: str, width: int, skipped: int) -> int:
    """Refuse the first line with more or fewer cells than the header; return the blank lines."""
    raw = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(raw == ord("\n"))
    if raw[-1] != ord("\n"):
        ends = np.append(ends, len(raw))
    seen = np.searchsorted(np.flatnonzero(raw == ord(separator)), ends)
    cells = np.diff(seen, prepend=0) + 1
    filled = np.diff(ends, prepend=-1) > 1
    wrong = np.flatnonzero((cells != width) & filled)
    if len(wrong):
        line = int(wrong[0])
        raise DataError(
            f"{path}: line {line + 1 + skipped}: {cells[line]} column(s) where the header has "
            f"{width} (a truncated line, or spaces for tabs); complete or remove the line"
        )
    return int((~filled).sum())


def _parse(data: bytes, separator: str, names: list[str], wanted: list[str]) -> pd.DataFrame:
    # Quotes are ordinary characters: a title may hold one, and must not swallow lines.
    frame = pd.read_csv(
        io.BytesIO(data),
        sep=separator,
        header=0,
        names=names,
        usecols=wanted,
        dtype=object,
        engine="c",
        quoting=3,
        na_filter=False,
        lineterminator="\n",
        encoding="utf-8",
        low_memory=False,
    )
    return frame[wanted]


def _has_no_blanks(data: bytes, separator: str) -> bool:
    """Tell at a glance that no cell holds a character that `str.strip` takes away."""
    blanks = set(b" \t\v\f\r\x1c\x1d\x1e\x1f") - {ord(separator)}
    return data.isascii() and not any(bytes([blank]) in data for blank in blanks)


def _has_no_empty_cells(data: bytes, separator: str) -> bool:
    """Tell at a glance that no separator has nothing before or after it."""
    cell = separator.encode("ascii")
    pairs = (cell + cell, cell + b"\n", b"\n" + cell)
    return not (any(pair in data for pair in pairs) or data.endswith(cell))


def _line_of_row(data: bytes, row: int) -> int:
    """Return the 1-based line of a data row; blank lines are not rows."""
    for line, text in enumerate(data.split(b"\n")[1:], start=2):
        if text:
            if row == 0:
                return line
            row -= 1
    return 1


def _as_float(path: Path, data: bytes, column: pd.Series, name: str, skipped: int) -> pd.Series:
    values = pd.to_numeric(column, errors="coerce").astype(np.float64)
    suspect = np.flatnonzero(~np.isfinite(values.to_numpy()))
    for row in suspect:
        text = column.iloc[row].strip().lower()
        if text not in ("", "nan"):
            raise DataError(
                f"{path}: line {_line_of_row(data, int(row)) + skipped}: column '{name}' holds "
                f"'{column.iloc[row]}', which is not a finite number; correct it or leave it empty"
            )
    return values


def _strip(column: pd.Series, name: str, notes: Counter[str]) -> pd.Series:
    codes, uniques = pd.factorize(column.to_numpy(dtype=object))
    stripped = np.array([text.strip() for text in uniques], dtype=object)
    padded = stripped != uniques
    if not padded.any():
        return column
    notes[f"cells of {name} with blanks around the token, stripped"] += int(padded[codes].sum())
    return pd.Series(stripped[codes], index=column.index, dtype=object)


def _check_filled(path: Path, data: bytes, column: pd.Series, name: str, skipped: int) -> None:
    empty = np.flatnonzero((column == "").to_numpy())
    if len(empty):
        raise DataError(
            f"{path}: line {_line_of_row(data, int(empty[0])) + skipped}: '{name}' is empty; "
            "fill it in or remove the line"
        )

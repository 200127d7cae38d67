"""Raw reviews and ratings, line by line: JSON of Amazon and Yelp, and tables with any columns."""

from __future__ import annotations

import argparse
import ast
import csv
import importlib
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from recbole_slif.errors import DataError

from .dates import number_of, time_of
from .faults import Faults
from .reading import WIDTH, read_text

FORMATS = ("amazon-json", "amazon-csv", "yelp-json", "json", "csv")
# Lines of this length and more are no review; parsing them as Python would cost memory.
_LONGEST_LITERAL = 1 << 18
_NO_ID = "lines whose user or item id is missing or holds a tab or a line end"
_NO_NUMBER = "lines whose rating or time is no number or date"
_NO_JSON = "lines of broken JSON"
_QUOTES = "lines with unbalanced quotes"
# Ids of Amazon's items; those of its users look otherwise.
_ASIN = re.compile(r"B[0-9A-Z]{9}|[0-9]{9}[0-9X]")
SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "blank": " "}


class Review(NamedTuple):
    """One interaction.

    Attributes:
        user: Token.
        item: Token.
        rating: NaN where there is none.
        time: Seconds since 1970, UTC; NaN where there is none.
    """

    user: str
    item: str
    rating: float
    time: float


@dataclass(frozen=True)
class Layout:
    """Where a line holds what.

    Attributes:
        kind: `json` or `table`.
        columns: Names (or, without header, numbers from 1) of user, item, rating and time; None
            for a rating or time that there is not.
        separator: Between the cells of a table.
        header: Whether a table's first line names the columns.
        encoding: Of the text.
        width: Cells of each line of a table without header.
        amazon: Whether users and items are Amazon's, so that swapped ones can be told.
    """

    kind: str
    columns: tuple[str, str, str | None, str | None]
    separator: str = ","
    header: bool = True
    encoding: str = "utf-8"
    width: int = 4
    amazon: bool = False


_KNOWN = {
    "amazon-json": Layout("json", ("reviewerID", "asin", "overall", "unixReviewTime")),
    "amazon-csv": Layout("table", ("1", "2", "3", "4"), ",", header=False, amazon=True),
    "yelp-json": Layout("json", ("user_id", "business_id", "stars", "date")),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how the input is laid out."""
    parser.add_argument("--format", choices=FORMATS, required=True, help="layout of the input")
    parser.add_argument(
        "--columns",
        nargs="+",
        metavar="COLUMN",
        help="for json and csv: fields of user, item, and if you like rating and time, in this "
        "order (- leaves one out); numbers from 1 with --no-header",
    )
    names = ", ".join(SEPARATORS)
    parser.add_argument("--separator", help=f"of csv: one character, or {names}; default: comma")
    parser.add_argument("--no-header", action="store_true", help="of csv: the first line is data")
    parser.add_argument(
        "--width", type=int, help="cells of a line with --no-header; default: the last of --columns"
    )
    parser.add_argument("--encoding", default="utf-8", help="default: %(default)s")


def separator(text: str) -> str:
    """Return the character that `--separator` names.

    Raises:
        DataError: It is no single character.
    """
    found = SEPARATORS.get(text, text)
    if len(found) != 1 or found in '"\r\n':
        raise DataError(
            f"--separator: '{text}' is no single character; use {', '.join(SEPARATORS)}"
        )
    return found


def layout(options: argparse.Namespace) -> Layout:
    """Return the layout that options ask for.

    Raises:
        DataError: They contradict one another.
    """
    if options.format in _KNOWN and options.columns:
        raise DataError(f"--columns: {options.format} has its own; leave them out, or use csv")
    _refuse_unused(options)
    if options.format in _KNOWN:
        return replace(_KNOWN[options.format], encoding=options.encoding)
    given = [None if name == "-" else name for name in options.columns or ()]
    if not 2 <= len(given) <= 4 or given[0] is None or given[1] is None:
        raise DataError(
            f"--columns: --format {options.format} needs the columns of user and item, and takes "
            "those of rating and time, for example --columns customer product stars when"
        )
    for name in given:
        if name is not None and given.count(name) > 1:
            raise DataError(f"--columns: '{name}' is there twice; name one for each part")
    user, item, rating, time = [*given, None, None][:4]
    kind = "json" if options.format == "json" else "table"
    columns = (str(user), str(item), rating, time)
    width = 0
    if kind == "table" and options.no_header:
        width = max(_numbers(columns)) + 1
        if options.width is not None and options.width < width:
            raise DataError(f"--width: {options.width} is below the last of --columns, {width}")
    return Layout(
        kind,
        columns,
        separator(options.separator or "comma"),
        not options.no_header,
        options.encoding,
        options.width or width,
    )


def _refuse_unused(options: argparse.Namespace) -> None:
    """Stop at options that would do nothing."""
    for name in ("separator", "no_header", "width"):
        if options.format != "csv" and getattr(options, name):
            word = name.replace("_", "-")
            raise DataError(f"--{word}: goes with --format csv, not {options.format}; leave it out")
    if options.width is not None and not options.no_header:
        raise DataError("--width: goes with --no-header; a header says how many cells lines have")


def _numbers(columns: Sequence[str | None]) -> list[int]:
    """Return places from 0 of columns that are numbers from 1, -1 for None."""
    for name in columns:
        if name is not None and (not name.isdecimal() or int(name) < 1):
            raise DataError(f"--columns: with --no-header '{name}' must be a number from 1")
    return [-1 if name is None else int(name) - 1 for name in columns]


def read_reviews(
    path: Path, where: Layout, faults: Faults, after: int = 0
) -> Iterator[tuple[int, Review]]:
    """Yield line number and interaction of each line of a file behind line `after`.

    Faulty lines are counted and left out.

    Raises:
        DataError: The file cannot be read, its header lacks a column, or its first line has the
            item of Amazon before the user.
    """
    read = _read_json if where.kind == "json" else _read_table
    unchecked = where.amazon
    for number, user, item, rating, time in read(path, where, faults, after):
        user_token, item_token = token_of(user), token_of(item)
        if not user_token or not item_token:
            faults.add(_NO_ID, path, number)
            continue
        if unchecked and _ASIN.fullmatch(user_token) and not _ASIN.fullmatch(item_token):
            raise DataError(
                f"{path}: line {number}: the item stands before the user, as in Amazon's ratings "
                "of 2018; use --format csv --no-header --columns 2 1 3 4"
            )
        unchecked = False
        try:
            review = Review(user_token, item_token, number_of(rating), time_of(time))
        except (ValueError, TypeError, OverflowError):
            faults.add(_NO_NUMBER, path, number)
            continue
        yield number, review


def token_of(value: Any) -> str:
    """Return an id as a token, empty if it cannot be one."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    text = str(value).strip()
    if not text.isprintable() and any(sign in "\t\n\r\0" or _lone(sign) for sign in text):
        return ""
    return text


def _lone(sign: str) -> bool:
    """Whether a character is half of a pair, which no UTF-8 file can hold."""
    return "\ud800" <= sign <= "\udfff"


Cells = tuple[int, Any, Any, Any, Any]


def _read_json(path: Path, where: Layout, faults: Faults, after: int) -> Iterator[Cells]:
    parse = _json_parser(where)
    for number, line in read_text(path, faults, where.encoding, after):
        cells = parse(line)
        if cells is None:
            faults.add(_NO_JSON, path, number)
        else:
            yield (number, *cells)


def _json_parser(where: Layout) -> Callable[[str], tuple[Any, Any, Any, Any] | None]:
    """Return what turns a line into user, item, rating and time, or None for broken ones.

    Old Amazon dumps hold Python dictionaries; those are read as literals, never run.
    """
    try:
        msgspec = importlib.import_module("msgspec")
    except ImportError as error:
        raise DataError("reading JSON needs msgspec; pip install 'recbole-slif[tools]'") from error
    # A column that there is not gets a name that no line can hold.
    names = [name if name is not None else f"\0{at}" for at, name in enumerate(where.columns)]
    fields = [(f"cell{at}", Any, None) for at in range(4)]
    renamed = {field[0]: name for field, name in zip(fields, names, strict=True)}
    decode = msgspec.json.Decoder(msgspec.defstruct("Row", fields, rename=renamed)).decode
    cells = operator.attrgetter(*renamed)

    def parse(line: str) -> tuple[Any, Any, Any, Any] | None:
        try:
            return cells(decode(line))
        except msgspec.DecodeError:
            entry = literal(line)
        if entry is None:
            return None
        user, item, rating, time = (entry.get(name) for name in names)
        return user, item, rating, time

    return parse


def literal(line: str) -> dict[Any, Any] | None:
    """Return the dictionary that a line of Python writes down, or None."""
    found = literal_value(line) if line.startswith("{") else None
    return found if isinstance(found, dict) else None


def literal_value(text: str) -> Any:
    """Return what a literal of Python stands for; None for anything else. Nothing is run."""
    if len(text) > _LONGEST_LITERAL:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def split_line(line: str, mark: str) -> list[str] | None:
    """Return the cells of one line of a table, or None where its quotes are unbalanced.

    Each line stands for itself, so that an open quote cannot swallow the lines after it.
    """
    if '"' not in line:
        return line.split(mark)
    try:
        (cells,) = csv.reader([line], delimiter=mark, strict=True)
    except (csv.Error, ValueError):
        return None
    return cells


def column_places(path: Path, head: Sequence[str], wanted: Sequence[str | None]) -> list[int]:
    """Return the place of each wanted column of a header, -1 for None.

    A `:type` after a name, as atomic files have it, may be left out.

    Raises:
        DataError: A column is missing, or there twice.
    """
    names = [cell.strip() for cell in head]
    places = {name.rpartition(":")[0] or name: at for at, name in reversed(list(enumerate(names)))}
    places |= {name: at for at, name in reversed(list(enumerate(names)))}
    for name in wanted:
        if name is not None and name not in places:
            if names[:1] and names[0].startswith(("{", "[")):
                raise DataError(
                    f"{path}: line 1: this is JSON, not a header of columns; `interactions "
                    "--format json` reads JSON lines, for other commands write a table "
                    "(pandas: to_csv)"
                )
            raise DataError(
                f"{path}: line 1: no column '{name}'; it has {', '.join(names)} (--separator and "
                "--no-header say how the file is laid out)"
            )
        same = [cell for cell in names if cell == name]
        same = same or [cell for cell in names if cell.rpartition(":")[0] == name]
        if len(same) > 1:
            raise DataError(f"{path}: line 1: {len(same)} columns '{name}'; rename all but one")
    return [-1 if name is None else places[name] for name in wanted]


def read_cells(
    path: Path,
    mark: str,
    encoding: str,
    faults: Faults,
    width: int | None = None,
    after: int = 0,
) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each line of a table, from the one behind `after` on.

    Args:
        path: The file.
        mark: Between cells.
        encoding: Of the text.
        faults: Receives lines of another width and lines with open quotes.
        width: Cells of a line; None takes the first line, a header, as the measure.
        after: Line behind which to begin.
    """
    for number, line in read_text(path, faults, encoding, after):
        cells = split_line(line, mark)
        if cells is None:
            faults.add(_QUOTES, path, number)
            continue
        width = len(cells) if width is None else width
        if len(cells) != width:
            faults.add(WIDTH, path, number)
        else:
            yield number, cells


def head_and_lines(
    path: Path, mark: str, encoding: str, faults: Faults, after: int = 0
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the cells of a table's first line, and what `read_cells` yields of those behind it.

    Args:
        path: The file.
        mark: Between cells.
        encoding: Of the text.
        faults: Receives faulty lines; with `after`, those behind it.
        after: Line behind which to begin.
    """
    lines = read_cells(path, mark, encoding, Faults() if after else faults)
    _, head = next(lines, (1, []))
    if after:
        lines = read_cells(path, mark, encoding, faults, len(head), after)
    return head, lines


def _read_table(path: Path, where: Layout, faults: Faults, after: int) -> Iterator[Cells]:
    if where.header:
        head, lines = head_and_lines(path, where.separator, where.encoding, faults, after)
        places = column_places(path, head, where.columns)
    else:
        places = _numbers(where.columns)
        lines = read_cells(path, where.separator, where.encoding, faults, where.width, after)
    user, item, rating, time = places
    for number, cells in lines:
        yield (
            number,
            cells[user],
            cells[item],
            cells[rating] if rating >= 0 else None,
            cells[time] if time >= 0 else None,
        )

"""What each file of a data set holds on its own, and how it fits the others; read in pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.data.locate import (
    feature_files,
    feature_folders,
    interaction_files,
    resolve_folder,
)
from recbole_slif.data.protocol import option
from recbole_slif.data.validate import check_rows, open_matrix, read_ids, rows_by_position
from recbole_slif.errors import DataError

from .atomic_pieces import pieces_of
from .number_file import NumberFile, counts_of, new_rows, sort_numbers
from .numbered_rows import NumberedRows, places_in
from .progress import bar
from .token_order import SortedTokens


@dataclass
class FileCheck:
    """What one file holds.

    Attributes:
        file: Its name.
        rows: Lines below the header, or rows of the matrix.
        items: Items of the data set that it covers; None for files that are not about items.
        lacking: Items of the data set that it does not cover.
        foreign: Rows of items that the data set does not have.
        notes: What reading puts right, with counts.
        problem: Why it cannot be used.
    """

    file: str
    rows: int | None = None
    items: int | None = None
    lacking: int | None = None
    foreign: int | None = None
    notes: dict[str, int] = field(default_factory=dict)
    problem: str | None = None


class _Coverage:
    """Which items a column of item tokens covers, taken some at a time.

    Args:
        known: Items of the data set.
    """

    def __init__(self, known: set[str]) -> None:
        self._known, self._covered, self._foreign = known, set[str](), 0

    def add(self, tokens: list[str]) -> None:
        """Take some rows."""
        self._covered |= self._known.intersection(tokens)
        self._foreign += sum(token not in self._known for token in tokens)

    def note(self, result: FileCheck) -> None:
        """Write down what all of them cover."""
        result.items, result.foreign = len(self._covered), self._foreign
        result.lacking = len(self._known) - len(self._covered)


@dataclass
class Checks:
    """All files, and what they are checked against.

    Attributes:
        config: Settings of the data set.
        scratch: For files.
        files: Results so far.
        known: Item tokens with interactions.
        entities: Entity tokens of the graph; None before it is read.
    """

    config: Any
    scratch: Path
    files: list[FileCheck] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    entities: SortedTokens | None = None

    def run(self, path: Path, check: Callable[[Checks, FileCheck, Path], None]) -> None:
        """Carry out one check; what it raises is the file's problem."""
        result = FileCheck(path.name)
        try:
            check(self, result, path)
        except DataError as error:
            result.problem = " ".join(str(error).split())
        self.files.append(result)

    def columns(self, result: FileCheck, path: Path, *keys: str) -> Iterator[list[list[str]]]:
        """Yield the columns that these keys name, some rows at a time, and note what is read."""
        notes: Counter[str] = Counter()
        rows = 0
        fields = [self.config[key] for key in keys]
        for table in pieces_of(path, fields, config=self.config):
            notes.update(table.notes)
            rows += len(table.frame)
            yield [table.frame[name].tolist() for name in fields]
        result.rows = rows
        result.notes |= {note: count for note, count in notes.items() if count}

    def numbered(
        self, path: Path, columns: Iterable[list[list[str]]], *kinds: str | None
    ) -> tuple[NumberFile, dict[str, SortedTokens]]:
        """Number the tokens of columns; what is lacking of three becomes zeros."""
        folder = self.scratch / path.name
        folder.mkdir()
        store = NumberedRows(folder, "rows", [*kinds, None, None][:3])
        try:
            for part in columns:
                cells: list[Any] = [*part, *(np.zeros(len(part[0])) for _ in range(3 - len(part)))]
                store.add(cells)
            return store.finish()
        finally:
            store.close()


def check_files(config: Any, scratch: Path) -> list[FileCheck]:
    """Check all files of a data set, each on its own.

    Args:
        config: Settings of the data set.
        scratch: An empty folder.

    Raises:
        DataError: There is no such data set.
    """
    name = config["dataset"]
    folder = resolve_folder(config["data_path"], name)
    checks = Checks(config, scratch)
    for path in interaction_files(folder, name).values():
        checks.run(path, _interactions)
    for result in checks.files:
        if result.problem is None and result.items is not None:
            result.lacking = len(checks.known) - result.items
    for suffix, check in (("kg", _graph), ("link", _links), ("item", _items)):
        path = folder / f"{name}.{suffix}"
        if path.is_file():
            checks.run(path, check)
    extra = option(config, "feature_path", None)
    found = feature_files(feature_folders(config["data_path"], name), name, extra)
    for path in found.values():
        checks.run(path, _features)
    return checks.files


def _interactions(checks: Checks, result: FileCheck, path: Path) -> None:
    columns = checks.columns(result, path, "USER_ID_FIELD", "ITEM_ID_FIELD")
    rows, tokens = checks.numbered(path, columns, "user", "item")
    result.items, result.foreign = len(tokens["item"]), 0
    for _, texts in tokens["item"].pieces():
        checks.known.update(texts)
    total = len(rows)
    ordered = sort_numbers(rows, rows.path.with_name("ordered"), "interactions")
    distinct = sum(
        int(new.sum()) for _, new, _ in new_rows(ordered.chunks("look for repeated interactions"))
    )
    ordered.path.unlink()
    if distinct < total:
        result.notes["repeated interactions"] = total - distinct


def _graph(checks: Checks, result: FileCheck, path: Path) -> None:
    keys = ("HEAD_ENTITY_ID_FIELD", "TAIL_ENTITY_ID_FIELD", "RELATION_ID_FIELD")
    columns = (part[:2] for part in checks.columns(result, path, *keys))
    rows, tokens = checks.numbered(path, columns, "entity", "entity")
    rows.path.unlink()
    checks.entities = tokens["entity"]


def _links(checks: Checks, result: FileCheck, path: Path) -> None:
    def entities() -> Iterator[list[list[str]]]:
        for items, others in checks.columns(result, path, "ITEM_ID_FIELD", "ENTITY_ID_FIELD"):
            coverage.add(items)
            yield [others]

    coverage = _Coverage(checks.known)
    rows, tokens = checks.numbered(path, entities(), "entity")
    coverage.note(result)
    unknown = np.ones(len(tokens["entity"]), dtype=bool)
    if checks.entities is not None:
        unknown = places_in(tokens["entity"], checks.entities) < 0
    times = counts_of(rows, [0], len(unknown), "count links")
    outside = int(times[unknown].sum())
    if outside:
        result.notes["links to entities outside the graph"] = outside


def _items(checks: Checks, result: FileCheck, path: Path) -> None:
    coverage = _Coverage(checks.known)
    for (items,) in checks.columns(result, path, "ITEM_ID_FIELD"):
        coverage.add(items)
    coverage.note(result)


def _features(checks: Checks, result: FileCheck, path: Path) -> None:
    matrix = open_matrix(path)
    result.rows = len(matrix)
    ids = path.with_suffix(".ids")
    if ids.is_file():
        names = read_ids(ids, len(matrix))
    else:
        rows_by_position(path, np.array(sorted(checks.known), dtype=object), len(matrix))
        names = np.arange(len(matrix)).astype(str).astype(object)
    notes: Counter[str] = Counter()
    with bar(matrix.nbytes, path.name) as shown:
        present = check_rows(path, matrix, names, notes, shown.update)
    result.notes |= {note: count for note, count in notes.items() if count}
    coverage = _Coverage(checks.known)
    coverage.add(names[present].tolist())
    coverage.note(result)

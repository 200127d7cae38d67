"""`align`: one check that all files of a data set agree, and features in one order of items."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
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
from recbole_slif.data.tables import Table, read_table
from recbole_slif.data.validate import check_rows, open_matrix, read_ids, rows_by_position
from recbole_slif.errors import DataError

from . import loading
from .writing import save_features, write_columns, write_json

DESCRIPTION = """\
Check every file of a data set on its own and against the others: which items of the data set each
one covers, which rows belong to none, what reading puts right. Files that cannot be read are all
named, not the first alone. With --out, features are written again with their rows in the order of
items (shorter tokens first, then alphabet), without rows of other items or of NaN, beside
NAME.presence.tsv, which says for each item what it has.
Exit code: 0 if all agree, 1 if something is wrong (with --strict also if anything is left over)."""
EXAMPLES = """\
  python -m dataset_tools align --dataset shop --report shop.json
  python -m dataset_tools align --dataset ml-100k --out dataset/ml-100k-aligned"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `align`."""
    loading.add_options(parser)
    parser.add_argument("--out", type=Path, help="write aligned features and presence here")
    parser.add_argument("--report", type=Path, help="write the result to this JSON file")
    parser.add_argument(
        "--strict", action="store_true", help="rows of other items and repairs are wrong as well"
    )


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

    def cover(self, rows_of: np.ndarray, known: set[str]) -> None:
        """Note which items a column of item tokens covers."""
        covered = known.intersection(rows_of.tolist())
        self.items, self.lacking = len(covered), len(known) - len(covered)
        self.foreign = sum(token not in known for token in rows_of.tolist())


@dataclass
class Checks:
    """All files, and what they are checked against.

    Attributes:
        config: Settings of the data set.
        folder: Its folder.
        name: Its name.
        files: Results so far.
        known: Item tokens with interactions.
        entities: Entity tokens of the graph.
    """

    config: Any
    folder: Path
    name: str
    files: list[FileCheck] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    entities: set[str] = field(default_factory=set)

    def run(self, path: Path, check: Callable[[Checks, FileCheck, Path], None]) -> None:
        """Carry out one check; what it raises is the file's problem."""
        result = FileCheck(path.name)
        try:
            check(self, result, path)
        except DataError as error:
            result.problem = " ".join(str(error).split())
        self.files.append(result)

    def table(self, result: FileCheck, path: Path, *keys: str) -> Table:
        """Read a table with the columns that these keys name."""
        table = read_table(path, required=[self.config[key] for key in keys])
        result.rows = len(table.frame)
        result.notes |= {note: count for note, count in table.notes.items() if count}
        return table


def run(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit code.

    Raises:
        DataError: There is no such data set.
        ConfigError: A key or value is not usable.
    """
    checks = check_files(options)
    problems = [f"{one.file}: {one.problem}" for one in checks.files if one.problem]
    result: dict[str, Any] = {"dataset": options.dataset}
    whole = None
    if not problems:
        try:
            whole = loading.load(options.dataset, options)[1]
            result["statistics"] = whole.statistics
        except DataError as error:
            problems.append(str(error))
    result |= {"files": [asdict(one) for one in checks.files], "problems": problems}
    leftovers = _leftovers(checks.files, whole)
    result["agree"] = not problems and not (options.strict and leftovers)
    print(_table(checks.files))
    for text in leftovers:
        print(f"note: {text}")
    for text in problems:
        print(f"wrong: {text}")
    if options.out and whole is not None:
        print(f"written to {options.out}: {', '.join(write(whole, options))}")
    if options.report:
        write_json(options.report, result)
    print("all files agree" if result["agree"] else "the files do not agree")
    return 0 if result["agree"] else 1


def check_files(options: argparse.Namespace) -> Checks:
    """Check all files of a data set, each on its own.

    Raises:
        DataError: There is no such data set.
    """
    from recbole_slif.config import SlifConfig

    name = options.dataset
    argv = [f"--{key}={text}" for key, text in loading.words(options).items()]
    config = SlifConfig("BPR", name, options.config_files, None, argv)
    folder = resolve_folder(config["data_path"], name)
    checks = Checks(config, folder, name)
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
    return checks


def _interactions(checks: Checks, result: FileCheck, path: Path) -> None:
    frame = checks.table(result, path, "USER_ID_FIELD", "ITEM_ID_FIELD").frame
    items = set(frame[checks.config["ITEM_ID_FIELD"]])
    result.items, result.foreign = len(items), 0
    checks.known |= items
    pair = [checks.config["USER_ID_FIELD"], checks.config["ITEM_ID_FIELD"]]
    repeated = int(frame.duplicated(pair).sum())
    if repeated:
        result.notes["repeated interactions"] = repeated


def _graph(checks: Checks, result: FileCheck, path: Path) -> None:
    keys = ("HEAD_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "TAIL_ENTITY_ID_FIELD")
    frame = checks.table(result, path, *keys).frame
    for key in (keys[0], keys[2]):
        checks.entities |= set(frame[checks.config[key]])


def _links(checks: Checks, result: FileCheck, path: Path) -> None:
    frame = checks.table(result, path, "ITEM_ID_FIELD", "ENTITY_ID_FIELD").frame
    result.cover(frame[checks.config["ITEM_ID_FIELD"]].to_numpy(), checks.known)
    outside = int((~frame[checks.config["ENTITY_ID_FIELD"]].isin(checks.entities)).sum())
    if outside:
        result.notes["links to entities outside the graph"] = outside


def _items(checks: Checks, result: FileCheck, path: Path) -> None:
    frame = checks.table(result, path, "ITEM_ID_FIELD").frame
    result.cover(frame[checks.config["ITEM_ID_FIELD"]].to_numpy(), checks.known)


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
    present = check_rows(path, matrix, names, notes)
    result.notes |= {note: count for note, count in notes.items() if count}
    result.cover(names[present], checks.known)


def _leftovers(files: list[FileCheck], whole: Any) -> list[str]:
    """Name what does not fit but is no error."""
    found = [
        f"{one.file}: {one.foreign} rows of items without interactions"
        for one in files
        if one.foreign
    ]
    notes: Mapping[str, int] = whole.statistics["notes"] if whole is not None else {}
    found += [f"{note}: {count}" for note, count in notes.items()]
    found += [f"{one.file}: {note}: {count}" for one in files for note, count in one.notes.items()]
    return list(dict.fromkeys(found))


def _table(files: list[FileCheck]) -> str:
    from tabulate import tabulate

    rows = [
        [one.file, one.rows, one.items, one.lacking, one.foreign, "wrong" if one.problem else ""]
        for one in files
    ]
    head = ["file", "rows", "items covered", "items lacking", "foreign rows", ""]
    return tabulate(rows, head, tablefmt="simple", missingval="-", intfmt=",")


def write(whole: Any, options: argparse.Namespace) -> list[str]:
    """Write features in the order of items and the table of presence; return the file names."""
    from .saving import item_tokens

    dataset = whole.dataset
    tokens = item_tokens(dataset)[1:]
    columns: dict[str, np.ndarray] = {"item_id:token": tokens}
    columns["knowledge:float"] = dataset.knowledge.linked[1:].astype(np.int64)
    written = []
    for modality, stored in _stored(whole, options):
        part = dataset.features[modality]
        there = (part.presence if part.observed is None else part.observed)[1:]
        columns[f"{modality}:float"] = there.astype(np.int64)
        stem = f"{options.dataset}.{modality}"
        matrix = part.matrix[1:][there].astype(stored)
        save_features(options.out, stem, matrix, tokens[there].tolist())
        written += [f"{stem}.npy", f"{stem}.ids"]
    written.append(f"{options.dataset}.presence.tsv")
    write_columns(options.out / written[-1], columns)
    return written


def _stored(whole: Any, options: argparse.Namespace) -> Iterator[tuple[str, np.dtype]]:
    """Yield each modality with the number type of its file."""
    config = whole.dataset.config
    extra = option(config, "feature_path", None)
    folders = feature_folders(config["data_path"], options.dataset)
    for modality, path in feature_files(folders, options.dataset, extra).items():
        if modality in whole.dataset.features:
            yield modality, open_matrix(path).dtype

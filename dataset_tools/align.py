"""`align`: one check that all files of a data set agree, and features in one order of items."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_slif.data.locate import feature_files, feature_folders
from recbole_slif.data.protocol import option
from recbole_slif.data.validate import open_matrix
from recbole_slif.errors import DataError

from . import loading
from .align_checks import FileCheck, check_files
from .id_columns import TextsOf
from .writing import save_features, save_pieces, write_columns, write_json

if TYPE_CHECKING:
    from .disk_data import DiskData

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


def run(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit code.

    Raises:
        DataError: There is no such data set.
        ConfigError: A key or value is not usable.
    """
    config = loading.configure(options.dataset, options)
    with loading.Scratch(loading.scratch_place(options.out)) as scratch:
        files = check_files(config, scratch.folder)
    problems = [f"{one.file}: {one.problem}" for one in files if one.problem]
    result: dict[str, Any] = {"dataset": options.dataset}
    whole = None
    with ExitStack() as stack:
        if not problems:
            try:
                whole = stack.enter_context(loading.opened(config, options.out))
                result["statistics"] = whole.statistics
            except DataError as error:
                problems.append(str(error))
        result |= {"files": [asdict(one) for one in files], "problems": problems}
        leftovers = _leftovers(files, whole)
        result["agree"] = not problems and not (options.strict and leftovers)
        print(_table(files))
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
    from .disk_data import DiskData
    from .saving import item_tokens

    if isinstance(whole, DiskData):
        return _write_from_disk(whole, options)
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


def _write_from_disk(data: DiskData, options: argparse.Namespace) -> list[str]:
    columns: dict[str, np.ndarray] = {"item_id:token": data.items[1:]}
    columns["knowledge:float"] = data.graph.linked[1:].astype(np.int64)
    written = []
    for modality, part in data.features.items():
        columns[f"{modality}:float"] = part.observed[1:].astype(np.int64)
        stem, there = f"{options.dataset}.{modality}", np.flatnonzero(part.observed)
        names = TextsOf(there, data.items)
        pieces = part.pieces(there, f"write {stem}.npy")
        save_pieces(options.out, stem, pieces, part.dim, part.dtype, names)
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

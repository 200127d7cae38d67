"""`convert`: MMRec folders and RecBole `.itememb` files into this contract, and back."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recbole_slif.errors import DataError

from . import faults as fault_log
from .faults import Faults
from .writing import PARTS, inter_name, refuse_other_split

DESCRIPTION = """\
Convert a data set between this package's contract (--from ours, --to ours), MMRec's folders
(NAME.inter with x_label, image_feat.npy, text_feat.npy, u_id_mapping.csv, i_id_mapping.csv) and
RecBole's vectors of items (NAME.itememb: an id and numbers parted by blanks in each line). One side
is always ours."""
EXAMPLES = """\
  python -m dataset_tools convert MMRec/data/baby --from mmrec --to ours --name baby \\
      --out dataset/baby
  python -m dataset_tools convert dataset/baby --from ours --to mmrec --name baby \\
      --out MMRec/data/baby
  python -m dataset_tools convert recbole/ml-1m --from recbole --to ours --name ml-1m \\
      --modality text --out dataset/ml-1m
  python -m dataset_tools convert dataset/shop --from ours --to recbole --name shop \\
      --out recbole/shop"""
SIDES = ("ours", "mmrec", "recbole")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `convert`."""
    parser.add_argument("folder", type=Path, help="folder of the data set")
    parser.add_argument("--from", dest="source", choices=SIDES, required=True)
    parser.add_argument("--to", dest="target", choices=SIDES, required=True)
    parser.add_argument("--name", required=True, help="data set name in the file names")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--original-ids", action="store_true", help="from MMRec: tokens of its mapping files"
    )
    parser.add_argument(
        "--modality", default="text", help="from RecBole: what the vectors are; %(default)s"
    )
    parser.add_argument("--suffix", default="itememb", help="of RecBole's vectors: %(default)s")
    parser.add_argument(
        "--missing",
        choices=("mean", "zero"),
        default="mean",
        help="to MMRec, which needs a row for every item: what absent ones get; %(default)s",
    )
    fault_log.add_options(parser)


def run(options: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        DataError: A file is missing or malformed, or the two sides do not go together.
    """
    from . import convert_mmrec, convert_recbole

    routes: Mapping[tuple[str, str], Callable[[argparse.Namespace, Faults], dict[str, Any]]] = {
        ("mmrec", "ours"): convert_mmrec.from_mmrec,
        ("ours", "mmrec"): convert_mmrec.to_mmrec,
        ("recbole", "ours"): convert_recbole.from_recbole,
        ("ours", "recbole"): convert_recbole.to_recbole,
    }
    route = routes.get((options.source, options.target))
    if route is None:
        raise DataError(
            f"--from {options.source} --to {options.target}: one side must be ours, the other "
            "mmrec or recbole; convert in two steps"
        )
    if not options.folder.is_dir():
        raise DataError(f"{options.folder}: no such folder")
    if options.folder.resolve() == options.out.resolve():
        raise DataError(f"--out: {options.out} is the folder that is read; choose another")
    faults = Faults()
    counts = route(options, faults)
    fault_log.conclude(counts, faults, options)


def copy_atomic_files(options: argparse.Namespace, suffixes: tuple[str, ...]) -> list[str]:
    """Copy those of the atomic files that are there, byte for byte; return their names.

    Raises:
        DataError: There are interactions among them, and those of another split in `--out`.
    """
    copied = []
    places = {part: options.folder / inter_name(options.name, part) for part in ("", *PARTS)}
    parts = [part for part, path in places.items() if path.is_file()]
    if parts:
        refuse_other_split(options.out, options.name, parts)
    for suffix in suffixes:
        path = options.folder / f"{options.name}.{suffix}"
        if path.is_file():
            options.out.mkdir(parents=True, exist_ok=True)
            partial = options.out / f".{path.name}.partial"
            shutil.copyfile(path, partial)
            partial.replace(options.out / path.name)
            copied.append(path.name)
    return copied

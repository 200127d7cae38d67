"""`interactions`: raw reviews, ratings or any table become `.inter`, filtered, cored and split."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.errors import DataError

from . import faults as fault_log
from . import reviews
from .core_split import k_core, split
from .dates import seconds_of
from .faults import Faults
from .journal import run_identity
from .resumed_reading import ResumedReading
from .row_file import NumberColumn, RowFile, RowWriter, TokenColumn
from .row_store import RowStore
from .token_order import SortedTokens
from .writing import PARTS, LazyColumn, inter_name, refuse_other_split, write_columns

DESCRIPTION = """\
Stream raw reviews (plain, .gz or .zst) into atomic interaction files. In this order: faulty lines
are counted and left out, ratings and dates are filtered, of several rows of one user and item the
latest stays, users and items with too few interactions are removed until none is left, and each
user's interactions are split if asked for. The order of input lines changes nothing: the files
are sorted, and the split follows tokens and seed, as the protocol ratio_811 does it."""
EXAMPLES = """\
  python -m dataset_tools interactions reviews_Books.json.gz --format amazon-json \\
      --core 10 --name book --out dataset/book
  python -m dataset_tools interactions ratings_Books.csv --format amazon-csv \\
      --min-rating 4 --user-core 5 --item-core 10 --name book --out dataset/book
  python -m dataset_tools interactions yelp_academic_dataset_review.json --format yelp-json \\
      --from 2018-01-01 --core 10 --split ratio --name yelp --out dataset/yelp
  python -m dataset_tools interactions orders.csv --format csv --columns customer product - day \\
      --separator semicolon --split leave-one-out --name shop --out dataset/shop"""
_DAY = 86_400.0
_RATIOS = (0.8, 0.1, 0.1)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `interactions`."""
    parser.add_argument("files", nargs="+", type=Path, help="raw files, read one after the other")
    reviews.add_options(parser)
    parser.add_argument("--name", required=True, help="data set name in the file names")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--min-rating", type=float, help="leave out lower ratings, and none")
    parser.add_argument("--from", dest="since", metavar="DATE", help="first day, YYYY-MM-DD, UTC")
    parser.add_argument("--to", dest="until", metavar="DATE", help="last day, YYYY-MM-DD, UTC")
    parser.add_argument(
        "--keep", choices=("last", "first"), default="last", help="of equal pairs: %(default)s"
    )
    parser.add_argument("--core", type=int, help="sets both of the next two")
    parser.add_argument("--user-core", type=int, help="interactions each user has at least")
    parser.add_argument("--item-core", type=int, help="interactions each item has at least")
    parser.add_argument(
        "--split", choices=("none", "ratio", "leave-one-out"), default="none", help="per user"
    )
    parser.add_argument(
        "--ratios",
        nargs=3,
        type=float,
        metavar=("TRAIN", "VALID", "TEST"),
        help="of --split ratio; default: 0.8 0.1 0.1",
    )
    parser.add_argument(
        "--order",
        choices=("random", "time"),
        help="what is held out; default: random for ratio, time for leave-one-out",
    )
    parser.add_argument("--seed", type=int, default=2020, help="of random splits: %(default)s")
    fault_log.add_options(parser)


@dataclass(frozen=True)
class Limits:
    """Which interactions stay.

    Attributes:
        rating: Lowest rating; None takes all.
        since: First second; -infinity takes all.
        until: Second at which the range has ended; infinity takes all.
    """

    rating: float | None
    since: float
    until: float

    @property
    def dated(self) -> bool:
        """Whether there is a range of dates."""
        return self.since > -np.inf or self.until < np.inf


@dataclass(frozen=True)
class Table:
    """Interactions on disk in canonical order: by user token, then item token, shorter ones first.

    Attributes:
        rows: The interactions; users and items are numbers of tokens.
        users: User tokens.
        items: Item tokens.
        n_users: How many users the rows have.
        n_items: How many items they have.
    """

    rows: RowFile
    users: SortedTokens
    items: SortedTokens
    n_users: int
    n_items: int


def run(options: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        DataError: An option or a file is not usable, or nothing is left.
    """
    where, limits = reviews.layout(options), read_limits(options)
    cores = _cores(options)
    _check_split(options)
    parts = [""] if options.split == "none" else PARTS
    refuse_other_split(options.out, options.name, parts)
    faults, counts = Faults(), Counter[str]()
    identity = run_identity(options, options.files)
    folder = options.out / f".{options.name}.interactions.partial"
    with RowStore(folder, identity) as store:
        reading = ResumedReading(store, options.files, faults, counts)
        for path, after in reading.files():
            _take(path, after, where, limits, store, reading)
        fault_log.refuse(faults, options)
        if not store.size:
            raise DataError(
                f"{options.files[0]}: no interaction is usable ({faults.total:,} faulty lines, "
                f"{sum(counts.values()):,} filtered); check --format, --columns and the filters"
            )
        table, found = reduce(store, cores, options.keep == "last")
        shown = {**counts, **found, **write(table, options, store)}
    fault_log.conclude(shown, faults, options)


def read_limits(options: argparse.Namespace) -> Limits:
    """Return the filters that options ask for.

    Raises:
        DataError: A date is none, or the range is empty.
    """
    bounds = []
    for name, text, other, more in (
        ("--from", options.since, -np.inf, 0.0),
        ("--to", options.until, np.inf, _DAY),
    ):
        try:
            bounds.append(other if text is None else seconds_of(text) + more)
        except ValueError as error:
            raise DataError(f"{name}: '{text}' is no date; write YYYY-MM-DD") from error
    if bounds[0] >= bounds[1]:
        raise DataError(f"--from {options.since} lies after --to {options.until}")
    return Limits(options.min_rating, bounds[0], bounds[1])


def _cores(options: argparse.Namespace) -> tuple[int, int]:
    both = 1 if options.core is None else options.core
    cores = tuple(both if one is None else one for one in (options.user_core, options.item_core))
    if min(*cores, both) < 1:
        raise DataError("--core, --user-core and --item-core must be at least 1")
    return cores[0], cores[1]


def _check_split(options: argparse.Namespace) -> None:
    ratios: Sequence[float] = options.ratios or _RATIOS
    if not (ratios[0] > 0 and all(0 <= ratio < np.inf for ratio in ratios)):
        raise DataError("--ratios: train must be above 0, validation and test not below it")
    if options.ratios and options.split != "ratio":
        raise DataError("--ratios: goes with --split ratio; add that, or leave --ratios out")
    if options.order and options.split == "none":
        raise DataError("--order: goes with --split; add --split ratio or leave-one-out")
    if options.seed < 0:
        raise DataError(f"--seed: {options.seed} must be at least 0")


def _take(
    path: Path,
    after: int,
    where: reviews.Layout,
    limits: Limits,
    store: RowStore,
    reading: ResumedReading,
) -> None:
    """Put the interactions behind a line of one file that pass the filters into the store."""
    counts = reading.counts
    lowest = -np.inf if limits.rating is None else limits.rating
    add = store.add
    for line, (user, item, rating, time) in reviews.read_reviews(
        path, where, reading.faults, after
    ):
        reading.line = line
        if limits.rating is not None and not rating >= lowest:
            counts["interactions below --min-rating or without rating"] += 1
        elif limits.dated and not limits.since <= time < limits.until:
            counts["interactions outside --from and --to or without time"] += 1
        else:
            add(user, item, rating, time)


def reduce(store: RowStore, cores: tuple[int, int], latest: bool) -> tuple[Table, dict[str, int]]:
    """Keep one interaction per pair and the k-core of them.

    Returns:
        What is left, and counts of what is not.

    Raises:
        DataError: Nothing is left.
    """
    pairs, users, items = store.pairs(latest)
    counts = {
        "usable interactions": store.size,
        "their users": len(users),
        "their items": len(items),
        "repeated pairs of user and item left out": store.size - len(pairs),
    }
    core = k_core(pairs, len(users), len(items), cores, store.folder, store.journal)
    counts[f"left out by the core of {cores[0]} per user and {cores[1]} per item"] = len(
        pairs
    ) - len(core.rows)
    counts["rounds of that"] = core.rounds
    if not len(core.rows):
        raise DataError(
            f"no user and item have {cores[0]} and {cores[1]} interactions; lower --core"
        )
    return Table(core.rows, users, items, core.users, core.items), counts


def write(table: Table, options: argparse.Namespace, store: RowStore) -> dict[str, Any]:
    """Write `.inter`, or one file for each part of the split.

    Args:
        table: The interactions.
        options: `name`, `out` and those of the split.
        store: Its folder takes the rows of each part, its journal what is written.

    Returns:
        Counts and file names.
    """
    counts: dict[str, Any] = {
        "users": table.n_users,
        "items": table.n_items,
        "interactions": len(table.rows),
    }
    rated, timed, untimed = _filled(table.rows)
    parts: Mapping[str, RowFile] = {"": table.rows}
    if options.split != "none":
        parts = _split(table.rows, options, store, untimed)
        counts |= {part: len(rows) for part, rows in parts.items()}
        # A part that has become empty must not live on from an earlier run.
        for part in set(PARTS) - set(parts):
            (options.out / f"{options.name}.{part}.inter").unlink(missing_ok=True)
    names = []
    for part, rows in parts.items():
        names.append(inter_name(options.name, part))
        columns: dict[str, LazyColumn] = {
            "user_id:token": TokenColumn(rows, "user", table.users),
            "item_id:token": TokenColumn(rows, "item", table.items),
        }
        if rated:
            columns["rating:float"] = NumberColumn(rows, "rating")
        if timed:
            columns["timestamp:float"] = NumberColumn(rows, "time")
        path = options.out / names[-1]
        store.journal.once(path, partial(write_columns, path, columns))
    return {**counts, "files": ", ".join(names)}


def _filled(rows: RowFile) -> tuple[bool, bool, bool]:
    """Return whether any row has a rating, any a time, and any no time."""
    rated = timed = untimed = False
    for part in rows.chunks("look for ratings and times"):
        lacking = np.isnan(part["time"])
        rated |= not np.isnan(part["rating"]).all()
        timed |= not lacking.all()
        untimed |= bool(lacking.any())
    return rated, timed, untimed


def _split(
    rows: RowFile, options: argparse.Namespace, store: RowStore, untimed: bool
) -> dict[str, RowFile]:
    ratios = (options.ratios or _RATIOS) if options.split == "ratio" else None
    order = options.order or ("random" if ratios else "time")
    if order == "time" and untimed:
        raise DataError(
            "--order time: some interactions have no time; name its column, or use --order random"
        )
    if store.journal.last("split") is None:
        with ExitStack() as stack:
            files = [stack.enter_context(RowWriter(store.folder / part)) for part in PARTS]
            for found, part in split(rows, order == "time", options.seed, ratios):
                for phase, file in enumerate(files):
                    file.write(found[part == phase])
        store.journal.add(PARTS, split=True)
    written = {part: RowFile(store.folder / part) for part in PARTS}
    return {part: found for part, found in written.items() if len(found)}

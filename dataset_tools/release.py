"""`release`: imports a public KGAT, KGIN or KGCL release with its split and checks its counts."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from recbole_slif.errors import DataError

from . import faults as fault_log
from . import manifest
from .faults import Faults
from .journal import run_identity
from .marks import Marks
from .number_file import NumberFile
from .release_files import GRAPHS
from .release_labels import Labels, original_ids, unique_names
from .release_reading import Ids, Release, count, find_files, read_release
from .release_store import ReleaseStore
from .writing import PARTS, refuse_other_split, write_rows

DESCRIPTION = """\
Import a public text release: train.txt, test.txt (and valid.txt) with a user and its items in each
line, kg_final.txt or kg.txt with triples of ids, and the lists of original ids where they are
there. The release's split is kept. Counts are set beside those that its authors and the papers
publish; differences are printed, and are an error with --strict alone."""
EXAMPLES = """\
  python -m dataset_tools release KGAT/Data/amazon-book \\
      --name amazon-book --out dataset/amazon-book
  python -m dataset_tools release KGCL/data/yelp2018 \\
      --name yelp2018 --kind kgcl --out dataset/yelp2018"""
KINDS = ("kgat", "kgin", "kgcl")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `release`."""
    parser.add_argument("folder", type=Path, help="the release's folder of one data set")
    parser.add_argument("--name", required=True, help="data set name in the file names")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--kind",
        choices=KINDS,
        help="whose release; default: kgcl where there is kg.txt, else kgat",
    )
    parser.add_argument(
        "--entities",
        choices=("auto", "shared", "separate"),
        default="auto",
        help=(
            "shared: an entity id below the number of items is that item (KGAT, KGIN); separate: "
            "heads are items and tails have numbers of their own (KGCL); auto takes separate "
            "where no id of the graph reaches the number of items; default: %(default)s"
        ),
    )
    parser.add_argument(
        "--original-ids",
        action="store_true",
        help="users and items get the ids of user_list.txt and item_list.txt as tokens",
    )
    fault_log.add_options(parser)


def run(options: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        DataError: A file is missing, or a part of another split is there; with `--strict`, faults
            or counts that differ.
    """
    faults, files = Faults(), find_files(options.folder)
    refuse_other_split(options.out, options.name, files.parts)
    identity = run_identity(options, files.all())
    with ReleaseStore(options.out / f".{options.name}.release.partial", identity) as store:
        found = read_release(store, files, options.entities, faults)
        counts, ids = count(found)
        differ = _compare(options, counts)
        fault_log.refuse(faults, options)
        if differ and options.strict:
            raise DataError(f"{options.folder}: {'; '.join(differ)} (--strict)")
        written = write(found, ids, store, options)
    left = _left_out(found, counts)
    fault_log.conclude({**counts, **left, "files": ", ".join(written)}, faults, options)


def _left_out(found: Release, counts: Mapping[str, int]) -> dict[str, int]:
    read, parts = found.read, found.files.parts
    left = {
        f"repeated pairs left out of {part}": read[f"pairs of {part}"] - counts[part]
        for part in parts
    }
    left |= {f"users without items in {part}": read[f"empty of {part}"] for part in parts}
    left["repeated triples left out"] = read["triples"] - len(found.triples)
    return {name: number for name, number in left.items() if number}


def _compare(options: argparse.Namespace, counts: Mapping[str, int]) -> list[str]:
    """Print published counts beside those found; return where the release's own differ."""
    graph = next((name for name in GRAPHS if (options.folder / name).is_file()), "")
    kind = options.kind or ("kgcl" if graph == "kg.txt" else "kgat")
    entry = manifest.release(options.name, kind)
    if entry is None or not entry["counts"]:
        print(f"no published counts are known for data set '{options.name}', release {kind}")
        return []
    for name, size in entry.get("files", {}).items():
        path = options.folder / name
        if path.is_file() and path.stat().st_size != size:
            print(f"{name}: {path.stat().st_size:,} bytes, the release's has {size:,}")
    differ = _differences(f"release {kind}", entry["counts"], counts)
    for paper, published in manifest.papers(options.name).items():
        _differences(paper, published, counts)
    return differ


def _differences(source: str, published: Mapping[str, int], counts: Mapping[str, int]) -> list[str]:
    differ = [
        f"{name} {counts[name]:,} (published {number:,})"
        for name, number in published.items()
        if name in counts and counts[name] != number
    ]
    absent = [name for name in published if name not in counts]
    same = len(published) - len(differ) - len(absent)
    text = f"{source}: {same} of {len(published)} published counts agree"
    text += f"; different: {', '.join(differ)}" if differ else ""
    print(text + (f"; not in these files: {', '.join(absent)}" if absent else ""))
    return differ


def write(found: Release, ids: Ids, store: ReleaseStore, options: argparse.Namespace) -> list[str]:
    """Write the atomic files; return their names.

    Raises:
        DataError: With `--original-ids`, a user or item has none of its own.
    """
    users, items = (
        _tokens(found, what, used, store, options)
        for what, used in (("user", ids.users), ("item", ids.items))
    )
    written = []

    def table(name: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        written.append(f"{options.name}.{name}")
        header = [f"{column}:token" for column in columns]
        path = options.out / written[-1]
        store.journal.once(path, lambda: write_rows(path, header, rows))

    for part in found.files.parts:
        pairs = _pairs(found.interactions, part, users, items)
        table(f"{part}.inter", ["user_id", "item_id"], pairs)
    if len(found.triples):
        heads, relations, tails = _graph_labels(found, ids, store)
        triples = _triples(found.triples, heads, relations, tails)
        table("kg", ["head_id", "relation_id", "tail_id"], triples)
        links = (zip(items.of(part), heads.of(part), strict=True) for part in ids.linked())
        table("link", ["item_id", "entity_id"], chain.from_iterable(links))
    names = found.names["item"]
    if len(names):
        columns = ["item_id", "original_id", "freebase_id"]
        table("item", columns[: 1 + names.width], _item_rows(found, items))
    return written


def _tokens(
    found: Release, what: str, used: Marks, store: ReleaseStore, options: argparse.Namespace
) -> Labels:
    if not options.original_ids:
        return Labels("")
    path = options.folder / f"{what}_list.txt"
    return original_ids(found.names[what], used, what, path, store)


def _pairs(rows: NumberFile, part: str, users: Labels, items: Labels) -> Iterator[Sequence[str]]:
    for some in rows.chunks(f"write {part}"):
        some = some[some[:, 2] == PARTS.index(part)]
        yield from zip(users.of(some[:, 0]), items.of(some[:, 1]), strict=True)


def _triples(rows: NumberFile, *labels: Labels) -> Iterator[Sequence[str]]:
    for some in rows.chunks("write triples"):
        columns = (label.of(column) for label, column in zip(labels, some.T, strict=True))
        yield from zip(*columns, strict=True)


def _graph_labels(found: Release, ids: Ids, store: ReleaseStore) -> tuple[Labels, Labels, Labels]:
    """Return the labels of heads, relations and tails."""
    relations = unique_names(found.names["relation"], ids.relations, "relation", store)
    tails = unique_names(found.names["entity"], ids.entities, "entity", store)
    return tails if found.shared else Labels("i"), relations, tails


def _item_rows(found: Release, items: Labels) -> Iterator[Sequence[str]]:
    for ids, names in found.names["item"].pieces("write items"):
        ids = ids[ids < found.n_items]
        for token, name in zip(items.of(ids), names, strict=False):
            yield token, *name.split("\t")

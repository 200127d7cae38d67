"""`release`: imports a public KGAT, KGIN or KGCL release with its split and checks its counts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.errors import DataError

from . import faults as fault_log
from . import manifest
from .faults import Faults
from .release_files import Names, Pairs, distinct_pairs, read_lists, read_names, read_triples
from .writing import write_columns, write_rows

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
PARTS = ("train", "valid", "test")
GRAPHS = ("kg_final.txt", "kg.txt")
_PREFIX = "http://rdf.freebase.com/ns/"


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


@dataclass(frozen=True)
class Release:
    """A release in memory; ids are the release's.

    Attributes:
        parts: `train`, `valid` and `test`, those that are there.
        triples: `[n, 3]` distinct, ascending.
        repeated_triples: How many were left out.
        shared: Whether an entity id below `n_items` is that item.
    """

    parts: Mapping[str, Pairs]
    triples: np.ndarray
    repeated_triples: int
    shared: bool

    @property
    def n_items(self) -> int:
        """Item ids lie below this number."""
        return max(int(part.items.max(initial=-1)) for part in self.parts.values()) + 1


def run(options: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        DataError: A file is missing; with `--strict`, faults or counts that differ.
    """
    faults = Faults()
    found = read_release(options.folder, options.entities, faults)
    names = {
        what: read_names(options.folder / f"{what}_list.txt", faults)
        for what in ("user", "item", "entity", "relation")
    }
    counts = count(found)
    differ = _compare(options, counts)
    fault_log.refuse(faults, options)
    if differ and options.strict:
        raise DataError(f"{options.folder}: {'; '.join(differ)} (--strict)")
    written = write(found, names, options)
    fault_log.conclude({**counts, **_left_out(found), "files": ", ".join(written)}, faults, options)


def read_release(folder: Path, entities: str, faults: Faults) -> Release:
    """Read the interactions and the graph of a release.

    Raises:
        DataError: There is no `train.txt` or `test.txt`, or one of them holds no interaction.
    """
    paths = {part: folder / f"{part}.txt" for part in PARTS}
    for part in ("train", "test"):
        if not paths[part].is_file():
            raise DataError(
                f"{paths[part]}: no such file; give the release's folder of one data set"
            )
    parts = {part: read_lists(path, faults) for part, path in paths.items() if path.is_file()}
    for part, pairs in parts.items():
        if not len(pairs.users):
            raise DataError(f"{paths[part]}: no interactions; each line is a user and its items")
    graph = next((folder / name for name in GRAPHS if (folder / name).is_file()), None)
    triples, repeated = np.zeros((0, 3), dtype=np.int64), 0
    if graph is not None:
        triples, repeated = read_triples(graph, faults)
    found = Release(parts, triples, repeated, shared=True)
    reaches = bool(len(triples)) and int(triples[:, [0, 2]].max()) >= found.n_items
    shared = entities == "shared" or (entities == "auto" and (reaches or not len(triples)))
    if not shared and len(triples) and int(triples[:, 0].max()) >= found.n_items:
        raise DataError(
            f"{graph}: with --entities separate every head is an item, but head "
            f"{int(triples[:, 0].max())} is beyond the {found.n_items} items; use --entities shared"
        )
    return Release(parts, triples, repeated, shared)


def count(found: Release) -> dict[str, int]:
    """Return the counts of a release under the names of the manifest."""
    users = np.concatenate([part.users for part in found.parts.values()])
    items = np.concatenate([part.items for part in found.parts.values()])
    pairs = distinct_pairs(users, items)
    counts = {"users": len(np.unique(users)), "items": len(np.unique(items))}
    counts |= {part: len(pairs.users) for part, pairs in found.parts.items()}
    counts["interactions"] = len(pairs[0])
    per_user, per_item = (np.unique(side, return_counts=True)[1] for side in pairs)
    tested = len(np.unique(found.parts["test"].users))
    counts["users_without_test"] = counts["users"] - tested
    counts["users_below_10"] = int((per_user < 10).sum())
    counts["items_below_10"] = int((per_item < 10).sum())
    if len(found.triples):
        counts |= _count_graph(found, np.unique(items), counts["items"])
    return counts


def _count_graph(found: Release, items: np.ndarray, n_items: int) -> dict[str, int]:
    heads, tails = found.triples[:, 0], found.triples[:, 2]
    nodes = np.unique(np.concatenate([heads, tails])) if found.shared else np.unique(tails)
    others = int((nodes >= found.n_items).sum()) if found.shared else len(nodes)
    return {
        "entities": others,
        "entities_with_items": others + n_items,
        "relations": len(np.unique(found.triples[:, 1])),
        "triples": len(found.triples),
        "linked_items": len(np.intersect1d(items, _linked(found))),
    }


def _linked(found: Release) -> np.ndarray:
    """Return the ids of items that are nodes of the graph, ascending."""
    heads, tails = found.triples[:, 0], found.triples[:, 2]
    nodes = np.unique(np.concatenate([heads, tails])) if found.shared else np.unique(heads)
    return nodes[nodes < found.n_items]


def _left_out(found: Release) -> dict[str, int]:
    left = {f"repeated pairs left out of {part}": p.repeated for part, p in found.parts.items()}
    left |= {f"users without items in {part}": p.empty for part, p in found.parts.items()}
    left["repeated triples left out"] = found.repeated_triples
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


def write(found: Release, names: Mapping[str, Names], options: argparse.Namespace) -> list[str]:
    """Write the atomic files; return their names."""
    users = _tokens(names["user"], options.original_ids, "user", found, options.folder)
    items = _tokens(names["item"], options.original_ids, "item", found, options.folder)
    written = []
    for part, pairs in found.parts.items():
        written.append(f"{options.name}.{part}.inter")
        columns = {
            "user_id:token": _Labelled(users, pairs.users),
            "item_id:token": _Labelled(items, pairs.items),
        }
        write_columns(options.out / written[-1], columns)
    if len(found.triples):
        written += _write_graph(found, names, items, options)
    if names["item"].original:
        written.append(f"{options.name}.item")
        _write_items(options.out / written[-1], names["item"], items)
    return written


class _Labelled:
    """A column of labels, looked up only where it is written.

    Args:
        labels: Label of each number.
        numbers: `[n]` number of each row.
    """

    def __init__(self, labels: np.ndarray, numbers: np.ndarray) -> None:
        self._labels, self._numbers = labels, numbers

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._numbers)

    def cells(self, start: int, stop: int) -> list[str]:
        """Return the labels of rows `start` to `stop`."""
        return self._labels[self._numbers[start:stop]].tolist()


def _tokens(names: Names, original: bool, what: str, found: Release, folder: Path) -> np.ndarray:
    """Return id -> token of users or items."""
    sides = [getattr(part, f"{what}s") for part in found.parts.values()]
    used = np.unique(np.concatenate(sides))
    tokens = np.arange(int(used[-1]) + 1).astype(str).astype(object)
    if not original:
        return tokens
    missing = [int(number) for number in used if int(number) not in names.original]
    if missing:
        raise DataError(
            f"{folder / f'{what}_list.txt'}: no original id for {what} {missing[0]} "
            f"({len(missing)} lack one); leave out --original-ids"
        )
    for number in used.tolist():
        tokens[number] = names.original[number]
    if len(set(tokens[used].tolist())) != len(used):
        raise DataError(f"{folder / f'{what}_list.txt'}: two {what}s have one original id")
    return tokens


def _write_graph(
    found: Release, names: Mapping[str, Names], items: np.ndarray, options: argparse.Namespace
) -> list[str]:
    heads, relations, tails = found.triples.T
    entity = _labels(names["entity"].original, "e", np.concatenate([heads, tails]))
    relation = _labels(names["relation"].original, "r", relations)
    own = entity
    if not found.shared:
        entity = _labels(names["entity"].original, "e", tails)
        own = _labels({}, "i", heads)
    columns = {
        "head_id:token": _Labelled(own, heads),
        "relation_id:token": _Labelled(relation, relations),
        "tail_id:token": _Labelled(entity, tails),
    }
    write_columns(options.out / f"{options.name}.kg", columns)
    # An item id that only the graph knows is no item of the data set.
    met = np.unique(np.concatenate([part.items for part in found.parts.values()]))
    linked = np.intersect1d(met, _linked(found))
    links = {"item_id:token": items[linked], "entity_id:token": own[linked]}
    write_columns(options.out / f"{options.name}.link", links)
    return [f"{options.name}.kg", f"{options.name}.link"]


def _labels(names: Mapping[int, str], prefix: str, used: np.ndarray) -> np.ndarray:
    """Return id -> token: the name where it is given and unique, else prefix and id."""
    labels = np.array([f"{prefix}{n}" for n in range(int(used.max()) + 1)], dtype=object)
    taken = set(labels.tolist())
    for number in np.unique(used).tolist():
        name = names.get(number, "").removeprefix(_PREFIX)
        if name and name not in taken:
            taken.add(name)
            labels[number] = name
    return labels


def _write_items(path: Path, names: Names, items: np.ndarray) -> None:
    header = ["item_id:token", "original_id:token"]
    header += ["freebase_id:token"] if names.freebase else []
    known: Any = sorted(number for number in names.original if number < len(items))
    rows = (
        [items[number], names.original[number], names.freebase.get(number, "")][: len(header)]
        for number in known
    )
    write_rows(path, header, rows)

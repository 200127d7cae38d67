"""Reads a KGAT, KGIN or KGCL release onto disk and counts what it holds."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recbole_slif.errors import DataError

from .core_split import CappedCounts
from .faults import Faults
from .marks import Marks
from .number_file import NumberFile, new_rows
from .release_files import GRAPHS, LISTS, read_lists, read_names, read_triples
from .release_store import ListedNames, ReleaseStore
from .resumed_reading import ResumedReading
from .token_order import BATCH, BATCH_CHARS
from .writing import PARTS

# Rows of numbers in memory before they are sorted and kept.
_ROWS = 1 << 20
_LEAST = 10


@dataclass(frozen=True)
class ReleaseFiles:
    """The files of a release that are there.

    Attributes:
        parts: Of `train`, `valid` and `test`.
        graph: The triples; None for none.
        lists: Of `user`, `item`, `entity` and `relation`.
    """

    parts: Mapping[str, Path]
    graph: Path | None
    lists: Mapping[str, Path]

    def all(self) -> list[Path]:
        """Return all of them in the order in which they are read."""
        graph = [] if self.graph is None else [self.graph]
        return [*self.parts.values(), *graph, *self.lists.values()]


def find_files(folder: Path) -> ReleaseFiles:
    """Return the files of a release.

    Raises:
        DataError: There is no `train.txt` or `test.txt`.
    """
    parts = {part: folder / f"{part}.txt" for part in PARTS}
    for part in ("train", "test"):
        if not parts[part].is_file():
            raise DataError(
                f"{parts[part]}: no such file; give the release's folder of one data set"
            )
    lists = {what: folder / f"{what}_list.txt" for what in LISTS}
    return ReleaseFiles(
        {part: path for part, path in parts.items() if path.is_file()},
        next((folder / name for name in GRAPHS if (folder / name).is_file()), None),
        {what: path for what, path in lists.items() if path.is_file()},
    )


@dataclass(frozen=True)
class Release:
    """A release on disk; ids are the release's.

    Attributes:
        files: What was read.
        read: How much was read of what, and ids of each kind: they lie below that number.
        shared: Whether an entity id below `n_items` is that item.
        interactions: Distinct rows `(user, item, number of the part)`, sorted.
        triples: Distinct rows `(head, relation, tail)`, sorted.
        names: Of each list.
    """

    files: ReleaseFiles
    read: Counter[str]
    shared: bool
    interactions: NumberFile
    triples: NumberFile
    names: Mapping[str, ListedNames]

    @property
    def n_items(self) -> int:
        """Item ids lie below this number."""
        return self.read["items"]


def read_release(
    store: ReleaseStore, files: ReleaseFiles, entities: str, faults: Faults
) -> Release:
    """Read the files of a release, or go on where a killed run was.

    Args:
        store: Takes rows and names.
        files: What to read.
        entities: `auto`, `shared` or `separate`.
        faults: Receives what is wrong in the files.

    Raises:
        DataError: A file of interactions holds none, a file cannot be read, or with `separate`
            entities a head is no item.
    """
    kinds = {path: part for part, path in [*files.parts.items(), *files.lists.items()]}
    reading = ResumedReading(store, files.all(), faults, Counter())
    for path, after in reading.files():
        kind = kinds.get(path, "graph")
        if kind not in PARTS:
            _refuse_empty(files, reading.counts)
        if kind in LISTS:
            _refuse_heads(files, reading.counts, entities)
        if kind in PARTS:
            _take_lists(path, after, kind, store, reading)
        elif kind in LISTS:
            _take_names(path, after, kind, store, reading)
        else:
            _take_triples(path, after, store, reading)
    _refuse_empty(files, reading.counts)
    shared = _refuse_heads(files, reading.counts, entities)
    interactions, triples = store.rows("interactions"), store.rows("triples")
    names = {what: store.names(what) for what in LISTS}
    for what, listed in names.items():
        count, lines = listed.again()
        if count:
            name = files.lists[what].name
            report = {"file": name, "kind": "ids listed again", "count": count, "lines": lines}
            faults.take([report])
    return Release(files, reading.counts, shared, interactions, triples, names)


def _refuse_empty(files: ReleaseFiles, read: Counter[str]) -> None:
    for part, path in files.parts.items():
        if not read[f"pairs of {part}"]:
            raise DataError(f"{path}: no interactions; each line is a user and its items")


def _refuse_heads(files: ReleaseFiles, read: Counter[str], entities: str) -> bool:
    """Return whether an entity id below the number of items is that item.

    Raises:
        DataError: It is not, and a head is no item.
    """
    reaches = max(read["heads"], read["tails"]) > read["items"]
    if entities == "shared" or (entities == "auto" and (reaches or not read["triples"])):
        return True
    if read["heads"] > read["items"]:
        raise DataError(
            f"{files.graph}: with --entities separate every head is an item, but head "
            f"{read['heads'] - 1} is beyond the {read['items']} items; use --entities shared"
        )
    return False


def _raise(read: Counter[str], kind: str, ids: np.ndarray) -> None:
    """Have ids of a kind lie below a number that is noted."""
    if len(ids):
        read[kind] = max(read[kind], int(ids.max()) + 1)


def _take_lists(
    path: Path, after: int, part: str, store: ReleaseStore, reading: ResumedReading
) -> None:
    """Put the interactions behind a line of a file into the store."""
    users, counts, items = array("I"), array("Q"), array("I")
    read = reading.counts

    def keep() -> None:
        owners = np.repeat(np.array(users, dtype=np.uint32), np.array(counts, dtype=np.int64))
        found = np.array(items, dtype=np.uint32)
        phase = np.broadcast_to(np.uint32(PARTS.index(part)), len(found))
        read[f"pairs of {part}"] += len(found)
        read[f"empty of {part}"] += counts.count(0)
        _raise(read, "users", owners)
        _raise(read, "items", found)
        for column in (users, counts, items):
            del column[:]
        store.take("interactions", (owners, found, phase))

    for line, ids in read_lists(path, reading.faults, after):
        reading.line = line
        users.append(ids[0])
        counts.append(len(ids) - 1)
        items.extend(ids[1:])
        if len(users) + len(items) >= _ROWS:
            keep()
    reading.end_file()
    keep()


def _take_triples(path: Path, after: int, store: ReleaseStore, reading: ResumedReading) -> None:
    """Put the triples behind a line of a file into the store."""
    cells = array("I")
    read = reading.counts

    def keep() -> None:
        rows = np.array(cells, dtype=np.uint32).reshape(-1, 3)
        read["triples"] += len(rows)
        for kind, ids in zip(("heads", "relations", "tails"), rows.T, strict=True):
            _raise(read, kind, ids)
        del cells[:]
        store.take("triples", (rows[:, 0], rows[:, 1], rows[:, 2]))

    for line, ids in read_triples(path, reading.faults, after):
        reading.line = line
        cells.extend(ids)
        if len(cells) >= 3 * _ROWS:
            keep()
    reading.end_file()
    keep()


def _take_names(
    path: Path, after: int, what: str, store: ReleaseStore, reading: ResumedReading
) -> None:
    """Put the names behind a line of a list into the store."""
    rows: list[tuple[int, int]] = []
    names: list[str] = []
    chars = 0

    def keep() -> None:
        numbers = np.array(rows, dtype=np.uint32).reshape(-1, 2)
        store.take_names(what, numbers[:, 0], numbers[:, 1], names)
        rows.clear()
        names.clear()

    for line, number, name in read_names(path, reading.faults, after):
        reading.line = line
        rows.append((number, line))
        names.append(name)
        chars += len(name)
        if len(rows) >= BATCH or chars >= BATCH_CHARS:
            keep()
            chars = 0
    reading.end_file()
    keep()


@dataclass(frozen=True)
class Ids:
    """Which ids occur in a release.

    Attributes:
        users: Of interactions.
        items: Of interactions.
        relations: Of triples.
        entities: Tails, and heads too where entities and items share their numbers.
        nodes: Ids of entities that may be items: the heads, and tails too where numbers are shared.
    """

    users: Marks
    items: Marks
    relations: Marks
    entities: Marks
    nodes: Marks

    def linked(self) -> Iterator[np.ndarray]:
        """Yield the items that are nodes of the graph, in order, some at a time."""
        for items in self.items.pieces():
            # An item id that only the graph knows is no item of the data set.
            yield items[self.nodes.of(items)]


def count(found: Release) -> tuple[dict[str, int], Ids]:
    """Return the counts of a release under the names of the manifest, and which ids occur.

    Memory holds a bit for each id below the largest, and a byte for each user and item.
    """
    users, items = (Marks(found.read[kind]) for kind in ("users", "items"))
    tested, pairs, sizes = Marks(users.size), 0, np.zeros(len(PARTS), dtype=np.int64)
    for rows, _, new in new_rows(found.interactions.chunks("count interactions")):
        users.add(rows[new, 0])
        items.add(rows[new, 1])
        tested.add(rows[rows[:, 2] == PARTS.index("test"), 0])
        sizes += np.bincount(rows[:, 2], minlength=len(PARTS))
        pairs += int(new.sum())
    counts = {"users": users.count(), "items": items.count()}
    counts |= {part: int(sizes[PARTS.index(part)]) for part in found.files.parts}
    counts["interactions"] = pairs
    counts["users_without_test"] = counts["users"] - tested.count()
    counts |= _few(found, {"users": users, "items": items})
    ids = Ids(users, items, *_graph_ids(found))
    if len(found.triples):
        others = ids.entities.count(found.n_items if found.shared else 0)
        counts["entities"] = others
        counts["entities_with_items"] = others + counts["items"]
        counts["relations"] = ids.relations.count()
        counts["triples"] = len(found.triples)
        counts["linked_items"] = sum(map(len, ids.linked()))
    return counts, ids


def _few(found: Release, sides: Mapping[str, Marks]) -> dict[str, int]:
    counts = {name: CappedCounts(side.count(), _LEAST) for name, side in sides.items()}
    for rows, _, new in new_rows(found.interactions.chunks("count interactions of each")):
        for column, (name, side) in enumerate(sides.items()):
            counts[name].add(side.places(rows[new, column]))
    return {f"{name}_below_{_LEAST}": number.few() for name, number in counts.items()}


def _graph_ids(found: Release) -> tuple[Marks, Marks, Marks]:
    """Return relations, entities and nodes; see `Ids`."""
    heads, tails = found.read["heads"], found.read["tails"]
    entities = Marks(max(heads, tails) if found.shared else tails)
    nodes = entities if found.shared else Marks(heads)
    relations = Marks(found.read["relations"])
    for rows in found.triples.chunks("count triples"):
        for marks, column in zip((nodes, relations, entities), rows.T, strict=True):
            marks.add(column)
    return relations, entities, nodes

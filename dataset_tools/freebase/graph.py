"""From found triples to the graph that is written: sorted, each once, filtered by frequency.

Works through the disk: records are dealt into buckets by head, each bucket is sorted in memory, and
the filter reads the sorted file again in each round. Memory grows with entities, not with triples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..progress import bar
from ..writing import atomic
from . import ids
from .entities import contains
from .spill import CHUNK, Spill

CODED = np.dtype([("head", "<i4"), ("relation", "<i4"), ("tail", "<i4")])
_BUCKET = 4 << 20
_MOST_BUCKETS = 128
HEADER = b"head_id:token\trelation_id:token\ttail_id:token\n"
Keep = Callable[[str], bool]


@dataclass(frozen=True)
class Limits:
    """What a triple must meet to stay.

    Attributes:
        entity: An entity occurs in at least so many triples, or is linked.
        relation: A relation occurs in at least so many triples.
    """

    entity: int = 1
    relation: int = 1


class Graph:
    """Distinct triples in a file, sorted as their text is.

    Args:
        folder: For the files of the work.
        keys: `[n]` sorted keys of all entities.
        names: `[m]` relation names, sorted.
    """

    def __init__(self, folder: Path, keys: np.ndarray, names: list[str]) -> None:
        self.path = folder / "sorted.bin"
        self.keys, self.names = keys, names
        self.size = 0

    def read(self, what: str) -> Iterator[np.ndarray]:
        """Yield the triples in chunks, as positions in `keys` and `names`, with a bar of bytes.

        Args:
            what: What is done with them, for the bar.
        """
        with self.path.open("rb") as file, bar(self.size * CODED.itemsize, what) as shown:
            while data := file.read(CHUNK * CODED.itemsize):
                yield np.frombuffer(data, dtype=CODED)
                shown.update(len(data))


def sort_triples(spill: Spill, keys: np.ndarray, names: list[str]) -> Graph:
    """Sort the found triples and drop those found twice and those from an entity to itself.

    Args:
        spill: The found triples.
        keys: `[n]` sorted keys that holds every head and tail.
        names: Relation names in order of number.
    """
    order = sorted(range(len(names)), key=lambda number: names[number].encode())
    rank = np.empty(len(names), dtype=np.int32)
    rank[order] = np.arange(len(names), dtype=np.int32)
    graph = Graph(spill.path.parent, keys, [names[number] for number in order])
    bounds = _bounds(spill, keys)
    paths = [spill.path.with_name(f"bucket-{number}.bin") for number in range(len(bounds) - 1)]
    _deal(spill, keys, rank, bounds, paths)
    total = sum(path.stat().st_size for path in paths)
    with graph.path.open("wb") as file, bar(total, "sort triples") as shown:
        for path in paths:
            shown.update(path.stat().st_size)
            rows = _sorted(np.fromfile(path, dtype=CODED))
            graph.size += len(rows)
            file.write(rows.tobytes())
            path.unlink()
    return graph


def _bounds(spill: Spill, keys: np.ndarray) -> np.ndarray:
    """Return ascending head positions that part the records into buckets of about equal size."""
    counts = np.zeros(len(keys) + 1, dtype=np.int64)
    for rows in spill.read("count triples"):
        found, number = np.unique(rows["head"], return_counts=True)
        counts[np.searchsorted(keys, found) + 1] += number
    size = max(_BUCKET, -(-spill.records // _MOST_BUCKETS))
    total = np.cumsum(counts, out=counts)
    wanted = np.arange(size, spill.records, size)
    inner = np.searchsorted(total, wanted, side="left")
    return np.unique(np.concatenate([[0], inner, [len(keys)]]))


def _deal(
    spill: Spill, keys: np.ndarray, rank: np.ndarray, bounds: np.ndarray, paths: list[Path]
) -> None:
    files = [path.open("wb") for path in paths]
    try:
        for rows in spill.read("deal triples"):
            rows = rows[rows["head"] != rows["tail"]]
            coded = np.empty(len(rows), dtype=CODED)
            coded["head"] = np.searchsorted(keys, rows["head"])
            coded["relation"] = rank[rows["relation"]]
            coded["tail"] = np.searchsorted(keys, rows["tail"])
            bucket = np.searchsorted(bounds, coded["head"], side="right") - 1
            coded = coded[np.argsort(bucket, kind="stable")]
            ends = np.cumsum(np.bincount(bucket, minlength=len(files)))
            for file, part in zip(files, np.split(coded, ends[:-1]), strict=True):
                file.write(part.tobytes())
    finally:
        for file in files:
            file.close()


def _sorted(rows: np.ndarray) -> np.ndarray:
    rest = (rows["relation"].astype(np.int64) << 32) | rows["tail"]
    order = np.lexsort((rest, rows["head"]))
    rows, rest = rows[order], rest[order]
    kept = np.ones(len(rows), dtype=bool)
    kept[1:] = (rows["head"][1:] != rows["head"][:-1]) | (rest[1:] != rest[:-1])
    return rows[kept]


class Filter:
    """Drops rare entities and relations until none is left; frequencies count distinct triples.

    Args:
        graph: The triples.
        linked: `[k]` sorted keys that no limit drops.
        limits: What must be met.

    Attributes:
        entities: `[n]` bool, those that stay.
        relations: `[m]` bool, likewise.
        rounds: How often all triples were counted.
    """

    def __init__(self, graph: Graph, linked: np.ndarray, limits: Limits) -> None:
        self._graph, self._limits = graph, limits
        self._linked = contains(linked, graph.keys)
        self.entities = np.ones(len(graph.keys), dtype=bool)
        self.relations = np.ones(len(graph.names), dtype=bool)
        self.rounds = 0

    def alive(self, rows: np.ndarray) -> np.ndarray:
        """Return `[n]` bool, which triples stay."""
        ends = self.entities[rows["head"]] & self.entities[rows["tail"]]
        return ends & self.relations[rows["relation"]]

    def settle(self) -> None:
        """Repeat until every entity and relation that stays meets its limit."""
        while True:
            entities, relations = self._frequencies()
            self.rounds += 1
            keep = self.entities & (self._linked | (entities >= self._limits.entity))
            often = self.relations & (relations >= self._limits.relation)
            same = (keep == self.entities).all() and (often == self.relations).all()
            self.entities, self.relations = keep, often
            if same:
                return

    def _frequencies(self) -> tuple[np.ndarray, np.ndarray]:
        entities = np.zeros(len(self.entities), dtype=np.int32)
        relations = np.zeros(len(self.relations), dtype=np.int64)
        for rows in self._graph.read(f"frequencies, round {self.rounds + 1}"):
            rows = rows[self.alive(rows)]
            for end in ("head", "tail"):
                found, number = np.unique(rows[end], return_counts=True)
                entities[found] += number.astype(np.int32)
            relations += np.bincount(rows["relation"], minlength=len(relations))
        return entities, relations


def write_graph(path: Path, graph: Graph, stays: Filter) -> Counter[str]:
    """Write the triples that stay as an atomic file; return what it holds."""
    used = np.zeros(len(graph.keys), dtype=bool)
    relations = np.zeros(len(graph.names), dtype=bool)
    count = 0
    with atomic(path) as file:
        file.write(HEADER)
        for rows in graph.read(f"write {path.name}"):
            rows = rows[stays.alive(rows)]
            count += len(rows)
            for end in ("head", "tail"):
                used[rows[end]] = True
            relations[rows["relation"]] = True
            file.write(_lines(graph, rows))
    return Counter(
        {
            "triples written": count,
            "entities in them": int(used.sum()),
            "relations in them": int(relations.sum()),
        }
    )


def _lines(graph: Graph, rows: np.ndarray) -> bytes:
    if not len(rows):
        return b""
    codes, place = np.unique(np.concatenate([rows["head"], rows["tail"]]), return_inverse=True)
    words = np.array(ids.tokens(graph.keys[codes]), dtype=object)[place]
    middle = np.array(graph.names, dtype=object)[rows["relation"]]
    cells = zip(words[: len(rows)], middle, words[len(rows) :], strict=True)
    return ("\n".join(map("\t".join, cells)) + "\n").encode()

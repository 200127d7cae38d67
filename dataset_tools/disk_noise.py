"""The noise of the robustness study on disk: the draws of `recbole_slif.experiment.noise`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from recbole_slif.data.pairs import PairTable
from recbole_slif.experiment.noise import STREAMS, require, share, substitutes, thinned

from .disk_data import DiskData
from .marks import Marks
from .number_file import CHUNK, GroupCursor, NumberFile, NumberWriter, random_order
from .writing import PARTS

Noisy = Callable[[float], DiskData]


def noisy_copies(data: DiskData, kind: str, seed: int) -> Noisy:
    """Return what makes the noisy copy of a level; see `add_noise`.

    Args:
        data: A data set that was read and split.
        kind: `inter`, `kg` or `modality`.
        seed: Of the draw.
    """
    made: Mapping[str, Callable[[DiskData, int], Noisy]] = {
        "inter": _interactions,
        "kg": _triples,
        "modality": _features,
    }
    return made[kind](data, seed)


class _Draw:
    """What each row of a file is replaced by, if it is chosen, and in which order rows are.

    Args:
        rows: The file, sorted.
        column: Of the number that is replaced.
        replaced: A row for each: the number that takes its place, and 0 or 1, whether there is one.
        generator: Gives the order.
    """

    def __init__(
        self, rows: NumberFile, column: int, replaced: NumberFile, generator: np.random.Generator
    ) -> None:
        self._rows, self._column, self._replaced = rows, column, replaced
        self._found, self.available = Marks(len(rows)), 0
        for start, part in _numbered(replaced):
            there = np.flatnonzero(part[:, 1]) + start
            self._found.add(there)
            self.available += len(there)
        order = replaced.path.with_name(f"{replaced.path.name}.order")
        self._order = random_order(order, len(rows), generator)

    def count(self, level: float) -> int:
        """Return how many rows a level replaces."""
        return share(level, len(self._rows))

    def write(self, level: float, target: Path) -> NumberFile:
        """Write the rows with those of a level replaced, sorted within their groups."""
        chosen, left = Marks(len(self._rows)), self.count(level)
        for start in range(0, len(self._order), CHUNK):
            numbers = self._order[start : start + CHUNK]
            numbers = numbers[self._found.of(numbers)][:left]
            chosen.add(numbers)
            left -= len(numbers)
            if not left:
                break
        at = 0
        with NumberWriter(target) as out:
            for rows in self._rows.groups("replace"):
                there = np.flatnonzero(chosen.of(np.arange(at, at + len(rows))))
                rows[there, self._column] = self._replaced.read(at, at + len(rows))[there, 0]
                out.write(rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))])
                at += len(rows)
        return NumberFile(target)


def _numbered(file: NumberFile) -> Iterator[tuple[int, np.ndarray]]:
    at = 0
    for rows in file.chunks("count"):
        yield at, rows
        at += len(rows)


def _ahead(seed: int, kind: str, draws: int) -> np.random.Generator:
    """Return the generator of a kind of noise, behind so many random numbers."""
    generator = np.random.default_rng([seed, STREAMS[kind]])
    generator.bit_generator.advance(draws)  # type: ignore[attr-defined]
    return generator


def _interactions(data: DiskData, seed: int) -> Noisy:
    train, valid, _ = data.parts
    total = len(train) + len(valid)
    generators = (_ahead(seed, "inter", 0), _ahead(seed, "inter", len(train)))
    generator = _ahead(seed, "inter", total)
    cursors = [GroupCursor(part) for part in (train, valid)]
    files = [NumberWriter(data.folder / f"{part}.replaced") for part in PARTS[:2]]
    try:
        for pairs in data.pairs.groups("draw items"):
            first, end = int(pairs[0, 0]), int(pairs[-1, 0]) + 1
            own = [cursor.until(end) for cursor in cursors]
            table = PairTable(
                *(pairs[:, 0].astype(np.int64) - first, pairs[:, 1].astype(np.int64)),
                *(end - first, len(data.items)),
            )
            users = np.concatenate([rows[:, 0] for rows in own]).astype(np.int64) - first
            keys = [one.random(len(rows)) for one, rows in zip(generators, own, strict=True)]
            values, found = substitutes(users, np.concatenate(keys), table, generator)
            columns = (values, found, np.zeros(len(values)))
            for file, part in zip(
                files, (slice(len(own[0])), slice(len(own[0]), None)), strict=True
            ):
                file.write(*(column[part] for column in columns))
    finally:
        for file in files:
            file.close()
    draws = [
        _Draw(rows, 1, NumberFile(file.path), generator)
        for rows, file in zip((train, valid), files, strict=True)
    ]

    def noisy(level: float) -> DiskData:
        parts = []
        for part, draw in zip(PARTS, draws, strict=False):
            require(draw.available, draw.count(level), data.name, "interactions")
            parts.append(draw.write(level, data.folder / f"{part}.noisy"))
        return replace(data, parts=(*parts, data.parts[2]))

    return noisy


def _triples(data: DiskData, seed: int) -> Noisy:
    graph = data.graph
    is_node = np.zeros(graph.n_entities, dtype=bool)
    for rows in graph.triples.chunks("find nodes"):
        is_node[rows[:, (0, 2)]] = True
    nodes, place = np.flatnonzero(is_node), np.cumsum(is_node)
    keys, generator = _ahead(seed, "kg", 0), _ahead(seed, "kg", len(graph.triples))
    with NumberWriter(data.folder / "kg.replaced") as out:
        for rows in graph.triples.groups("draw tails"):
            heads = rows[:, 0].astype(np.int64)
            first, end = int(heads[0]), int(heads[-1]) + 1
            ends, own = place[rows[:, 2]], place[rows[:, 0]]
            rows_of = np.concatenate([heads, heads]) - first
            table = PairTable(rows_of, np.concatenate([ends, own]), end - first, len(nodes) + 1)
            random = keys.random(len(rows))
            values, found = substitutes(heads - first, random, table, generator)
            tails = np.where(found, nodes[values - 1], 0)
            out.write(tails, found, np.zeros(len(rows)))
    draw = _Draw(graph.triples, 2, NumberFile(out.path), generator)

    def noisy(level: float) -> DiskData:
        require(draw.available, draw.count(level), data.name, "triples")
        triples = draw.write(level, data.folder / "kg.noisy")
        return replace(data, graph=replace(graph, triples=triples))

    return noisy


def _features(data: DiskData, seed: int) -> Noisy:
    def noisy(level: float) -> DiskData:
        features = {
            name: replace(part, observed=thinned(part.observed, level, seed, name, data.name))
            for name, part in data.features.items()
        }
        return replace(data, features=features)

    return noisy

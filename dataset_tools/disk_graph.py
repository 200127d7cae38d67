"""The knowledge graph of a data set, read on disk with the ids that training gives it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.data.linking import joint_ids
from recbole_slif.data.locate import missing_file

from .atomic_pieces import pieces_of
from .number_file import NumberFile, NumberWriter, new_rows, sort_numbers
from .numbered_rows import NumberedRows, places_in
from .token_order import SortedTokens


@dataclass(frozen=True)
class DiskGraph:
    """What `KnowledgeGraph` holds, on disk.

    Attributes:
        triples: Rows `(head, relation, tail)` in ids, sorted.
        n_entities: Number of entity ids, item ids and [PAD] included.
        relations: Names; ids are their places plus one.
        linked: `[n_items]` bool.
        entities: Tokens of the graph's files.
        others: `[n_entities - n_items]` number in `entities` of each entity that is no item.
    """

    triples: NumberFile
    n_entities: int
    relations: list[str]
    linked: np.ndarray
    entities: SortedTokens
    others: np.ndarray


def read_graph(
    config: Any,
    folder: Path,
    items: SortedTokens,
    scratch: Path,
    notes: tuple[Counter[str], Counter[str]],
) -> DiskGraph:
    """Read `.kg` and `.link`, join items and entities.

    Args:
        config: Names of the columns.
        folder: Of the data set.
        items: Its items' tokens.
        scratch: For files.
        notes: Receives what reading the files put right, and what joining them did.

    Raises:
        DataError: A file is malformed, or one is there without the other.
    """
    name = config["dataset"]
    kg, link = (folder / f"{name}.{end}" for end in ("kg", "link"))
    if kg.is_file() != link.is_file():
        absent, other = (link, kg) if kg.is_file() else (kg, link)
        raise missing_file(folder, f"{absent.name} beside {other.name}")
    keys = ("HEAD_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "TAIL_ENTITY_ID_FIELD")
    kinds = ("entity", "relation", "entity")
    rows, tokens = _number(config, kg, keys, kinds, scratch / "kg", notes[0])
    triples, used = _clean(rows, tokens, scratch, notes[0])
    ends_of_link = ("ITEM_ID_FIELD", "ENTITY_ID_FIELD")
    links, ends = _number(
        config, link, ends_of_link, ("item", "entity", None), scratch / "link", notes[0]
    )
    # An entity's former id is its place among those of the triples, from 1; [PAD] is 0.
    former = np.where(used["entity"], np.cumsum(used["entity"]), 0)
    pairs = _clean_links(links, ends, (items, tokens["entity"]), former, notes[1])
    joint = joint_ids(len(items) + 1, int(used["entity"].sum()) + 1, pairs)
    relation = np.cumsum(used["relation"])
    with NumberWriter(scratch / "joined") as out:
        for part in triples.chunks("join items and entities"):
            head, tail = (former[part[:, column]] for column in (0, 2))
            out.write(*joint.copies((head, relation[part[:, 1]], tail)))
    triples.path.unlink()
    names = [text for _, texts in tokens["relation"].pieces() for text in texts]
    return DiskGraph(
        _tidy(NumberFile(out.path), scratch, notes[1]),
        len(items) + 1 + len(joint.others),
        [text for text, there in zip(names, used["relation"], strict=True) if there],
        joint.linked,
        tokens["entity"],
        np.flatnonzero(used["entity"])[joint.others - 1],
    )


def _number(
    config: Any,
    path: Path,
    keys: Sequence[str],
    kinds: Sequence[str | None],
    scratch: Path,
    notes: Counter[str],
) -> tuple[NumberFile, dict[str, SortedTokens]]:
    """Read a file, if it is there, into rows of numbers."""
    scratch.mkdir()
    fields = [config[key] for key in keys]
    store = NumberedRows(scratch, "rows", kinds)
    found: Counter[str] = Counter()
    try:
        if path.is_file():
            for table in pieces_of(path, fields, set(fields), config):
                columns: list[Any] = [table.frame[name].tolist() for name in fields]
                if len(columns) < len(kinds):
                    columns.append(np.zeros(len(table.frame)))
                store.add(columns)
                found.update(table.notes)
        for note, count in found.items():
            notes[f"{path.name}: {note}"] += count
        return store.finish()
    finally:
        store.close()


def _clean(
    rows: NumberFile, tokens: dict[str, SortedTokens], scratch: Path, notes: Counter[str]
) -> tuple[NumberFile, dict[str, np.ndarray]]:
    """Drop repeated triples and self-loops; mark the entities and relations that are left."""
    total, distinct = len(rows), 0
    used = {kind: np.zeros(len(found), dtype=bool) for kind, found in tokens.items()}
    ordered = sort_numbers(rows, scratch / "ordered", "triples")
    with NumberWriter(scratch / "clean") as out:
        for part, new, _ in new_rows(ordered.chunks("leave out repeated triples")):
            part = part[new]
            distinct += len(part)
            part = part[part[:, 0] != part[:, 2]]
            used["entity"][part[:, (0, 2)]] = True
            used["relation"][part[:, 1]] = True
            out.write(part)
    ordered.path.unlink()
    notes["repeated triples dropped"] += total - distinct
    notes["triples from an entity to itself dropped"] += distinct - out.size
    return NumberFile(out.path), used


def _clean_links(
    rows: NumberFile,
    tokens: dict[str, SortedTokens],
    known: tuple[SortedTokens, SortedTokens],
    former: np.ndarray,
    notes: Counter[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Return item ids and former entity ids of the links that count, by entity, then item."""
    item = places_in(tokens["item"], known[0]) + 1
    entity = places_in(tokens["entity"], known[1])
    entity = np.where(entity >= 0, former[entity] if len(former) else 0, 0)
    total, ordered = len(rows), sort_numbers(rows, rows.path.with_name("ordered"), "links")
    distinct = unused = outside = 0
    kept = [np.empty((0, 2), dtype=np.int64)]
    for part, new, _ in new_rows(ordered.chunks("check links")):
        found = np.stack([item[part[new, 0]], entity[part[new, 1]]], axis=1)
        there = found[:, 0] > 0
        distinct += len(found)
        unused += int((~there).sum())
        outside += int((there & (found[:, 1] == 0)).sum())
        kept.append(found[there & (found[:, 1] > 0)])
    pairs = np.concatenate(kept)
    notes["repeated link lines dropped"] += total - distinct
    notes["links of items without interactions"] += unused
    notes["items' links to entities outside the graph"] += outside
    for column, note in (
        (0, "items linked to several entities (all their triples kept)"),
        (1, "entities shared by several items (triples copied)"),
    ):
        notes[note] += int((np.unique(pairs[:, column], return_counts=True)[1] > 1).sum())
    order = np.lexsort((pairs[:, 0], pairs[:, 1]))
    return pairs[order, 0], pairs[order, 1]


def _tidy(rows: NumberFile, scratch: Path, notes: Counter[str]) -> NumberFile:
    """Sort joined triples; drop those that linking made equal, and self-loops."""
    total, distinct = len(rows), 0
    ordered = sort_numbers(rows, scratch / "joined ordered", "joined triples")
    with NumberWriter(scratch / "triples") as out:
        for part, new, _ in new_rows(ordered.chunks("leave out equal triples")):
            part = part[new]
            distinct += len(part)
            out.write(part[part[:, 0] != part[:, 2]])
    ordered.path.unlink()
    notes["triples that linking made equal, dropped"] += total - distinct
    notes["triples that linking made self-loops, dropped"] += distinct - out.size
    return NumberFile(out.path)

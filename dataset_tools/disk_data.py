"""A data set read and split on disk: the ids, split and counts of training, whatever its size.

In memory are the tokens of items and a few numbers for each user, entity and link. Rows are not.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.data.dataset import OPEN_INTERVALS, nothing_to_train_on
from recbole_slif.data.loaders import log_statistics, sated_user
from recbole_slif.data.locate import resolve_folder
from recbole_slif.data.protocol import (
    RATIOS,
    choose_protocol,
    drawn_for_validation,
    option,
    parts_by_rank,
)
from recbole_slif.data.reading import different_columns
from recbole_slif.errors import DataError

from .atomic_pieces import pieces_of
from .core_split import ratio_cuts
from .disk_features import DiskFeatures, read_features
from .disk_graph import DiskGraph, read_graph
from .number_file import NumberFile, NumberWriter, counts_of, new_rows, sort_numbers
from .numbered_rows import NumberedRows
from .token_order import SortedTokens
from .writing import PARTS

_KEYS = ("user_inter_num_interval", "item_inter_num_interval")
_KEYS_OF_GRAPH = ("entity_kg_num_interval", "relation_kg_num_interval")
# Keys that change what is read, and are empty as a rule.
_EMPTY = (
    *("val_interval", "unload_col", "unused_col", "additional_feat_suffix", "threshold"),
    *("alias_of_user_id", "alias_of_item_id", "alias_of_entity_id", "alias_of_relation_id"),
    *("preload_weight", "discretization", "kg_reverse_r"),
)


@dataclass(frozen=True)
class DiskData:
    """What `SplitData` holds, on disk.

    Attributes:
        config: Settings.
        folder: For files of the caller's; it goes when the data set does.
        name: Of the data set.
        columns: The fields of user and item, in the order of the file's columns.
        users: User tokens; ids are their numbers plus one.
        items: `[n_items]` item tokens, [PAD] first.
        parts: Rows `(user id, item id, part)` of train, valid and test, sorted.
        pairs: Those of all parts together.
        graph: Triples in ids.
        features: By modality.
        statistics: As of `MultimodalKGDataset`.
    """

    config: Any
    folder: Path
    name: str
    columns: tuple[str, ...]
    users: SortedTokens
    items: np.ndarray
    parts: tuple[NumberFile, ...]
    pairs: NumberFile
    graph: DiskGraph
    features: dict[str, DiskFeatures]
    statistics: dict[str, Any]

    def degrees(self) -> dict[str, np.ndarray]:
        """Return how often each user, item and entity occurs; entities only if there are some."""
        users = counts_of(self.pairs, [0], len(self.users) + 1, "count users")
        items = counts_of(self.pairs, [1], len(self.items), "count items")
        found = {"interactions per user": users[1:], "interactions per item": items[1:]}
        if len(self.graph.triples):
            ends = counts_of(self.graph.triples, [0, 2], self.graph.n_entities, "count entities")
            found["triples per entity"] = ends[ends > 0]
            found["triples per linked item"] = ends[: len(self.items)][self.graph.linked]
        return found


def fits(config: Any) -> bool:
    """Tell whether the settings only ask for what can be read on disk: nothing is filtered.

    Raises:
        ConfigError: Keys of the split contradict one another.
        DataError: The data set is not there.
    """
    fields = [config[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD")]
    known = {*fields, config["RATING_FIELD"], config["TIME_FIELD"]}
    load = option(config, "load_col", {})
    name = config["dataset"]
    folder = resolve_folder(config["data_path"], name)
    return (
        {"inter"} <= set(load) <= {"inter", "kg", "link"}
        and set(fields) <= set(load["inter"]) <= known
        and all(option(config, key, None) in OPEN_INTERVALS for key in (*_KEYS, *_KEYS_OF_GRAPH))
        and not any(option(config, key, None) for key in _EMPTY)
        and option(config, "unlinked_items", "keep") == "keep"
        and choose_protocol(config, folder, name)[0] != "eval_args"
    )


def read_on_disk(config: Any, scratch: Path) -> DiskData:
    """Read, check and split a data set that `fits`; equal to `read_data` in all that it holds.

    Args:
        config: Settings.
        scratch: An empty folder.

    Raises:
        DataError: See `read_data`.
        ConfigError: See `read_data`.
    """
    name, notes = config["dataset"], Counter[str]()
    folder = resolve_folder(config["data_path"], name)
    protocol, files = choose_protocol(config, folder, name)
    columns, rows, tokens = _number_interactions(config, files, scratch, notes)
    items = np.array(["[PAD]", *(text for _, part in tokens["item"].pieces() for text in part)])
    items = items.astype(object)
    of_pairs: Counter[str] = Counter()
    of_graph: Counter[str] = Counter()
    pairs, phases = _distinct_pairs(rows, name, scratch, of_pairs)
    graph = read_graph(config, folder, tokens["item"], scratch, (notes, of_graph))
    notes.update(of_pairs)
    notes.update(of_graph)
    features = read_features(config, items, notes)
    parts = _split(config, protocol, pairs, phases, scratch)
    _refuse_sated_users(name, pairs, tokens["user"], len(items) - 1)
    sizes = [len(part) for part in parts]
    n_users, n_items = len(tokens["user"]), len(items) - 1
    statistics = {
        "dataset": name,
        "protocol": protocol,
        "users": n_users,
        "items": n_items,
        "interactions": sum(sizes),
        "density": sum(sizes) / (n_users * n_items),
        "split": sizes,
        "entities": graph.n_entities - 1,
        "relations": len(graph.relations),
        "triples": len(graph.triples),
        "linked_items": int(graph.linked.sum()),
        "features": {
            modality: {"dim": part.dim, "items": int(part.observed.sum())}
            for modality, part in features.items()
        },
        "fingerprint": _fingerprint(tokens["user"], tokens["item"], parts),
        "notes": {note: count for note, count in notes.items() if count},
    }
    log_statistics(statistics)
    return DiskData(
        *(config, scratch, name, columns, tokens["user"], items, parts, pairs, graph, features),
        statistics,
    )


def _number_interactions(
    config: Any, files: Sequence[tuple[Path, int]], scratch: Path, notes: Counter[str]
) -> tuple[tuple[str, ...], NumberFile, dict[str, SortedTokens]]:
    """Return the fields of user and item in the file's order, rows of numbers, and the tokens."""
    fields = {config["USER_ID_FIELD"]: 0, config["ITEM_ID_FIELD"]: 1}
    keep = set(config["load_col"]["inter"])
    heads = []
    store = NumberedRows(scratch, "interactions", ("user", "item", None))
    try:
        for path, phase in files:
            found: Counter[str] = Counter()
            for table in pieces_of(path, list(fields), keep, config):
                users, items = (table.frame[name].tolist() for name in fields)
                store.add((users, items, np.full(len(users), phase)))
                found.update(table.notes)
                types = table.types
            for note, count in found.items():
                notes[f"{path.name}: {note}"] += count
            for name in sorted(keep - set(types)):
                notes[f"{path.name}: no column '{name}', which load_col names"] += 1
            heads.append(types)
        if any(head != heads[0] for head in heads):
            raise different_columns(path for path, _ in files)
        if not len(store):
            raise DataError(f"{files[0][0]}: no interactions below the header; add one a line")
        rows, tokens = store.finish()
    finally:
        store.close()
    return tuple(name for name in heads[0] if name in fields), rows, tokens


def _distinct_pairs(
    rows: NumberFile, name: str, scratch: Path, notes: Counter[str]
) -> tuple[NumberFile, list[int]]:
    """Keep the earliest part of each pair, as ids; return also how many rows each part keeps."""
    total, distinct, phases = len(rows), 0, np.zeros(3, dtype=np.int64)
    ordered = sort_numbers(rows, scratch / "ordered", "interactions")
    with NumberWriter(scratch / "pairs") as out:
        for part, new, pair in new_rows(ordered.chunks("leave out repeated interactions")):
            distinct += int(new.sum())
            kept = part[pair] + np.array([1, 1, 0], dtype=np.uint32)
            phases += np.bincount(kept[:, 2], minlength=3)
            out.write(kept)
    ordered.path.unlink()
    notes["repeated interactions dropped"] += total - distinct
    notes["valid or test interactions already in an earlier part, dropped"] += distinct - out.size
    if not phases[0]:
        raise nothing_to_train_on(name)
    return NumberFile(out.path), phases.tolist()


def _split(
    config: Any, protocol: str, pairs: NumberFile, phases: Sequence[int], scratch: Path
) -> tuple[NumberFile, ...]:
    """Write the parts; see `MultimodalKGDataset.build`."""
    seed = int(option(config, "split_seed", option(config, "seed", 0)))
    ratio = float(option(config, "valid_ratio", 0.1))
    minimum = int(option(config, "valid_min_interactions", 5))
    draws = protocol == "ratio_811" or (not phases[1] and ratio > 0)
    generator = np.random.default_rng(seed)
    files = [NumberWriter(scratch / part) for part in PARTS]
    try:
        for rows in pairs.groups("split"):
            users, part = rows[:, 0].astype(np.int64), rows[:, 2].copy()
            if protocol == "ratio_811":
                keys = generator.random(len(rows))
                part[:] = parts_by_rank(users, keys, lambda count: ratio_cuts(count, RATIOS))
            elif draws:
                train = np.flatnonzero(part == 0)
                keys = generator.random(len(train))
                part[train[drawn_for_validation(users[train], keys, ratio, minimum)]] = 1
            for phase, file in enumerate(files):
                file.write(rows[part == phase])
    finally:
        for file in files:
            file.close()
    return tuple(NumberFile(file.path) for file in files)


def _refuse_sated_users(name: str, pairs: NumberFile, users: SortedTokens, n_items: int) -> None:
    for rows in pairs.groups("count interactions"):
        met, counts = np.unique(rows[:, 0], return_counts=True)
        sated = met[counts >= n_items]
        if len(sated):
            raise sated_user(name, users.texts(sated[:1].astype(np.int64) - 1)[0], n_items)


def _fingerprint(users: SortedTokens, items: SortedTokens, parts: Sequence[NumberFile]) -> str:
    """Return the hash of `protocol.fingerprint`."""
    digest = hashlib.sha256()
    for tokens in (users, items):
        digest.update(b"[PAD]")
        for _, texts in tokens.pieces():
            digest.update("".join(f"\n{text}" for text in texts).encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        for rows in part.chunks("hash the split"):
            keys = rows[:, 0].astype(np.int64) * (len(items) + 1) + rows[:, 1]
            digest.update(keys.astype("<i8").tobytes())
    return digest.hexdigest()[:16]

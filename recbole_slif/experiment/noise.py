"""Noise of the robustness experiment: what is drawn at a level contains what lower levels draw.

A draw depends on data, kind and seed alone, so all models see the same noise. The test split is
never touched, and what replaces a pair is an item its user has met in no part of the split.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction

from recbole_slif.data.features import fill_absent
from recbole_slif.data.loaders import SplitData, split_pairs
from recbole_slif.data.pairs import PairTable
from recbole_slif.data.protocol import option
from recbole_slif.errors import DataError

STREAMS = {"inter": 101, "kg": 102, "modality": 103}
KINDS = tuple(STREAMS)
NEEDS: Mapping[str, tuple[str, ...]] = {
    "inter": (),
    "kg": ("knowledge",),
    "modality": ("features",),
}


@dataclass(frozen=True)
class Noise:
    """What is disturbed and how much of it.

    Attributes:
        kind: `inter` (train and validation pairs), `kg` (tails) or `modality` (features).
        level: share from 0 to below 1.
    """

    kind: str
    level: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.level:g}"


def add_noise(data: SplitData, noise: Noise, seed: int) -> SplitData:
    """Return the data with noise; what was given stays as it is.

    Args:
        data: a data set that was read and split.
        noise: kind and level.
        seed: of the draw.

    Raises:
        DataError: the data has too few alternatives to replace this share.
    """
    if noise.level == 0:
        return data
    disturb: Mapping[str, Callable[[SplitData, float, int], SplitData]] = {
        "inter": _disturb_interactions,
        "kg": _disturb_triples,
        "modality": _drop_features,
    }
    noisy = disturb[noise.kind](data, noise.level, seed)
    statistics = noisy.dataset.statistics()
    statistics["noise"] = {"kind": noise.kind, "level": noise.level, "seed": seed}
    return replace(noisy, statistics=statistics)


def share(level: float, count: int) -> int:
    """Return how many of `count` a level stands for, halves rounded up."""
    return int(np.floor(level * count + 0.5))


def substitutes(
    rows: np.ndarray, keys: np.ndarray, table: PairTable, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw for each entry a value its row does not have, no value twice in a row.

    Args:
        rows: `[n]` row of each entry.
        keys: `[n]` random numbers: where values run out, a row's entries with the lowest get them.
        table: what rows have.
        generator: of the draws.

    Returns:
        `[n]` values, and `[n]` bool, False where the row has run out of values.
    """
    order = np.lexsort((keys, rows))
    distinct, start, counts = np.unique(rows[order], return_index=True, return_counts=True)
    free = table.n_absent(distinct)
    place = np.full(len(rows), -1, dtype=np.int64)
    for first, count, available in zip(start, counts, free, strict=True):
        drawn = generator.choice(available, min(count, available), replace=False)
        place[order[first : first + len(drawn)]] = drawn
    found = place >= 0
    values = np.zeros(len(rows), dtype=np.int64)
    values[found] = table.absent(rows[found], place[found])
    return values, found


def _chosen(possible: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Return the first `count` possible entries of one random order."""
    order = generator.permutation(len(possible))
    return order[possible[order]][:count]


def require(available: int, wanted: int, name: str, what: str) -> None:
    """Refuse a share that cannot be replaced.

    Raises:
        DataError: fewer than wanted are available.
    """
    if available < wanted:
        raise DataError(
            f"data set '{name}': only {available} {what} can be replaced by something new, "
            f"{wanted} are asked for; choose a lower noise level"
        )


def _disturb_interactions(data: SplitData, level: float, seed: int) -> SplitData:
    dataset, generator = data.dataset, np.random.default_rng([seed, STREAMS["inter"]])
    user_field, item_field = dataset.uid_field, dataset.iid_field
    feats = [part.inter_feat for part in data.parts]
    sizes = [len(feat) for feat in feats[:2]]
    users = np.concatenate([feat[user_field].numpy() for feat in feats[:2]])
    values, found = substitutes(
        users, generator.random(len(users)), data.pairs.used("test"), generator
    )
    disturbed = []
    for phase, first in enumerate((0, sizes[0])):
        own = slice(first, first + sizes[phase])
        count = share(level, sizes[phase])
        require(int(found[own].sum()), count, dataset.dataset_name, "interactions")
        chosen = _chosen(found[own], count, generator)
        items = feats[phase][item_field].numpy().copy()
        items[chosen] = values[own][chosen]
        order = np.lexsort((items, feats[phase][user_field].numpy()))
        columns = {name: feats[phase][name] for name in feats[phase]}
        columns[item_field] = torch.from_numpy(items)
        disturbed.append(_rows(columns, order))
    feats = [*disturbed, feats[2]]
    whole = dataset.fresh()
    whole.inter_feat = _joined(feats, user_field, item_field)
    whole._note_split(feats)
    parts = tuple(whole.copy(feat) for feat in feats)
    return replace(data, dataset=whole, parts=parts, pairs=split_pairs(whole, feats))


def _rows(columns: Mapping[str, torch.Tensor], order: np.ndarray) -> Interaction:
    where = torch.from_numpy(order)
    return Interaction({name: column[where] for name, column in columns.items()})


def _joined(feats: list[Interaction], user_field: str, item_field: str) -> Interaction:
    columns = {name: torch.cat([feat[name] for feat in feats]) for name in feats[0]}
    order = np.lexsort((columns[item_field].numpy(), columns[user_field].numpy()))
    return _rows(columns, order)


def _disturb_triples(data: SplitData, level: float, seed: int) -> SplitData:
    dataset, generator = data.dataset, np.random.default_rng([seed, STREAMS["kg"]])
    graph = dataset.knowledge
    # Items without link are no part of the graph, so they are no tails either.
    nodes = np.unique(np.concatenate([graph.heads, graph.tails]))
    own = np.searchsorted(nodes, graph.heads) + 1
    ends = np.searchsorted(nodes, graph.tails) + 1
    rows = np.concatenate([graph.heads, graph.heads])
    table = PairTable(rows, np.concatenate([ends, own]), graph.n_entities, len(nodes) + 1)
    values, found = substitutes(graph.heads, generator.random(graph.n_triples), table, generator)
    count = share(level, graph.n_triples)
    require(int(found.sum()), count, dataset.dataset_name, "triples")
    chosen = _chosen(found, count, generator)
    tails = graph.tails.copy()
    tails[chosen] = nodes[values[chosen] - 1]
    order = np.lexsort((tails, graph.relations, graph.heads))
    columns = [graph.heads[order], graph.relations[order], tails[order]]
    names = (dataset.head_entity_field, dataset.relation_field, dataset.tail_entity_field)
    whole = dataset.fresh()
    heads, relations, tails = columns
    whole._knowledge = replace(graph, heads=heads, relations=relations, tails=tails)
    if dataset.kg_reverse_r:  # as RecBole adds them: from the tail, by a relation of its own
        inverse = tails, relations + graph.n_relations - 1, heads
        columns = [np.concatenate(pair) for pair in zip(columns, inverse, strict=True)]
    whole.kg_feat = Interaction(
        {name: torch.from_numpy(column) for name, column in zip(names, columns, strict=True)}
    )
    return replace(data, dataset=whole, parts=_parts(whole, data))


def _drop_features(data: SplitData, level: float, seed: int) -> SplitData:
    whole: Any = data.dataset.fresh()
    missing = option(whole.config, "missing", "mask")
    for name, part in data.dataset.features.items():
        observed = part.presence if part.observed is None else part.observed
        kept = thinned(observed, level, seed, name, whole.dataset_name)
        matrix = np.where(kept[:, None], part.matrix, np.float32(0))
        whole.features[name] = fill_absent(matrix, kept, missing)
    return replace(data, dataset=whole, parts=_parts(whole, data))


def thinned(observed: np.ndarray, level: float, seed: int, modality: str, name: str) -> np.ndarray:
    """Return which items keep a modality, `[n_items]` bool.

    Args:
        observed: `[n_items]` bool, which have it.
        level: share of them that lose it.
        seed: of the draw.
        modality: its name.
        name: the data set's, for the error.

    Raises:
        DataError: none would keep it.
    """
    kept = observed.copy()
    count = share(level, int(kept.sum()))
    if count == kept.sum():
        raise DataError(
            f"data set '{name}': a noise level of {level:g} leaves no features of modality "
            f"'{modality}'; choose a lower one"
        )
    stream = [seed, STREAMS["modality"], zlib.crc32(modality.encode())]
    kept[_chosen(kept, count, np.random.default_rng(stream))] = False
    return kept


def _parts(whole: Any, data: SplitData) -> tuple[Any, ...]:
    return tuple(whole.copy(part.inter_feat) for part in data.parts)

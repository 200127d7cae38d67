"""Real data sets for the comparison: their training interactions, and the graph where one is read.

Files are read and linked by the package's own code, as `MultimodalKGDataset` does for training.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.generate import Sizes, SyntheticData, synthetic_data
from recbole_slif.data.linking import clean_links, clean_triples, join_items_and_entities
from recbole_slif.data.locate import missing_file
from recbole_slif.data.tables import read_table
from recbole_slif.data.tokens import canonical_order
from recbole_slif.errors import DataError
from recbole_slif.graph.knowledge import KnowledgeGraph

AMAZON_BOOK, IFASHION = "amazon-book", "alibaba-ifashion"
WITH_GRAPH = {AMAZON_BOOK: False, IFASHION: True}
"""The data sets, and whether their knowledge graph is read too; features are always generated."""

_PAIR = ["user_id", "item_id"]
_TRIPLE = ["head_id", "relation_id", "tail_id"]
_LINK = ["item_id", "entity_id"]


def data_of(name: str, folder: Path | None, sizes: Sizes, seed: int) -> SyntheticData:
    """Read of a data set what is real and generate the rest.

    Args:
        name: One of `WITH_GRAPH`.
        folder: Holds the files, or a folder `name` with them; None generates all of Amazon-Book.
        sizes: How much is generated of what is not read.
        seed: Seed of what is generated.

    Raises:
        DataError: A file is missing or malformed, or there is no folder for a real graph.
    """
    if folder is None:
        if WITH_GRAPH[name]:
            raise DataError(f"{name} is not generated: let --data name the folder of its files")
        return synthetic_data(sizes, seed)
    file = f"{name}.train.inter"
    place = next((at for at in (folder, folder / name) if (at / file).is_file()), None)
    if place is None:
        raise DataError(f"{folder / file} does not exist: let --data name the folder that holds it")
    if not WITH_GRAPH[name]:
        return synthetic_data(sizes, seed, read_interactions(place / file))
    users, items, item_tokens = read_pairs(place / file)
    knowledge = read_knowledge(place, name, item_tokens)
    return synthetic_data(sizes, seed, (users, items), knowledge)


def read_interactions(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read an atomic interaction file; tokens become ids from 1 in the order of their sorting.

    Raises:
        DataError: The file is missing or malformed or has no interactions.
    """
    rows = _rows(path, _PAIR, "interactions")
    users, items = (
        np.unique(rows[name].to_numpy(dtype=str), return_inverse=True)[1] + 1 for name in _PAIR
    )
    return users, items


def read_pairs(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read distinct interactions, with the ids that training would give them.

    Returns:
        Users and items `[n_pairs]`, ids from 1, and the items' tokens `[n_items]`, [PAD] first.

    Raises:
        DataError: The file is malformed or has no interactions.
    """
    pairs = _rows(path, _PAIR, "interactions").drop_duplicates()
    users, _ = _numbered(pairs["user_id"])
    items, item_tokens = _numbered(pairs["item_id"])
    return users, items, item_tokens


def read_knowledge(folder: Path, name: str, item_tokens: np.ndarray) -> KnowledgeGraph:
    """Read a knowledge graph and give linked entities the ids of their items.

    Entities that are no item come after the items; an item without link is an entity by itself.

    Args:
        folder: Holds `name.kg` and `name.link`.
        name: The data set's name.
        item_tokens: `[n_items]` in the order of ids, [PAD] first.

    Raises:
        DataError: A file is missing or malformed, or no item is linked to the graph.
    """
    graph, link = folder / f"{name}.kg", folder / f"{name}.link"
    if not (graph.is_file() and link.is_file()):
        raise missing_file(folder, graph.name, link.name)
    notes: Counter[str] = Counter()
    triples = clean_triples(_rows(graph, _TRIPLE, "triples"), notes)
    ends, entity_tokens = _numbered(pd.concat([triples["head_id"], triples["tail_id"]]))
    relations, relation_tokens = _numbered(triples["relation_id"])
    links = clean_links(_rows(link, _LINK, "links"), item_tokens[1:], entity_tokens[1:], notes)
    if links.empty:
        raise DataError(
            f"{link}: no line links an item of {name}.train.inter to an entity of {graph.name}; "
            "write the tokens as those files do"
        )
    joined = join_items_and_entities(
        item_tokens,
        entity_tokens,
        (ends[: len(triples)], relations, ends[len(triples) :]),
        (_ids_of(links["item_id"], item_tokens), _ids_of(links["entity_id"], entity_tokens)),
        notes,
    )
    return KnowledgeGraph(
        *joined.triples,
        n_entities=len(joined.entity_tokens),
        n_relations=len(relation_tokens),
        relation_tokens=relation_tokens,
        entity_tokens=joined.entity_tokens,
        linked=joined.linked,
    )


def _rows(path: Path, fields: list[str], what: str) -> pd.DataFrame:
    """Read these fields of an atomic file, which must have a line below its header."""
    frame = read_table(path, keep=fields, required=fields).frame[fields]
    if frame.empty:
        raise DataError(f"{path}: no {what} below the header; add one a line")
    return frame


def _numbered(tokens: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Number tokens from 1 in the package's order; returns their ids, and the names of all ids."""
    codes, names = pd.factorize(tokens.to_numpy(dtype=object))
    order = canonical_order(names)
    ids = np.empty(len(names), dtype=np.int64)
    ids[order] = np.arange(1, len(names) + 1)
    return ids[codes], np.array(["[PAD]", *names[order]], dtype=object)


def _ids_of(tokens: pd.Series, names: np.ndarray) -> np.ndarray:
    """Return the ids of tokens that all are among the names."""
    return pd.Index(names).get_indexer(tokens).astype(np.int64)

"""A data set made of arrays, with the part of RecBole's interface that the models read."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import yaml
from recbole.data.interaction import Interaction

import recbole_slif  # noqa: F401  (its import makes RecBole's modules load on current libraries)
from benchmarks.generate import SyntheticData
from recbole_slif.config import properties_dir
from recbole_slif.graph.knowledge import with_inverse
from tests.peers import StandInGraph

FIELDS = {
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "ENTITY_ID_FIELD": "entity_id",
    "RELATION_ID_FIELD": "relation_id",
    "HEAD_ENTITY_ID_FIELD": "head_id",
    "TAIL_ENTITY_ID_FIELD": "tail_id",
    "NEG_PREFIX": "neg_",
}


class Settings(dict):
    """A configuration as models read it: a key nobody set is None."""

    def __missing__(self, key: str) -> None:
        return None


def settings_of(model: str, ours: bool, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Return the shipped defaults of one of our models or RecBole's, with the fields' names."""
    folder = properties_dir() if ours else files("recbole").joinpath("properties")
    text = folder.joinpath("model").joinpath(f"{model}.yaml").read_text("utf-8")
    found = {key: _number(value) for key, value in (yaml.safe_load(text) or {}).items()}
    base = {**FIELDS, "device": torch.device("cpu"), "seed": 2020, "embedding_size": 64}
    return Settings({**base, **found, **(overrides or {})})


def _number(value: Any) -> Any:
    """Read `1e-5`, which YAML 1.1 takes for text, as RecBole does."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


class ArrayDataset:
    """Training split of generated data; every model of both sides gets the same object.

    The knowledge graph is handed to RecBole's models with its inverse triples, as ours build it.
    """

    dataset_name = "generated"
    uid_field, iid_field, entity_field, relation_field = (
        FIELDS[f"{name}_ID_FIELD"] for name in ("USER", "ITEM", "ENTITY", "RELATION")
    )

    def __init__(self, data: SyntheticData) -> None:
        """Wrap `data` without copying it."""
        self.knowledge, self.features = data.knowledge, data.features
        self.users, self.items = data.users, data.items
        self.user_num, self.item_num = data.n_users, data.n_items
        self.entity_num = data.knowledge.n_entities
        heads, relations, tails, n_relations = with_inverse(data.knowledge)
        self.triples = heads, relations, tails
        # RecBole counts one more relation, that of a user to an item
        self.relation_num = n_relations + 1
        self.inter_num = len(self.users)
        columns = {self.uid_field: self.users, self.iid_field: self.items}
        self.inter_feat = Interaction(
            {name: torch.from_numpy(ids) for name, ids in columns.items()}
        )

    def __len__(self) -> int:
        return self.inter_num

    def num(self, field: str) -> int:
        """Return the number of ids of a field, [PAD] included."""
        return {
            self.uid_field: self.user_num,
            self.iid_field: self.item_num,
            self.entity_field: self.entity_num,
            self.relation_field: self.relation_num,
        }[field]

    def inter_matrix(self, form: str = "coo", value_field: str | None = None) -> Any:
        """Return the interactions as a scipy matrix `[user_num, item_num]` of ones."""
        places = (self.users, self.items)
        shape = (self.user_num, self.item_num)
        return sp.coo_matrix((np.ones(self.inter_num), places), shape=shape).asformat(form)

    def kg_graph(self, form: str = "coo", value_field: str | None = None) -> Any:
        """Return the triples as a scipy matrix of relation ids, duplicates kept apart."""
        heads, relations, tails = self.triples
        shape = (self.entity_num, self.entity_num)
        return sp.coo_matrix((relations, (heads, tails)), shape=shape).asformat(form)

    def ckg_graph(self, form: str = "coo", value_field: str | None = None) -> Any:
        """Return users and entities in one graph, users first, as RecBole's KGAT reads it."""
        heads, relations, tails = self.triples
        users, items = self.users, self.items + self.user_num
        own = np.full(2 * self.inter_num, self.relation_num - 1)
        rows = np.concatenate([users, items, heads + self.user_num])
        columns = np.concatenate([items, users, tails + self.user_num])
        values = np.concatenate([own, relations])
        if form == "dgl":
            graph = StandInGraph((torch.from_numpy(rows), torch.from_numpy(columns)))
            graph.n_nodes = self.user_num + self.entity_num
            graph.edata[self.relation_field] = torch.from_numpy(values)
            return graph
        size = self.user_num + self.entity_num
        return sp.coo_matrix((values, (rows, columns)), shape=(size, size))


class HeldOut:
    """Held-out items of some users, in the form of RecBole's full-sort loader.

    Attributes:
        uid_list: Evaluated users, ascending.
        positives: Row starts `[n + 1]` and items of their held-out pairs.
        history: Row starts and items of their training pairs, not to be recommended.
    """

    def __init__(self, dataset: ArrayDataset, n_users: int, seed: int) -> None:
        """Draw 1 to 5 test items for each of `n_users` users.

        Args:
            dataset: The training split.
            n_users: Evaluated users; all of them where there are not so many.
            seed: Seed of the draw.
        """
        rng = np.random.default_rng(seed)
        self._dataset = dataset
        count = min(n_users, dataset.user_num - 1)
        users = np.sort(rng.permutation(np.arange(1, dataset.user_num))[:count])
        self.uid_list = torch.from_numpy(users)
        known = sp.csr_array(dataset.inter_matrix("csr"))[users]
        self.history = known.indptr.astype(np.int64), known.indices.astype(np.int64)
        counts = rng.integers(1, 6, count)
        starts = np.concatenate([[0], np.cumsum(counts)])
        self.positives = starts, rng.integers(1, dataset.item_num, counts.sum())
        self.uid2positive_item = self._by_user(*self.positives)
        self.uid2history_item = self._by_user(*self.history)

    def _by_user(self, starts: np.ndarray, items: np.ndarray) -> np.ndarray:
        lists = np.empty(self._dataset.user_num, dtype=object)
        for place, user in enumerate(self.uid_list.tolist()):
            lists[user] = torch.from_numpy(items[starts[place] : starts[place + 1]])
        return lists

"""A data set and settings in memory: what SLIF-MR reads of them, small enough for loops."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import yaml

from recbole_slif.data.features import ModalityFeatures
from recbole_slif.graph.knowledge import KnowledgeGraph
from recbole_slif.model.slifmr import SLIFMR

ROOT = Path(__file__).resolve().parents[2]
FIELDS = {
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "NEG_PREFIX": "neg_",
    "ENTITY_ID_FIELD": "entity_id",
    "RELATION_ID_FIELD": "relation_id",
    "HEAD_ENTITY_ID_FIELD": "head_id",
    "TAIL_ENTITY_ID_FIELD": "tail_id",
    "table_precision": None,
    "contrast_precision": None,
}


def settings(**changes):
    """The model's YAML with small sizes; `changes` must be keys of it, or `seed`."""
    values = yaml.safe_load((ROOT / "properties/model/SLIFMR.yaml").read_text("utf-8"))
    small = {"embedding_size": 4, "knn_k": 2, "sge_n": 2, "prune_ui": 0.4, "prune_kg": 0.3}
    unknown = set(changes) - set(values) - {"seed"}
    assert not unknown, unknown
    device = torch.device("cpu")
    return {**FIELDS, "device": device, "seed": 7, **values, **small, **changes}


def knowledge(n_items, unlinked=(), n_others=4, n_relations=2, seed=0):
    """Triples of linked items with other entities, and of those among themselves."""
    rng = np.random.default_rng(seed)
    linked = np.ones(n_items, dtype=bool)
    linked[[0, *unlinked]] = False
    others = np.arange(n_items, n_items + n_others)
    triples = {
        (int(item), int(rng.integers(1, n_relations + 1)), int(rng.choice(others)))
        for item in np.flatnonzero(linked)
        for _ in range(2)
    }
    triples |= {(int(a), 1, int(b)) for a, b in pairwise(others)}
    heads, relations, tails = np.array(sorted(triples), dtype=np.int64).reshape(-1, 3).T
    names = [f"r{number}" for number in range(n_relations + 1)]
    entities = [f"e{number}" for number in range(n_items + n_others)]
    return KnowledgeGraph(
        heads, relations, tails, len(entities), len(names), names, entities, linked
    )


def features(n_items, missing, dims=(5, 3), seed=0):
    """One modality per entry of `dims`; `missing[m]` lists the items that lack modality m."""
    rng = np.random.default_rng(seed)
    found = {}
    for number, dim in enumerate(dims):
        presence = np.ones(n_items, dtype=bool)
        presence[[0, *missing.get(number, ())]] = False
        matrix = rng.standard_normal((n_items, dim)).astype(np.float32)
        matrix[~presence] = 9.0  # must never be looked at
        found[f"m{number}"] = ModalityFeatures(matrix, presence, int(presence.sum()))
    return found


class StubDataset:
    """What a model reads of a training split."""

    dataset_name = "stub"

    def __init__(self, pairs, n_users, n_items, graph, modalities):
        users, items = np.array(sorted(pairs), dtype=np.int64).T
        self.inter_feat = {"user_id": torch.from_numpy(users), "item_id": torch.from_numpy(items)}
        self.sizes = {"user_id": n_users, "item_id": n_items}
        self.sizes["entity_id"] = n_items if graph is None else graph.n_entities
        self.sizes["relation_id"] = 1 if graph is None else graph.n_relations
        self.knowledge, self.features = graph, modalities

    def num(self, field):
        return self.sizes[field]


def dataset(n_users=6, n_items=9, unlinked=(8,), missing=None, dims=(5, 3), seed=0):
    """Users 1.., items 1..; item 8 has no link and, by default, no feature of any kind."""
    rng = np.random.default_rng(seed)
    pairs = {
        (user, int(item)) for user in range(1, n_users) for item in rng.integers(1, n_items, 4)
    }
    pairs |= {(1 + item % (n_users - 1), item) for item in range(1, n_items)}
    missing = {0: (3, 8), 1: (5, 8), 2: (8,)} if missing is None else missing
    graph = knowledge(n_items, unlinked, seed=seed)
    return StubDataset(pairs, n_users, n_items, graph, features(n_items, missing, dims, seed))


def build(data=None, **changes):
    """A model on a stub data set, with parameters away from zero and from each other."""
    torch.manual_seed(0)
    model = SLIFMR(settings(**changes), dataset() if data is None else data)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape) * 0.3)
    return model.train()


def batch(n=12, n_users=6, n_items=9, seed=1):
    """Users with an item and a sampled item each; some items occur on both sides."""
    rng = np.random.default_rng(seed)
    columns = {"user_id": n_users, "item_id": n_items, "neg_item_id": n_items}
    return {
        name: torch.from_numpy(rng.integers(1, bound, n).astype(np.int64))
        for name, bound in columns.items()
    }


def total(model, interaction=None):
    """Sum of the parts of the loss."""
    return torch.stack(list(model.calculate_loss(interaction or batch()))).sum()

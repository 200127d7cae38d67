"""A small DiffKG and its tables by loops."""

from __future__ import annotations

import torch

from recbole_slif.model.knowledge.diffkg import DiffKG
from tests import peers
from tests.oracle import diffkg as oracle

SMALL = {"embedding_size": 6, "denoiser_hidden": 5, "mess_dropout_rate": 0.0}


def build(tmp_path, overrides=None, **toy):
    config, dataset = peers.toy_setting(tmp_path, "DiffKG", {**SMALL, **(overrides or {})}, **toy)
    torch.manual_seed(0)
    model = DiffKG(config, dataset)
    model.train()
    return model, dataset


def close(found, expected, atol=1e-10):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype), atol=atol, rtol=0)


def pairs_of(model, dataset):
    return list(zip(*(part.tolist() for part in model.training_pairs(dataset)), strict=True))


def edges_of(edges):
    columns = (edges.heads, edges.relations, edges.tails)
    return sorted(zip(*(part.tolist() for part in columns), strict=True))


def whole_graph(dataset):
    graph = dataset.knowledge
    columns = (graph.heads.tolist(), graph.relations.tolist(), graph.tails.tolist())
    both = oracle.both_directions(list(zip(*columns, strict=True)), graph.n_relations)
    names, shift = list(graph.relation_tokens), graph.n_relations - 1
    ranks = {r: (names[r], 0) for r in range(1, graph.n_relations)}
    ranks |= {r + shift: (names[r], 1) for r in range(1, graph.n_relations)}
    return oracle.one_relation(both, ranks)


def looped_tables(model, dataset, edges):
    users, entities, relations = (
        table.weight.detach()
        for table in (model.user_embedding, model.entity_embedding, model.relation_embedding)
    )
    rows = oracle.knowledge_rows(
        model.attention.weight.detach(),
        entities,
        relations,
        edges_of(edges),
        model.settings["context_hops"],
        model.settings["residual_weight"],
    )
    n_layers = model.settings["n_layers"]
    return oracle.propagated(users, rows[: model.n_items], pairs_of(model, dataset), n_layers)


def keep_some(model, every=2):
    """Let the generated graph be a part of the base graph."""
    state = model.epoch_state()
    model.load_epoch_state({**state, "generated": state["base"][::every]})

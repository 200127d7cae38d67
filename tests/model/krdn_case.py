"""A small KRDN and its towers, losses and edges by loops."""

import numpy as np
import torch

from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.model.knowledge.krdn import KRDN
from tests import peers
from tests.oracle import krdn as oracle

SMALL = {"embedding_size": 6, "n_negatives": 7, "margin": 0.3, "gamma": 0.01}
CALM = {**SMALL, "node_dropout_rate": 0.0, "mess_dropout_rate": 0.0}


def built(folder, **overrides):
    config, dataset = peers.toy_setting(folder, "KRDN", {**SMALL, **overrides})
    torch.manual_seed(1)
    return KRDN(config, dataset), dataset


def in_double_precision(model):
    """The same model in float64, its fixed shares taken anew."""
    model.double()
    model.bank = model.bank.double()
    whole = model.pairs.whole
    model.pairs.whole = whole._replace(item_means=means_of(whole.item_means))
    return model


def means_of(operator):
    """Rows that add up to 1 again, in proportion to the ones they were made of."""
    filled = operator.row_sums()[operator.row_sums() != 0]
    torch.testing.assert_close(filled, torch.ones_like(filled))
    matrix = operator.to_scipy().astype(np.float64)
    counts = np.round(matrix.data / np.repeat(row_minima(matrix), np.diff(matrix.indptr)))
    matrix.data = counts / np.repeat(row_sums(matrix, counts), np.diff(matrix.indptr))
    return SparseOperator.from_scipy(matrix, dtype=torch.float64)


def row_minima(matrix):
    return [min(matrix.data[a:b], default=1.0) for a, b in rows_of(matrix)]


def row_sums(matrix, values):
    return [max(sum(values[a:b]), 1.0) for a, b in rows_of(matrix)]


def rows_of(matrix):
    return list(zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True))


def sorted_edges(model, dataset):
    """Both directions of the triples, relations from 0, in the order the model gives them."""
    graph = dataset.knowledge
    n_base = graph.n_relations - 1
    edges = []
    for h, r, t in zip(graph.heads, graph.relations, graph.tails, strict=True):
        edges += [(int(h), int(r) - 1, int(t)), (int(t), int(r) - 1 + n_base, int(h))]
    level = lambda edge: (edge[0] < model.n_items) == (edge[2] < model.n_items)  # noqa: E731
    return tuple(zip(*sorted(edges, key=lambda edge: (level(edge), edge)), strict=True))


def expected_towers(model, dataset, samples):
    """The four tables by loops, of entities the items, and a weight 0 or 1 of each pair."""
    arrays = {name: value.detach().numpy() for name, value in model.named_parameters()}
    weights = [
        (
            arrays[f"cross_weights.{hop}.weight"],
            arrays.get(f"level_weights.{hop}.weight"),
        )
        for hop in range(model.context_hops)
    ]
    tables = [
        arrays[f"{name}_embedding.weight"] for name in ("user", "entity", "cf_user", "cf_item")
    ]
    users, items = model.training_pairs(dataset)
    pairs = sorted(set(zip(users.tolist(), items.tolist(), strict=True)))
    (users, entities, *collaborative), taken = oracle.towers(
        tables,
        arrays["relation_embedding.weight"],
        sorted_edges(model, dataset),
        samples.tolist(),
        pairs,
        model.n_items,
        weights,
        model.settings["gamma"],
        model.settings["max_iter"],
    )
    agreed = torch.tensor([float(pair in taken) for pair in pairs])
    return (users, entities[: model.n_items], *collaborative), agreed


def expected_losses(model, towers, batch, negatives, weights):
    users, items = batch["user_id"].tolist(), batch["item_id"].tolist()
    pairs = (towers[0], towers[1]), (towers[2], towers[3])
    margin = model.settings["margin"]
    return [
        oracle.contrast(*tables, users, items, negatives.tolist(), weights, margin)
        for tables in pairs
    ]


def spread(model):
    """Parameters large enough for every part of the formula to show."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return model


def learns(model, dataset):
    """Each parameter of the trainer's optimizer gets a gradient, and the structure a step."""
    batch, before = peers.pair_batch(dataset), model.structure_logits.detach().clone()
    model.train()
    model.zero_grad()
    sum(model.calculate_loss(batch)).backward()
    main = {id(each) for each in model.main_parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) in main:
            assert parameter.grad.isfinite().all() and parameter.grad.any(), name
    moved = model.structure_logits.detach() - before
    assert moved.isfinite().all() and moved.any(dim=1).all()

"""A small KACL and its rows by loops."""

import numpy as np
import torch

from recbole_slif.model.knowledge.kacl import KACL
from tests import peers
from tests.layers.test_edge_gate import arrays as gate_arrays
from tests.layers.test_gat import arrays as layer_arrays
from tests.layers.test_gat import pairs as edge_pairs
from tests.oracle import kacl as oracle

SMALL = {"embedding_size": 5, "layers": [4, 3], "projection_size": 6, "feat_dropout": 0.0}


def setting(folder, **overrides):
    return peers.toy_setting(folder, "KACL", {**SMALL, **overrides})


def built(folder, **overrides):
    """A model in float64 with parts drawn, biases that count and users who know something."""
    config, dataset = setting(folder, **overrides)
    torch.manual_seed(11)
    model = KACL(config, dataset).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1 or not parameter.any():
                parameter.normal_()
    model.pre_epoch(0)
    model.train()
    return model, dataset


def encoded(model, name, edges, gates):
    encoder = getattr(model, f"{name}_encoder")
    rows = getattr(model, f"{name}_rows").weight.detach().numpy()
    layers = [layer_arrays(layer) for layer in encoder.layers]
    return oracle.encoder(edge_pairs(edges), rows, layers, gates)


def loop_tables(model, edges, gates):
    """User and item tables from loops over the given edges of both parts."""
    main = encoded(model, "main", model.graphs.whole[0], None)
    contrast = encoded(model, "contrast", edges[0], gates[0])
    known = encoded(model, "entity", edges[1], gates[1])
    vectors = model.user_vectors.detach().numpy()
    cut = model.n_users
    users = np.concatenate([main[:cut], contrast[:cut], vectors], axis=1)
    items = np.concatenate([main[cut:], contrast[cut:], known[: model.n_items]], axis=1)
    return users, items


def projected(model, rows):
    """Both projectors on the rows `[n, D]` of either view."""
    out = []
    for network, table in zip(model.projectors, rows, strict=True):
        parts = gate_arrays(network)
        out.append([oracle.network(row, *parts, oracle.elu) for row in table])
    return out


def losses_of(model, dataset):
    yield "ranking", sum(model.calculate_loss(peers.pair_batch(dataset)))
    for phase in model.phases_after(0):
        yield phase.names[0], sum(phase.loss(ids) for ids in phase.batches)

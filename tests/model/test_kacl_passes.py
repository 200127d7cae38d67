"""KACL's parts of the graphs, its gradients and its passes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recbole_slif.model.knowledge.kacl import KACL
from recbole_slif.model.knowledge.partial_graphs import PartialGraphs
from tests import peers
from tests.layers.test_gat import pairs as edge_pairs
from tests.model.kacl_case import built, losses_of, setting
from tests.test_trainer import check_resume

# ---- parts of the graphs ---------------------------------------------------------------------


def without_loops(edges, n_nodes):
    found = edge_pairs(edges)
    for node in range(n_nodes):
        found.remove((node, node))
    return sorted(found)


def test_parts_keep_a_share_of_pairs_and_of_each_relation_with_inverses(tmp_path):
    model, dataset = built(tmp_path)
    graph, n_nodes = dataset.knowledge, model.n_users + model.n_items
    whole, part = (without_loops(e[0], n_nodes) for e in (model.graphs.whole, model.graphs.parts))
    users, items = model.training_pairs(dataset)
    pairs = set(zip(users.tolist(), (items + model.n_users).tolist(), strict=True))
    assert set(whole) == pairs | {(item, user) for user, item in pairs}
    assert len(whole) == 2 * len(pairs)
    assert set(part) <= set(whole) and len(part) == 2 * round(0.7 * len(pairs))
    assert all((tail, head) in part for head, tail in part)
    kept = model.epoch_state()["kept_triples"].numpy()
    for relation in np.unique(graph.relations):
        inside = graph.relations == relation
        assert kept[inside].sum() == np.rint(0.7 * inside.sum())
    ends = list(zip(graph.heads[kept].tolist(), graph.tails[kept].tolist(), strict=True))
    expected = sorted(ends + [(tail, head) for head, tail in ends])
    assert without_loops(model.graphs.parts[1], graph.n_entities) == expected


def test_triples_in_one_direction_on_demand(tmp_path):
    model, dataset = built(tmp_path, inverse_relations=False)
    graph = dataset.knowledge
    ends = sorted(zip(graph.heads.tolist(), graph.tails.tolist(), strict=True))
    assert without_loops(model.graphs.whole[1], graph.n_entities) == ends


def test_triples_that_join_the_same_entities_are_one_edge(tmp_path):
    model, dataset = built(tmp_path)
    graph, device = dataset.knowledge, torch.device("cpu")
    heads, tails = graph.heads[:2], graph.tails[:2]
    further = {  # another relation, one that leads back, and a triple of an entity with itself
        "heads": [heads[0], tails[1], heads[0]],
        "relations": [graph.relations[0] % (graph.n_relations - 1) + 1, 1, 1],
        "tails": [tails[0], heads[1], heads[0]],
    }
    columns = {name: np.append(getattr(graph, name), more) for name, more in further.items()}
    shape = (model.n_users, model.n_items)
    for inverse, back in ((True, []), (False, [(int(tails[1]), int(heads[1]))])):
        settings = peers.PeerSettings(model.settings, inverse_relations=inverse)
        plain, joined = (
            PartialGraphs(*model.training_pairs(dataset), *shape, given, settings, device)
            for given in (graph, replace(graph, **columns))
        )
        expected = sorted(without_loops(plain.whole[1], graph.n_entities) + back)
        assert without_loops(joined.whole[1], graph.n_entities) == expected
        joined.draw(0.5)
        part = without_loops(joined.parts[1], graph.n_entities)
        assert len(set(part)) == len(part) and set(part) <= set(expected)


def test_each_epoch_redraws_the_parts_and_forgets_the_gates(tmp_path):
    model, dataset = built(tmp_path)
    first = model.epoch_state()
    model.calculate_loss(peers.pair_batch(dataset))
    assert len(model.epoch_state()["pair_gates"]) == model.graphs.parts[0].n_edges
    model.pre_epoch(1)
    second = model.epoch_state()
    assert set(second) == {"kept_pairs", "kept_triples"}
    assert any(not torch.equal(first[name], second[name]) for name in second)


def test_checkpoints_hold_the_parts_and_the_gates(tmp_path):
    model, dataset = built(tmp_path)
    model.calculate_loss(peers.pair_batch(dataset))
    fresh = KACL(model.settings, dataset).double()
    fresh.load_state_dict(model.state_dict())
    fresh.load_epoch_state(model.epoch_state())
    fresh.train()
    for ids in (torch.arange(5), torch.arange(6)):
        torch.manual_seed(1)
        expected = model.knowledge_loss(ids), model.contrast_loss(ids + 1)
        torch.manual_seed(1)
        assert (fresh.knowledge_loss(ids), fresh.contrast_loss(ids + 1)) == expected


# ---- gradients and passes --------------------------------------------------------------------


def test_every_parameter_learns_in_some_pass_and_gates_in_the_first_alone(tmp_path):
    model, dataset = built(tmp_path)
    learning = {}
    for name, loss in losses_of(model, dataset):
        found = peers.gradients(model, loss)
        assert all(grad.isfinite().all() for grad in found.values())
        learning[name] = {name.split(".")[0] for name, grad in found.items() if grad.any()}
    encoders = {"main_encoder", "contrast_encoder", "entity_encoder"}
    rows = {"main_rows", "contrast_rows", "entity_rows"}
    gates = {"interaction_gate", "triple_gate"}
    assert learning["ranking"] == encoders | rows | gates | {"user_vectors"}
    assert learning["knowledge"] == {"entity_encoder", "entity_rows", "relation_matrices"}
    assert learning["contrast"] == (encoders | rows | {"projectors"}) - {
        "main_encoder",
        "main_rows",
    }
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert set().union(*learning.values()) == names


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradients_are_those_of_the_whole_loss_nothing_is_held_still(tmp_path, symmetric):
    model, dataset = built(tmp_path, cl_symmetric=symmetric)
    batch, ids = peers.pair_batch(dataset), torch.arange(1, 7)
    model.calculate_loss(batch)
    parameters = list(model.parameters())
    direction = [torch.randn_like(parameter) for parameter in parameters]
    losses = (
        lambda: sum(model.calculate_loss(batch)),
        lambda: model.knowledge_loss(ids),
        lambda: model.contrast_loss(ids),
    )
    # the first draws new gates, which must not come between the values of the others
    for loss in reversed(losses):
        torch.manual_seed(3)
        grads = torch.autograd.grad(loss(), parameters, allow_unused=True)
        pairs = zip(grads, direction, strict=True)
        slope = sum((grad * way).sum().item() for grad, way in pairs if grad is not None)
        values = []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                torch._foreach_add_(parameters, direction, alpha=step)
                torch.manual_seed(3)
                values.append(loss().item())
        with torch.no_grad():
            torch._foreach_add_(parameters, direction, alpha=1e-6)
        assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_users_start_without_knowledge(tmp_path):
    config, dataset = setting(tmp_path)
    assert not KACL(config, dataset).user_vectors.any()


def test_items_without_a_link_are_left_out_of_the_contrast(tmp_path):
    model, dataset = built(tmp_path)
    linked = np.flatnonzero(dataset.knowledge.linked)
    assert 0 < len(linked) < dataset.item_num - 1
    contrast = model.phases_after(0)[1]
    assert torch.cat(list(contrast.batches)).sort().values.tolist() == linked.tolist()
    grads = peers.gradients(model, contrast.loss(next(iter(contrast.batches))))
    strangers = np.flatnonzero(~dataset.knowledge.linked)
    assert not grads["entity_rows.weight"][strangers].any()
    assert grads["entity_rows.weight"][linked].any()


def test_passes_and_their_optimizers(tmp_path):
    config, dataset = setting(tmp_path, kg_batch_size=7, cl_batch_size=4, cl_learning_rate=0.5)
    model = KACL(config, dataset)
    phases = model.phases_after(0)
    assert [phase.names for phase in phases] == [("knowledge",), ("contrast",)]
    assert len(phases[0].batches) == -(-dataset.knowledge.n_triples // 7)
    assert len(phases[1].batches) == -(-int(dataset.knowledge.linked.sum()) // 4)
    rates = [model.own_optimizers()[phase.optimizer].param_groups[0]["lr"] for phase in phases]
    assert rates == [1e-4, 0.5]
    for optimizer in model.own_optimizers().values():
        assert len(optimizer.param_groups[0]["params"]) == len(list(model.parameters()))


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"kg_batch_size": 16, "cl_batch_size": 5, "layers": [4, 3]}
    whole = check_resume(tmp_path, "KACL", **options)
    assert list(whole.history[0]["loss"]) == ["bpr", "penalty", "knowledge", "contrast"]

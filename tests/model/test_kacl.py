"""KACL: its rows and losses against loops, its data and settings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recbole_slif.data.dataset import MultimodalKGDataset
from recbole_slif.errors import ConfigError
from recbole_slif.model.knowledge.kacl import KACL
from recbole_slif.model.knowledge.partial_graphs import PartialGraphs
from tests import model_checks as checks
from tests import peers
from tests.layers.test_edge_gate import arrays as gate_arrays
from tests.layers.test_gat import pairs as edge_pairs
from tests.model.kacl_case import built, encoded, loop_tables, losses_of, projected, setting
from tests.oracle import kacl as oracle
from tests.toy import edit_lines

# ---- formulas --------------------------------------------------------------------------------


def test_scores_take_the_whole_graphs_without_gates(tmp_path):
    model, dataset = built(tmp_path, feat_dropout=0.4, attn_dropout=0.2)
    users, items = loop_tables(model, model.graphs.whole, (None, None))
    got = checks.evaluated(model, dataset).detach().numpy().reshape(dataset.user_num - 1, -1)
    np.testing.assert_allclose(got, users[1:] @ items.T, atol=1e-10)


def test_ranking_loss_and_penalty_agree_with_the_loop(tmp_path):
    model, dataset = built(tmp_path, reg_weight=0.3)
    batch = peers.pair_batch(dataset, size=9)
    ranking, penalty = model.calculate_loss(batch)
    users, items = loop_tables(model, model.graphs.parts, model.graphs.gates)
    columns = ("user_id", "item_id", "neg_item_id")
    tables = zip((users, items, items), columns, strict=True)
    rows = [table[batch[name].numpy()] for table, name in tables]
    assert ranking.item() == pytest.approx(oracle.ranking_loss(*rows), abs=1e-10)
    assert penalty.item() == pytest.approx(0.3 * oracle.penalty(*rows), abs=1e-10)


def test_gates_agree_with_the_loop_and_are_kept(tmp_path):
    model, dataset = built(tmp_path)
    torch.manual_seed(8)
    model.calculate_loss(peers.pair_batch(dataset))
    torch.manual_seed(8)
    names = (("contrast", "interaction"), ("entity", "triple"))
    for place, (table, gate) in enumerate(names):
        edges = model.graphs.parts[place]
        uniform = torch.rand(edges.n_edges, dtype=torch.float64).tolist()
        rows = [oracle.unit(row) for row in getattr(model, f"{table}_rows").weight.detach()]
        network = getattr(model, f"{gate}_gate")
        networks = gate_arrays(network.sender), gate_arrays(network.receiver)
        expected = oracle.gate(edge_pairs(edges), rows, *networks, uniform, 0.7)
        np.testing.assert_allclose(model.graphs.gates[place].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("gated", [False, True])
def test_triple_loss_agrees_with_the_loop(tmp_path, gated):
    model, dataset = built(tmp_path, kg_weight=0.7)
    if gated:
        model.calculate_loss(peers.pair_batch(dataset))
    graph, ids = dataset.knowledge, torch.tensor([0, 5, 5, 9, 2])
    torch.manual_seed(6)
    got = model.knowledge_loss(ids)
    torch.manual_seed(6)
    heads, relations, tails = (
        torch.from_numpy(column)[ids] for column in (graph.heads, graph.relations, graph.tails)
    )
    false = model._sampler.negative_tails(heads, relations)
    known = encoded(model, "entity", model.graphs.parts[1], model.graphs.gates[1])
    matrices = model.relation_matrices.detach().numpy()[relations.numpy() - 1]
    expected = oracle.triple_loss(known[heads], known[tails], known[false], matrices)
    assert got.item() == pytest.approx(0.7 * expected, abs=1e-10)


@pytest.mark.parametrize("symmetric", [False, True])
def test_contrast_agrees_with_the_loop(tmp_path, symmetric):
    model, dataset = built(tmp_path, cl_symmetric=symmetric, cl_weight=0.4, cl_temperature=0.3)
    model.calculate_loss(peers.pair_batch(dataset))
    ids = np.array([3, 7, 1, 4])
    nodes = encoded(model, "contrast", model.graphs.parts[0], model.graphs.gates[0])
    known = encoded(model, "entity", model.graphs.parts[1], model.graphs.gates[1])
    views = projected(model, (nodes[ids + model.n_users], known[ids]))
    got = model.contrast_loss(torch.from_numpy(ids)).item()
    assert got == pytest.approx(0.4 * oracle.contrast_loss(*views, 0.3, symmetric), abs=1e-10)


# ---- data and settings -----------------------------------------------------------------------


def test_the_order_of_lines_in_the_file_of_triples_changes_nothing(tmp_path):
    config, dataset = setting(tmp_path)
    found = [trained(config, dataset)]
    path = tmp_path / "toy" / "toy.kg"
    before = path.read_text()
    edit_lines(path, lambda lines: [lines[0], *lines[:0:-1]])
    assert path.read_text() != before
    found.append(trained(config, MultimodalKGDataset(config).build()[0]))
    assert torch.equal(*found)


def trained(config, dataset):
    """Scores after a step of each pass, from one seed."""
    torch.manual_seed(7)
    model = KACL(config, dataset)
    model.pre_epoch(0)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _, loss in losses_of(model, dataset):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return checks.evaluated(model, dataset)


def test_the_order_of_the_triples_changes_nothing(tmp_path):
    model, dataset = built(tmp_path, graph_keep_ratio=1.0)
    model.graphs.gates = None, None
    graph, scores = dataset.knowledge, checks.evaluated(model, dataset)
    order = np.random.default_rng(4).permutation(graph.n_triples)
    columns = {name: getattr(graph, name)[order] for name in ("heads", "relations", "tails")}
    dataset._knowledge = replace(graph, **columns)
    twin = KACL(model.settings, dataset).double()
    twin.load_state_dict(model.state_dict())
    torch.testing.assert_close(checks.evaluated(twin, dataset), scores, atol=1e-12, rtol=0)
    places = torch.from_numpy(np.argsort(order))
    values = []
    for one, ids in ((model, torch.arange(graph.n_triples)), (twin, places)):
        torch.manual_seed(2)
        values.append(one.knowledge_loss(ids).item())
    assert values[0] == pytest.approx(values[1], abs=1e-12)


def test_interactions_given_twice_count_once(tmp_path):
    model, dataset = built(tmp_path)
    users, items = (np.tile(column, 2) for column in model.training_pairs(dataset))
    shape, graph = (model.n_users, model.n_items), dataset.knowledge
    twice = PartialGraphs(users, items, *shape, graph, model.settings, model.device)
    assert edge_pairs(twice.whole[0]) == edge_pairs(model.graphs.whole[0])


def test_a_pass_that_weighs_nothing_is_left_out(tmp_path):
    for changes, names in (
        ({}, ["knowledge", "contrast"]),
        ({"kg_weight": 0.0}, ["contrast"]),
        ({"cl_weight": 0.0}, ["knowledge"]),
        ({"kg_weight": 0.0, "cl_weight": 0.0}, []),
    ):
        model, _ = built(tmp_path / "".join(changes), **changes)
        assert [phase.names[0] for phase in model.phases_after(0)] == names


def test_wrong_settings_are_refused(tmp_path):
    config, dataset = setting(tmp_path)
    for key, value, message in (
        ("layers", [], "layers must name the width"),
        ("feat_dropout", 1.0, "feat_dropout must be at least 0 and below 1, not 1.0"),
        ("attn_dropout", -0.1, "attn_dropout must be at least 0 and below 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            KACL(peers.PeerSettings(config, **{key: value}), dataset)
    for key, value in (("graph_keep_ratio", 1.2), ("cl_temperature", 0.0), ("kg_batch_size", 0)):
        with pytest.raises(ConfigError, match=f"{key} must be"):
            setting(tmp_path, **{key: value})


def test_model_learns_and_saves(tmp_path):
    config, dataset = setting(tmp_path, feat_dropout=0.1)
    model, batch = KACL(config, dataset), peers.pair_batch(dataset)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    model.pre_epoch(0)
    model.train()
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = sum(model.calculate_loss(batch))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    checks.check_evaluation_repeats(model, dataset)
    checks.check_saving(model, lambda: KACL(config, dataset), dataset)


def test_each_pass_lowers_its_loss(tmp_path):
    config, dataset = setting(tmp_path, kg_learning_rate=0.02, cl_learning_rate=0.02)
    model = KACL(config, dataset)
    model.pre_epoch(0)
    model.train()
    for phase in model.phases_after(0):
        optimizer, values = model.own_optimizers()[phase.optimizer], []
        for _ in range(40):
            for ids in phase.batches:
                optimizer.zero_grad()
                loss = phase.loss(ids)
                loss.backward()
                optimizer.step()
                values.append(loss.item())
        assert np.mean(values[-5:]) < 0.8 * np.mean(values[:5]), phase.names


def test_rows_are_normalised_before_they_are_compared(tmp_path):
    model, _ = built(tmp_path)
    rows = model.forward()[1].detach()
    for part, width in zip(rows[:, :12].split([5, 4, 3], dim=1), (5, 4, 3), strict=True):
        assert part.shape[1] == width
        torch.testing.assert_close(part, F.normalize(part, dim=1))

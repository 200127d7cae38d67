"""SLIF-MR as a whole: its objective, readings, ablations, masks and epochs."""

import numpy as np
import pytest
import torch

from recbole_slif import factory
from recbole_slif.config import SlifConfig
from recbole_slif.errors import ConfigError, DataError
from recbole_slif.graph.pruning import draw_edges, keep_weights, keep_weights_knowledge
from recbole_slif.testing.toy import write_toy
from tests.model.runs import finite, signature
from tests.model.stub import StubDataset, batch, build, dataset, settings, total
from tests.oracle import graphs as graph_oracle
from tests.oracle import objective as oracle

# ---- the objective against loops -------------------------------------------------------------


def array(tensor):
    return tensor.detach().double().numpy()


def parameters_of(model):
    attention = model.knowledge_branch.relational_attention
    score = model.fusion.score
    return {
        "users": array(model.user_embedding.weight),
        "entities": array(model.entity_embedding.weight),
        "modality_weights": array(torch.softmax(model.feature_branch.modality_logits, dim=0)),
        "projection": array(attention.relation_projection),
        "relations": array(attention.relation_embedding),
        "fusion_weight": array(score.weight),
        "fusion_bias": array(score.bias),
    }


def facts(data, chosen):
    matrices = [feature.matrix.astype(np.float64) for feature in data.features.values()]
    presence = np.stack([feature.presence for feature in data.features.values()], axis=1)
    modality_graphs = [
        graph_oracle.knn(matrix, chosen["knn_k"], presence[:, number])
        for number, matrix in enumerate(matrices)
    ]
    return {
        "n_users": data.num("user_id"),
        "n_items": data.num("item_id"),
        "n_relations": data.knowledge.n_relations,
        "modality_graphs": modality_graphs,
        "presence": presence,
    }


def edges_of(data):
    pairs = list(zip(*(column.tolist() for column in data.inter_feat.values()), strict=True))
    graph = data.knowledge
    columns = (graph.heads.tolist(), graph.relations.tolist(), graph.tails.tolist())
    return pairs, list(zip(*columns, strict=True))


def kept(data, chosen, epoch):
    """The edges an epoch trains on: drawn from the seed and the epoch alone."""
    pairs, triples = edges_of(data)
    users, items = np.array(pairs).T
    weights = keep_weights(users, items, data.num("user_id"), data.num("item_id"))
    places = draw_edges(weights, chosen["prune_ui"], np.random.default_rng([7, 0, epoch]))
    graph = data.knowledge
    weights = keep_weights_knowledge(graph.heads, graph.tails, graph.n_entities)
    others = draw_edges(weights, chosen["prune_kg"], np.random.default_rng([7, 1, epoch]))
    return [pairs[place] for place in places], [triples[place] for place in others]


def penalised(parameters, triples, n_relations, correlation):
    """W_r and relation rows of the relations with edges."""
    edges = oracle.enhanced_triples(triples, n_relations, correlation)
    used = sorted({relation for _, relation, _ in edges})
    matrices = [parameters["projection"][relation] for relation in used]
    return [*matrices, parameters["relations"][used]]


@pytest.mark.parametrize("scope", ["positives", "batch", "all"])
@pytest.mark.parametrize("epoch", [0, 1])
def test_the_objective_of_a_batch_equals_the_loops(epoch, scope):
    chosen = settings()
    data = dataset()
    model = build(data, beta=0.5, gamma=0.3, reg_weight=0.1, cl_scope=scope)
    parameters, known = parameters_of(model), facts(data, chosen)
    mask = np.ones((known["n_items"], 3), dtype=bool)
    mask[:, 1] = known["presence"].any(axis=1)
    mask[:, 2] = data.knowledge.linked

    correlation = None
    model.pre_epoch(0)
    if epoch == 1:
        pairs, triples = edges_of(data)
        _, item_views = oracle.views(parameters, pairs, triples, known, 2)
        unified = oracle.fuse(parameters, item_views, mask)
        correlation = graph_oracle.knn(unified, chosen["sge_n"])
        model.pre_epoch(1)
        assert correlation.any()
        found = model.self_loop.latest.toarray()
        np.testing.assert_allclose(found, correlation, atol=1e-5)

    pairs, triples = kept(data, chosen, epoch)
    users, item_views = oracle.views(parameters, pairs, triples, known, 2, correlation)
    rows = [tuple(int(value) for value in row) for row in zip(*batch().values(), strict=True)]
    weights = {"beta": 0.5, "gamma": 0.3, "eta": 0.1, "tau": chosen["tau"], "t": 2.0}
    parameters["penalised"] = penalised(parameters, triples, known["n_relations"], correlation)
    expected = oracle.objective(parameters, users, item_views, mask, rows, weights, scope)
    loss = [float(part.detach()) for part in model.calculate_loss(batch())]
    np.testing.assert_allclose(loss, expected, rtol=2e-5, atol=1e-6)


def test_scores_are_dot_products_of_the_tables_made_from_every_edge():
    data = dataset()
    model = build(data)
    model.pre_epoch(0)
    parameters, known = parameters_of(model), facts(data, settings())
    mask = model.view_mask.numpy()
    pairs, triples = edges_of(data)
    users, item_views = oracle.views(parameters, pairs, triples, known, 2)
    expected = users @ oracle.fuse(parameters, item_views, mask).T
    scores = model.full_sort_predict({"user_id": torch.arange(6)}).view(6, -1)
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-5)


# ---- ablations -------------------------------------------------------------------------------


def test_without_the_knowledge_graph_nothing_of_it_is_left():
    model = build(ablation="kg")
    assert model.knowledge_branch is None
    assert model.entity_embedding.weight.shape[0] == model.n_items
    assert not [name for name, _ in model.named_parameters() if "knowledge" in name]
    model.pre_epoch(0)
    graphs = model._graphs()
    assert graphs.triples is None
    assert model.view_mask.shape[1] == 2
    assert model.fusion.n_views == 2


def test_without_features_nothing_of_them_is_left():
    model = build(ablation="mm")
    assert model.feature_branch is None
    assert not [name for name, _ in model.named_parameters() if "feature" in name]
    assert model.view_mask.shape[1] == 2


def test_without_both_the_unified_item_is_the_interaction_view():
    model = build(ablation="kg_mm")
    assert model.fusion is None
    assert [name for name, _ in model.named_parameters()] == [
        "user_embedding.weight",
        "entity_embedding.weight",
    ]
    for epoch in range(2):
        model.pre_epoch(epoch)
        _, views = model.extract()
        assert len(views) == 1
        assert torch.equal(model.forward()[1], views[0])
        ranking, inter, intra, _ = model.calculate_loss(batch())
        assert float(inter) == 0.0
        assert float(intra.detach()) != 0.0
        assert float(ranking.detach()) > 0.0
    assert model.self_loop.latest is not None


def test_without_the_loop_no_epoch_makes_a_correlation_graph():
    model = build(ablation="sge")
    for epoch in range(3):
        model.pre_epoch(epoch)
    assert model.self_loop.latest is None
    assert model._graphs().correlation is None
    assert set(model.epoch_state()) == {"base_share"}
    base = model.self_loop.knowledge
    assert model.self_loop.full_graphs().triples.n_edges == 2 * base.n_triples


def test_without_the_consistency_losses_both_parts_are_zero():
    model = build(ablation="cl")
    model.pre_epoch(0)
    _, inter, intra, _ = model.calculate_loss(batch())
    assert (float(inter), float(intra)) == (0.0, 0.0)
    assert not inter.requires_grad


@pytest.mark.parametrize("ablation", ["none", "kg", "mm", "kg_mm", "sge", "cl"])
def test_every_variant_trains(ablation):
    assert finite(signature(ablation=ablation))


@pytest.mark.parametrize("fusion", ["ailf", "concat", "sum", "att"])
def test_every_fusion_gives_a_gradient_to_each_of_its_parameters(fusion):
    model = build(fusion=fusion)
    model.pre_epoch(0)
    total(model).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


# ---- masks -----------------------------------------------------------------------------------


def test_an_item_without_a_view_has_no_weight_there():
    model = build()
    model.pre_epoch(0)
    _, views = model.extract()
    weights = model.fusion.weights(views, model.view_mask)
    assert torch.equal(model.view_mask[8], torch.tensor([True, False, False]))
    assert torch.equal(weights[8], torch.tensor([1.0, 0.0, 0.0]))
    assert (weights[1:8] > 0).all()
    assert torch.equal(model.forward()[1][8], views[0][8])


def test_each_view_has_the_mask_of_its_own_source():
    data = dataset(unlinked=(6, 7), missing={0: (3, 8), 1: (8,)})
    mask = build(data).view_mask.numpy()
    presence = [part.presence for part in data.features.values()]
    expected = [np.ones(9, dtype=bool), np.logical_or(*presence), data.knowledge.linked]
    np.testing.assert_array_equal(mask, np.stack(expected, axis=1))
    assert (mask[:, 1] != mask[:, 2]).any()


def test_an_item_without_a_view_contributes_nothing_to_its_losses():
    model = build(beta=1.0, gamma=1.0)
    model.pre_epoch(0)
    _, views = model.extract()
    views = [view.detach() for view in views]
    unified = model.fuse(views, model.view_mask).detach()
    reference = model.consistency_loss(views, unified, model.view_mask)
    spoiled = [views[0], *(view.clone() for view in views[1:])]
    for view in spoiled[1:]:
        view[8] = 1e3
    again = model.consistency_loss(spoiled, unified, model.view_mask)
    assert [float(part) for part in reference] == [float(part) for part in again]
    spoiled[1][1] = 1e3
    assert float(model.consistency_loss(spoiled, unified, model.view_mask)[0]) != float(
        reference[0]
    )


def test_an_item_with_one_modality_listens_to_that_modality_alone():
    model = build(sge_start=9)
    branch = model.feature_branch
    rows = torch.randn(model.n_items, 4)
    before = branch(rows, 1, None)[3]
    with torch.no_grad():
        branch.modality_logits[0] += 5.0
    assert torch.allclose(branch(rows, 1, None)[3], before)
    neighbours = branch.graphs[1].to_scipy().toarray()[3]
    expected = torch.from_numpy(neighbours).float() @ rows + rows[3]
    assert torch.allclose(before, expected, atol=1e-6)


def test_the_unified_target_gets_no_gradient_from_the_inter_modal_loss():
    model = build(gamma=0.0)
    views = [torch.randn(9, 4, requires_grad=True) for _ in range(3)]
    unified = torch.randn(9, 4, requires_grad=True)
    inter, _ = model.consistency_loss(views, unified, model.view_mask)
    inter.backward()
    assert unified.grad is None
    assert all(view.grad.abs().sum() > 0 for view in views)


# ---- data it needs ---------------------------------------------------------------------------


def test_any_number_of_modalities_is_accepted():
    for dims in ((5,), (5, 3), (5, 3, 2)):
        data = dataset(dims=dims)
        assert finite(signature(data))
        assert len(build(data).feature_branch.graphs) == len(dims)


def test_a_missing_graph_or_missing_features_name_the_ablation_to_run():
    full = dataset()
    arguments = (list(zip([1, 2], [1, 2], strict=True)), 6, 9)
    unlinked = dataset(unlinked=range(1, 9))
    with pytest.raises(ConfigError, match=r"--ablation=kg$"):
        build(unlinked)
    with pytest.raises(ConfigError, match=r"--ablation=mm$"):
        build(StubDataset(*arguments, full.knowledge, {}))
    with pytest.raises(ConfigError, match=r"--ablation=kg_mm$"):
        build(StubDataset(*arguments, unlinked.knowledge, {}))
    for other in ("kg", "mm", "sge"):  # the way out leaves out what the ablation hides as well
        with pytest.raises(ConfigError, match=rf"--ablation=kg_mm in place of {other}$"):
            build(StubDataset(*arguments, unlinked.knowledge, {}), ablation=other)
    assert finite(signature(StubDataset(*arguments, unlinked.knowledge, {}), ablation="kg_mm"))


def test_a_modality_that_every_item_lacks_is_refused_with_its_file(tmp_path):
    write_toy(tmp_path, "empty")
    path = tmp_path / "empty" / "empty.visual.npy"
    np.save(path, np.full_like(np.load(path), np.nan))
    settings = {"data_path": str(tmp_path), "use_gpu": False, "state": "ERROR"}
    with pytest.raises(DataError, match=r"empty\.visual\.npy.*every item"):
        factory.load_data(SlifConfig("SLIFMR", "empty", overrides=settings))


# ---- epochs ----------------------------------------------------------------------------------


def trained(epochs=3, **changes):
    model = build(**changes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for epoch in range(epochs):
        model.pre_epoch(epoch)
        optimizer.zero_grad()
        total(model).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("merge", ["replace", "ema", "accumulate"])
def test_a_restored_epoch_state_gives_the_same_scores_to_the_bit(merge):
    model = trained(sge_merge=merge)
    other = build(sge_merge=merge)
    other.load_state_dict(model.state_dict())
    assert not torch.equal(other.score_tables()[1], model.score_tables()[1])
    other.load_epoch_state(model.epoch_state())
    for ours, theirs in zip(model.score_tables(), other.score_tables(), strict=True):
        assert torch.equal(ours, theirs)
    model.pre_epoch(3)
    other.pre_epoch(3)
    model.train()
    other.train()
    for ours, theirs in zip(
        model.calculate_loss(batch()), other.calculate_loss(batch()), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", ["adam", "fused"])
def test_a_training_step_clears_the_cached_tables(kind):
    model = trained()
    before = model.score_tables()[1]
    assert model.score_tables()[1] is before
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=kind == "fused")
    total(model).backward()
    optimizer.step()
    assert not torch.equal(model.score_tables()[1], before)


def test_the_loop_feeds_back_items_of_steps_that_no_evaluation_came_after():
    model = build(sge_start=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    for epoch in range(3):
        model.pre_epoch(epoch)
        optimizer.zero_grad()
        total(model).backward()
        optimizer.step()
        if epoch == 1:
            model.score_tables()
    with torch.no_grad():
        unified = model.eval().forward()[1]
    model.train().pre_epoch(3)
    expected = graph_oracle.knn(unified.double().numpy(), 2)
    np.testing.assert_allclose(model.self_loop.latest.toarray(), expected, atol=1e-5)

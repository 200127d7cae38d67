"""What is shown of SLIF-MR is what it computes, and the parts of a score are the score."""

import numpy as np
import pytest
import torch

from recbole_slif.explain.views import CORRELATION, fused_views, look_inside, nearest
from tests.running import build

FUSIONS = ("ailf", "att", "sum", "concat")


def trained_model(folder, model="SLIFMR", epochs=2, **changes):
    """A model whose parameters are away from where they start, and that has a correlation graph."""
    _, built, bundle = build(folder, model, **changes)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    for epoch in range(epochs if model == "SLIFMR" else 0):
        built.pre_epoch(epoch)
    built.eval()
    return built, bundle


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("ablation", ["none", "kg", "mm", "kg_mm"])
def test_parts_of_every_score_add_up_to_it(tmp_path, fusion, ablation):
    model, _ = trained_model(tmp_path, fusion=fusion, ablation=ablation)
    views = look_inside(model, _.dataset).views
    users, items = (table.double() for table in model.score_tables())
    scores = users @ items.T
    assert scores[1:, 1:].abs().min() > 1e-6
    for user in range(1, model.n_users):
        for item in range(1, model.n_items):
            parts, rest = views.parts(user, item)
            assert (rest is not None) == (fusion == "concat" and ablation != "kg_mm")
            total = sum(parts) + (rest or 0.0)
            assert total == pytest.approx(float(scores[user, item]), abs=2e-5)
    lacking = ~views.mask
    assert lacking.any() == (ablation != "kg_mm")
    for item, view in np.argwhere(lacking):
        assert views.parts(1, item)[0][view] == 0.0


@pytest.mark.parametrize("fusion", ["ailf", "att"])
def test_weights_are_the_models(tmp_path, fusion):
    model, bundle = trained_model(tmp_path, fusion=fusion)
    views = look_inside(model, bundle.dataset).views
    with torch.no_grad():
        _, tables = model.extract()
        unified, weights = model.fusion(tables, model.view_mask)
    assert views.names == ("interaction", "feature", "knowledge")
    assert np.array_equal(views.weights, weights.numpy())
    np.testing.assert_allclose(views.weights.sum(axis=1), 1.0, rtol=1e-6)
    assert (views.weights[~views.mask] == 0).all() and len(np.unique(views.weights)) > 20
    assert torch.equal(model.score_tables()[1], unified)
    knowledge = bundle.dataset.knowledge.linked
    assert np.array_equal(views.mask[1:, 2], knowledge[1:])


@pytest.mark.parametrize("fusion", ["sum", "concat"])
def test_fusions_without_weights_say_so(tmp_path, fusion):
    model, bundle = trained_model(tmp_path, fusion=fusion)
    inside = look_inside(model, bundle.dataset)
    assert inside.views.weights is None
    assert any(f"fusion={fusion} learns no weights" in note for note in inside.notes)


def test_a_fusion_of_ones_own_is_not_taken_apart_wrongly(tmp_path):
    model, _ = trained_model(tmp_path)
    model.fusion = torch.nn.Identity()
    with pytest.raises(TypeError, match="Identity"):
        fused_views(model)


def test_graphs_are_those_in_force(tmp_path):
    model, bundle = trained_model(tmp_path)
    inside = look_inside(model, bundle.dataset)
    merged = model.self_loop.merged.toarray()
    for item in range(1, model.n_items):
        found = nearest(inside.graphs[CORRELATION], item, 3)
        order = sorted(np.flatnonzero(merged[item]), key=lambda other: -merged[item, other])
        assert [other for other, _ in found] == order[:3]
        assert [weight for _, weight in found] == [merged[item, other] for other in order[:3]]
    names = ["feature graph, text", "feature graph, visual"]
    assert list(inside.graphs) == [CORRELATION, *names]
    for graph, name in zip(model.feature_branch.graphs, names, strict=True):
        assert (inside.graphs[name] != graph.to_scipy()).nnz == 0
    weights = model.feature_branch.modality_weights.tolist()
    assert list(inside.modality_weights.items()) == [("text", weights[0]), ("visual", weights[1])]
    for name, has in inside.presence.items():
        assert np.array_equal(has, bundle.dataset.features[name].presence)


def test_without_a_correlation_graph_the_reason_is_given(tmp_path):
    model, bundle = trained_model(tmp_path, ablation="sge")
    assert any("ablation=sge" in note for note in look_inside(model, bundle.dataset).notes)
    model, bundle = trained_model(tmp_path, epochs=1)
    inside = look_inside(model, bundle.dataset)
    assert CORRELATION not in inside.graphs
    assert any("before sge_start=1" in note for note in inside.notes)


@pytest.mark.parametrize(
    ("model", "graphs"),
    [("BPR", []), ("KGAT", []), ("FREEDOM", ["item graph"])],
)
def test_other_models_leave_out_what_they_do_not_have(tmp_path, model, graphs):
    built, bundle = trained_model(tmp_path, model)
    inside = look_inside(built, bundle.dataset)
    assert inside.views is None and not inside.modality_weights
    assert list(inside.graphs) == graphs
    assert len(inside.notes) == 2 and all(model in note for note in inside.notes)


def test_item_graphs_by_modality(tmp_path):
    built, bundle = trained_model(tmp_path, "TMFUN")
    inside = look_inside(built, bundle.dataset)
    assert list(inside.graphs) == ["item graph, text", "item graph, visual"]

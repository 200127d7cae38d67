"""The feature and the knowledge branch on their own."""

import numpy as np
import pytest
import torch

from recbole_slif.graph.knowledge import KnowledgeEdges, with_inverse
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.model.branches import FeatureBranch, KnowledgeBranch
from tests.model.stub import features, knowledge, settings
from tests.oracle import graphs as graph_oracle
from tests.oracle.objective import enhanced_feature_graph, propagate

N_ITEMS = 9
MISSING = {0: (3, 8), 1: (5, 8)}


def feature_branch(dims=(5, 3), missing=MISSING, **changes):
    found = features(N_ITEMS, missing, dims)
    return FeatureBranch(found, 4, settings(**changes), torch.device("cpu")), found


def rows(n=N_ITEMS, seed=0):
    torch.manual_seed(seed)
    return torch.randn(n, 4)


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("weight", ["cosine", "binary"])
def test_each_modality_has_the_graph_of_its_raw_features(weight, include_self):
    branch, found = feature_branch(knn_weight=weight, knn_include_self=include_self)
    for operator, feature in zip(branch.graphs, found.values(), strict=True):
        expected = graph_oracle.knn(
            feature.matrix.astype(float),
            2,
            feature.presence,
            weight=weight,
            include_self=include_self,
        )
        np.testing.assert_allclose(operator.to_scipy().toarray(), expected, atol=1e-5)


def test_items_without_a_modality_have_empty_rows_and_columns_in_its_graph():
    branch, _ = feature_branch()
    for number, operator in enumerate(branch.graphs):
        matrix = operator.to_scipy().toarray()
        for item in (0, *MISSING[number]):
            assert not matrix[item].any()
            assert not matrix[:, item].any()


@pytest.mark.parametrize("correlation", [False, True])
def test_the_view_equals_the_loops(correlation):
    branch, found = feature_branch()
    with torch.no_grad():
        branch.modality_logits.copy_(torch.tensor([0.3, -0.7]))
    weights = torch.softmax(branch.modality_logits, 0).tolist()
    presence = np.stack([feature.presence for feature in found.values()], axis=1)
    graphs = [operator.to_scipy().toarray().astype(float) for operator in branch.graphs]
    mixed = graph_oracle.mixture(graphs, weights, presence)
    joined = None
    if correlation:
        extra = graph_oracle.knn(rows(seed=3).double().numpy(), 2)
        mixed = enhanced_feature_graph(mixed, extra)
        joined = SparseOperator.from_coo(*np.nonzero(extra), extra[extra != 0], extra.shape)
    expected = propagate(mixed, rows().double().numpy(), 2)
    view = branch(rows(), 2, joined).detach().numpy()
    np.testing.assert_allclose(view, expected, atol=1e-5)


@pytest.mark.parametrize("norm", ["row", "none"])
def test_the_base_share_scales_the_features_beside_the_correlation(norm):
    branch, _ = feature_branch(sge_feature_norm=norm)
    extra = graph_oracle.knn(rows(seed=3).double().numpy(), 2)
    joined = SparseOperator.from_coo(*np.nonzero(extra), extra[extra != 0], extra.shape)
    presence = branch.presence.numpy()
    graphs = [operator.to_scipy().toarray().astype(float) for operator in branch.graphs]
    summed = 0.25 * graph_oracle.mixture(graphs, [0.5, 0.5], presence) + extra
    if norm == "row":
        summed = graph_oracle.row_normalise(summed)
    expected = propagate(summed, rows().double().numpy(), 2)
    view = branch(rows(), 2, joined, 0.25).detach().numpy()
    np.testing.assert_allclose(view, expected, atol=1e-5)


def test_an_item_without_features_keeps_its_row():
    branch, _ = feature_branch()
    torch.testing.assert_close(branch(rows(), 2, None)[8], rows()[8])


def test_modality_weights_are_learned_freely_or_fixed():
    softmax, _ = feature_branch()
    assert softmax.modality_weights.tolist() == [0.5, 0.5]
    free, _ = feature_branch(modal_weight="free", dims=(5, 3, 2), missing={})
    assert free.modality_weights.tolist() == pytest.approx([1 / 3] * 3)
    assert free.modality_logits.requires_grad
    fixed, _ = feature_branch(modal_weight="fixed")
    assert not fixed.modality_logits.requires_grad
    branch, _ = feature_branch(modal_weight="free")
    branch(rows(), 2, None).square().sum().backward()
    assert branch.modality_logits.grad.abs().sum() > 0


@pytest.mark.parametrize(("kind", "factor"), [("free", 3.0), ("softmax", 1.0)])
def test_only_free_weights_have_a_scale_of_their_own(kind, factor):
    branch, _ = feature_branch(modal_weight=kind)
    first = branch(rows(), 1, None) - rows()
    with torch.no_grad():
        branch.modality_logits.mul_(3.0).add_(0.0 if kind == "free" else 4.0)
    torch.testing.assert_close(branch(rows(), 1, None) - rows(), factor * first)


@pytest.mark.parametrize("values", [[0.3, -0.7], [1.0, -1.0]])
def test_free_weights_may_be_negative(values):
    branch, _ = feature_branch(modal_weight="free")
    with torch.no_grad():
        branch.modality_logits.copy_(torch.tensor(values))
    graphs = [operator.to_scipy().toarray().astype(float) for operator in branch.graphs]
    mixed = values[0] * graphs[0] + values[1] * graphs[1]
    expected = propagate(mixed, rows().double().numpy(), 2)
    np.testing.assert_allclose(branch(rows(), 2, None).detach().numpy(), expected, atol=1e-5)


def test_projected_features_replace_the_rows():
    branch, _ = feature_branch(feature_init="project")
    assert torch.equal(branch(rows(seed=1), 1, None), branch(rows(seed=2), 1, None))
    branch(rows(), 1, None).sum().backward()
    assert all(parameter.grad is not None for parameter in branch.projection.parameters())
    assert feature_branch()[0].projection is None


# ---- knowledge -------------------------------------------------------------------------------


def knowledge_branch():
    graph = knowledge(N_ITEMS, unlinked=(8,))
    heads, relations, tails, _ = with_inverse(graph)
    total = 2 * graph.n_relations
    edges = KnowledgeEdges.build(heads, relations, tails, graph.n_entities, total)
    torch.manual_seed(0)
    return KnowledgeBranch(total, 4, "mean"), edges, rows(graph.n_entities)


def test_the_translation_loss_never_looks_at_padding():
    branch, _, entities = knowledge_branch()
    graph = knowledge(N_ITEMS, unlinked=(8,))
    entities[0] = float("nan")
    branch.relational_attention.relation_embedding.data[0] = float("nan")
    assert bool(branch.translation(entities, graph, 500).isfinite())


def test_refreshed_attention_gives_the_value_of_the_learned_one_until_rows_move():
    branch, edges, entities = knowledge_branch()
    branch.train()
    learned = branch(entities, edges, 2)
    branch.refresh(entities, edges)
    torch.testing.assert_close(branch(entities, edges, 2), learned)
    torch.testing.assert_close(branch(2 * entities, edges, 2), 2 * learned)


def test_refreshed_attention_leaves_the_relations_without_gradient():
    branch, edges, entities = knowledge_branch()
    branch.refresh(entities, edges)
    entities.requires_grad_()
    branch(entities, edges, 2).square().sum().backward()
    assert entities.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in branch.parameters())


def test_evaluation_takes_attention_from_the_rows_as_they_are():
    branch, edges, entities = knowledge_branch()
    branch.refresh(entities, edges)
    branch.eval()
    fresh, _, _ = knowledge_branch()
    torch.testing.assert_close(branch(2 * entities, edges, 2), fresh(2 * entities, edges, 2))


def test_parameters_in_use_are_those_of_relations_with_edges():
    branch, edges, _ = knowledge_branch()
    used = [relation for relation, count in enumerate(edges.pairs_per_relation) if count]
    assert 0 not in used
    matrices, relation_rows = branch.used_parameters(edges)
    attention = branch.relational_attention
    torch.testing.assert_close(matrices, attention.relation_projection[used])
    torch.testing.assert_close(relation_rows, attention.relation_embedding[used])
    assert branch.used_parameters(None) == []


def test_an_unlinked_item_keeps_its_share_of_its_own_row():
    branch, edges, entities = knowledge_branch()
    torch.testing.assert_close(branch(entities, edges, 2)[8], entities[8] / 3)

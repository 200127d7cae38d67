import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_slif.errors import ConfigError
from recbole_slif.graph.bipartite import bipartite_operator
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers.light_conv import (
    feature_convolution,
    light_convolution,
    modality_shares,
    readout_coefficients,
)
from tests.oracle import graphs as oracle

PAIRS = [(1, 1), (1, 2), (2, 2), (3, 1), (3, 2), (3, 4), (2, 2)]
N_USERS, N_ITEMS = 4, 5


def table(n, d=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def plain_operator():
    users, items = np.array(PAIRS).T
    return bipartite_operator(users, items, N_USERS, N_ITEMS, dtype=torch.float64)


def expected_layers(x, n_layers):
    layers = [x.numpy()]
    for _ in range(n_layers):
        layers.append(oracle.light_layer(PAIRS, layers[-1], N_USERS, N_ITEMS))
    return layers


@pytest.mark.parametrize("n_layers", [1, 2, 4])
def test_light_convolution_equals_the_loop(n_layers):
    x = table(N_USERS + N_ITEMS)
    layers = expected_layers(x, n_layers)
    literal = light_convolution(plain_operator(), x, n_layers)
    np.testing.assert_allclose(literal.numpy(), oracle.readout(layers), atol=1e-10)
    mean = light_convolution(plain_operator(), x, n_layers, "mean")
    np.testing.assert_allclose(mean.numpy(), sum(layers) / (n_layers + 1), atol=1e-10)
    total = light_convolution(plain_operator(), x, n_layers, "sum")
    np.testing.assert_allclose(total.numpy(), sum(layers), atol=1e-10)


def test_light_convolution_gradcheck():
    operator = plain_operator()
    x = table(N_USERS + N_ITEMS, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: light_convolution(operator, t, 3), x)


def test_coefficients():
    assert readout_coefficients("mean", 3) == [0.25] * 4
    assert readout_coefficients("mean_1L_plus_0", 2) == [1.0, 0.5, 0.5]
    assert readout_coefficients("sum", 2) == [1.0] * 3
    assert readout_coefficients("last", 2) == [0.0, 0.0, 1.0]
    for kind in ("mean", "mean_1L_plus_0", "sum", "last"):
        assert readout_coefficients(kind, 0) == [1.0]
    with pytest.raises(ConfigError, match="mean_1L_plus_0"):
        readout_coefficients("max", 2)
    with pytest.raises(ConfigError, match="at least 0"):
        readout_coefficients("mean", -1)


def modality_graphs(n=7, n_modalities=2):
    """Graphs that respect presence: item 0 has nothing, 1 only the first, 2 only the second."""
    presence = np.ones((n, n_modalities), dtype=bool)
    presence[0] = False
    presence[1, 1] = presence[2, 0] = False
    graphs = []
    for m in range(n_modalities):
        dense = oracle.random_dense(n, n, 0.5, m)
        np.fill_diagonal(dense, 0.0)
        dense[~presence[:, m]] = 0.0
        dense[:, ~presence[:, m]] = 0.0
        graphs.append(dense)
    return graphs, presence


def operators(graphs):
    return [SparseOperator.from_scipy(sp.csr_array(graph), torch.float64) for graph in graphs]


def correlation_graph(n=7):
    dense = oracle.random_dense(n, n, 0.3, 9)
    dense[0] = 0.0
    return dense


def expected_features(mixed, x, n_layers):
    layers = [x.detach().numpy()]
    for _ in range(n_layers):
        layers.append(oracle.feature_layer(mixed, layers[-1]))
    return oracle.readout(layers)


@pytest.mark.parametrize("n_layers", [1, 3])
def test_feature_convolution_equals_the_loop(n_layers):
    graphs, presence = modality_graphs()
    weights = torch.tensor([0.7, 0.3], dtype=torch.float64)
    x = table(7)
    got = feature_convolution(operators(graphs), weights, torch.tensor(presence), x, n_layers)
    mixed = oracle.mixture(graphs, weights.tolist(), presence)
    np.testing.assert_allclose(got.numpy(), expected_features(mixed, x, n_layers), atol=1e-10)


@pytest.mark.parametrize("norm", ["row", "symmetric", "none"])
def test_correlation_graph_is_added_and_rows_are_scaled(norm):
    graphs, presence = modality_graphs()
    weights = torch.tensor([0.2, 0.8], dtype=torch.float64)
    x, extra = table(7), correlation_graph()
    got = feature_convolution(
        operators(graphs),
        weights,
        torch.tensor(presence),
        x,
        2,
        correlation=operators([extra])[0],
        correlation_norm=norm,
    )
    mixed = oracle.mixture(graphs, weights.tolist(), presence) + extra
    if norm == "row":
        mixed = oracle.row_normalise(mixed)
    elif norm == "symmetric":
        mixed = oracle.root_normalise(mixed)
    np.testing.assert_allclose(got.numpy(), expected_features(mixed, x, 2), atol=1e-10)


def test_an_item_without_modality_and_correlation_keeps_its_input():
    graphs, presence = modality_graphs()
    x = table(7)
    weights = torch.tensor([0.5, 0.5], dtype=torch.float64)
    for extra in (None, operators([correlation_graph()])[0]):
        got = feature_convolution(
            operators(graphs), weights, torch.tensor(presence), x, 2, correlation=extra
        )
        assert torch.equal(got[0], x[0])


def test_only_the_ratio_of_weights_matters():
    graphs, presence = modality_graphs()
    x, mask = table(7), torch.tensor(presence)
    small = torch.tensor([0.1, 0.4], dtype=torch.float64)
    one = feature_convolution(operators(graphs), small, mask, x, 2)
    two = feature_convolution(operators(graphs), 5 * small, mask, x, 2)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("values", [[5.0, 5.0], [0.7, -0.9], [1.0, -1.0], [0.0, 0.0]])
@pytest.mark.parametrize("norm", [None, "row", "symmetric"])
def test_weights_that_are_not_shared_out_are_used_as_they_are(values, norm):
    graphs, presence = modality_graphs()
    weights = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    x, extra = table(7), correlation_graph()
    got = feature_convolution(
        operators(graphs),
        weights,
        torch.tensor(presence),
        x,
        2,
        correlation=None if norm is None else operators([extra])[0],
        correlation_norm=norm or "none",
        share_out=False,
    )
    mixed = sum(weight * graph for weight, graph in zip(values, graphs, strict=True))
    if norm is not None:
        sizes = sum(abs(weight) * graph for weight, graph in zip(values, graphs, strict=True))
        sums = (sizes + extra).sum(axis=1)
        scale = np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0)
        mixed = scale[:, None] * (mixed + extra)
        if norm == "symmetric":
            mixed = mixed / np.sqrt(np.where(scale > 0, scale, 1.0))[:, None] * np.sqrt(scale)
    np.testing.assert_allclose(got.detach().numpy(), expected_features(mixed, x, 2), atol=1e-10)
    got.square().sum().backward()
    assert weights.grad.isfinite().all()


@pytest.mark.parametrize("norm", [None, "row", "symmetric", "none"])
def test_gradcheck_in_table_and_weights(norm):
    graphs, presence = modality_graphs()
    extra = None if norm is None else operators([correlation_graph()])[0]
    fixed = operators(graphs)

    def run(x, logits):
        return feature_convolution(
            fixed,
            torch.softmax(logits, 0),
            torch.tensor(presence),
            x,
            2,
            correlation=extra,
            correlation_norm=norm or "row",
        )

    x = table(7, 2).requires_grad_()
    logits = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, logits))
    run(x, logits).square().sum().backward()
    assert (logits.grad.abs() > 1e-6).all()


def test_shares():
    weights = torch.tensor([1.0, 3.0])
    presence = torch.tensor([[True, True], [True, False], [False, False]])
    got = modality_shares(weights, presence)
    assert got.tolist() == [[0.25, 0.75], [1.0, 0.0], [0.0, 0.0]]


def test_permuting_items_permutes_the_result():
    graphs, presence = modality_graphs()
    order = np.random.default_rng(2).permutation(7)
    weights = torch.tensor([0.6, 0.4], dtype=torch.float64)
    x, extra = table(7), correlation_graph()
    plain = feature_convolution(
        operators(graphs),
        weights,
        torch.tensor(presence),
        x,
        2,
        correlation=operators([extra])[0],
    )
    moved = feature_convolution(
        operators([graph[np.ix_(order, order)] for graph in graphs]),
        weights,
        torch.tensor(presence[order]),
        x[order],
        2,
        correlation=operators([extra[np.ix_(order, order)]])[0],
    )
    torch.testing.assert_close(moved, plain[order], rtol=1e-10, atol=1e-12)


def test_unknown_row_normalisation_is_refused():
    graphs, presence = modality_graphs()
    weights = torch.ones(2, dtype=torch.float64)
    with pytest.raises(ConfigError, match="row, symmetric or none"):
        feature_convolution(
            operators(graphs), weights, torch.tensor(presence), table(7), 1, correlation_norm="x"
        )

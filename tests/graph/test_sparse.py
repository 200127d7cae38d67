import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_slif.graph import sparse
from recbole_slif.graph.sparse import SparseOperator
from tests.oracle.graphs import random_dense

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU"))]  # fmt: skip


def random_matrix(n_rows, n_cols, density=0.3, seed=0):
    return sp.csr_array(random_dense(n_rows, n_cols, density, seed))


def table(n, d, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("n_rows", "n_cols", "d"), [(5, 9, 3), (9, 5, 1), (4, 4, 16), (1, 1, 1)])
def test_product_and_gradient_equal_the_dense_ones(n_rows, n_cols, d, device):
    matrix = random_matrix(n_rows, n_cols, 0.4)
    operator = SparseOperator.from_scipy(matrix, torch.float64, device)
    dense = torch.tensor(matrix.toarray(), device=device)
    x = table(n_cols, d).to(device).requires_grad_()
    out = operator @ x
    assert out.shape == (n_rows, d)
    torch.testing.assert_close(out, dense @ x, rtol=1e-10, atol=1e-10)
    upstream = table(n_rows, d, seed=1).to(device)
    (got,) = torch.autograd.grad(out, x, upstream)
    torch.testing.assert_close(got, dense.T @ upstream, rtol=1e-10, atol=1e-10)


def test_gradcheck_of_product_and_polynomial():
    x = table(6, 2).requires_grad_()
    wide = SparseOperator.from_scipy(random_matrix(4, 6), torch.float64)
    square = SparseOperator.from_scipy(random_matrix(6, 6), torch.float64)
    assert torch.autograd.gradcheck(lambda t: wide @ t, x)
    assert torch.autograd.gradcheck(lambda t: square.polynomial(t, [0.5, -1.0, 0.25, 2.0]), x)


@given(
    coefficients=st.lists(st.floats(-2, 2), min_size=1, max_size=5),
    n=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_polynomial_equals_powers_of_the_dense_matrix(coefficients, n, seed):
    matrix = random_matrix(n, n, 0.4, seed)
    operator = SparseOperator.from_scipy(matrix, torch.float64)
    x = table(n, 3, seed).requires_grad_()
    out = operator.polynomial(x, coefficients)
    out.backward(torch.ones_like(out))
    expected, expected_grad = np.zeros((n, 3)), np.zeros((n, 3))
    for power, value in enumerate(coefficients):
        factor = np.linalg.matrix_power(matrix.toarray(), power)
        expected += value * factor @ x.detach().numpy()
        expected_grad += value * factor.T @ np.ones((n, 3))
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(x.grad.numpy(), expected_grad, rtol=1e-10, atol=1e-10)


def rows_and_gradient(operator, coefficients, rows, upstream, few, monkeypatch):
    """Return rows of a polynomial and the gradient; rows are cut out up to the share `few`."""
    monkeypatch.setattr(sparse, "_FEW_ROWS", few)
    x = table(operator.shape[0], 5, dtype=operator.dtype).requires_grad_()
    out = operator.polynomial(x, coefficients, rows)
    (gradient,) = torch.autograd.grad(out, x, upstream)
    return out, gradient


@pytest.mark.parametrize("n_powers", [1, 2, 3, 5])
def test_rows_of_a_polynomial_are_the_whole_ones_to_the_bit(n_powers, monkeypatch):
    operator = SparseOperator.from_scipy(random_matrix(60, 60, 0.1), torch.float32)
    coefficients = [0.3, -1.0, 0.25, 2.0, 0.7][:n_powers]
    rows = torch.tensor([0, 3, 4, 17, 40, 59])
    x, upstream = table(60, 5, dtype=torch.float32).requires_grad_(), table(6, 5).float()
    whole = operator.polynomial(x, coefficients)
    (gradient,) = torch.autograd.grad(whole[rows], x, upstream)
    for few in (0.0, 2.0):
        found = rows_and_gradient(operator, coefficients, rows, upstream, few, monkeypatch)
        assert torch.equal(found[0], whole[rows])
        assert torch.equal(found[1], gradient)


@pytest.mark.parametrize("rows", [[5, 0, 3], [2], []])
def test_gradcheck_of_some_rows(rows, monkeypatch):
    monkeypatch.setattr(sparse, "_FEW_ROWS", 2.0)
    square = SparseOperator.from_scipy(random_matrix(6, 6), torch.float64)
    x, wanted = table(6, 2).requires_grad_(), torch.tensor(rows, dtype=torch.int64)
    whole = square.polynomial(x, [0.5, -1.0, 2.0])
    torch.testing.assert_close(square.polynomial(x, [0.5, -1.0, 2.0], wanted), whole[wanted])
    if rows:
        assert torch.autograd.gradcheck(lambda t: square.polynomial(t, [0.5, -1.0, 2.0], wanted), x)


@pytest.mark.parametrize("few", [0.0, 2.0])
def test_rows_of_a_product_and_their_gradient(few, monkeypatch):
    monkeypatch.setattr(sparse, "_FEW_ROWS", few)
    wide = SparseOperator.from_scipy(random_matrix(7, 9, 0.4), torch.float64)
    x, rows = table(9, 2).requires_grad_(), torch.tensor([6, 0, 3])
    assert torch.equal(wide.product_at(x, rows), (wide @ x)[rows])
    assert torch.autograd.gradcheck(lambda t: wide.product_at(t, rows), x)


def test_rows_are_cut_out_where_they_hold_a_small_part(monkeypatch):
    cut = []
    picked = sparse._CompressedRows.picked
    monkeypatch.setattr(
        sparse._CompressedRows,
        "picked",
        lambda own, rows: cut.append(len(rows)) or picked(own, rows),
    )
    operator = SparseOperator.from_scipy(random_matrix(40, 40, 0.5), torch.float64)
    operator.polynomial(table(40, 2), [1.0, 1.0], torch.arange(4))
    operator.polynomial(table(40, 2), [1.0, 1.0], torch.arange(38))
    operator.polynomial(table(40, 2), [1.0], torch.arange(4))
    assert cut == [4]


def test_polynomial_does_not_change_its_input_or_share_memory_with_it():
    operator = SparseOperator.from_scipy(random_matrix(5, 5), torch.float64)
    x = table(5, 2)
    before = x.clone()
    out = operator.polynomial(x, [1.0])
    out.add_(1.0)
    assert torch.equal(x, before)


def test_gradients_that_are_not_contiguous_are_taken():
    matrix = random_matrix(5, 7)
    operator = SparseOperator.from_scipy(matrix, torch.float64)
    x = table(3, 7).T.requires_grad_()
    (operator @ x).sum().backward()
    expected = matrix.toarray().sum(0)[:, None].repeat(3, 1)
    np.testing.assert_allclose(x.grad.numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (1, 1)])
def test_a_matrix_without_entries_gives_zeros(shape):
    operator = SparseOperator.from_coo([], [], [], shape, torch.float64)
    x = table(shape[1], 2).requires_grad_()
    out = operator @ x
    out.sum().backward()
    assert operator.nnz == 0
    assert torch.equal(out.detach(), torch.zeros(shape[0], 2, dtype=torch.float64))
    assert torch.equal(x.grad, torch.zeros_like(x))
    assert torch.equal(operator.row_sums(), torch.zeros(shape[0], dtype=torch.float64))


def test_empty_rows_at_start_middle_and_end():
    operator = SparseOperator.from_coo([1, 3], [0, 1], [2.0, 3.0], (5, 2))
    out = operator @ torch.tensor([[1.0], [10.0]])
    assert out.squeeze(1).tolist() == [0.0, 2.0, 0.0, 30.0, 0.0]


def test_duplicates_are_summed_and_the_source_is_left_alone():
    operator = SparseOperator.from_coo([0, 0, 1], [1, 1, 0], [1.0, 2.0, 4.0], (2, 2))
    assert operator.to_scipy().toarray().tolist() == [[0.0, 3.0], [4.0, 0.0]]
    source = sp.csr_array((np.array([1.0, 2.0]), np.array([1, 0]), np.array([0, 2])), shape=(1, 2))
    SparseOperator.from_scipy(source)
    assert source.indices.tolist() == [1, 0]
    twice = sp.csr_array((np.array([1.0, 2.0]), np.array([1, 1]), np.array([0, 2])), shape=(1, 2))
    assert SparseOperator.from_scipy(twice).nnz == 1


def test_operator_owns_its_values():
    source = random_matrix(4, 4)
    operator = SparseOperator.from_scipy(source, torch.float64)
    before = operator.to_scipy().toarray()
    source.data[:] = 7.0
    operator.to_scipy().data[:] = 9.0
    np.testing.assert_array_equal(operator.to_scipy().toarray(), before)


def test_transpose_and_row_sums():
    matrix = random_matrix(4, 7)
    operator = SparseOperator.from_scipy(matrix, torch.float64)
    flipped = operator.transpose()
    assert flipped.shape == (7, 4)
    np.testing.assert_array_equal(flipped.to_scipy().toarray(), matrix.toarray().T)
    np.testing.assert_array_equal(flipped.transpose().to_scipy().toarray(), matrix.toarray())
    np.testing.assert_allclose(operator.row_sums().numpy(), matrix.toarray().sum(1))


def test_properties_and_device():
    operator = SparseOperator.from_scipy(random_matrix(4, 7))
    assert (operator.shape, operator.dtype, operator.device.type) == ((4, 7), torch.float32, "cpu")
    assert operator.nnz == random_matrix(4, 7).nnz
    assert operator.to("cpu") is operator
    assert "shape=(4, 7)" in repr(operator)


def test_permuting_nodes_permutes_the_result():
    matrix = random_matrix(8, 8)
    order = np.random.default_rng(3).permutation(8)
    x = table(8, 4)
    plain = SparseOperator.from_scipy(matrix, torch.float64).polynomial(x, [1.0, 0.5, 0.25])
    moved = SparseOperator.from_scipy(matrix[order][:, order], torch.float64)
    got = moved.polynomial(x[order], [1.0, 0.5, 0.25])
    torch.testing.assert_close(got, plain[order], rtol=1e-12, atol=1e-12)


def test_tables_that_do_not_fit_are_refused():
    operator = SparseOperator.from_scipy(random_matrix(4, 7))
    for wrong in (torch.zeros(8, 2), torch.zeros(6, 2), torch.zeros(7)):
        with pytest.raises(ValueError, match="expected a table"):
            operator @ wrong
    with pytest.raises(ValueError, match="float64"):
        operator @ torch.zeros(7, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="square"):
        operator.polynomial(torch.zeros(7, 2), [1.0])
    with pytest.raises(ValueError, match="coefficient"):
        SparseOperator.from_scipy(random_matrix(3, 3)).polynomial(torch.zeros(3, 2), [])
    with pytest.raises(ValueError):
        SparseOperator.from_coo([4], [0], [1.0], (4, 7))

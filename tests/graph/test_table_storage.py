"""Products of half-width tables beside the float32 ones: values, gradients, range, scope."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.precision import storage_of, stored_tables

# Half a unit in the last place of a stored number; a product rounds table, value and result once.
ROUNDING = 2.0**-8


def normalised(n=60, seed=0):
    """A symmetric adjacency scaled by degrees, as propagation uses it."""
    rng = np.random.default_rng(seed)
    dense = (rng.random((n, n)) < 0.1).astype(np.float64)
    dense = np.maximum(dense, dense.T)
    scale = np.maximum(dense.sum(1), 1.0) ** -0.5
    return sp.csr_array(dense * scale[:, None] * scale)


def table(n, d=8, seed=0, size=1.0):
    return size * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def with_gradient(work, x, upstream):
    x = x.clone().requires_grad_()
    out = work(x)
    out.backward(upstream)
    return out.detach(), x.grad


def relative(found, wanted):
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("size", [1.0, 1e-7, 1e6])
def test_products_and_gradients_are_off_by_the_roundings_alone(size):
    matrix = normalised()
    operator = SparseOperator.from_scipy(matrix)
    dense = torch.tensor(matrix.toarray())
    x, upstream = table(60, size=size), table(60, seed=1, size=size)
    with stored_tables("bfloat16"):
        out, grad = with_gradient(lambda t: operator @ t, x, upstream)
    assert out.dtype == grad.dtype == torch.float32
    errors = relative(out, dense @ x.double()), relative(grad, dense.T @ upstream.double())
    assert 0 < max(errors) < 2 * ROUNDING, errors


@pytest.mark.parametrize("size", [1.0, 1e-7, 1e6])
def test_polynomials_and_their_gradients_are_off_by_the_roundings_alone(size):
    matrix = normalised()
    operator = SparseOperator.from_scipy(matrix)
    dense = torch.tensor(matrix.toarray())
    coefficients = [0.1, 0.2, 0.3, 0.4]
    power, whole = torch.eye(60, dtype=torch.float64), torch.zeros(60, 60, dtype=torch.float64)
    for value in coefficients:
        whole, power = whole + value * power, power @ dense
    x, upstream = table(60, size=size), table(60, seed=1, size=size)
    with stored_tables("bfloat16"):
        out, grad = with_gradient(lambda t: operator.polynomial(t, coefficients), x, upstream)
    errors = relative(out, whole @ x.double()), relative(grad, whole.T @ upstream.double())
    assert 0 < max(errors) < 3 * ROUNDING, errors


def test_some_rows_of_a_polynomial_are_those_of_the_whole():
    matrix = normalised(400)
    operator = SparseOperator.from_scipy(matrix)
    x, rows = table(400), torch.tensor([3, 5, 399, 0, 77])
    upstream = torch.zeros(400, 8)
    upstream[rows] = table(5, seed=1)
    coefficients = [0.1, 0.2, 0.3, 0.4]
    dense = torch.tensor(matrix.toarray())
    whole = sum(
        value * torch.linalg.matrix_power(dense, power) for power, value in enumerate(coefficients)
    )
    with stored_tables("bfloat16"):
        out, grad = with_gradient(
            lambda t: operator.polynomial(t, coefficients, rows), x, upstream[rows]
        )
        cut, _ = with_gradient(lambda t: operator.product_at(t, rows), x, upstream[rows])
    errors = (
        relative(out, whole[rows] @ x.double()),
        relative(grad, whole.T @ upstream.double()),
        relative(cut, dense[rows] @ x.double()),
    )
    assert 0 < max(errors) < 3 * ROUNDING, errors


def test_a_long_row_is_added_up_in_float32():
    n = 50_000  # added up in bfloat16, the sum would stay where a summand is less than half a digit
    ones = sp.csr_array(np.full((1, n), 2.0**-4))
    operator = SparseOperator.from_scipy(ones)
    with stored_tables("bfloat16"):
        found = operator @ torch.ones(n, 2)
    expected = torch.full((1, 2), n / 16)
    torch.testing.assert_close(found, expected, rtol=ROUNDING, atol=0.0)


def test_the_scope_ends_with_the_block_and_the_backward_pass_keeps_what_was_in_force():
    operator = SparseOperator.from_scipy(normalised())
    x, upstream = table(60), table(60, seed=1)
    plain = with_gradient(lambda t: operator @ t, x, upstream)
    inside = x.clone().requires_grad_()
    with stored_tables("bfloat16"):
        out = operator @ inside
        with stored_tables("float32"):
            assert torch.equal(operator @ x, plain[0])
        assert storage_of(x) is torch.bfloat16
    out.backward(upstream)
    with stored_tables("bfloat16"):
        _, wanted = with_gradient(lambda t: operator @ t, x, upstream)
    assert torch.equal(inside.grad, wanted)
    assert not torch.equal(inside.grad, plain[1])
    after = with_gradient(lambda t: operator @ t, x, upstream)
    assert all(torch.equal(one, other) for one, other in zip(after, plain, strict=True))


def test_float64_stays_as_it_is():
    operator = SparseOperator.from_scipy(normalised(), torch.float64)
    x = table(60).double()
    with stored_tables("bfloat16"):
        assert storage_of(x) is None
        found = operator @ x
    assert torch.equal(found, operator @ x)


def test_empty_tables_and_matrices():
    operator = SparseOperator.from_coo([], [], [], (3, 4))
    with stored_tables("bfloat16"):
        assert torch.equal(operator @ torch.ones(4, 2), torch.zeros(3, 2))
        assert (operator @ torch.ones(4, 0)).shape == (3, 0)


def test_a_precision_that_is_none_is_refused():
    with pytest.raises(KeyError), stored_tables("float16"):
        pass

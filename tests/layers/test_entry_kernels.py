"""Sums and products at the entries of a pattern against dense matrices and finite differences."""

import numpy as np
import pytest
import torch

from recbole_slif.graph.incidence import Incidence
from recbole_slif.layers import edge_kernels
from recbole_slif.layers.entry_kernels import column_sums, entry_dots, reorder, row_sums

SHAPE = (6, 5)


@pytest.fixture(params=["cpu kernels", "other kernels"])
def pattern(request, monkeypatch):
    """A pattern with an empty row, an empty column and an entry twice, for both kernel families."""
    if request.param == "other kernels":
        monkeypatch.setattr(edge_kernels, "on_cpu", lambda x: False)
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice([0, 1, 2, 4, 5], 14))
    columns = rng.integers(0, SHAPE[1] - 1, 14)
    rows[1], columns[1] = rows[0], columns[0]
    return Incidence.build(rows, columns, SHAPE)


def places(pattern):
    rows = torch.arange(SHAPE[0]).repeat_interleave(pattern.row_offsets.diff())
    return rows, pattern.columns.long()


def table(rows, width=3):
    return torch.randn(rows, width, dtype=torch.float64, requires_grad=True)


def test_values(pattern):
    rows, columns = places(pattern)
    left, right, weights = table(SHAPE[0]), table(SHAPE[1]), torch.rand(14, dtype=torch.float64)
    dense = torch.zeros(SHAPE, dtype=torch.float64)
    dense.index_put_((rows, columns), weights, accumulate=True)
    ones = torch.zeros_like(dense).index_put_(
        (rows, columns), torch.ones_like(weights), accumulate=True
    )
    close = torch.testing.assert_close
    close(entry_dots(left, right, pattern), (left[rows] * right[columns]).sum(1))
    close(row_sums(weights, right, pattern), dense @ right)
    close(row_sums(None, right, pattern), ones @ right)
    close(column_sums(weights, left, pattern), dense.T @ left)


def test_gradients(pattern):
    left, right = table(SHAPE[0]), table(SHAPE[1])
    weights = torch.rand(14, dtype=torch.float64, requires_grad=True)
    check = torch.autograd.gradcheck
    assert check(lambda a, b: entry_dots(a, b, pattern), (left, right))
    assert check(lambda w, x: row_sums(w, x, pattern), (weights, right))
    assert check(lambda x: row_sums(None, x, pattern), (right,))
    assert check(lambda w, x: column_sums(w, x, pattern), (weights, left))
    inverse = torch.empty_like(pattern.by_column)
    inverse[pattern.by_column.long()] = torch.arange(14, dtype=torch.int32)
    assert check(lambda w: reorder(w, pattern.by_column, inverse), (weights,))


def test_more_entries_than_cells_are_multiplied_in_chunks(monkeypatch):
    monkeypatch.setattr(edge_kernels, "CHUNK_EDGES", 3)
    rows = np.repeat([0, 1], [4, 5])
    pattern = Incidence.build(rows, np.array([0, 1, 1, 0, 2, 2, 2, 0, 2]), (2, 3))
    left, right = table(2), table(3)
    wanted = (left[torch.from_numpy(rows)] * right[pattern.columns.long()]).sum(1)
    torch.testing.assert_close(entry_dots(left, right, pattern), wanted)
    assert torch.autograd.gradcheck(lambda a, b: entry_dots(a, b, pattern), (left, right))

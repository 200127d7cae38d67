"""Rows of zeros and ones against their dense form."""

import scipy.sparse as sp
import torch
from torch.autograd import gradcheck

from recbole_slif.graph.binary_rows import BinaryRows

DENSE = torch.tensor(
    [[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 1], [0, 0, 1, 0, 0]], dtype=torch.float64
)


def pattern():
    counts = DENSE.sum(1).long()
    return torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]), DENSE.nonzero()[:, 1]


def test_rows_are_taken_in_any_order_and_more_than_once():
    chosen = torch.tensor([2, 1, 0, 2])
    rows = BinaryRows.select(*pattern(), chosen, 5)
    assert len(rows) == 4 and rows.counts.tolist() == [2, 0, 2, 2]
    assert torch.equal(rows.dense(DENSE), DENSE[chosen])
    assert len(BinaryRows.select(*pattern(), chosen[:0], 5)) == 0


def test_all_rows_of_a_sparse_matrix():
    rows = BinaryRows.from_csr(sp.csr_array(DENSE.numpy()))
    assert rows.columns.dtype == rows.offsets.dtype == torch.int64
    assert torch.equal(rows.dense(DENSE), DENSE)
    assert rows.dense(torch.zeros(0)).dtype == torch.float32


def test_products_with_a_table():
    chosen = torch.tensor([3, 1, 0])
    rows = BinaryRows.select(*pattern(), chosen, 5)
    table = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(rows @ table, DENSE[chosen] @ table)
    assert gradcheck(rows.__matmul__, (table,))

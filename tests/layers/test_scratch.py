"""Buffers that are lent again only after the last tensor over them is gone."""

from __future__ import annotations

import pytest
import torch

from recbole_slif.layers import scratch
from recbole_slif.layers.scratch import ScratchPool


@pytest.fixture
def pool(monkeypatch):
    monkeypatch.setattr(scratch, "_SMALLEST_BYTES", 64)
    return ScratchPool()


LIKE = torch.zeros(1, 8, dtype=torch.float64)


def test_memory_comes_back_and_is_used_again(pool):
    first = pool.empty(10, LIKE)
    assert first.shape == (10, 8) and first.dtype == torch.float64
    place = first.data_ptr()
    del first
    assert pool.empty(10, LIKE).data_ptr() == place


def test_memory_is_not_lent_twice(pool):
    first, second = pool.empty(10, LIKE), pool.empty(10, LIKE)
    assert first.data_ptr() != second.data_ptr()
    row = first[3]
    del first
    assert pool.empty(10, LIKE).data_ptr() + 3 * 8 * 8 != row.data_ptr()


def test_tensors_saved_for_a_backward_pass_keep_their_memory(pool):
    saved = pool.empty(10, LIKE).fill_(3.0)
    factor = torch.ones(10, 8, dtype=torch.float64, requires_grad=True)
    product = (saved * factor).sum()
    del saved
    pool.empty(10, LIKE).fill_(7.0)
    product.backward()
    assert (factor.grad == 3.0).all()


def test_few_buffers_are_kept_and_the_smallest_goes_first(pool):
    lent = [pool.empty(rows, LIKE) for rows in range(10, 20)]
    lent.clear()
    assert len(pool._free) == scratch._KEPT
    assert min(memory.size for memory in pool._free) >= 16 * 8 * 8


def test_a_smaller_need_is_met_by_the_smallest_that_fits(pool):
    lent = [pool.empty(rows, LIKE) for rows in (100, 20)]
    place = lent[1].data_ptr()
    lent.clear()
    assert pool.empty(15, LIKE).data_ptr() == place


def test_small_tensors_are_left_to_the_library():
    pool = ScratchPool()
    pool.empty(10, LIKE)
    assert not pool._free

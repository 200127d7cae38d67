"""Edges removed at random: rates, scale, what is kept, and the generator the draw comes from."""

import numpy as np
import scipy.sparse as sp
import torch

from recbole_slif.graph.dropout import draw_kept, drop_entries, keep_entries


def matrix(seed=0):
    found = sp.random(40, 30, density=0.3, random_state=np.random.default_rng(seed), format="csr")
    return sp.csr_array(found)


def test_kept_entries_keep_their_place_and_value():
    full = matrix()
    kept = np.random.default_rng(1).random(full.nnz) < 0.5
    dense = full.toarray()
    entries = full.tocoo()
    for row, column, keep in zip(entries.row, entries.col, kept, strict=True):
        dense[row, column] *= keep
    assert np.array_equal(keep_entries(full, kept).toarray(), dense)


def test_dropped_matrix_keeps_its_mean_and_scales_what_is_left():
    torch.manual_seed(0)
    full = matrix()
    before = full.toarray()
    draws = [drop_entries(full, 0.25).toarray() for _ in range(400)]
    assert np.array_equal(full.toarray(), before)
    left = draws[0] != 0
    np.testing.assert_allclose(draws[0][left], before[left] / 0.75)
    np.testing.assert_allclose(np.mean(draws, axis=0), before, atol=0.15)
    assert 0.70 < np.mean([np.count_nonzero(d) for d in draws]) / full.nnz < 0.80


def test_the_draw_follows_torch_generator_and_differs_from_step_to_step():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = draw_kept(200, 0.5), draw_kept(200, 0.5)
    assert (first != second).any()
    torch.set_rng_state(state)
    assert np.array_equal(draw_kept(200, 0.5), first)
    assert draw_kept(200, 0.0).all()

"""False tails are never true, never [PAD], and uniform over the rest."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from recbole_slif.errors import DataError
from recbole_slif.graph.triples import TripleSampler, draw_of_each


def make_graph(seed=0, count=60, n_entities=12, n_relations=4):
    rng = np.random.default_rng(seed)
    triples = (
        rng.integers(1, n_entities, count),
        rng.integers(1, n_relations, count),
        rng.integers(1, n_entities, count),
    )
    return triples, TripleSampler(*triples, n_entities)


@pytest.mark.parametrize("seed", range(3))
def test_a_drawn_tail_is_false(seed):
    triples, sampler = make_graph(seed)
    known = set(zip(*(part.tolist() for part in triples), strict=True))
    heads, relations = (torch.from_numpy(np.tile(part, 50)) for part in triples[:2])
    torch.manual_seed(seed)
    tails = sampler.negative_tails(heads, relations)
    assert tails.min() >= 1 and tails.max() <= 11
    drawn = set(zip(heads.tolist(), relations.tolist(), tails.tolist(), strict=True))
    assert not drawn & known
    torch.manual_seed(seed)
    assert torch.equal(tails, sampler.negative_tails(heads, relations))


def test_membership_agrees_with_a_set():
    triples, sampler = make_graph()
    known = set(zip(*(part.tolist() for part in triples), strict=True))
    heads, relations, tails = (
        part.flatten()
        for part in torch.meshgrid(*(torch.arange(n) for n in (12, 6, 12)), indexing="ij")
    )
    expected = [
        triple in known
        for triple in zip(heads.tolist(), relations.tolist(), tails.tolist(), strict=True)
    ]
    assert sampler.is_known(heads, relations, tails).tolist() == expected


def test_draws_are_uniform_over_the_false_tails():
    sampler = TripleSampler([1, 1], [1, 1], [2, 4], 7)
    torch.manual_seed(0)
    tails = sampler.negative_tails(*torch.ones(2, 40_000, dtype=torch.int64))
    counts = torch.bincount(tails, minlength=7)
    assert counts[[0, 2, 4]].tolist() == [0, 0, 0]
    assert (counts[[1, 3, 5, 6]] - 10_000).abs().max() < 500


def test_the_only_false_tail_is_found():
    tails = np.setdiff1d(np.arange(1, 2000), [777])
    sampler = TripleSampler(np.full(1998, 3), np.full(1998, 1), tails, 2000)
    heads = torch.full((5,), 3)
    assert sampler.negative_tails(heads, torch.ones_like(heads)).tolist() == [777] * 5


def test_no_false_tail_gives_any_entity():
    sampler = TripleSampler([1, 1], [1, 1], [1, 2], 3)
    tails = sampler.negative_tails(torch.ones(20, dtype=torch.int64), torch.ones(20))
    assert set(tails.tolist()) <= {1, 2}


def test_a_graph_without_triples_accepts_all():
    sampler = TripleSampler([], [], [], 5)
    tails = sampler.negative_tails(torch.ones(50, dtype=torch.int64), torch.ones(50))
    assert set(tails.tolist()) == {1, 2, 3, 4}
    assert not sampler.negative_tails(torch.zeros(0), torch.zeros(0)).numel()


def test_too_many_entities_are_refused():
    with pytest.raises(DataError, match="too many to number"):
        TripleSampler([1], [9], [1], 2**31)


def test_triples_are_drawn_evenly_from_each_heads_own():
    heads, relations, tails = [3, 3, 3, 5, 3], [1, 2, 2, 1, 2], [4, 4, 6, 1, 4]
    sampler = TripleSampler(heads, relations, tails, 7)
    assert sampler.heads.tolist() == [3, 5]
    torch.manual_seed(0)
    asked = torch.tensor([3, 5]).repeat(30_000)
    drawn = sampler.draw_triples(asked)
    counts = Counter(zip(asked.tolist(), *(part.tolist() for part in drawn), strict=True))
    assert set(counts) == set(zip(heads, relations, tails, strict=True))
    assert counts[5, 1, 1] == 30_000
    for triple in ((3, 1, 4), (3, 2, 4), (3, 2, 6)):
        assert abs(counts[triple] - 10_000) < 400, "a triple given twice counts once"


def test_drawing_keeps_at_most_so_many_of_each_key():
    keys = np.random.default_rng(0).integers(0, 9, 40)
    counts = np.bincount(keys, minlength=9)
    assert counts.max() > 2
    torch.manual_seed(0)
    seen = np.zeros(40)
    for _ in range(600):
        drawn = draw_of_each(keys, 2)
        assert (np.diff(drawn) > 0).all()
        kept = np.bincount(keys[drawn], minlength=9)
        assert (kept == np.minimum(counts, 2)).all()
        seen[drawn] += 1
    share = np.minimum(2 / counts[keys], 1.0)
    assert np.abs(seen / 600 - share).max() < 0.1
    for limit in (None, 99):
        assert draw_of_each(keys, limit).tolist() == list(range(40))
    assert draw_of_each(np.zeros(0, dtype=np.int64), 3).tolist() == []


def test_a_draw_follows_torchs_generator():
    keys, draws = np.repeat(np.arange(5), 4), []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        draws.append(draw_of_each(keys, 1).tolist())
    assert draws[0] == draws[1] != draws[2]

"""Lists from few items are the lists from all items, to the same bits."""

import math

import numpy as np
import pytest
import torch

from recbole_slif import longest_first as module
from recbole_slif.evaluation import BlockedFullSortEvaluator
from recbole_slif.longest_first import LongestFirst, longest_first
from recbole_slif.ranking import GROUP
from recbole_slif.scoring import ITEMS_BY_USERS, BlockScorer, TableScores
from recbole_slif.top_items import TopItems

N_ITEMS = 1037


@pytest.fixture(autouse=True)
def few_first(monkeypatch):
    monkeypatch.setattr(module, "FIRST_ITEMS", 64)
    monkeypatch.setattr(module, "_FIRST_GROUPS", 1)


class Fixed:
    """A model of two tables, and the data set that goes with it."""

    def __init__(self, users, items):
        self.tables, self.item_num = (users, items), len(items)
        self._dataset = self

    def eval(self):
        pass

    def score_tables(self):
        return self.tables


def drawn(seed, dim, n_users=300, kind="skewed", dtype=torch.float32):
    """Tables of items whose lengths fall as fast as a trained model's."""
    generator = torch.Generator().manual_seed(seed)
    draw, shapes = {"generator": generator, "dtype": dtype}, ((n_users, dim), (N_ITEMS, dim))
    if kind == "ties":
        users, items = (torch.randint(-1, 2, shape, **draw) for shape in shapes)
    else:
        users, items = (torch.randn(shape, **draw) for shape in shapes)
    if kind == "unit":
        items = torch.nn.functional.normalize(items)
    elif kind != "ties":
        items *= torch.rand(N_ITEMS, 1, **draw) ** 6 + 0.01
    if kind == "behind":  # no score is above 0
        users, items = users.abs(), -items.abs()
    users[5] = 0.0
    return users, items


def known_items(n_users, seed=0):
    """A few items of each user, nearly all of user 7's, none of user 8's."""
    left_out = np.random.default_rng(seed).random((n_users, N_ITEMS)) < 0.02
    left_out[:, 0] = False
    left_out[7, 3:] = True
    left_out[8] = False
    return left_out, lambda positions: np.nonzero(left_out[positions])


def wanted_lists(users, items, left_out, k):
    scores = users @ items.T
    scores[:, 0] = -torch.inf
    scores[torch.from_numpy(left_out)] = -torch.inf
    best = torch.topk(scores, k, dim=1)
    return best.indices, best.values


def check(users, items, k, block_users=100, ids=None):
    """Compare all lists with the whole product's; returns the blocks."""
    ids = np.arange(len(users)) if ids is None else ids
    left_out, known = known_items(len(ids))
    fixed = Fixed(users, items)
    top = TopItems(BlockScorer(fixed, fixed), ids, known, k, block_users)
    blocks = top.blocks(np.arange(len(ids)))
    expected = wanted_lists(users[ids], items, left_out, k)
    seen = np.concatenate([block.positions for block in blocks])
    assert sorted(seen) == list(range(len(ids)))
    for block in blocks:
        same(top.top(block), [whole[block.positions] for whole in expected])
    for at_once in (len(ids), 150):
        places, *found = zip(*top.lists(at_once), strict=True)
        assert places == tuple(range(len(ids)))
        same(map(torch.stack, found), expected)
    return blocks


def same(found, expected):
    """The same items and scores; torch's products in float64 differ by the layout."""
    (items, scores), (wanted_items, wanted_scores) = found, expected
    assert torch.equal(items, wanted_items)
    if scores.dtype == torch.float32:
        assert torch.equal(scores, wanted_scores)
    else:
        torch.testing.assert_close(scores, wanted_scores, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("kind", ["skewed", "ties", "unit", "behind"])
@pytest.mark.parametrize("dim", [1, 2, 16, 64])
@pytest.mark.parametrize("k", [1, 5, 7])
def test_lists_are_those_of_the_whole_product(kind, dim, k):
    for seed in range(3):
        check(*drawn(seed, dim, kind=kind), k)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("block_users", [ITEMS_BY_USERS - 1, ITEMS_BY_USERS, 299, 300])
def test_blocks_of_any_size(block_users, dtype):
    check(*drawn(4, 16, dtype=dtype), 5, block_users)


def test_users_in_any_order_and_twice():
    users, items = drawn(5, 16)
    blocks = check(users, items, 5, ids=np.random.default_rng(1).integers(0, len(users), 400))
    assert all(block.depth is not None for block in blocks)


def test_skewed_lengths_end_early_and_unit_lengths_do_not():
    blocks = check(*drawn(6, 16), 5)
    depths = [block.depth for block in blocks]
    assert depths == sorted(depths) and depths[0] < 300 < N_ITEMS // 2
    assert depths[-1] == N_ITEMS  # the user of zeros and the one with two items left
    assert {block.depth for block in check(*drawn(6, 16, kind="unit"), 5)} == {None}
    assert {block.depth for block in check(*drawn(6, 16), 5, block_users=300)} == {None}


def test_depths_by_loop():
    users, items = drawn(7, 4)
    k, ranking = 3, LongestFirst(TableScores(users, items), 3)
    left_out, known = known_items(len(users))
    found = ranking.depths(np.arange(len(users)), *known(np.arange(len(users))))
    lengths = [math.inf, *(math.sqrt(sum(x * x for x in row)) for row in items[1:].tolist())]
    order = sorted(range(N_ITEMS), key=lambda item: -lengths[item])
    assert ranking.order.tolist() == order
    n_first, n_groups = ranking.n_first, ranking.n_first // GROUP
    for user in range(20):
        x = users[user].tolist()
        scores = [
            -math.inf
            if item == 0 or left_out[user, item]
            else sum(a * b for a, b in zip(x, items[item].tolist(), strict=True))
            for item in order[:n_first]
        ]
        groups = [max(scores[group::n_groups]) for group in range(n_groups)]
        lowest = sorted(groups, reverse=True)[k]
        own = math.sqrt(sum(a * a for a in x))
        depth = sum(lowest <= 0.0 or own * lengths[i] >= lowest * (1.0 - 1e-5) for i in order)
        assert abs(int(found[user]) - max(depth, n_first)) <= 1


def parallel(seed, k):
    """A user, long items that score just less than a short one in the user's own direction."""
    generator = torch.Generator().manual_seed(seed)
    items = torch.zeros(N_ITEMS, 64)
    # equal entries, so that sums of their squares are rounded the same way again and again
    user = (torch.rand(1, 1, generator=generator) + 0.5).repeat(1, 64)
    user[0, 0] = 0.01
    items[N_ITEMS - 1] = user[0]
    users = user.repeat(ITEMS_BY_USERS, 1)
    best = (users @ items.T)[0, -1]
    long = best / user[0, 0]
    for place in range(1, 200):
        items[place, 0] = long * (0.5 if place > k + 1 else 1.0)
        while users[0, 0] * items[place, 0] >= best:
            items[place, 0] = torch.nextafter(items[place, 0], torch.zeros(()))
        best = torch.minimum(best, users[0, 0] * items[place, 0]) if place <= k + 1 else best
    items[200 : N_ITEMS - 1, 1] = 1e-3
    return users, items


def test_rounding_costs_no_item():
    k = 1
    for seed in range(20):
        users, items = parallel(seed, k)
        ranking = LongestFirst(TableScores(users, items), k)
        ids, none = np.arange(len(users)), np.zeros(0, np.int64)
        depth = int(ranking.depths(ids, none, none).max())
        found = ranking.top(ids, none, none, depth)[0]
        assert found[0, 0] == N_ITEMS - 1
        assert depth < N_ITEMS


def test_numbers_that_are_none_hide_nothing():
    users, items = drawn(8, 4)
    items[9], users[2] = torch.nan, torch.nan
    ranking, none = LongestFirst(TableScores(users, items), 3), np.zeros(0, np.int64)
    ids = np.arange(100)
    depths = ranking.depths(ids, none, none)
    assert depths[2] == N_ITEMS and depths.min() < N_ITEMS
    found = ranking.top(ids[3:], none, none, int(depths[3:].max()))[0]
    expected = wanted_lists(users, items, np.zeros((300, N_ITEMS), bool), 3)[0]
    assert torch.equal(found, expected[3:100]) and (found[:, 0] == 9).all()


def test_models_without_tables_and_short_tables_are_ranked_whole():
    users, items = drawn(9, 4)
    assert longest_first(None, 3) is None
    assert longest_first(TableScores(users, items[: 4 * 64 - 1]), 3) is None
    assert longest_first(TableScores(users, items[: 4 * 64]), 3) is not None
    assert longest_first(TableScores(users, items[: 4 * 64]), 9) is None


class Loader:
    """Users with held-out and known items, as RecBole's full-sort loader has them."""

    def __init__(self, dataset, n_users):
        rng = np.random.default_rng(2)
        self._dataset, self.uid_list = dataset, torch.arange(1, n_users)
        lists = np.empty(n_users, dtype=object), np.empty(n_users, dtype=object)
        for user in range(n_users):
            drawn_items = torch.from_numpy(1 + rng.permutation(N_ITEMS - 1)[: rng.integers(2, 60)])
            cut = len(drawn_items) // 2
            lists[0][user], lists[1][user] = drawn_items[:cut], drawn_items[cut:]
        self.uid2positive_item, self.uid2history_item = lists


@pytest.mark.parametrize("metrics", [["Recall", "NDCG", "ItemCoverage"], ["GAUC", "Recall"]])
def test_figures_do_not_change(monkeypatch, metrics):
    settings = {
        "metrics": metrics,
        "topk": [5],
        "eval_args": {"mode": "full"},
        "device": torch.device("cpu"),
        "metric_decimal_place": 12,
        "data.num_items": N_ITEMS,
    }
    fixed = Fixed(*drawn(10, 16))
    loader = Loader(fixed, 300)
    found = []
    for ranked in (longest_first, lambda *_: None):
        monkeypatch.setattr("recbole_slif.top_items.longest_first", ranked)
        evaluator = BlockedFullSortEvaluator(settings, block_users=70)
        struct = evaluator.collect(fixed, loader)
        found.append({name: struct.get(name) for name in struct._data_dict})
    assert found[0].keys() == found[1].keys()
    for name, value in found[1].items():
        assert torch.equal(found[0][name], value)
    assert found[0]["rec.topk"][:, :-1].sum() > 20

"""Negatives: never a pair that was seen, uniform, and RecBole's sets where it asks for them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.sampler import KGSampler, Sampler

from recbole_slif.data.dataset import MultimodalKGDataset
from recbole_slif.data.pairs import PairTable, SplitPairs
from recbole_slif.data.sampler import VectorisedKGSampler, VectorisedSampler
from recbole_slif.errors import ConfigError, DataError

PHASES = ("train", "valid", "test")


@pytest.fixture
def built(make_dataset, make_config):
    make_dataset()
    dataset = MultimodalKGDataset(make_config())
    parts = dataset.build()
    arrays = [(p.inter_feat["user_id"].numpy(), p.inter_feat["item_id"].numpy()) for p in parts]
    return dataset, parts, SplitPairs(arrays, dataset.user_num, dataset.item_num)


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
@pytest.mark.parametrize("phase", PHASES)
def test_never_draws_a_used_item(built, distribution, phase):
    dataset, _, pairs = built
    sampler = VectorisedSampler(pairs, distribution, seed=1).set_phase(phase)
    users = np.arange(1, dataset.user_num)
    drawn = sampler.sample_by_user_ids(users, None, 400).numpy().reshape(400, -1)
    assert drawn.min() >= 1 and drawn.max() < dataset.item_num
    for column, user in enumerate(users):
        assert not set(drawn[:, column]) & sampler.used_ids[user]


def test_draws_are_uniform_over_what_is_left(built):
    dataset, _, pairs = built
    sampler = VectorisedSampler(pairs, seed=2)
    for user in (1, 5, dataset.user_num - 1):
        free = sorted(set(range(1, dataset.item_num)) - sampler.set_phase("train").used_ids[user])
        drawn = sampler.sample_by_key_ids([user], 20000).numpy()
        counts = np.bincount(drawn, minlength=dataset.item_num)[free]
        assert counts.sum() == 20000
        expected = 20000 / len(free)
        # Mean of chi-square is its degrees of freedom; five deviations above is out of reach.
        limit = len(free) - 1 + 5 * np.sqrt(2 * (len(free) - 1))
        assert ((counts - expected) ** 2 / expected).sum() < limit


def test_popularity_follows_train_counts():
    # User 0 is the reader: it met item 1; items 2, 3, 4 were met 1, 2, 5 times by others.
    items = np.array([1, 2, 3, 3, 4, 4, 4, 4, 4])
    users = np.array([0, 1, 1, 2, 1, 2, 3, 4, 5])
    empty = (np.empty(0, np.int64), np.empty(0, np.int64))
    test_only = (np.array([5]), np.array([5]))
    sampler = VectorisedSampler(SplitPairs([(users, items), empty, test_only], 6, 6), "popularity")
    counts = np.bincount(sampler.sample_by_key_ids([0], 16000).numpy(), minlength=6)
    assert counts[[0, 1, 5]].sum() == 0  # an item of the test part alone has no popularity
    np.testing.assert_allclose(counts[2:5] / 16000, [1 / 8, 2 / 8, 5 / 8], atol=0.02)


def test_popularity_ends_for_a_user_who_has_everything_popular():
    users = np.concatenate([np.zeros(500, int), np.ones(1, int)])
    items = np.concatenate([np.arange(1, 501), [501]])
    empty = (np.empty(0, np.int64), np.empty(0, np.int64))
    sampler = VectorisedSampler(SplitPairs([(users, items), empty, empty], 2, 504), "popularity")
    assert set(sampler.sample_by_key_ids([0], 50).tolist()) == {501}
    pairs = SplitPairs([(np.zeros(3, int), np.arange(1, 4)), empty, empty], 1, 6)
    assert set(VectorisedSampler(pairs, "popularity").sample_by_key_ids([0], 50).tolist()) == {4, 5}


@pytest.mark.parametrize("alpha", [800.0, -2000.0])
def test_popularity_beyond_what_numbers_hold_is_refused(alpha):
    train = (np.array([1, 2, 1, 2, 3]), np.array([1, 1, 2, 2, 2]))
    empty = (np.empty(0, np.int64), np.empty(0, np.int64))
    sampler = VectorisedSampler(SplitPairs([train, empty, empty], 4, 4), "popularity", alpha)
    with pytest.raises(ConfigError, match="alpha"):
        sampler.sample_by_key_ids([0], 4)


@pytest.mark.parametrize("seed", range(5))
def test_absent_draws_match_enumeration(seed):
    rng = np.random.default_rng(seed)
    rows, values = rng.integers(0, 6, 40), rng.integers(1, 12, 40)
    table = PairTable(rows, values, 6, 12)
    seen = {row: set() for row in range(6)}
    for row in np.repeat(np.arange(6), 300):
        if table.counts[row] < 11:
            seen[row].add(int(table.draw_absent(np.array([row]), rng)[0]))
    for row in range(6):
        assert seen[row] == set(range(1, 12)) - set(values[rows == row].tolist())


def test_order_of_draws_is_recboles(built):
    _, _, pairs = built
    sampler = VectorisedSampler(pairs)
    users = np.array([3, 1, 3, 2])
    drawn = sampler.sample_by_key_ids(users, 50).numpy().reshape(50, 4)
    for column, user in enumerate(users):
        assert not set(drawn[:, column]) & sampler.used_ids[user]
    assert sampler.sample_by_key_ids([], 2).shape == (0,)


def test_used_ids_equal_recboles(built):
    _, parts, pairs = built
    theirs = Sampler(list(PHASES), parts)
    for phase in PHASES:
        ours = VectorisedSampler(pairs).set_phase(phase).used_ids
        assert [set(s) for s in theirs.set_phase(phase).used_ids] == list(ours)


def test_generator_is_the_samplers_own(built):
    _, _, pairs = built
    users = np.arange(1, 10)
    draws = []
    for noise in (0, 1):
        np.random.seed(noise)
        draws.append(VectorisedSampler(pairs, seed=3).sample_by_key_ids(users, 5))
    assert (draws[0] == draws[1]).all()
    sampler = VectorisedSampler(pairs, seed=3)
    state = sampler.rng.bit_generator.state
    first = sampler.sample_by_key_ids(users, 5)
    sampler.rng.bit_generator.state = state
    assert (sampler.sample_by_key_ids(users, 5) == first).all()
    train, valid = sampler.set_phase("train"), sampler.set_phase("valid")
    before = train.rng.bit_generator.state
    valid.sample_by_key_ids(users, 5)
    assert train.rng.bit_generator.state == before


def test_impossible_draws_are_refused(built):
    _, _, pairs = built
    empty = (np.empty(0, np.int64), np.empty(0, np.int64))
    full = SplitPairs([(np.array([1, 1]), np.array([1, 2])), empty, empty], 2, 3)
    with pytest.raises(DataError, match="every item"):
        VectorisedSampler(full).sample_by_key_ids([1], 1)
    with pytest.raises(DataError, match="user ids"):
        VectorisedSampler(pairs).sample_by_key_ids([10**6], 1)
    with pytest.raises(ConfigError, match="zipf"):
        VectorisedSampler(pairs, "zipf")


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_negative_tails_belong_to_no_relation_of_the_head(built, distribution):
    dataset, parts, _ = built
    sampler = VectorisedKGSampler(parts[0], distribution)
    theirs = KGSampler(parts[0])
    assert list(map(set, theirs.used_ids)) == list(sampler.used_ids)
    heads = np.unique(parts[0].head_entities)
    drawn = sampler.sample_by_entity_ids(heads, 200).numpy().reshape(200, -1)
    assert drawn.min() >= 1 and drawn.max() < dataset.entity_num
    for column, head in enumerate(heads):
        assert not set(drawn[:, column]) & theirs.used_ids[head]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_users_who_have_seen_nearly_everything_get_exactly_the_rest(data):
    n_items = data.draw(st.integers(2, 24), label="items")
    everything = set(range(1, n_items + 1))
    rest = data.draw(
        st.lists(
            st.sets(st.sampled_from(sorted(everything)), min_size=1, max_size=3),
            min_size=1,
            max_size=8,
        ),
        label="unseen items of each user",
    )
    seen = [(user, item) for user, left in enumerate(rest) for item in sorted(everything - left)]
    users, items = np.array(seen, dtype=np.int64).reshape(-1, 2).T
    table = PairTable(users, items, len(rest), n_items + 1)
    for user, left in enumerate(rest):
        places = np.arange(len(left))
        whom = np.full(len(left), user)
        assert table.absent(whom, places).tolist() == sorted(left)  # each rank once: all, uniformly
        assert table.n_absent(whom).tolist() == [len(left)] * len(left)
    nothing = (np.empty(0, np.int64), np.empty(0, np.int64))
    pairs = SplitPairs([(users, items), nothing, nothing], len(rest), n_items + 1)
    for distribution in ("uniform", "popularity") if len(seen) else ("uniform",):
        sampler = VectorisedSampler(pairs, distribution, seed=data.draw(st.integers(0, 99)))
        drawn = sampler.sample_by_key_ids(np.arange(len(rest)), 30).numpy().reshape(30, -1)
        for user, left in enumerate(rest):
            assert set(drawn[:, user]) <= left

"""Noise: counts, nesting, what is never touched, and that a draw depends on the seed alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recbole_slif.data.loaders import make_loaders, read_data
from recbole_slif.data.pairs import PairTable
from recbole_slif.errors import DataError
from recbole_slif.experiment.noise import Noise, add_noise, share, substitutes
from recbole_slif.experiment.pool import DataPool

LEVELS = (0.05, 0.1, 0.2, 0.5)


@pytest.fixture
def data(make_dataset, make_config):
    make_dataset(n_users=20, n_items=40)
    return read_data(make_config())


def pairs(data, phase):
    table = data.pairs.table(phase)
    return set(zip(table.rows.tolist(), table.values.tolist(), strict=True))


def triples(data):
    graph = data.dataset.knowledge
    return list(zip(graph.heads, graph.relations, graph.tails, strict=True))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("phase", ["train", "valid"])
def test_exactly_the_share_of_pairs_is_replaced(data, level, phase):
    noisy = add_noise(data, Noise("inter", level), 3)
    before, after = pairs(data, phase), pairs(noisy, phase)
    assert len(after) == len(before)
    assert len(before - after) == int(level * len(before) + 0.5)


def test_test_pairs_stay_and_never_enter_training(data):
    everything = set().union(*(pairs(data, phase) for phase in ("train", "valid", "test")))
    for seed in range(8):
        noisy = add_noise(data, Noise("inter", 0.5), seed)
        assert pairs(noisy, "test") == pairs(data, "test")
        new = (pairs(noisy, "train") | pairs(noisy, "valid")) - everything
        wanted = sum(share(0.5, len(pairs(data, phase))) for phase in ("train", "valid"))
        # every replacement is met nowhere before, and none stands twice, in train and valid either
        assert len(new) == wanted
        assert not (pairs(noisy, "train") & pairs(noisy, "valid"))


def test_pairs_of_a_user_stay_with_the_user(data):
    noisy = add_noise(data, Noise("inter", 0.5), 1)
    for phase in ("train", "valid", "test"):
        counts = [split.pairs.table(phase).counts for split in (data, noisy)]
        assert (counts[0] == counts[1]).all()


@pytest.mark.parametrize("phase", ["train", "valid"])
def test_interaction_noise_is_nested(data, phase):
    before = pairs(data, phase)
    gone, new = set(), set()
    for level in LEVELS:
        after = pairs(add_noise(data, Noise("inter", level), 5), phase)
        assert gone <= before - after
        assert new <= after - before
        gone, new = before - after, after - before
    assert gone


def test_draws_follow_the_seed(data):
    noise = Noise("inter", 0.2)
    first, again, other = (pairs(add_noise(data, noise, seed), "train") for seed in (1, 1, 2))
    assert first == again != other


def test_batches_come_from_the_noisy_pairs(data, make_config):
    noisy = add_noise(data, Noise("inter", 0.5), 2)
    bundle = make_loaders(make_config(train_batch_size=16), noisy)
    seen = set()
    for batch in bundle.train_data:
        seen |= set(zip(batch["user_id"].tolist(), batch["item_id"].tolist(), strict=True))
        negatives = zip(batch["user_id"].tolist(), batch["neg_item_id"].tolist(), strict=True)
        assert not set(negatives) & pairs(noisy, "train")
    assert seen == pairs(noisy, "train")
    assert bundle.fingerprint != make_loaders(make_config(), data).fingerprint
    assert bundle.statistics["noise"] == {"kind": "inter", "level": 0.5, "seed": 2}


def test_noise_leaves_the_clean_data_alone(data):
    before = [pairs(data, phase) for phase in ("train", "valid", "test")]
    graph, features = triples(data), {n: p.matrix.copy() for n, p in data.dataset.features.items()}
    for kind in ("inter", "kg", "modality"):
        add_noise(data, Noise(kind, 0.5), 4)
    assert before == [pairs(data, phase) for phase in ("train", "valid", "test")]
    assert graph == triples(data)
    assert all((data.dataset.features[name].matrix == features[name]).all() for name in features)


@pytest.mark.parametrize("level", LEVELS)
def test_exactly_the_share_of_tails_is_replaced(data, level):
    before = set(triples(data))
    after = triples(add_noise(data, Noise("kg", level), 3))
    assert len(set(after)) == len(after) == len(before)
    assert len(before - set(after)) == share(level, len(before))


def test_new_tails_are_new_to_their_head_and_in_the_graph(data):
    graph = data.dataset.knowledge
    known = {}
    for head, _, tail in triples(data):
        known.setdefault(head, set()).add(tail)
    nodes = set(graph.heads.tolist()) | set(graph.tails.tolist())
    unlinked = set(np.flatnonzero(~graph.linked).tolist())
    for seed in range(5):
        for head, relation, tail in set(triples(add_noise(data, Noise("kg", 0.5), seed))):
            if (head, relation, tail) in set(triples(data)):
                continue
            assert tail not in known[head]
            assert tail != head
            assert tail in nodes - unlinked


def test_triple_noise_is_nested_and_reaches_models_and_loaders(data, make_config):
    gone, new = set(), set()
    before = set(triples(data))
    for level in LEVELS:
        noisy = add_noise(data, Noise("kg", level), 5)
        after = set(triples(noisy))
        assert gone <= before - after
        assert new <= after - before
        gone, new = before - after, after - before
    bundle = make_loaders(make_config("KGAT"), noisy)
    part = bundle.train_data._dataset
    columns = [part.kg_feat[name].tolist() for name in ("head_id", "relation_id", "tail_id")]
    assert list(zip(*columns, strict=True)) == triples(noisy)
    graph = part.knowledge
    assert list(zip(graph.heads, graph.relations, graph.tails, strict=True)) == triples(noisy)
    assert (graph.linked == data.dataset.knowledge.linked).all()


def test_triple_noise_keeps_a_reverse_triple_of_each(make_dataset, make_config):
    make_dataset()
    plain = read_data(make_config("CKE", kg_reverse_r=True))
    for data in (plain, add_noise(plain, Noise("kg", 0.5), 3)):
        feat, graph = data.parts[0].kg_feat, data.dataset.knowledge
        names = ("head_id", "relation_id", "tail_id")
        forth, back = ([feat[name][half].tolist() for name in names] for half in halves(feat))
        assert forth == [graph.heads.tolist(), graph.relations.tolist(), graph.tails.tolist()]
        assert back == [forth[2], [one + graph.n_relations - 1 for one in forth[1]], forth[0]]
        assert max(back[1]) < data.dataset.relation_num - 1


def halves(feat):
    return slice(None, len(feat) // 2), slice(len(feat) // 2, None)


@pytest.mark.parametrize("level", LEVELS)
def test_features_are_dropped_item_by_item(data, level):
    noisy = add_noise(data, Noise("modality", level), 3)
    for name, part in data.dataset.features.items():
        found = noisy.dataset.features[name]
        assert found.presence.sum() == part.presence.sum() - share(level, part.presence.sum())
        assert not (found.presence & ~part.presence).any()
        assert (found.matrix[found.presence] == part.matrix[found.presence]).all()
        assert not found.matrix[~found.presence].any()
        assert noisy.parts[0].features[name] is found


def test_modality_noise_is_nested_and_drawn_for_each_modality(make_dataset, make_config):
    make_dataset(n_users=20, n_items=40, missing={})
    data = read_data(make_config())
    kept = {name: part.presence for name, part in data.dataset.features.items()}
    for level in LEVELS:
        noisy = add_noise(data, Noise("modality", level), 5)
        for name, part in noisy.dataset.features.items():
            assert not (part.presence & ~kept[name]).any()
            kept[name] = part.presence
    gone = [data.dataset.features[name].presence & ~kept[name] for name in ("text", "visual")]
    assert (gone[0] != gone[1]).any()


@pytest.mark.parametrize("missing", ["zero", "mean"])
def test_dropped_features_are_filled_where_missing_ones_are(make_dataset, make_config, missing):
    make_dataset(n_users=20, n_items=40)
    masked = add_noise(read_data(make_config()), Noise("modality", 0.2), 3)
    filled = add_noise(read_data(make_config(missing=missing)), Noise("modality", 0.2), 3)
    for name, part in filled.dataset.features.items():
        kept = masked.dataset.features[name].presence
        assert part.presence[1:].all()
        assert part.n_observed == kept.sum()
        rest = part.matrix[1:][~kept[1:]]
        mean = part.matrix[kept].mean(axis=0, dtype=np.float64).astype(np.float32)
        assert (rest == (mean if missing == "mean" else 0.0)).all()


def test_level_zero_is_the_clean_data(data):
    assert all(add_noise(data, Noise(kind, 0.0), 1) is data for kind in ("inter", "kg", "modality"))


def test_too_little_room_is_one_line(data):
    # users who have met all but one item can give no more than one pair away
    items = data.dataset.item_num - 1
    table = data.pairs.used("test")
    rows = np.repeat(np.arange(1, table.n_rows), items - 1)
    full = PairTable(rows, np.tile(np.arange(1, items), table.n_rows - 1), *data.pairs._shape)
    data.pairs._tables["train", "valid", "test"] = full
    with pytest.raises(DataError, match="lower noise level"):
        add_noise(data, Noise("inter", 0.9), 1)


def test_level_that_leaves_nothing_is_refused(data):
    with pytest.raises(DataError, match="leaves no features of modality"):
        add_noise(data, Noise("modality", 0.999), 1)


def test_substitutes_are_uniform_and_distinct():
    rows = np.repeat([0, 1], [2, 6])
    table = PairTable(np.array([0, 1, 1]), np.array([1, 2, 3]), 2, 8)
    counts = np.zeros((2, 8))
    for seed in range(600):
        generator = np.random.default_rng(seed)
        values, found = substitutes(rows, generator.random(len(rows)), table, generator)
        assert found.tolist() == [True, True] + [True] * 5 + [False] or found.sum() == 7
        assert len(set(values[:2].tolist())) == 2
        assert sorted(values[2:][found[2:]].tolist()) == [1, 4, 5, 6, 7]
        np.add.at(counts, (rows[found], values[found]), 1)
    assert not counts[0, [0, 1]].any()
    expected = 600 * 2 / 6
    assert (np.abs(counts[0, 2:] - expected) < 5 * np.sqrt(expected)).all()


def test_all_models_see_the_same_noise(make_dataset, make_config):
    make_dataset(n_users=20, n_items=40)
    noise = Noise("inter", 0.2)
    for model in ("BPR", "KGAT", "SLIFMR", "CKE"):
        alone = DataPool().bundle(make_config(model, seed=9, split_seed=7), noise)
        shared = DataPool().bundle(make_config("LightGCN", seed=9, split_seed=7), noise)
        assert alone.fingerprint == shared.fingerprint
    with_other_seed = DataPool().bundle(make_config("BPR", seed=8, split_seed=7), noise)
    assert with_other_seed.fingerprint != shared.fingerprint
    assert (with_other_seed.pairs.table("test").keys == shared.pairs.table("test").keys).all()


def test_further_columns_stay_with_their_user(data):
    feats = [part.inter_feat for part in data.parts]
    for feat in feats:
        feat.interaction["rating"] = feat["user_id"].float()
    noisy = add_noise(replace(data, parts=data.parts), Noise("inter", 0.5), 1)
    for part in noisy.parts:
        assert torch.equal(part.inter_feat["rating"], part.inter_feat["user_id"].float())

"""`prepare_data`: batches, evaluation arrays, saved states, and RecBole's own models on top."""

import numpy as np
import pytest
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.sampler import Sampler
from recbole.utils import KGDataLoaderState, get_model

from recbole_slif.data.loaders import EvalLoader, KnowledgeLoader, TrainLoader, prepare_data
from recbole_slif.errors import ConfigError, DataError
from tests.toy import edit_lines


def seen_pairs(loader):
    return [
        pair
        for batch in loader
        for pair in zip(batch["user_id"].tolist(), batch["item_id"].tolist(), strict=True)
    ]


@pytest.fixture
def bundle(make_dataset, make_config):
    make_dataset()
    return prepare_data(make_config(train_batch_size=16))


def test_an_epoch_shows_each_train_pair_once(bundle):
    train = bundle.train_data
    assert isinstance(train, TrainLoader)
    once = seen_pairs(train)
    table = bundle.pairs.table("train")
    assert sorted(once) == list(zip(table.rows.tolist(), table.values.tolist(), strict=True))
    assert seen_pairs(train) != once  # another order in the next epoch
    sizes = [len(batch) for batch in train]
    assert sizes[:-1] == [16] * (len(sizes) - 1) and len(sizes) == len(train)


def test_negatives_are_no_train_pairs(bundle):
    table = bundle.pairs.table("train")
    for _ in range(5):
        for batch in bundle.train_data:
            assert batch.columns == ["user_id", "item_id", "neg_item_id"]
            assert not table.has(batch["user_id"].numpy(), batch["neg_item_id"].numpy()).any()


def test_no_held_out_pair_is_trained_on(bundle):
    held = bundle.pairs.table("valid", "test")
    pairs = np.array(seen_pairs(bundle.train_data))
    assert not held.has(pairs[:, 0], pairs[:, 1]).any()
    feat = bundle.train_data.dataset.inter_feat
    assert not held.has(feat["user_id"].numpy(), feat["item_id"].numpy()).any()


def test_state_repeats_the_next_epoch(bundle, make_config):
    train = bundle.train_data
    seen_pairs(train)
    state = train.get_state()
    expected = [batch["neg_item_id"] for batch in train]
    fresh = prepare_data(make_config(train_batch_size=16)).train_data
    fresh.set_state(state)
    torch.manual_seed(1)
    again = [batch["neg_item_id"] for batch in fresh]
    assert all((old == new).all() for old, new in zip(expected, again, strict=True))


def test_without_shuffle_the_order_stays(make_dataset, make_config):
    make_dataset()
    train = prepare_data(make_config(shuffle=False)).train_data
    assert seen_pairs(train) == seen_pairs(train) == sorted(seen_pairs(train))


def test_several_negatives_follow_recboles_layout(make_dataset, make_config):
    make_dataset()
    args = {"distribution": "uniform", "sample_num": 3}
    config = make_config(train_neg_sample_args=args, train_batch_size=30)
    batch = next(iter(prepare_data(config).train_data))
    users = batch["user_id"].reshape(3, -1)
    assert (users == users[0]).all() and len(batch) == 30


@pytest.mark.parametrize("phase", ["valid", "test"])
def test_evaluation_batches_equal_recboles(bundle, make_config, phase):
    parts = bundle.dataset.build()
    sampler = Sampler(["train", "valid", "test"], parts).set_phase(phase)
    which = {"valid": 1, "test": 2}[phase]
    theirs = FullSortEvalDataLoader(make_config(), parts[which], sampler)
    ours = getattr(bundle, f"{phase}_data")
    assert isinstance(ours, FullSortEvalDataLoader) and isinstance(ours, EvalLoader)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine[0]["user_id"] == other[0]["user_id"]).all()
        for left, right in [(mine[1], other[1]), (mine[2:], other[2:])]:
            pairs = [
                sorted(zip(*map(torch.Tensor.tolist, side), strict=True)) for side in (left, right)
            ]
            assert pairs[0] == pairs[1]
    users = np.asarray(theirs.uid_list)
    for user in users:
        for name in ("uid2history_item", "uid2positive_item"):
            assert set(getattr(ours, name)[user].tolist()) == set(
                getattr(theirs, name)[user].tolist()
            )


def test_arrays_for_blocked_evaluation(bundle):
    for phase in ("valid", "test"):
        users, indptr, items = bundle.positives(phase)
        start, masked = bundle.history(phase)
        used = bundle.pairs.before(phase)
        for row, user in enumerate(users):
            hits = items[indptr[row] : indptr[row + 1]]
            history = masked[start[user] : start[user + 1]]
            assert len(hits) and not set(hits) & set(history)
            assert used.has(np.full(len(history), user), history).all()
        assert len(items) == indptr[-1] == len(bundle.pairs.table(phase).keys)


def test_knowledge_models_get_triples(make_dataset, make_config):
    make_dataset()
    bundle = prepare_data(make_config("KGAT", train_batch_size=16))
    train = bundle.train_data
    assert isinstance(train, KnowledgeLoader)
    assert sorted(seen_pairs(train)) == sorted(seen_pairs(train.general_dataloader))
    train.set_mode(KGDataLoaderState.KG)
    kg = bundle.dataset.knowledge
    base = set(zip(kg.heads.tolist(), kg.relations.tolist(), kg.tails.tolist(), strict=True))
    seen = set()
    for batch in train:
        columns = [batch[name].tolist() for name in ("head_id", "relation_id", "tail_id")]
        seen |= set(zip(*columns, strict=True))
        for head, tail in zip(columns[0], batch["neg_tail_id"].tolist(), strict=True):
            assert not any((head, r, tail) in base for r in range(kg.n_relations))
    assert base <= seen
    train.set_mode(KGDataLoaderState.RSKG)
    state = train.get_state()
    before = [batch["neg_tail_id"] for batch in train]
    train.set_state(state)
    after = [batch["neg_tail_id"] for batch in train]
    assert all((old == new).all() for old, new in zip(before, after, strict=True))


def test_triples_asked_of_a_data_set_without_them(make_dataset, make_config):
    make_dataset(knowledge=False)
    train = prepare_data(make_config("CKE")).train_data
    assert seen_pairs(train)
    with pytest.raises(DataError, match=r"toy\.kg"):
        train.set_mode(KGDataLoaderState.RSKG)


def test_user_with_every_item_is_named(make_dataset, make_config):
    folder = make_dataset()
    glutton = [f"glutton\ti{item}" for item in range(15)]
    edit_lines(folder / "toy.inter", lambda lines: [*lines, *glutton])
    with pytest.raises(DataError, match=r"glutton.*user_inter_num_interval"):
        prepare_data(make_config())


@pytest.mark.parametrize("model", ["BPR", "CKE", "KGCN", "CFKG"])
def test_recboles_own_models_run_on_it(make_dataset, make_config, model):
    make_dataset()
    config = make_config(model)
    bundle = prepare_data(config)
    network = get_model(model)(config, bundle.train_data.dataset)
    if isinstance(bundle.train_data, KnowledgeLoader):
        bundle.train_data.set_mode(KGDataLoaderState.RSKG)
    loss = network.calculate_loss(next(iter(bundle.train_data)))
    loss = sum(loss) if isinstance(loss, tuple) else loss
    loss.backward()
    assert torch.isfinite(loss)


def test_sampled_evaluation_still_works(make_dataset, make_config):
    make_dataset()
    bundle = prepare_data(make_config(eval_args={"mode": "uni5"}))
    data, rows, positive_rows, _ = next(iter(bundle.valid_data))
    assert len(data) == len(rows) == 6 * len(positive_rows)


def test_sequential_models_are_refused(make_dataset, make_config):
    make_dataset()
    with pytest.raises(ConfigError, match="SEQUENTIAL"):
        prepare_data(make_config("GRU4Rec", loss_type="BPR"))


def test_bundle_reports_the_data(bundle, caplog):
    assert bundle.statistics["split"] == [61, 12, 12]
    assert bundle.fingerprint == bundle.statistics["fingerprint"] == bundle.dataset.fingerprint()

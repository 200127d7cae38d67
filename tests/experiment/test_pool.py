"""Shared data: read once, the same as read alone, and nothing leaks from run to run."""

import ast
import inspect
from pathlib import Path

import pytest
import recbole.data.dataset.dataset
import recbole.data.dataset.kg_dataset
import torch

import recbole_slif.data.dataset
from recbole_slif import factory
from recbole_slif.experiment import pool as module
from recbole_slif.experiment.noise import Noise
from recbole_slif.experiment.pool import DataPool, digest, offers, reading, reading_keys


@pytest.fixture
def reads(monkeypatch):
    """Count what is read."""
    seen = []
    read = module.read_data

    def counting(config):
        seen.append(config["model"])
        return read(config)

    monkeypatch.setattr(module, "read_data", counting)
    return seen


def batches(bundle):
    """Everything that two epochs and the evaluation lists of a bundle hold."""
    found = []
    train = bundle.train_data
    parts = [train]
    if hasattr(train, "kg_dataloader"):
        parts = [train.general_dataloader, *([train.kg_dataloader] if train.kg_dataloader else [])]
    for part in parts * 2:
        for batch in part:
            found += [batch[name] for name in sorted(batch.columns)]
    for phase in ("valid", "test"):
        found += [torch.from_numpy(array) for array in bundle.positives(phase)]
    return found


@pytest.mark.parametrize("model", ["BPR", "KGAT", "SLIFMR", "CKE", "KGCN", "NeuMF", "MultiVAE"])
def test_shared_data_gives_the_batches_of_data_read_alone(make_dataset, make_config, model):
    make_dataset()
    pool = DataPool()
    for before in ("KGAT", "NeuMF", "BPR"):  # these note fields of their own on the data set
        batches(pool.bundle(make_config(before, split_seed=7, train_batch_size=16)))
    for seed in (7, 8):
        config = make_config(model, seed=seed, split_seed=7, train_batch_size=16)
        alone, shared = factory.load_data(config), pool.bundle(config)
        assert shared.fingerprint == alone.fingerprint
        assert shared.statistics == alone.statistics
        assert vars(shared.dataset)["field2type"] == vars(alone.dataset)["field2type"]
        for one, other in zip(batches(alone), batches(shared), strict=True):
            assert torch.equal(one, other)


def test_data_is_read_once_for_all_models_and_seeds(make_dataset, make_config, reads):
    make_dataset()
    pool = DataPool()
    for seed in (1, 2, 3):
        for model in ("BPR", "KGAT", "SLIFMR", "CKE"):
            config = make_config(model, seed=seed, split_seed=7, learning_rate=0.1 * seed)
            pool.bundle(config)
            pool.bundle(config, Noise("inter", 0.1))
    assert len(reads) == 1


@pytest.mark.parametrize(
    "changes", [{"split_seed": 8}, {"modalities": ["text"]}, {"unlinked_items": "drop"}]
)
def test_data_keys_are_never_shared_over(make_dataset, make_config, reads, changes):
    make_dataset()
    pool = DataPool()
    first = pool.data(make_config(split_seed=7))
    second = pool.data(make_config(**{"split_seed": 7, **changes}))
    assert len(reads) == 2
    assert digest(first) != digest(second)


def test_split_follows_the_seed_where_no_split_seed_is_set(make_dataset, make_config):
    make_dataset()
    pool = DataPool()
    by_seed = [pool.data(make_config(seed=seed)).dataset.fingerprint() for seed in (1, 2)]
    assert by_seed[0] != by_seed[1]
    assert pool.data(make_config(seed=9, split_seed=1)).dataset.fingerprint() == by_seed[0]


def test_noise_follows_kind_level_and_seed(make_dataset, make_config):
    make_dataset()
    pool = DataPool(capacity=9)
    drawn = [("inter", 0.2, 1), ("inter", 0.2, 2), ("inter", 0.3, 1), ("kg", 0.2, 1)]
    for _ in range(2):
        found = [
            digest(pool.data(make_config(seed=seed, split_seed=7), Noise(kind, level)))
            for kind, level, seed in drawn
        ]
        assert len(set(found)) == len(drawn)


def test_only_the_latest_data_is_kept(make_dataset, make_config, reads):
    make_dataset()
    pool = DataPool(capacity=2)
    for split_seed in (1, 2, 3, 3, 2, 1):
        pool.data(make_config(split_seed=split_seed))
    assert len(reads) == 4


def test_digest_sees_triples_and_features(make_dataset, make_config):
    make_dataset()
    pool = DataPool()
    config = make_config()
    found = {digest(pool.data(config, Noise(kind, 0.3))) for kind in ("inter", "kg", "modality")}
    assert len(found | {digest(pool.data(config))}) == 4


def test_offers(make_dataset, make_config):
    make_dataset()
    whole = DataPool().data(make_config()).statistics
    assert offers(whole) == {"features", "knowledge"}
    assert offers({**whole, "features": {}}) == {"knowledge"}
    assert offers({**whole, "linked_items": 0}) == {"features"}


def test_shared_arrays_are_not_written_to(make_dataset, make_config):
    make_dataset()
    pool = DataPool()
    config = make_config(train_batch_size=16)
    before = digest(pool.data(config))
    columns = {n: c.clone() for n, c in pool.data(config).parts[0].inter_feat.interaction.items()}
    bundle = pool.bundle(config)
    batches(bundle)
    bundle.train_data._dataset.inter_feat.update(
        type(bundle.dataset.inter_feat)({"added": torch.zeros(len(columns["user_id"]))})
    )
    bundle.train_data._dataset.field2type["added"] = None
    part = pool.data(config).parts[0]
    assert set(part.inter_feat.interaction) == set(columns)
    assert "added" not in part.field2type
    assert all(torch.equal(part.inter_feat[name], columns[name]) for name in columns)
    assert digest(pool.data(config)) == before


def _constant(node):
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def keys_read(source):
    """Keys that a file asks for: `config["key"]` and `option(config, "key", ...)`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript):
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else None
            owner = node.value.id if isinstance(node.value, ast.Name) else owner
            if owner == "config":
                found.add(_constant(node.slice))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "option":
            found.add(_constant(node.args[1]))
    return found - {None}


def test_every_key_that_reading_asks_for_is_known():
    folder = Path(recbole_slif.data.dataset.__file__).parent
    sources = [path.read_text("utf-8") for path in folder.glob("*.py") if path.stem != "loaders"]
    for theirs in (recbole.data.dataset.dataset, recbole.data.dataset.kg_dataset):
        sources.append(inspect.getsource(theirs))
    asked = set().union(*map(keys_read, sources))
    assert {"protocol", "load_col", "val_interval", "missing"} <= asked
    # `seed` is the split's where split_seed is null, and then is taken as split_seed
    elsewhere = {"seed", "checkpoint_dir", "local_rank", "device", "data_cache", "data_cache_dir"}
    assert asked - reading_keys() <= elsewhere


def test_reading_takes_the_seed_of_the_split(make_dataset, make_config):
    make_dataset()
    assert reading(make_config(seed=1, split_seed=7)) == reading(make_config(seed=2, split_seed=7))
    assert reading(make_config(seed=7)) == reading(make_config(seed=2, split_seed=7))
    assert reading(make_config(seed=1)) != reading(make_config(seed=2))

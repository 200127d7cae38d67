"""The cache of read data: the same to the bit, never stale, and never in the way."""

import errno
import logging
import os
import threading
from collections import Counter

import numpy as np
import pytest

from recbole_slif import factory, quick_start
from recbole_slif.data import cache, cache_key
from recbole_slif.data.dataset import MultimodalKGDataset
from recbole_slif.data.loaders import read_data
from tests.running import settings
from tests.same import assert_same
from tests.toy import edit_lines, write_table


@pytest.fixture(autouse=True)
def small_sets_too(monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "SMALLEST", 0)
    monkeypatch.setattr(cache, "_unwritable", set())
    monkeypatch.setenv("RECBOLE_SLIF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def times_read(monkeypatch):
    """Count how often files are read and split."""
    counted = Counter()
    build = MultimodalKGDataset.build

    def counting(self):
        counted["reads"] += 1
        return build(self)

    monkeypatch.setattr(MultimodalKGDataset, "build", counting)
    return counted


def entries(tmp_path):
    return sorted((tmp_path / "cache").glob("*"))


def attributes(data):
    found = []
    for part in (data.dataset, *data.parts):
        kept = {k: v for k, v in vars(part).items() if k not in ("config", "logger")}
        found.append(dict(sorted(kept.items())))
    return [*found, data.statistics, data.pairs._parts]


def with_columns(folder):
    """Give the toy set columns of all types, a `.user`, an `.item` and what must be put right."""
    lines = (folder / "toy.inter").read_text().splitlines()[1:]
    rows = [(*line.split("\t"), at % 5, at * 1.5) for at, line in enumerate(lines)]
    header = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    write_table(folder / "toy.inter", header, [*rows, rows[0]])
    items = [(f"i{at}", f"group {at % 3} ü", f"{at}.5 {at}.25") for at in range(14)]
    write_table(folder / "toy.item", ["item_id:token", "kind:token_seq", "size:float_seq"], items)
    users = [(f"u{at}", f"home{at % 2}") for at in range(12)]
    write_table(folder / "toy.user", ["user_id:token", "home:token"], users)
    return {
        "load_col": {
            "inter": ["user_id", "item_id", "rating", "timestamp"],
            "item": ["item_id", "kind", "size"],
            "user": ["user_id", "home"],
        }
    }


CASES = {
    "plain": {},
    "time order": {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO"}},
    "linked alone": {"unlinked_items": "drop", "missing": "mean"},
    "filtered": {"val_interval": {"rating": "[1,inf)"}, "normalize_all": True},
}


@pytest.mark.parametrize("case", CASES)
def test_a_cached_data_set_is_the_same_to_the_bit(
    make_dataset, make_config, times_read, tmp_path, case
):
    extra = {**with_columns(make_dataset()), **CASES[case]}
    plain = read_data(make_config(data_cache=False, **extra))
    assert not entries(tmp_path)
    cold = read_data(make_config(**extra))
    assert len(entries(tmp_path)) == 1
    warm = read_data(make_config(**extra))
    assert times_read["reads"] == 2
    assert_same(attributes(plain), attributes(cold))
    assert_same(attributes(plain), attributes(warm))
    assert plain.dataset.fingerprint() == warm.dataset.fingerprint()
    names = [field for field in plain.dataset.field2token_id if field.endswith("_id")]
    for first in names:
        for second in names:
            shared = plain.dataset.field2token_id
            assert (shared[first] is shared[second]) == (
                warm.dataset.field2token_id[first] is warm.dataset.field2token_id[second]
            )


def test_public_splits_too(make_dataset, make_config, times_read):
    make_dataset(benchmark=True)
    plain, _, warm = (read_data(make_config(data_cache=on)) for on in (False, True, True))
    assert times_read["reads"] == 2
    assert_same(attributes(plain), attributes(warm))


@pytest.mark.parametrize("model", ["SLIFMR", "KGAT"])
def test_models_learn_the_same(tmp_path, model):
    found = []
    for on in (False, True, True):
        chosen = settings(tmp_path, data_cache=on, epochs=1)
        result = quick_start.run(model, "toy", overrides=chosen, saved=False, verbose=False)
        found.append((result.valid, result.test))
    assert len(entries(tmp_path)) == 1
    assert found[0] == found[1] == found[2]


# ---- never stale -------------------------------------------------------------------------------


def test_one_byte_of_the_same_file_size_and_time(make_dataset, make_config, times_read):
    folder = make_dataset()
    for name in ("toy.inter", "toy.kg", "toy.link"):
        before = read_data(make_config())
        path = folder / name
        stat = path.stat()
        content = bytearray(path.read_bytes())
        content[-2] = ord("0") if content[-2] != ord("0") else ord("1")
        path.write_bytes(content)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
        reads = times_read["reads"]
        after = read_data(make_config())
        assert times_read["reads"] == reads + 1, name
        fresh = read_data(make_config(data_cache=False))
        assert_same(attributes(after), attributes(fresh))
        assert after.dataset.dataset_path == before.dataset.dataset_path


def test_features_are_read_from_their_own_files(make_dataset, make_config, times_read):
    folder = make_dataset()
    read_data(make_config())
    path = folder / "toy.visual.npy"
    np.save(path, np.load(path) + 1)
    assert_same(
        attributes(read_data(make_config())), attributes(read_data(make_config(data_cache=False)))
    )
    assert times_read["reads"] == 2


def test_a_file_that_appears_or_goes(make_dataset, make_config):
    folder = make_dataset(benchmark=True)
    first = cache_key.content_key(make_config())
    write_table(folder / "toy.valid.inter", ["user_id:token", "item_id:token"], [("u1", "i1")])
    second = cache_key.content_key(make_config())
    (folder / "toy.kg").rename(folder / "toy.kg.old")
    assert len({first, second, cache_key.content_key(make_config())}) == 3


class Changed(dict):
    """A configuration with one more value on top."""

    def __init__(self, config, **changes):
        super().__init__(changes)
        self.config = config

    def __missing__(self, key):
        return self.config[key]

    def __contains__(self, key):
        return dict.__contains__(self, key) or key in self.config


def test_each_setting_that_is_read_counts(make_dataset, make_config):
    make_dataset()
    config = make_config()
    before = cache_key.content_key(config)
    paths = {"data_path", "dataset"}  # they decide on the files, whose names and bytes count
    wanted = cache_key.reading_keys() - cache_key._OF_FEATURES - paths
    assert {"valid_ratio", "unlinked_items", "eval_args", "load_col", "split_seed"} <= wanted
    same = [key for key in sorted(wanted) if _key_with(config, key) == before]
    assert not same
    assert cache_key.content_key(make_config(seed=8)) != before
    assert cache_key.content_key(make_config(seed=8, split_seed=7)) == before
    assert cache_key.content_key(make_config("LightGCN", learning_rate=0.5)) == before


def _key_with(config, key):
    other = [key] if key == "additional_feat_suffix" else f"other {key}"
    return cache_key.content_key(Changed(config, **{key: other}))


@pytest.mark.parametrize("name", ["FORMAT", "_code"])
def test_each_version_counts(make_dataset, make_config, monkeypatch, name):
    make_dataset()
    before = cache_key.content_key(make_config())
    monkeypatch.setattr(cache_key, name, (lambda: "other") if name == "_code" else 0)
    assert cache_key.content_key(make_config()) != before


def test_what_changes_while_it_is_read_is_not_kept(
    make_dataset, make_config, monkeypatch, tmp_path
):
    folder = make_dataset()
    build = MultimodalKGDataset.build

    def changing(self):
        edit_lines(folder / "toy.inter", lambda lines: lines[:-1])
        return build(self)

    monkeypatch.setattr(MultimodalKGDataset, "build", changing)
    read_data(make_config())
    assert not entries(tmp_path)


# ---- damage ------------------------------------------------------------------------------------


def torn(path, _):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(marker):
    def spoil(path, _):
        content = bytearray(path.read_bytes())
        content[content.index(marker) + 1] ^= 4
        path.write_bytes(content)

    return spoil


def foreign(path, config):
    arrays, header = {"a0": np.arange(3)}, {"name": "recbole_slif data", "key": "0" * 32, "tree": 1}
    cache._write(path, header, arrays)


def text(path, _):
    path.write_text("not an archive")


def objects(path, _):
    np.savez(path, header=np.array([{}], dtype=object))


SPOILED = {"torn": torn, "foreign": foreign, "text": text, "objects": objects}
SPOILED |= {
    "flipped tree": flipped(b'"tree"'),
    "flipped token": flipped("[PAD]".encode("utf-32-le")),
    "flipped directory": flipped(b"PK\x01\x02"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_entry_is_said_and_written_anew(
    make_dataset, make_config, times_read, tmp_path, caplog, how
):
    make_dataset()
    plain = read_data(make_config())
    (path,) = entries(tmp_path)
    SPOILED[how](path, make_config())
    with caplog.at_level(logging.INFO):
        again = read_data(make_config())
    said = [record for record in caplog.records if "data cache" in record.getMessage()]
    assert len(said) == 1 and "written anew" in said[0].getMessage()
    assert times_read["reads"] == 2
    assert_same(attributes(plain), attributes(again))
    read_data(make_config())
    assert times_read["reads"] == 2


def test_a_damaged_number_is_found_by_the_checksum(make_dataset, make_config, tmp_path):
    make_dataset()
    read_data(make_config())
    (path,) = entries(tmp_path)
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    largest = max((name for name in arrays if name != "header"), key=lambda name: arrays[name].size)
    changed = arrays[largest].copy()
    changed.flat[0] += 1
    np.savez(path, **{**arrays, largest: changed})  # the archive's own sums are right again
    with pytest.raises(cache.DamagedError):
        cache.load_entry(path, path.stem.partition("-")[2])


def test_a_folder_that_cannot_be_written_costs_one_warning(
    make_dataset, make_config, times_read, tmp_path, caplog
):
    make_dataset()
    (tmp_path / "file").write_text("in the way")
    config = make_config(data_cache_dir=str(tmp_path / "file" / "cache"))
    for _ in range(2):
        read_data(config)
    said = [r.getMessage() for r in caplog.records if "data cache" in r.getMessage()]
    assert len(said) == 1 and "data_cache_dir" in said[0]
    assert times_read["reads"] == 2


def test_a_full_disk_leaves_nothing_behind(
    make_dataset, make_config, monkeypatch, tmp_path, caplog
):
    make_dataset()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("recbole_slif.atomic_files.os.fsync", full)
    read_data(make_config())
    assert "No space left on device; going on without" in caplog.text
    assert not entries(tmp_path)


def test_values_of_another_kind_are_not_kept(make_dataset, make_config, monkeypatch, tmp_path):
    make_dataset()
    build = MultimodalKGDataset.build

    def strange(self):
        self.strange = object()
        return build(self)

    monkeypatch.setattr(MultimodalKGDataset, "build", strange)
    read_data(make_config())
    assert not entries(tmp_path)


def test_two_at_once(make_dataset, make_config, tmp_path, caplog):
    make_dataset()
    plain = attributes(read_data(make_config(data_cache=False)))
    found = []
    configs = [make_config() for _ in range(4)]
    threads = [
        threading.Thread(
            target=lambda own: found.extend(attributes(read_data(own)) for _ in range(5)),
            args=(config,),
        )
        for config in configs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20 and len(entries(tmp_path)) == 1
    assert "data cache" not in caplog.text
    for each in found:
        assert_same(plain, each)


def test_files_that_others_take_away_meanwhile_are_no_trouble(tmp_path, monkeypatch):
    for name in ("a-1.npz", ".a-2.npz.0f"):
        (tmp_path / name).touch()
    stat = cache.Path.stat

    def gone(path, **options):
        if path.name in ("a-1.npz", ".a-2.npz.0f"):
            raise FileNotFoundError(path)
        return stat(path, **options)

    monkeypatch.setattr(cache.Path, "stat", gone)
    cache._forget_oldest(tmp_path)


# ---- where and when ----------------------------------------------------------------------------


def test_small_sets_are_left_alone(make_dataset, make_config, monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "SMALLEST", 1 << 20)
    make_dataset()
    factory.load_data(make_config())
    assert not entries(tmp_path)


def test_the_folder_is_the_keys_then_the_environments_then_the_users(
    make_dataset, make_config, monkeypatch, tmp_path
):
    make_dataset()
    assert cache.cache_folder(make_config(data_cache_dir="mine")).name == "mine"
    assert cache.cache_folder(make_config()) == tmp_path / "cache"
    monkeypatch.delenv("RECBOLE_SLIF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert cache.cache_folder(make_config()) == tmp_path / "home" / "recbole_slif" / "data"


def test_the_entries_used_last_stay(make_dataset, make_config, monkeypatch, tmp_path):
    make_dataset()
    monkeypatch.setattr(cache, "KEPT", 2)
    for seed, when in ((1, 100), (2, 200)):
        read_data(make_config(split_seed=seed))
        newest = max(entries(tmp_path), key=lambda path: path.stat().st_mtime)
        os.utime(newest, (when, when))
    read_data(make_config(split_seed=1))  # used again, so the other one is the oldest
    read_data(make_config(split_seed=3))
    kept = {cache_key.content_key(make_config(split_seed=seed)) for seed in (1, 3)}
    assert {path.stem.partition("-")[2] for path in entries(tmp_path)} == kept

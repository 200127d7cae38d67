"""Splits: sizes, reproducibility, benchmark rules, and no pair in two parts."""

import numpy as np
import pytest
import torch
from recbole.data.dataset import Dataset

from recbole_slif.data.dataset import MultimodalKGDataset
from recbole_slif.data.protocol import benchmark_split, ratio_split
from recbole_slif.errors import ConfigError, DataError
from tests.toy import edit_lines, write_table


def split(make_config, **overrides):
    dataset = MultimodalKGDataset(make_config(**overrides))
    return dataset, dataset.build()


def tokens(part):
    users = part.id2token("user_id", part.inter_feat["user_id"].numpy())
    items = part.id2token("item_id", part.inter_feat["item_id"].numpy())
    return set(zip(users.tolist(), items.tolist(), strict=True))


def file_pairs(path):
    return {tuple(line.split("\t")) for line in path.read_text().splitlines()[1:]}


@pytest.mark.parametrize("benchmark", [False, True])
def test_parts_are_disjoint_and_complete(make_dataset, make_config, benchmark):
    make_dataset(benchmark=benchmark)
    dataset, parts = split(make_config)
    train, valid, test = map(tokens, parts)
    assert not train & valid and not train & test and not valid & test
    assert len(train | valid | test) == 85 and train and valid and test
    assert dataset.protocol == ("benchmark" if benchmark else "ratio_811")


def test_ratio_rounds_as_recbole(make_dataset, make_config):
    make_dataset()
    dataset, parts = split(make_config)
    whole = np.bincount(dataset.inter_feat["user_id"].numpy())
    for user in range(1, dataset.user_num):
        first, second = Dataset._calcu_split_ids(dataset, int(whole[user]), [0.8, 0.1, 0.1])
        sizes = [int((part.inter_feat["user_id"] == user).sum()) for part in parts]
        assert sizes == [first, second - first, whole[user] - second]


def test_one_interaction_stays_in_train(make_dataset, make_config):
    folder = make_dataset()
    edit_lines(folder / "toy.inter", lambda lines: [*lines, "hermit\ti0"])
    _, (train, _, _) = split(make_config)
    assert ("hermit", "i0") in tokens(train)


def test_split_depends_on_its_seed_alone(make_dataset, make_config):
    make_dataset()
    prints = []
    for seed, split_seed, noise in [(1, 5, 0), (2, 5, 1), (1, None, 0), (1, None, 9), (3, 1, 0)]:
        torch.manual_seed(noise)
        np.random.seed(noise)
        dataset, _ = split(make_config, seed=seed, split_seed=split_seed)
        prints.append(dataset.fingerprint())
    assert prints[0] == prints[1] and prints[2] == prints[3] == prints[4]
    assert prints[0] != prints[2]


def test_each_part_is_drawn_uniformly():
    users = np.repeat(np.arange(2000), 10)
    train, valid, test = ratio_split(users, 3, lambda n: [n - 2, n - 1])
    assert list(map(len, (train, valid, test))) == [16000, 2000, 2000]
    for part in (valid, test):
        counts = np.bincount(part % 10, minlength=10)
        assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-square, 9 degrees, p = 0.001


def test_benchmark_takes_validation_from_train_only(make_dataset, make_config):
    folder = make_dataset(benchmark=True)
    _, (train, valid, test) = split(make_config)
    assert tokens(test) == file_pairs(folder / "toy.test.inter")
    assert tokens(train) | tokens(valid) == file_pairs(folder / "toy.train.inter")


def test_benchmark_share_of_each_user():
    users = np.repeat(np.arange(5), [1, 4, 5, 19, 40])
    phases = np.zeros(len(users), dtype=int)
    _, valid, _ = benchmark_split(users, phases, 0, 0.1, 5)
    assert np.bincount(users[valid], minlength=5).tolist() == [0, 0, 1, 1, 4]
    train, none, _ = benchmark_split(users, phases, 0, 0.0, 5)
    assert len(none) == 0 and len(train) == len(users)


def test_benchmark_keeps_a_given_validation_file(make_dataset, make_config):
    folder = make_dataset(benchmark=True)
    lines = (folder / "toy.train.inter").read_text().splitlines()
    (folder / "toy.train.inter").write_text("\n".join(lines[:-6]) + "\n")
    (folder / "toy.valid.inter").write_text("\n".join([lines[0], *lines[-6:]]) + "\n")
    _, (train, valid, _) = split(make_config)
    assert tokens(valid) == file_pairs(folder / "toy.valid.inter")
    assert tokens(train) == file_pairs(folder / "toy.train.inter")


def test_test_pairs_already_in_train_are_dropped(make_dataset, make_config):
    folder = make_dataset(benchmark=True)
    lines = (folder / "toy.train.inter").read_text().splitlines()
    edit_lines(folder / "toy.test.inter", lambda own: [*own, *lines[1:4]])
    dataset, (train, valid, test) = split(make_config)
    assert not tokens(test) & (tokens(train) | tokens(valid)) and len(test) == 12
    assert dataset.notes["valid or test interactions already in an earlier part, dropped"] == 3


def test_unseen_test_users_and_items_get_ids(make_dataset, make_config):
    folder = make_dataset(benchmark=True)
    edit_lines(folder / "toy.test.inter", lambda lines: [*lines, "late\tfresh"])
    dataset, (_, _, test) = split(make_config)
    assert ("late", "fresh") in tokens(test)
    assert dataset.user_num == 14 and dataset.item_num == 17


def test_public_files_can_be_pooled_for_ratio_811(make_dataset, make_config):
    make_dataset(benchmark=True)
    _, pooled = split(make_config, protocol="ratio_811")
    assert [len(part) for part in pooled] == [61, 12, 12]


def test_recbole_splits_on_demand(make_dataset, make_config):
    make_dataset()
    asked = {"split": {"LS": "valid_and_test"}}
    dataset, parts = split(make_config, eval_args=asked)
    assert dataset.protocol == "eval_args"
    assert [len(part) for part in parts] == [61, 12, 12]
    again, _ = split(make_config, eval_args=asked)
    assert again.fingerprint() == dataset.fingerprint()


@pytest.mark.parametrize("asked", [{"LS": "valid_and_test"}, {"RS": [0.8, 0.1, 0.1]}])
def test_time_order_tells_seconds_apart(make_dataset, make_config, asked):
    folder = make_dataset()
    # float32 cannot tell these times apart; items go backwards, so ids must not decide either
    times = {
        (f"u{user}", f"i{19 - at}"): 1_600_000_000 + at for user in range(4) for at in range(20)
    }
    header = ["user_id:token", "item_id:token", "timestamp:float"]
    rows = [(*pair, time) for pair, time in times.items()]
    extra = [("u9", f"i{item}", 1_600_000_000) for item in range(20, 22)]
    write_table(folder / "toy.inter", header, [*rows[::2], *rows[1::2], *extra])
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    _, parts = split(
        make_config, load_col=columns, modalities=[], eval_args={"split": asked, "order": "TO"}
    )
    for user in ("u0", "u1", "u2", "u3"):
        train, valid, test = (
            [times[pair] for pair in tokens(part) if pair[0] == user] for part in parts
        )
        assert train and max(train) < min(valid) and max(valid) < min(test)


def test_contradicting_keys_are_refused(make_dataset, make_config):
    make_dataset()
    with pytest.raises(ConfigError, match="eval_args"):
        split(make_config, protocol="ratio_811", eval_args={"split": {"RS": [0.7, 0.1, 0.2]}})
    with pytest.raises(ConfigError, match="benchmark_filename"):
        split(make_config, protocol="ratio_811", benchmark_filename=["train", "test"])
    with pytest.raises(DataError, match=r"toy\.train\.inter"):
        split(make_config, protocol="benchmark")


@pytest.mark.parametrize("protocol", ["auto", "benchmark"])
@pytest.mark.parametrize("asked", [{"order": "TO"}, {"split": {"LS": "valid_and_test"}}])
def test_public_parts_are_not_split_again_unless_pooled(make_dataset, make_config, protocol, asked):
    make_dataset(benchmark=True)
    with pytest.raises(ConfigError, match=r"eval_args: .*are split already.*protocol: eval_args"):
        split(make_config, protocol=protocol, eval_args=asked)
    _, parts = split(make_config, protocol="eval_args", eval_args={"split": {"LS": "test_only"}})
    assert [len(part) for part in parts] == [73, 0, 12]
    mode = {"mode": {"valid": "uni5", "test": "full"}}
    assert split(make_config, protocol=protocol, eval_args=mode)[0].protocol == "benchmark"


def test_benchmark_filename_names_the_parts(make_dataset, make_config):
    folder = make_dataset()
    header = ["user_id:token", "item_id:token"]
    write_table(folder / "toy.part1.inter", header, [("u0", "i0"), ("u0", "i1"), ("u1", "i0")])
    write_table(folder / "toy.part2.inter", header, [("u1", "i1")])
    _, parts = split(make_config, benchmark_filename=["part1", "part2"], modalities=[])
    assert [len(part) for part in parts] == [3, 0, 1]
    with pytest.raises(DataError, match="part9"):
        split(make_config, benchmark_filename=["part1", "part9"])


def test_fingerprint_tells_splits_apart(make_dataset, make_config):
    make_dataset()
    dataset, _ = split(make_config)
    other, _ = split(make_config, split_seed=99)
    assert dataset.fingerprint() != other.fingerprint()
    with pytest.raises(DataError, match="build"):
        MultimodalKGDataset(make_config()).fingerprint()


def test_train_wins_over_test_whatever_the_times(make_dataset, make_config):
    folder = make_dataset(benchmark=True)
    header = ["user_id:token", "item_id:token", "timestamp:float"]
    write_table(folder / "toy.train.inter", header, [("u0", "i0", 9), ("u1", "i1", 9)])
    write_table(folder / "toy.test.inter", header, [("u0", "i0", 1), ("u1", "i0", 1)])
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    _, parts = split(make_config, load_col=columns, modalities=[])
    assert [tokens(part) for part in parts] == [
        {("u0", "i0"), ("u1", "i1")},
        set(),
        {("u1", "i0")},
    ]


PUBLIC = ["user_id:token", "item_id:token", "tags:token_seq", "rating:float"]
COLUMNS = {"inter": ["user_id", "item_id", "tags", "rating"]}


def test_sequences_keep_the_length_of_the_longest_in_any_file(make_dataset, make_config):
    folder = make_dataset(benchmark=True)
    write_table(folder / "toy.train.inter", PUBLIC, [("u0", "i0", "a b c", 1), ("u1", "i1", "", 2)])
    write_table(folder / "toy.test.inter", PUBLIC, [("u0", "i1", "c", 3)])
    _, (train, _, test) = split(make_config, load_col=COLUMNS, modalities=[])
    tags = {tuple(train.id2token("tags", row)) for row in train.inter_feat["tags"].numpy()}
    assert tags == {("a", "b", "c"), ("[PAD]",) * 3}
    assert test.id2token("tags", test.inter_feat["tags"].numpy()[0]).tolist()[0] == "c"


def test_public_files_may_order_their_columns_alike_or_not(make_dataset, make_config):
    folder = make_dataset(benchmark=True)
    rows = [("u0", "i0", "a", 1), ("u1", "i1", "b", 2)]
    write_table(folder / "toy.train.inter", PUBLIC, rows)
    write_table(folder / "toy.test.inter", PUBLIC[::-1], [(5, "c", "i1", "u0")])
    _, (_, _, test) = split(make_config, load_col=COLUMNS, modalities=[])
    assert tokens(test) == {("u0", "i1")} and test.inter_feat["rating"].tolist() == [5.0]
    header = [*PUBLIC[:3], "rating:token"]
    write_table(folder / "toy.test.inter", header, [("u0", "i1", "c", "5")])
    with pytest.raises(DataError, match=r"toy\.train\.inter, toy\.test\.inter.*other types"):
        split(make_config, load_col=COLUMNS, modalities=[])

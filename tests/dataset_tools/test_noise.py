"""`noise`: the files hold what the experiment's noise makes in memory."""

import filecmp

import numpy as np
import pytest

from dataset_tools.__main__ import main
from dataset_tools.saving import save_split_data
from recbole_slif.data.loaders import read_data
from recbole_slif.experiment.noise import Noise, add_noise
from recbole_slif.experiment.pool import digest
from tests.toy import write_table

LEVELS = ("0.1", "0.3")


@pytest.fixture
def clean(make_dataset, make_config):
    """Interactions with times, an entity of two items, an item of two entities."""
    folder = make_dataset(n_users=20, n_items=40, n_other_entities=30)
    links = [f"i{item}\te{item}" for item in range(30)] + ["i31\te3", "i5\te6", "i6\te6"]
    (folder / "toy.link").write_text("item_id:token\tentity_id:token\n" + "\n".join(links) + "\n")
    rows = [line.split("\t") for line in (folder / "toy.inter").read_text().splitlines()[1:]]
    timed = [(*row, 1_300_000_000 + 977 * at) for at, row in enumerate(rows)]
    write_table(folder / "toy.inter", ["user_id:token", "item_id:token", "timestamp:float"], timed)
    load = {"inter": ["user_id", "item_id", "timestamp"]}
    return read_data(make_config(load_col=load))


def content(data):
    """Everything that is in the data, by tokens."""
    dataset = data.dataset
    users = dataset.field2id_token[dataset.uid_field]
    items = dataset.field2id_token[dataset.iid_field].tolist()
    graph = dataset.knowledge
    names = [("item", token) for token in items]
    names += [("entity", token) for token in graph.entity_tokens[len(items) :].tolist()]
    relations = graph.relation_tokens
    found = {
        "triples": {
            (names[head], str(relations[relation]), names[tail])
            for head, relation, tail in zip(graph.heads, graph.relations, graph.tails, strict=True)
        }
    }
    for phase, part in zip(("train", "valid", "test"), data.parts, strict=True):
        feat = part.inter_feat
        columns = [feat[name].tolist() for name in (dataset.uid_field, dataset.iid_field)]
        times = feat["timestamp"].tolist() if "timestamp" in feat else [0] * len(feat)
        found[phase] = {
            (str(users[user]), items[item], time)
            for user, item, time in zip(*columns, times, strict=True)
        }
    for name, part in dataset.features.items():
        rows = np.flatnonzero(part.presence)
        found[name] = {(items[row], part.matrix[row].tobytes()) for row in rows}
    return found


def called(tmp_path, *words, out="noisy"):
    keys = ["--set", "seed=7", "use_gpu=False", "load_col={inter: [user_id, item_id, timestamp]}"]
    base = ["noise", "--dataset", "toy", "--data-path", str(tmp_path), "--out", str(tmp_path / out)]
    return main([*base, *keys, *words])


@pytest.mark.parametrize("kind", ["inter", "kg", "modality"])
def test_files_hold_what_the_experiment_draws(tmp_path, clean, make_config, kind):
    assert called(tmp_path, "--kinds", kind, "--levels", *LEVELS) == 0
    for level in LEVELS:
        drawn = add_noise(clean, Noise(kind, float(level)), 7)
        load = {"inter": ["user_id", "item_id", "timestamp"]}
        config = make_config(data_path=str(tmp_path / "noisy" / f"{kind}-{level}"), load_col=load)
        read = read_data(config)
        assert read.statistics["protocol"] == "benchmark"
        assert content(read) == content(drawn)
        assert content(read) != content(clean)
        if read.dataset.knowledge.n_entities == drawn.dataset.knowledge.n_entities:
            assert digest(read) == digest(drawn)


def test_a_copy_without_noise_is_the_same_data(tmp_path, clean, make_config):
    save_split_data(clean, "toy", tmp_path / "copy" / "toy")
    load = {"inter": ["user_id", "item_id", "timestamp"]}
    read = read_data(make_config(data_path=str(tmp_path / "copy"), load_col=load))
    assert content(read) == content(clean)
    assert digest(read) == digest(clean)


def test_further_columns_come_back_with_their_empty_cells(tmp_path, make_dataset, make_config):
    folder = make_dataset()
    rows = [line.split("\t") for line in (folder / "toy.inter").read_text().splitlines()[1:]]
    rows = [(*row, ["web", "", "shop"][at % 3]) for at, row in enumerate(rows)]
    write_table(folder / "toy.inter", ["user_id:token", "item_id:token", "by:token"], rows)
    load = {"inter": ["user_id", "item_id", "by"]}
    save_split_data(read_data(make_config(load_col=load)), "toy", tmp_path / "copy" / "toy")
    parts = ("train", "valid", "test")
    paths = [tmp_path / "copy" / "toy" / f"toy.{part}.inter" for part in parts]
    written = [tuple(line.split("\t")) for path in paths for line in path.read_text().split("\n")]
    assert set(rows) == {row for row in written if len(row) == 3 and row[0] != "user_id:token"}


def test_features_that_were_filled_in_are_not_written(tmp_path, make_dataset, make_config):
    folder = make_dataset()
    matrix = np.load(folder / "toy.text.npy")
    matrix[3] = 0
    np.save(folder / "toy.text.npy", matrix)
    save_split_data(read_data(make_config(missing="mean")), "toy", tmp_path / "copy")
    before = (folder / "toy.text.ids").read_text().split()
    after = (tmp_path / "copy" / "toy.text.ids").read_text().split()
    assert set(after) == set(before) and len(after) == 14
    row = np.load(tmp_path / "copy" / "toy.text.npy")[after.index(before[3])]
    assert not row.any()


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(tmp_path, clean):
    for out, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        words = ["--kinds", "inter", "--levels", "0.2", "--seed", seed]
        assert called(tmp_path, *words, out=out) == 0
    folders = [tmp_path / out / "inter-0.2" / "toy" for out in "abc"]
    names = [path.name for path in folders[0].iterdir()]
    assert {"toy.train.inter", "toy.valid.inter", "toy.test.inter", "noise.json"} <= set(names)
    assert filecmp.cmpfiles(*folders[:2], names, shallow=False)[0] == names
    differ = set(filecmp.cmpfiles(folders[0], folders[2], names, shallow=False)[1])
    assert differ == {"toy.train.inter", "toy.valid.inter", "noise.json"}


def test_files_of_an_earlier_call_are_not_read_beside_the_new_ones(tmp_path, make_dataset):
    make_dataset(benchmark=True)
    folder = tmp_path / "noisy" / "inter-0.2" / "toy"
    words = ["--kinds", "inter", "--levels", "0.2"]
    assert called(tmp_path, *words) == 0
    (folder / "mine.txt").write_text("mine")
    fewer = ["--set", "valid_ratio=0", "modalities=[text]", "use_gpu=False", "seed=7"]
    assert called(tmp_path, *words, *fewer) == 0
    kept = {path.name for path in folder.iterdir()}
    assert {"mine.txt", "toy.train.inter", "toy.test.inter", "toy.text.npy"} <= kept
    assert not {"toy.valid.inter", "toy.visual.npy", "toy.visual.ids"} & kept


def test_mistakes_are_one_line(tmp_path, make_dataset, capsys):
    make_dataset(knowledge=False)
    assert called(tmp_path, "--kinds", "kg", "--levels", "0.1") == 2
    assert "kg needs knowledge, which toy lacks" in capsys.readouterr().err
    assert called(tmp_path, "--kinds", "inter", "--levels", "1.5") == 2
    assert "must lie between" in capsys.readouterr().err
    assert called(tmp_path, "--kinds", "inter", "--levels", "0.1", "1") == 2
    assert "1.0 must lie between" in capsys.readouterr().err
    assert called(tmp_path, "--kinds", "inter", "--seed", "-1") == 2
    assert "--seed: -1 must be at least 0" in capsys.readouterr().err
    assert called(tmp_path, "--kinds", "inter", "--set", "seed") == 2
    assert "'seed' is not KEY=VALUE" in capsys.readouterr().err

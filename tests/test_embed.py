"""Exported vectors are those the model scores by, and another run can take them as features."""

from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from tensorboard.plugins.projector import ProjectorConfig

from recbole_slif import quick_start
from recbole_slif.checkpoint import load_model
from recbole_slif.data.features import load_features
from recbole_slif.embed import Vectors, embed, main, projector
from recbole_slif.errors import ConfigError
from recbole_slif.explain.views import look_inside
from recbole_slif.scoring import BlockScorer
from tests.running import build, settings


def train(folder, model, **changes):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        chosen = settings(folder, **{"learning_rate": 0.05, **changes})
        return quick_start.run(model, "toy", overrides=chosen, verbose=False).folder


@pytest.fixture(scope="module")
def slif(tmp_path_factory):
    return train(tmp_path_factory.mktemp("slif"), "SLIFMR")


def read(out, stem):
    matrix = np.load(out / f"{stem}.npy", allow_pickle=False)
    return matrix, (out / f"{stem}.ids").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("model", ["SLIFMR", "BPR", "KGIN"])
def test_products_are_the_scores_to_the_bit(tmp_path, model):
    folder, out = train(tmp_path, model), tmp_path / "out"
    embed(folder, out)
    items, item_tokens = read(out, f"items/toy.{model.lower()}")
    users, user_tokens = read(out, f"users/toy.{model.lower()}")
    _, trained, bundle = load_model(folder)
    data = bundle.dataset
    assert items.dtype == users.dtype == np.float32
    assert len(items) == data.item_num - 1 and len(users) == data.user_num - 1
    places = [data.token2id("user_id", token) for token in user_tokens]
    columns = [data.token2id("item_id", token) for token in item_tokens]
    assert sorted(places) == list(range(1, data.user_num))
    wanted = BlockScorer(trained, data).scores(np.array(places))
    # the same product of the same shape: [PAD]'s row is put back
    table = torch.zeros(data.item_num, items.shape[1])
    table[columns] = torch.from_numpy(items)
    found = torch.from_numpy(users) @ table.T
    assert torch.equal(found[:, 1:], wanted[:, 1:])
    assert len(torch.unique(found)) > 100


def test_item_vectors_are_features_of_another_run(slif, tmp_path):
    out = tmp_path / "out"
    embed(slif, out)
    matrix, tokens = read(out, "items/toy.slifmr")
    _, _, bundle = build(tmp_path, "BPR", feature_path=str(out / "items"))
    features = bundle.dataset.features["slifmr"]
    assert features.presence[1:].all()
    for row, token in enumerate(tokens):
        place = bundle.dataset.token2id("item_id", token)
        assert np.array_equal(features.matrix[place], matrix[row])
    chosen = {"feature_path": str(out / "items"), "modalities": ["slifmr"], "epochs": 1}
    folder = train(tmp_path, "FREEDOM", **chosen)
    _, _, again = load_model(folder)
    assert list(again.dataset.features) == ["slifmr"]


def test_views_are_the_models_without_items_that_lack_them(slif, tmp_path):
    embed(slif, tmp_path, views=True)
    _, model, bundle = load_model(slif)
    views = look_inside(model, bundle.dataset).views
    for at, name in enumerate(("interaction", "feature", "knowledge")):
        matrix, tokens = read(tmp_path, f"views/toy.{name}")
        rows = [bundle.dataset.token2id("item_id", token) for token in tokens]
        assert rows == np.flatnonzero(views.mask[:, at] & (np.arange(len(views.mask)) > 0)).tolist()
        assert np.array_equal(matrix, views.tables[at].numpy()[rows])
    assert len(read(tmp_path, "views/toy.knowledge")[1]) == 16, "two of 18 items have no link"


def test_half_precision(slif, tmp_path):
    embed(slif, tmp_path / "full")
    embed(slif, tmp_path / "half", dtype="float16")
    full, half = (read(tmp_path / name, "items/toy.slifmr")[0] for name in ("full", "half"))
    assert half.dtype == np.float16 and np.array_equal(half, full.astype(np.float16))
    tokens = np.array(["[PAD]", *read(tmp_path / "half", "items/toy.slifmr")[1]], dtype=object)
    from collections import Counter

    path = tmp_path / "half/items/toy.slifmr.npy"
    loaded = load_features(path, tokens, "mask", Counter())
    assert np.array_equal(loaded.matrix[1:], half.astype(np.float32))


def test_archive_and_text_hold_the_same(slif, tmp_path):
    embed(slif, tmp_path)
    embed(slif, tmp_path, form="npz", views=True)
    embed(slif, tmp_path, form="tsv")
    with np.load(tmp_path / "vectors.npz", allow_pickle=False) as archive:
        content = {name: archive[name] for name in archive.files}
    tables = {"items", "users", "interaction", "feature", "knowledge"}
    assert set(content) == tables | {
        f"{name}_tokens" for name in ("item", "user", "interaction", "feature", "knowledge")
    }
    for kind in ("items", "users"):
        matrix, tokens = read(tmp_path, f"{kind}/toy.slifmr")
        assert np.array_equal(content[kind], matrix)
        assert content[f"{kind[:-1]}_tokens"].tolist() == tokens
        lines = (tmp_path / f"{kind}/toy.slifmr.tsv").read_text().splitlines()
        rows = [line.split("\t") for line in lines]
        assert [row[0] for row in rows] == tokens
        assert np.array_equal(np.array([row[1:] for row in rows], dtype=np.float32), matrix)


def test_projector_files_are_what_tensorboard_reads(slif, tmp_path):
    embed(slif, tmp_path, tensorboard=True, views=True)
    folder = tmp_path / "projector"
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    assert len(config.embeddings) == 5
    assert len({entry.tensor_name for entry in config.embeddings}) == 5
    for entry in config.embeddings:
        rows = (folder / entry.tensor_path).read_text().splitlines()
        names = (folder / entry.metadata_path).read_text().splitlines()
        titled = "users" not in entry.tensor_path
        assert len(names) == len(rows) + titled
        assert names[0] == "title\ttoken" if titled else names[0] == "u0"
        assert {len(row.split("\t")) for row in rows} == {8}
    matrix, tokens = read(tmp_path, "items/toy.slifmr")
    rows = (folder / "items/vectors.tsv").read_text().splitlines()
    assert np.array_equal(np.array([row.split("\t") for row in rows], np.float32), matrix)
    names = (folder / "items/metadata.tsv").read_text().splitlines()[1:]
    assert names == [f"Title {token[1:]}\t{token}" for token in tokens]


def test_projector_without_titles_has_tokens_alone():
    part = Vectors("items", "m", np.ones((2, 3), np.float32), ("a", "b"), ("", ""))
    assert projector([part])["projector/items/metadata.tsv"] == b"a\nb\n"
    some = Vectors("items", "m", part.matrix, part.tokens, ("A", ""))
    assert projector([some])["projector/items/metadata.tsv"] == b"title\ttoken\nA\ta\nb\tb\n"


def test_models_without_vectors_or_views(slif, tmp_path):
    with pytest.raises(ConfigError, match="model 'Pop' has no user and item vectors"):
        embed(train(tmp_path, "Pop", embedding_size=...), tmp_path / "out")
    with pytest.raises(ConfigError, match="--views: BPR has one table"):
        embed(train(tmp_path, "BPR"), tmp_path / "out", views=True)
    for wrong in ({"form": "xls"}, {"dtype": "int8"}):
        with pytest.raises(ConfigError, match="is none of"):
            embed(slif, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_command(slif, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([f"--checkpoint={slif}", "--out=vec"]) == 0
    written = capsys.readouterr().out.split()
    assert written == [
        f"vec/{kind}/toy.slifmr.{end}" for kind in ("items", "users") for end in ("npy", "ids")
    ]
    assert all(Path(name).is_file() for name in written)
    Path("busy").write_text("")
    for argv, said in (
        ([f"--checkpoint={slif}"], "--out"),
        ([f"--checkpoint={slif}", "--out=busy"], "cannot be written"),
        ([f"--checkpoint={slif}", "--out=x", "--format=xls"], "invalid choice"),
        (["--checkpoint=gone", "--out=x"], "does not exist"),
    ):
        assert main(argv) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and said in lines[0]


def test_values_beyond_half_precision_are_refused(slif, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "recbole_slif.embed.vectors",
        lambda trained, views: [
            Vectors("items", "m", np.array([[1.0], [1e6]], np.float32), ("a", "b"), ("", ""))
        ],
    )
    from recbole_slif.errors import DataError

    with pytest.raises(DataError, match="vector of 'b' in items/m holds numbers that float16"):
        embed(slif, tmp_path, dtype="float16")

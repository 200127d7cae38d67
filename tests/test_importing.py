"""A checkpoint of RecBole's, trained on RecBole's own data set, scores the same pairs here."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

from recbole_slif.__main__ import main
from recbole_slif.checkpoint import load_model
from recbole_slif.errors import CheckpointError
from recbole_slif.importing import _extras, _reordered
from recbole_slif.scoring import BlockScorer
from tests.toy import edit_lines, write_toy


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Write a data set whose order of users, items and entities is not that of their tokens."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["test"])
    write_toy(Path("data"))
    edit_lines(Path("data/toy/toy.inter"), lambda lines: [lines[0], *lines[:0:-1]])


def trained_by_recbole(name, **more):
    """Train a model by RecBole alone; return its file, model and data set."""
    given = {"data_path": "data", "gpu_id": "", "embedding_size": 4, "epochs": 2,
             "topk": [3], "valid_metric": "Recall@3", "checkpoint_dir": "saved",
             "show_progress": False, **more}  # fmt: skip
    config = Config(model=name, dataset="toy", config_dict=given)
    init_seed(config["seed"], True)
    dataset = create_dataset(config)
    train, valid, _ = data_preparation(config, dataset)
    model = get_model(name)(config, train._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    trainer.fit(train, valid, verbose=False)
    return trainer.saved_model_file, model, dataset


@pytest.fixture
def theirs(data):
    return trained_by_recbole("BPR")


WORDS = ["--model=BPR", "--dataset=toy", "--data_path=data", "--embedding_size=4", "--gpu_id=",
         "--topk=[3]", "--valid_metric=Recall@3"]  # fmt: skip


def test_imported_scores_are_recboles_by_token(theirs, capsys):
    file, _, dataset = theirs
    assert main(["import", file, *WORDS, "--trust_pickle", "--out=imported"]) == 0
    told = capsys.readouterr()
    assert "runs the code in it" in told.err and "imported" in told.out
    saved = torch.load(file, weights_only=False)["state_dict"]
    _, model, bundle = load_model("imported")
    ours = bundle.dataset
    assert dataset.field2id_token["item_id"].tolist() != ours.field2id_token["item_id"].tolist()
    users, items = model.score_tables()
    for user in ("u0", "u7", "u11"):
        for item in ("i0", "i3", "i14"):
            here = users[ours.token2id("user_id", user)] @ items[ours.token2id("item_id", item)]
            row = saved["user_embedding.weight"][dataset.token2id("user_id", user)]
            there = row @ saved["item_embedding.weight"][dataset.token2id("item_id", item)]
            assert float(here) == pytest.approx(float(there), rel=1e-6)
    assert main(["recommend", "--checkpoint=imported", "--users=u1", "--topk=3"]) == 0


def refused(words, capsys):
    assert main(words) == 2
    return capsys.readouterr().err


def test_nothing_is_opened_without_trust(theirs, capsys):
    assert "may run code when opened; add --trust_pickle" in refused(["import", theirs[0], *WORDS],
                                                                     capsys)  # fmt: skip
    assert not Path("saved/BPR-toy-imported").exists()
    assert "name the file" in refused(["import", *WORDS, "--trust_pickle"], capsys)


def test_what_does_not_fit_is_named(theirs, capsys):
    file, trust = theirs[0], "--trust_pickle"
    size = [word for word in WORDS if "size" not in word]
    assert "does not fit the model" in refused(["import", file, *size, "--embedding_size=8", trust],
                                               capsys)  # fmt: skip
    Path("x.pth").write_bytes(b"no checkpoint")
    assert "'x.pth' is not a RecBole" in refused(["import", "x.pth", *WORDS, trust], capsys)
    torch.save({"weights": 1}, "y.pth")
    assert "no config or no state_dict" in refused(["import", "y.pth", *WORDS, trust], capsys)


def linked_wholly():
    """Link what is not linked yet: RecBole leaves items without a link out of its own graph."""
    folder = Path("data/toy")
    linked = {line.split("\t")[0] for line in (folder / "toy.link").read_text().splitlines()}
    new = [item for item in map("i{}".format, range(15)) if item not in linked]
    edit_lines(folder / "toy.link", lambda lines: [*lines, *(f"{item}\tz{item}" for item in new)])
    edit_lines(folder / "toy.kg", lambda lines: [*lines, *(f"z{item}\tr0\tx0" for item in new)])


@torch.no_grad()
def by_token(model, dataset):
    tokens = [[f"u{user}" for user in range(12)], [f"i{item}" for item in range(15)]]
    users, items = (
        np.array([dataset.token2id(field, token) for token in each])
        for field, each in zip(("user_id", "item_id"), tokens, strict=True)
    )
    return BlockScorer(model, dataset).scores(users)[:, items]


GRAPH = {"inter": ["user_id", "item_id"], "link": ["item_id", "entity_id"],
         "kg": ["head_id", "relation_id", "tail_id"]}  # fmt: skip


@pytest.mark.parametrize("name", ["Pop", "ItemKNN", "EASE", "SGL", "CFKG"])
def test_what_is_kept_beside_users_and_items_is_put_in_order_too(data, name):
    linked_wholly()
    more = {"load_col": GRAPH} if name == "CFKG" else {}
    file, model, dataset = trained_by_recbole(name, **more)
    saved = torch.load(file, weights_only=False)
    model.load_state_dict(saved["state_dict"])
    model.load_other_parameter(saved["other_parameter"])
    model.eval()
    words = [f"--model={name}", *WORDS[1:]]
    words = [word for word in words if "size" not in word or name in ("SGL", "CFKG")]
    assert main(["import", file, *words, "--trust_pickle", "--out=imported"]) == 0
    _, here, bundle = load_model("imported")
    assert torch.allclose(by_token(here, bundle.dataset), by_token(model, dataset), atol=1e-6)


@pytest.mark.parametrize("name", ["KTUP", "KGCN", "DMF"])
def test_what_cannot_be_put_in_order_is_refused(data, name, capsys):
    linked_wholly()
    more = {} if name == "DMF" else {"load_col": GRAPH}
    file = trained_by_recbole(name, **more)[0]
    words = [f"--model={name}", *WORDS[1:], "--trust_pickle", "--out=imported"]
    words = [word for word in words if "size" not in word or name != "DMF"]
    assert "train this" in refused(["import", file, *words], capsys)
    assert not Path("imported").exists()


def test_the_folder_may_have_another_name_than_recbole_read(theirs):
    Path("data/toy").rename("data/other")
    for path in Path("data/other").iterdir():
        path.rename(path.with_name(path.name.replace("toy", "other", 1)))
    words = [word.replace("=toy", "=other") for word in WORDS]
    assert main(["import", theirs[0], *words, "--trust_pickle", "--out=imported"]) == 0


@pytest.mark.parametrize("fixed", [False, True])
def test_another_split_than_recboles_is_said(theirs, capsys, fixed):
    if fixed:
        lines = Path("data/toy/toy.inter").read_text().splitlines(keepends=True)
        parts = {"train": lines, "test": [lines[0], lines[-1]]}
        for part, kept in parts.items():
            Path(f"data/toy/toy.{part}.inter").write_text(
                "".join(kept[: len(kept) - (part == "train")])
            )
    said = main(["import", theirs[0], *WORDS, "--trust_pickle", "--out=imported"])
    told = capsys.readouterr().err
    assert said == 0 and ("--exclude=train,valid,test" in told) is not fixed


def test_without_out_the_folder_lies_where_runs_lie(theirs):
    assert main(["import", theirs[0], *WORDS, "--trust_pickle", "--checkpoint_dir=mine"]) == 0
    assert Path("mine/BPR-toy-imported/best.pt").is_file()
    assert not Path("saved/BPR-toy-imported").exists()


def test_rows_that_may_be_either_are_refused():
    orders = {"user": torch.arange(3).numpy(), "item": torch.arange(3).numpy()}
    with pytest.raises(CheckpointError, match="whose numbers the 3 rows of 'table' have"):
        _reordered({"table": torch.zeros(3, 2)}, orders, "x.pth")
    kept = {"layer.weight": torch.zeros(2, 2), "scale": torch.tensor(1.0)}
    assert _reordered(kept, orders, "x.pth") == kept
    with pytest.raises(CheckpointError, match="6 rows of 'both'"):
        _reordered({"both": torch.zeros(6, 2)}, orders, "x.pth")
    with pytest.raises(CheckpointError, match="'counts' holds numbers"):
        _extras({"counts": torch.zeros(3)}, orders, "x.pth")
    assert _extras({"none": None, "some": 2}, orders, "x.pth") == {"none": None, "some": 2}

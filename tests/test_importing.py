"""A checkpoint of RecBole's, trained on RecBole's own data set, scores the same pairs here."""

import sys
from pathlib import Path

import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import get_model, init_seed

from recbole_slif.__main__ import main
from recbole_slif.checkpoint import load_model
from recbole_slif.errors import CheckpointError
from recbole_slif.importing import _reordered
from tests.toy import edit_lines, write_toy


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Train RecBole's BPR by RecBole alone; return its file, model and data set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["test"])
    write_toy(Path("data"))
    edit_lines(Path("data/toy/toy.inter"), lambda lines: [lines[0], *lines[:0:-1]])
    given = {"data_path": "data", "gpu_id": "", "embedding_size": 4, "epochs": 2,
             "topk": [3], "valid_metric": "Recall@3", "checkpoint_dir": "saved",
             "show_progress": False}  # fmt: skip
    config = Config(model="BPR", dataset="toy", config_dict=given)
    init_seed(config["seed"], True)
    dataset = create_dataset(config)
    train, valid, _ = data_preparation(config, dataset)
    model = get_model("BPR")(config, dataset)
    trainer = Trainer(config, model)
    trainer.fit(train, valid, verbose=False)
    return trainer.saved_model_file, model, dataset


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


def test_rows_that_may_be_either_are_refused():
    orders = {"user": torch.arange(3).numpy(), "item": torch.arange(3).numpy()}
    with pytest.raises(CheckpointError, match="3 rows of 'table' are users or"):
        _reordered({"table": torch.zeros(3, 2)}, orders, "x.pth")
    kept = {"layer.weight": torch.zeros(2, 2), "scale": torch.tensor(1.0)}
    assert _reordered(kept, orders, "x.pth") == kept

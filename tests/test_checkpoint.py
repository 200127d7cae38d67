import json
import os
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from recbole.trainer import Trainer
from recbole.utils import get_model

from recbole_slif import atomic_files, checkpoint, factory
from recbole_slif.checkpoint import Checkpoint
from recbole_slif.errors import CheckpointError, ConfigError
from recbole_slif.model.general.bpr import BPR
from recbole_slif.trainer import trainer_class
from tests.running import build
from tests.toy import edit_lines, write_toy


def same(left, right):
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    if sp.issparse(left):
        return left.format == right.format and (left != right).nnz == 0
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and all(map(same, left, right))
    return type(left) is type(right) and (left == right or left != left)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_others_may_read_what_the_user_lets_them(tmp_path, mask):
    before = os.umask(mask)
    try:
        atomic_files.write_atomic(tmp_path / "record.json", b"{}")
    finally:
        os.umask(before)
    assert (tmp_path / "record.json").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
def test_links_and_pipes_are_written_through(tmp_path):
    (tmp_path / "far").mkdir()
    file, link, pipe = tmp_path / "far/a.csv", tmp_path / "a.csv", tmp_path / "b.csv"
    file.write_bytes(b"old")
    link.symlink_to(file)
    atomic_files.write_atomic(link, b"new")
    assert link.is_symlink() and file.read_bytes() == b"new"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    atomic_files.write_atomic(pipe, b"lines")
    assert os.read(reader, 9) == b"lines" and pipe.is_fifo()
    os.close(reader)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.csv", "a.csv", "b.csv", "far"]


TREE = {
    "numbers": [1, 2.5, True, None, "text", float("-inf"), 2**100, float("nan")],
    "tuple": (1, (2, [3])),
    7: {"int key": torch.arange(3), (1, "a"): 0},
    "half": torch.ones(2, 2, dtype=torch.float16),
    "empty": {},
    "array": np.arange(6, dtype=np.uint32).reshape(2, 3),
    "sparse": sp.csr_matrix(np.array([[0.0, 2.0], [0.0, 0.0]])),
    "generator": np.random.default_rng(3).bit_generator.state,
    "$tensor": "a key that looks like a mark",
}


def test_any_tree_survives_the_file(tmp_path):
    path = tmp_path / "deep" / "x.pt"
    checkpoint.save(path, Checkpoint({"epoch": 3}, TREE))
    loaded = checkpoint.load(path)
    assert loaded.header["epoch"] == 3
    assert same(loaded.state, TREE)
    assert [entry.name for entry in path.parent.iterdir()] == ["x.pt"]


@pytest.mark.parametrize("value", [object(), np.array([object()]), {"deep": [lambda: 0]}])
def test_what_a_checkpoint_cannot_keep_is_named(tmp_path, value):
    with pytest.raises(CheckpointError, match=r"cannot keep"):
        checkpoint.save(tmp_path / "x.pt", Checkpoint({}, {"thing": value}))
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.pt"
    checkpoint.save(path, Checkpoint({"epoch": 1}))

    def torn(payload, stream):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(CheckpointError, match="No space left"):
        checkpoint.save(path, Checkpoint({"epoch": 2}))
    assert checkpoint.load(path).header["epoch"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.pt"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_torn_files_are_refused(tmp_path, share):
    path = tmp_path / "x.pt"
    checkpoint.save(path, Checkpoint({}, {"weights": torch.randn(50, 50)}))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"empty|torn|not a checkpoint"):
        checkpoint.load(path)


class Bomb:
    """Writes a file when unpickled."""

    def __reduce__(self):
        return exec, ("open('bomb', 'w').close()",)


def test_hostile_and_foreign_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"header": Bomb(), "tensors": {}}, "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "c.pt").write_text("not a checkpoint")
    torch.save({"weights": torch.zeros(2)}, "d.pt")
    torch.save({"header": json.dumps({"format": "other"}), "tensors": {}}, "e.pt")
    torch.save({"header": "[]", "tensors": {}}, "f.pt")
    torch.save({"header": "{", "tensors": {}}, "g.pt")
    for name in "abcdefg":
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(f"{name}.pt")
        assert f"{name}.pt" in str(caught.value)
    assert not (tmp_path / "bomb").exists()


def test_other_versions_are_refused(tmp_path):
    path = tmp_path / "x.pt"
    header = {"format": checkpoint.FORMAT, "schema": 99, "state": {"$items": []}}
    torch.save({"header": json.dumps(header), "tensors": {}}, path)
    with pytest.raises(CheckpointError, match="version 99"):
        checkpoint.load(path)


def test_missing_tensor_is_damage(tmp_path):
    path = tmp_path / "x.pt"
    tree = {"$items": [["weights", {"$tensor": "tree/weights"}]]}
    header = {"format": checkpoint.FORMAT, "schema": checkpoint.SCHEMA, "state": tree}
    torch.save({"header": json.dumps(header), "tensors": {}}, path)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(path)


def test_all_differences_are_named_at_once():
    with pytest.raises(
        CheckpointError, match=r"model \(checkpoint A, here B\), users \(.*7, here 8"
    ):
        checkpoint.require_fit("x", {"model": "A", "users": 7}, {"model": "B", "users": 8})
    checkpoint.require_fit("x", {"model": "A", "more": 1}, {"model": "A"})


class Own(BPR):
    """A model of the user's own."""


@pytest.fixture
def trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def train(model, **changes):
        config, built, bundle = build(tmp_path, model, **changes)
        trainer = trainer_class(config, built)(config, built)
        trainer.header = {
            "identity": factory.identity(config, bundle),
            "config": factory.saved_settings(config),
        }
        trainer.fit(bundle.train_data, bundle.valid_data)
        trainer.evaluate(bundle.test_data)
        return trainer, bundle

    return train


@pytest.mark.parametrize("model", ["BPR", "LightGCN", "SLIFMR", "KGAT", "Pop"])
def test_loaded_model_scores_to_the_bit(trained, model):
    size = {"embedding_size": ...} if model == "Pop" else {}
    trainer, bundle = trained(model, epochs=3, **size)
    trainer.model.eval()
    wanted = trainer.blocked.per_user(trainer.model, bundle.test_data)
    users = trainer.blocked.lists(bundle.test_data).users
    config, loaded, again = checkpoint.load_model(trainer.run_folder)
    assert config["model"] == model
    assert again.fingerprint == bundle.fingerprint
    assert same(trainer.blocked.per_user(loaded, again.test_data), wanted)
    rows = bundle.dataset.join(
        type(bundle.test_data.user_df)({bundle.dataset.uid_field: torch.from_numpy(users)})
    )
    with torch.no_grad():
        assert torch.equal(loaded.full_sort_predict(rows), trainer.model.full_sort_predict(rows))


@pytest.mark.parametrize(
    ("model", "file", "named"),
    [
        ("SLIFMR", "toy.kg", "graph"),
        ("SLIFMR", "toy.text.npy", "features"),
        ("KGAT", "toy.kg", "graph"),
        ("KGAT", "toy.text.npy", None),
        ("BPR", "toy.kg", None),
        ("CKE", "toy.kg", "graph"),
        ("CKE", "toy.text.npy", None),
        ("NeuMF", "toy.kg", None),
        (Own, "toy.kg", "graph"),
        (Own, "toy.text.npy", "features"),
    ],
)
def test_load_model_refuses_another_graph_or_other_features(trained, tmp_path, model, file, named):
    trainer, _ = trained(model, epochs=1, embedding_size=...)
    checkpoint.load_model(trainer.run_folder, model=Own if model is Own else None)
    path = tmp_path / "data" / "toy" / file
    if path.suffix == ".npy":
        np.save(path, np.load(path)[::-1])  # each row now belongs to another item
    else:
        lines = path.read_text().splitlines()
        moved = [line.split("\t") for line in lines if line.startswith("e0\t")]
        ends = {tail for _, _, tail in moved}
        other = next(f"x{at}" for at in range(8) if f"x{at}" not in ends)
        lines[lines.index("\t".join(moved[0]))] = "\t".join([*moved[0][:2], other])
        path.write_text("\n".join(lines) + "\n")
    if named is None:
        checkpoint.load_model(trainer.run_folder)
        return
    with pytest.raises(CheckpointError, match=rf"does not fit: {named} \(.* changed since"):
        checkpoint.load_model(trainer.run_folder, model=Own if model is Own else None)


LABELLED = {
    "threshold": {"rating": 3},
    "eval_args": {"mode": "labeled"},
    "metrics": ["AUC"],
    "valid_metric": "AUC",
}


@pytest.mark.parametrize(
    ("model", "changes", "file"),
    [
        ("BPR", LABELLED, "inter"),
        ("NeuMF", {**LABELLED, "train_neg_sample_args": None}, "inter"),
        ("FM", {}, "inter"),
        ("FM", {}, "item"),
        ("NeuMF", {}, "item"),
        ("BPR", {}, "inter"),
    ],
)
def test_load_model_refuses_other_columns(trained, tmp_path, model, changes, file):
    folder = write_toy(tmp_path / "data") / "toy"
    edit_lines(
        folder / "toy.inter",
        lambda lines: [
            f"{line}\t{at % 5 if at else 'rating:float'}" for at, line in enumerate(lines)
        ],
    )
    columns = {"inter": ["user_id", "item_id", "rating"]}
    if model == "FM":
        columns |= {"item": ["item_id", "year"]}
    trainer, _ = trained(model, epochs=1, embedding_size=..., load_col=columns, **changes)
    checkpoint.load_model(trainer.run_folder)
    other = ("\t4", "\t1") if file == "inter" else ("1991", "2001")
    edit_lines(
        folder / f"toy.{file}",
        lambda lines: [lines[0], *(line.replace(*other) for line in lines[1:])],
    )
    if (model, file) in (("BPR", "inter"), ("NeuMF", "item")) and not changes:
        checkpoint.load_model(trainer.run_folder)
        return
    with pytest.raises(CheckpointError, match=r"does not fit: columns \(.* changed since"):
        checkpoint.load_model(trainer.run_folder)


def test_checkpoints_without_graph_and_features_are_still_read():
    now = {"data": "a", "graph": "b", "features": "c", "columns": "d"}
    checkpoint.require_fit("x", {"data": "a"}, now)
    with pytest.raises(CheckpointError, match=r"does not fit: data"):
        checkpoint.require_fit("x", {"graph": "b"}, {"data": "a", "graph": "b"})


def test_load_model_refuses_other_data(trained, tmp_path):
    trainer, _ = trained("BPR", epochs=1)
    with pytest.raises(CheckpointError, match=r"does not fit: data \("):
        checkpoint.load_model(trainer.run_folder, {"split_seed": 77})
    with pytest.raises(CheckpointError, match=r"holds no best.pt or last.pt"):
        checkpoint.load_model(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        checkpoint.load_model(tmp_path / "nowhere.pt")


def test_recboles_checkpoint_needs_trust(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, model, _ = build(tmp_path)
    theirs = Trainer(config, model)
    theirs.best_valid_score = 0.25
    theirs._save_checkpoint(4, verbose=False)
    with pytest.raises(CheckpointError, match="import_recbole_checkpoint"):
        checkpoint.load(theirs.saved_model_file)
    _, fresh, _ = build(tmp_path, seed=1)
    with pytest.raises(CheckpointError, match="trust_pickle=True"):
        checkpoint.import_recbole_checkpoint(theirs.saved_model_file, fresh)
    found = checkpoint.import_recbole_checkpoint(theirs.saved_model_file, fresh, trust_pickle=True)
    assert found == {"epoch": 4, "best_valid_score": 0.25, "cur_step": 0}
    assert same(dict(fresh.state_dict()), dict(model.state_dict()))


def test_models_that_share_a_name_or_are_the_users_own(trained):
    trainer, _ = trained(get_model("NGCF"), epochs=1, embedding_size=8)
    _, loaded, _ = checkpoint.load_model(trainer.run_folder)
    assert type(loaded) is get_model("NGCF")
    trainer, _ = trained(Own, epochs=1)
    with pytest.raises(ConfigError, match="model 'Own' is not known"):
        checkpoint.load_model(trainer.run_folder)
    _, loaded, _ = checkpoint.load_model(trainer.run_folder, model=Own)
    assert type(loaded) is Own


def test_a_checkpoint_cannot_name_code_to_import(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "evil.py").write_text("open('bomb', 'w').close()")
    header = {"dataset": "toy", "config": {}, "identity": {}}
    for names in (
        {"model": "evil:X", "class": "evil:X"},
        {"model": "X", "class": "evil:X"},
        {"model": "BPR"},
    ):
        checkpoint.save("x.pt", Checkpoint({**header, **names}))
        with pytest.raises((CheckpointError, ConfigError)):
            checkpoint.load_model("x.pt")
    assert not (tmp_path / "bomb").exists()

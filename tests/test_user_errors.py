"""What a user can get wrong on the command line: one line that names the place and the fix."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_slif.__main__ import main
from tests.toy import edit_lines, write_toy

STEM = "data/toy/toy"
COMMON = {
    "dataset": "toy",
    "data_path": "data",
    "checkpoint_dir": "saved",
    "epochs": 1,
    "train_batch_size": 64,
    "topk": [3, 5],
    "valid_metric": "Recall@5",
    "show_progress": False,
    "use_tuned": False,
}


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_toy(Path("data"))


def words(model="SLIFMR", **changes):
    """Command line words of a small run; a change to `...` leaves the key out."""
    chosen = {"model": model, **COMMON, **changes}
    return [f"--{key}={value}" for key, value in chosen.items() if value is not ...]


def refused(argv, capsys):
    """Run a command that must fail; return its one line."""
    try:
        code = main(argv)
    except SystemExit as leave:  # the doctor's parser
        code = leave.code
    shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert code == 2
    assert len(shown) == 1
    return shown[0]


def edit(suffix, change):
    return lambda: edit_lines(Path(f"{STEM}{suffix}"), change)


def put(suffix, content):
    return lambda: Path(f"{STEM}{suffix}").write_bytes(content)


def remove(*suffixes):
    return lambda: [Path(f"{STEM}{suffix}").unlink() for suffix in suffixes]


def redo(change, modality="visual"):
    """Rewrite a feature matrix."""

    def rewrite():
        path = f"{STEM}.{modality}.npy"
        np.save(path, change(np.load(path)))

    return rewrite


def with_cell(value, dtype=np.float32):
    def change(matrix):
        matrix = matrix.astype(dtype)
        matrix[3, 1] = value
        return matrix

    return redo(change)


def header(lines):
    return lines[:1]


def cut(number):
    """Take the last cell from one line (counted from 1)."""

    def change(lines):
        lines[number - 1] = lines[number - 1].rpartition("\t")[0]
        return lines

    return change


FILES = {
    "no interactions file": (remove(".inter"), {}, "no toy.inter (or toy.train.inter"),
    "empty interactions": (put(".inter", b""), {}, "toy.inter: the file is empty"),
    "interactions of a header": (edit(".inter", header), {}, "toy.inter: no interactions below"),
    "interaction cut off": (edit(".inter", cut(6)), {}, "toy.inter: line 6: 1 column(s)"),
    "other columns": (put(".inter", b"a:token\tb:token\n1\t2\n"), {}, "no column 'user_id'"),
    "no types": (put(".inter", b"user_id\titem_id\n1\t2\n"), {}, "line 1: column 'user_id'"),
    "ids that are numbers": (
        edit(".inter", lambda lines: [lines[0].replace("user_id:token", "user_id:float")]),
        {},
        "line 1: column 'user_id' holds ids and has type 'float'; write user_id:token",
    ),
    "NUL byte": (put(".inter", b"user_id:token\titem_id:token\nu\0\ti\n"), {}, "line 2: NUL"),
    "not UTF-8": (
        put(".inter", b"user_id:token\titem_id:token\nu\xe9\ti\n"),
        {},
        "line 2: not utf",
    ),
    "a user with all items": (
        edit(".inter", lambda lines: lines + [f"s\ti{item}" for item in range(15)]),
        {},
        "user 's' has interacted with all 15 items",
    ),
    "empty graph file": (put(".kg", b""), {}, "toy.kg: the file is empty"),
    "triple cut off": (edit(".kg", cut(4)), {}, "toy.kg: line 4: 2 column(s)"),
    "graph without links": (remove(".link"), {}, "no toy.link beside toy.kg"),
    "links without graph": (remove(".kg"), {}, "no toy.kg beside toy.link"),
    "link cut off": (edit(".link", cut(3)), {}, "toy.link: line 3: 1 column(s)"),
    "no graph": (remove(".kg", ".link"), {}, "(.kg and .link files): add the files"),
    "graph of a header": (edit(".kg", header), {}, "or run with --ablation=kg"),
    "nothing linked": (edit(".link", header), {}, "no item that its .link file joins"),
    "nothing linked, KGAT": (edit(".link", header), {"model": "KGAT"}, "tokens of toy.link"),
    "no graph, KGAT": (remove(".kg", ".link"), {"model": "KGAT"}, "add toy.kg and toy.link"),
    "no graph, KGIN": (remove(".kg", ".link"), {"model": "KGIN"}, "add toy.kg and toy.link"),
    "no graph, CKE": (remove(".kg", ".link"), {"model": "CKE"}, "add toy.kg and toy.link"),
    "empty matrix": (put(".visual.npy", b""), {}, "toy.visual.npy: not a complete .npy file"),
    "text for a matrix": (put(".visual.npy", b"hello"), {}, "not a complete .npy file"),
    "matrix of whole numbers": (redo(lambda m: m.astype(int)), {}, "dtype int64"),
    "matrix of no rows": (redo(lambda m: m[:0]), {}, "shape (0, 6)"),
    "matrix of one dimension": (redo(lambda m: m[:, 0]), {}, "shape (13,)"),
    "fewer rows than ids": (redo(lambda m: m[:-1]), {}, "13 tokens for 12 rows"),
    "fewer ids than rows": (edit(".visual.ids", lambda ids: ids[:-1]), {}, "12 tokens for 13"),
    "no ids": (remove(".visual.ids"), {}, "no toy.visual.ids beside it"),
    "an id twice": (edit(".visual.ids", lambda ids: [ids[1], *ids[1:]]), {}, "line 2: token"),
    "ids of other items": (
        edit(".visual.ids", lambda ids: [f"q{token}" for token in ids]),
        {},
        "none of its 13 tokens is an item",
    ),
    "a NaN": (with_cell(np.nan), {}, "toy.visual.npy: row 3 (item "),
    "an infinity": (with_cell(np.inf), {}, "row 3 (item "),
    "too large for float32": (with_cell(1e300, np.float64), {}, "row 3 (item "),
    "modality of NaN": (redo(lambda m: m * np.nan), {}, "every item of the data set lacks"),
    "no such modality": (put(".x", b""), {"modalities": "[visula]"}, "no toy.visula.npy"),
    "a modality twice": (put(".x", b""), {"modalities": "[text,text]"}, "distinct names"),
    "no modalities": (put(".x", b""), {"modalities": []}, "run with --ablation=mm"),
}


@pytest.mark.parametrize("case", FILES)
def test_files(case, capsys):
    prepare, changes, said = FILES[case]
    prepare()
    assert said in refused(words(**changes), capsys)


SETTINGS = [
    ({"learnin_rate": 0.1}, "command line: key 'learnin_rate' is not known; did you mean"),
    ({"model": "BPR", "sge_n": 3}, "key 'sge_n' belongs to SLIFMR, not to BPR"),
    ({"epochs": "many"}, "epochs must be a whole number, not 'many'"),
    ({"epochs": -1}, "epochs must be at least 0, not -1"),
    ({"fusion": "aifl"}, "fusion cannot be 'aifl'; it is one of ailf, concat, sum, att"),
    ({"n_layers": "[1,2]"}, "n_layers must be a whole number"),
    ({"embedding_size": 0}, "embedding_size must be at least 1, not 0"),
    ({"learning_rate": -1}, "learning_rate must be more than 0, not -1"),
    ({"train_batch_size": 0}, "train_batch_size must be at least 1"),
    ({"eval_batch_size": 0}, "eval_batch_size must be at least 1"),
    ({"tau": 0}, "tau must be more than 0"),
    ({"prune_ui": 1.5}, "prune_ui must be between 0 and 1, not 1.5"),
    ({"seed": -1}, "seed must be between 0 and 4294967295, not -1"),
    ({"topk": "[500]", "valid_metric": "Recall@500"}, "topk: a list of 500 is longer than the 15"),
    ({"valid_metric": "Recall"}, "valid_metric: Recall needs the length of the list"),
    ({"topk": "[]"}, "topk: no length of lists is given"),
    ({"field_separator": ""}, "field_separator must be one character"),
    ({"metrics": "[Recal]"}, "metrics: 'Recal' is not a metric of RecBole; did you mean 'recall'?"),
    ({"eval_args": "{order: TO}"}, "eval_args: order TO needs the column 'timestamp'"),
    ({"val_interval": "{rating: '[3,inf)'}"}, "val_interval: 'rating' is no column"),
    ({"threshold": "{rating: 3}"}, "only, write val_interval {rating: '[3,inf)'}"),
    ({"threshold": "3"}, "threshold must be a mapping"),
    ({"val_interval": "'[3,inf)'"}, "val_interval must be a mapping"),
    ({"normalize_field": "[rating]"}, "normalize_field: 'rating' is no column"),
    ({"numerical_features": "[rating]"}, "numerical_features: 'rating' is no column"),
    ({"discretization": "{rating: {method: ED, bucket: 3}}"}, "discretization: 'rating' is no"),
    ({"preload_weight": "{item_id: vector}"}, "preload_weight: 'vector' is no column"),
    ({"alias_of_item_id": "[item_list]"}, "alias_of_item_id: 'item_list' is no column"),
    ({"unload_col": "{inter: [rating]}"}, "unload_col: load_col reads user_id, item_id of .inter"),
    ({"additional_feat_suffix": "[kg]"}, "additional_feat_suffix: .kg is read anyway"),
    ({"transform": "mask_itemseq"}, "transform: it acts on sequences"),
    ({"learner": "sparse_adam"}, "learner: sparse_adam needs embeddings with sparse=True"),
    ({"valid_metric_bigger": "False"}, "valid_metric_bigger: Recall is the better the larger"),
    ({"metrics": "[AUC]", "valid_metric": "AUC"}, "metrics: AUC is of labelled pairs"),
    ({"train_neg_sample_args": "null"}, "train_neg_sample_args: SLIFMR learns from pairs"),
    ({"learning_rate": 1e30, "epochs": 3}, "training loss is not finite in epoch 1, batch 0 (bpr"),
    ({"model": "SLIF"}, "model 'SLIF' is not known; did you mean 'SLIFMR'?"),
    ({"model": "json:dumps"}, "model 'json:dumps' is no recommender class"),
    ({"model": "mine.py"}, "names a file; name its class, from the folder of the file: --model=m"),
    ({"model": "./sub/mine.py:Mine"}, "names a file; name its class"),
    ({"model": "no.such:Model"}, "cannot be imported: No module named 'no'"),
    ({"dataset": "data/toy"}, "is a path; give the name 'toy' and data_path 'data'"),
    ({"dataset": "toy/"}, "'toy/' is a path; give the name 'toy'"),
    ({"dataset": "toyy"}, "did you mean 'toy'?"),
    ({"dataset": "amazon-bok"}, "did you mean 'amazon-book'?"),
    ({"dataset": "amazon-book"}, "it needs amazon-book.train.inter and amazon-book.test.inter"),
    ({"dataset": "alibaba-ifashion"}, "KGIN's release"),
    ({"data_path": "nowhere"}, "there is no folder 'nowhere/toy'"),
    ({"protocol": "benchmark"}, "no toy.train.inter and toy.test.inter"),
    ({"feature_path": "nowhere"}, "feature_path: nowhere is neither"),
    ({"config_files": "no.yaml"}, "configuration file 'no.yaml' cannot be read"),
    ({"checkpoint_dir": "data/toy/toy.kg"}, "cannot be made (Not a directory)"),
]


@pytest.mark.parametrize(("changes", "said"), SETTINGS, ids=[said for _, said in SETTINGS])
def test_settings(changes, said, capsys):
    assert said in refused(words(**changes), capsys)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\nb: 2", "'mine.yaml' line 2: "),
        ("hello", "must hold lines of the form"),
        ("epochs: 1\nepochs: 2", "line 2: key 'epochs' stands in line 1 already"),
        ("n_layer: 1", "file 'mine.yaml': key 'n_layer' is not known; did you mean 'n_layers'?"),
        ("epochs: !!python/object/apply:os.system [x]", "line 1: could not determine"),
    ],
)
def test_configuration_files(text, said, capsys):
    Path("mine.yaml").write_text(text, "utf-8")
    assert said in refused([*words(), "--config_files=mine.yaml"], capsys)


@pytest.mark.parametrize(
    ("model", "text", "extra", "said"),
    [
        ("SLIFMR", None, [], "parameter file 'mine.hyper' cannot be read: No such file"),
        ("SLIFMR", "n_layers choice\n", [], "line 1: expected 'name type values'"),
        ("SLIFMR", "# only this\n", [], "names no parameter"),
        ("SLIFMR", "n_layrs choice [1]\n", [], "key 'n_layrs' is not known; did you mean"),
        ("SLIFMR", "fusion choice [ailf, x]\n", [], "fusion cannot be 'x'"),
        ("SLIFMR", "n_layers choice [1]\n", ["--max_evals=0"], "--max_evals must be at least 1"),
        ("SLIFMR", "n_layers choice [1]\n", ["--algo=magic"], "--algo is one of exhaustive"),
        ("SLIF", "n_layers choice [1]\n", [], "did you mean 'SLIFMR'?"),
    ],
)
def test_parameter_files(model, text, extra, said, capsys):
    if text is not None:
        Path("mine.hyper").write_text(text, "utf-8")
    argv = ["hyper", *words(model), "--params_file=mine.hyper", *extra]
    assert said in refused(argv, capsys)
    assert not Path("saved").exists()


def test_model_without_parameter_file(capsys):
    said = refused(["hyper", *words("Pop")], capsys)
    assert "model 'Pop' comes without a parameter file" in said
    assert "--params_file=FILE" in said


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["recomend"], "command 'recomend' is not known"),
        (["doctor", "--jsn"], "unrecognized arguments: --jsn"),
        (["models", "stray"], "unrecognized arguments: stray"),
        (["--models=,", *words(model=...)], "--models names no model"),
        (["--models=Pop", *words()], "--model and --models exclude one another"),
        (["--resume=nowhere"], "checkpoint 'nowhere' does not exist"),
        (["--resume=data"], "folder 'data' holds no last.pt or previous.pt; name the folder of"),
        (["recommend", "--checkpoint=nowhere", "--users=all"], "does not exist"),
    ],
)
def test_commands(argv, said, capsys):
    assert said in refused(argv, capsys)


# ---- checkpoints -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run, with its data."""
    place = tmp_path_factory.mktemp("trained")
    write_toy(place / "data")
    chosen = words("BPR", data_path=place / "data", checkpoint_dir=place / "saved")
    assert main([*chosen, "--embedding_size=8"]) == 0
    return next(path for path in (place / "saved").iterdir() if path.name != "runs")


def recommended(folder, *extra):
    return ["recommend", f"--checkpoint={folder}", *extra]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--users=u1,u99"], "user 'u99' is not in data set 'toy'; did you mean 'u"),
        (["--users=u1", "--topk=0"], "topk is 0"),
        (["--users=u1", "--exclude=tset"], "exclude 'tset' is none of train, valid, test"),
        (["--users=u1", "--output=lists.xml"], "ends in .csv, .tsv or .jsonl"),
        (["--users_file=nobody.txt"], "users file 'nobody.txt' cannot be read"),
        ([], "name the users"),
        (["--users=u1", "--embedding_size=4"], "'embedding_size' was 8 when the checkpoint"),
        (["--users=u1", "--topk_=3"], "key 'topk_' is not known"),
    ],
)
def test_lists(trained, extra, said, capsys):
    assert said in refused(recommended(trained, *extra), capsys)


def test_checkpoint_of_other_data_or_settings(trained, capsys):
    write_toy(Path("other"), seed=5, n_users=14)
    said = refused(recommended(trained, "--users=u1", "--data_path=other"), capsys)
    assert "does not fit: users (checkpoint 13, here 15), data" in said
    said = refused([f"--resume={trained}", "--data_path=other"], capsys)
    assert "does not fit: users" in said
    for key, was, wanted in (("embedding_size", 8, 16), ("learning_rate", 0.001, 0.01)):
        said = refused([f"--resume={trained}", f"--{key}={wanted}"], capsys)
        assert f"'{key}' was {was} when the checkpoint was trained and cannot become" in said
    said = refused([f"--resume={trained}/best.pt"], capsys)
    assert "resume from the run's last.pt" in said


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda raw: raw[: len(raw) // 2], "torn or not a checkpoint"),
        (lambda raw: b"", "is empty"),
        (lambda raw: b"junk" * 50, "torn or not a checkpoint"),
    ],
)
def test_damaged_checkpoint(trained, damage, said, capsys):
    shutil.copytree(trained, "run")
    path = Path("run/last.pt")
    path.write_bytes(damage(path.read_bytes()))
    assert said in refused(["--resume=run"], capsys)


def test_foreign_checkpoint(capsys):
    torch.save({"state_dict": {}}, "theirs.pth")
    assert "is not a checkpoint of this package" in refused(["--resume=theirs.pth"], capsys)


def test_own_model_in_the_working_folder(monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != os.getcwd()])
    text = "from recbole_slif.model.general.bpr import BPR\n\n\nclass Mine(BPR):\n    pass\n"
    Path("model_in_the_working_folder.py").write_text(text, "utf-8")
    model = "model_in_the_working_folder:Mine"
    assert main(words(model)) == 0
    folder = capsys.readouterr().out.split()[-1]
    assert "not known" in refused(recommended(folder, "--users=u1"), capsys)
    assert main(recommended(folder, "--users=u1", f"--model={model}")) == 0


# ---- odd, but documented to work -------------------------------------------------------------


@pytest.mark.parametrize(
    ("prepare", "changes"),
    [
        (edit(".kg", header), {"ablation": "kg"}),
        (remove(".kg", ".link"), {"model": "LightGCN"}),
        (edit(".inter", lambda lines: [*lines, "lone\ti1", "alone\ti2"]), {}),
        (edit(".inter", lambda lines: lines[:1] + [f"u{n}\ti{n}" for n in range(10)]), {}),
        (redo(lambda matrix: matrix * 0), {}),
        (redo(lambda matrix: matrix.astype(np.float16)), {"modalities": "visual"}),
        (with_cell(np.nan), {"model": "BPR", "modalities": "[text]"}),
        (put(".x", b""), {"load_col": "{inter: [user_id, item_id, rating]}", "model": "BPR"}),
        (put(".x", b""), {"data_path": "data/toy", "model": "BPR"}),
        (put(".x", b""), {"model": "MultiVAE", "train_neg_sample_args": "null"}),
        (put(".x", b""), {"model": "DiffRec"}),
    ],
)
def test_odd_input_works(prepare, changes):
    prepare()
    assert main(words(**changes)) == 0


def test_last_lines_are_paths_for_the_next_command(tmp_path, capsys):
    for place in ("saved", str(tmp_path / "saved"), f"{tmp_path}-elsewhere"):
        assert main(words("BPR", checkpoint_dir=place)) == 0
        lines = capsys.readouterr().out.splitlines()
        found = {line.split()[0]: line.split()[-1] for line in lines[-2:]}
        assert Path(found["record"]).is_file()
        assert (Path(found["checkpoints"]) / "last.pt").is_file()
        assert Path(found["record"]).is_absolute() is place.endswith("elsewhere")
    shutil.rmtree(f"{tmp_path}-elsewhere")

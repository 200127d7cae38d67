"""Settings: layers, strict keys, types, literals, names, device."""

import json
import os
import re
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.model.general_recommender import BPR as RECBOLE_BPR

from recbole_slif import config as module
from recbole_slif.config import SlifConfig, find_model_class, properties_dir
from recbole_slif.config_keys import read_keys
from recbole_slif.config_yaml import read_options, read_settings
from recbole_slif.errors import ConfigError, SlifError
from recbole_slif.registry import MODELS
from tests.toy import write_toy

PROPERTY_FILES = sorted(
    path for path in properties_dir().rglob("*.yaml") if path.parent.name != "experiment"
)
# What a model's authors set to a value of their own, though it belongs to training.
OF_TRAINING = {"learning_rate", "train_neg_sample_args"}
CONVENTION = re.compile(r"^(\w+): (.+?)  # \((\w+(?: or \w+)*)(?:: [^)]+)?\) \S.*$")


class Mine(RECBOLE_BPR):
    """A user's model with keys of its own."""

    config_defaults: ClassVar = {"my_width": 3, "my_path": None}


def make(model="BPR", dataset="ml-100k", **given):
    return SlifConfig(model, dataset, **given)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def refused(message, **given):
    with pytest.raises(SlifError) as caught:
        make(**given)
    text = str(caught.value)
    assert "\n" not in text
    assert re.search(message, text), text


# ---------------------------------------------------------------- the property files themselves


@pytest.mark.parametrize("path", PROPERTY_FILES, ids=lambda p: p.relative_to(properties_dir()))
def test_each_line_of_our_files_says_type_and_meaning(path):
    lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    for line in lines:
        if not line.startswith("#"):
            assert CONVENTION.match(line) or "tuned" in path.parts, line
    keys = read_keys(path, ours=True)
    for name, value in read_settings(path).items():
        keys[name].convert(value, path.name)
        assert keys[name].types or "tuned" in path.parts, name


def test_no_key_stands_in_two_general_files():
    seen = {}
    for path in properties_dir().glob("*.yaml"):
        for key in read_settings(path):
            assert key not in seen, f"{key} in {seen.get(key)} and {path.name}"
            seen[key] = path.name


def test_every_model_has_a_file_whose_keys_no_general_file_has():
    general = {key for path in properties_dir().glob("*.yaml") for key in read_settings(path)}
    for name in MODELS:
        own = set(read_settings(properties_dir() / "model" / f"{name}.yaml"))
        assert not (general - OF_TRAINING) & own


# ---------------------------------------------------------------- layers


def test_later_layers_win(tmp_path, monkeypatch):
    base = tmp_path / "properties"
    for folder in ("model", "dataset", "tuned/toy"):
        (base / folder).mkdir(parents=True)
    for path in properties_dir().glob("*.yaml"):
        write(base / path.name, path.read_text("utf-8"))
    monkeypatch.setattr(module, "properties_dir", lambda: base)
    write_toy(tmp_path)

    def learning_rate(**given):
        config = make(
            dataset="toy", overrides={"data_path": str(tmp_path), **given.pop("o", {})}, **given
        )
        return config["learning_rate"], config.sources["learning_rate"]

    write(base / "model/BPR.yaml", "embedding_size: 64  # (int) d\n")
    assert learning_rate() == (0.001, "overall.yaml")
    line = "learning_rate: {}  # (float) step\n"
    write(base / "dataset/toy.yaml", line.format(0.2))
    assert learning_rate() == (0.2, "dataset/toy.yaml")
    write(base / "model/BPR.yaml", line.format(0.3))
    read_keys.cache_clear()
    assert learning_rate() == (0.3, "model/BPR.yaml")
    write(base / "tuned/toy/BPR.yaml", "learning_rate: 0.4\n")
    assert learning_rate() == (0.4, "tuned/toy/BPR.yaml")
    assert learning_rate(argv=["--use_tuned=False"]) == (0.3, "model/BPR.yaml")
    first, second = write(tmp_path / "a.yaml", line.format(0.5)), tmp_path / "b.yaml"
    write(second, line.format(0.6))
    assert learning_rate(config_files=[first]) == (0.5, f"file '{first}'")
    assert learning_rate(config_files=f"{first},{second}")[0] == 0.6
    given = {"config_files": [first], "o": {"learning_rate": 0.7}}
    assert learning_rate(**given) == (0.7, "overrides")
    assert learning_rate(argv=["--learning_rate=0.8"], **given) == (0.8, "command line")
    read_keys.cache_clear()


def test_three_keys_are_merged_and_others_replaced(tmp_path):
    path = write(tmp_path / "own.yaml", "eval_args: {order: TO, group_by: none}\n")
    config = make(
        config_files=path,
        overrides={"eval_args": {"group_by": "user"}, "topk": [20]},
        argv=["--train_neg_sample_args={'sample_num': 2}"],
    )
    assert (config["eval_args"]["order"], config["eval_args"]["group_by"]) == ("TO", "user")
    assert config["train_neg_sample_args"]["sample_num"] == 2
    assert config["eval_args"]["split"] == {"RS": [0.8, 0.1, 0.1]}
    assert config["topk"] == [20]
    assert config["load_col"]["kg"] == ["head_id", "relation_id", "tail_id"]


def test_all_models_read_the_same_columns(tmp_path):
    write_toy(tmp_path)
    overrides = {"data_path": str(tmp_path)}
    columns = [
        make(model=model, dataset="toy", overrides=overrides)["load_col"]
        for model in ("BPR", "SLIFMR", "CKE")
    ]
    assert all(columns[0] == other for other in columns)
    assert columns[0]["inter"] == ["user_id", "item_id"]


def test_config_works_as_recboles_and_never_reads_the_command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--epochs=3", "stray"])
    config = make()
    assert isinstance(config, Config)
    assert config["epochs"] != 3
    assert config["train_batch_size"] == 4096
    assert config["MODEL_INPUT_TYPE"] is not None and config["valid_metric_bigger"] is True
    assert config["train_neg_sample_args"]["distribution"] == "uniform"
    assert config["eval_args"]["mode"] == {"valid": "full", "test": "full"}
    assert "epochs" in str(config)


def test_recbole_lists_are_not_changed_by_a_config():
    from recbole.utils import dataset_arguments

    before = list(dataset_arguments)
    make()
    assert dataset_arguments == before


def test_record_is_json_with_sources():
    record = json.loads(json.dumps(make(argv=["--topk=[5,20]"]).record()))
    assert record["settings"]["topk"] == [5, 20]
    assert record["sources"]["topk"] == "command line"
    assert record["given"] == [{"key": "topk", "source": "command line", "value": "[5,20]"}]


# ---------------------------------------------------------------- keys and values


def test_unknown_key_names_the_nearest_and_where_it_stood(tmp_path):
    refused("overrides: key 'learning_rte' .*'learning_rate'", overrides={"learning_rte": 1})
    refused("command line: key 'topks' .*'topk'", argv=["--topks=3"])
    path = write(tmp_path / "own.yaml", "epoch: 3\n")
    refused(r"own.yaml.*key 'epoch' .*'epochs'", config_files=[path])


def test_key_of_another_model_is_refused_with_its_owner():
    refused("'sge_n' belongs to SLIFMR, not to BPR", overrides={"sge_n": 5})
    refused("'mlp_hidden_size' belongs to .*, not to BPR", argv=["--mlp_hidden_size=[8]"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", "3"),
        ("epochs", 2.5),
        ("epochs", True),
        ("epochs", None),
        ("learning_rate", "0.1"),
        ("use_gpu", 1),
        ("use_gpu", "no"),
        ("checkpoint_dir", 3),
        ("eval_args", "full"),
        ("topk", "20"),
    ],
)
def test_value_of_another_type_is_refused_with_key_and_value(key, value):
    shown = "null" if value is None else re.escape(repr(value))
    refused(f"overrides: {key} must be .*{shown}", overrides={key: value})


def test_whole_numbers_pass_for_numbers_and_five_point_zero_for_five():
    config = make(overrides={"learning_rate": 1, "epochs": 5.0})
    assert (config["learning_rate"], type(config["learning_rate"])) == (1.0, float)
    assert (config["epochs"], type(config["epochs"])) == (5, int)


def test_what_python_users_pass_is_read_as_meant():
    given = {"epochs": np.int64(3), "learning_rate": np.float32(0.5), "checkpoint_dir": Path("x"),
             "topk": (5, 20), "metrics": ("Recall", "NDCG"), "use_tuned": False}  # fmt: skip
    config = make(overrides=given)
    assert (config["epochs"], config["learning_rate"], config["checkpoint_dir"]) == (3, 0.5, "x")
    assert (config["topk"], config["metrics"]) == ([5, 20], ["Recall", "NDCG"])
    assert make(argv=["--topk=5,20"])["topk"] == [5, 20]
    assert all(type(config[key]) is kind for key, kind in (("epochs", int), ("topk", list)))
    refused("use_tuned must be True or False", overrides={"use_tuned": np.int64(1)})
    refused("epochs must be a whole number", overrides={"epochs": np.float64(1.5)})


def test_choice_outside_the_list_is_refused_with_the_list():
    refused("fusion cannot be 'alf'.*ailf, concat, sum, att.*'ailf'", model="SLIFMR",
            argv=["--fusion=alf"])  # fmt: skip


def test_command_line_text_becomes_the_keys_type():
    argv = ["--epochs", "7", "--use_gpu=false", "--clip_grad_norm={'max_norm': 5}"]
    argv += [
        "--checkpoint_dir=2026",
        "--gpu_id=0",
        "--eval_batch_size=1e3",
        "--valid_metric=NDCG@10",
    ]
    config = make(argv=argv)
    assert config["epochs"] == 7 and config["use_gpu"] is False
    assert config["clip_grad_norm"] == {"max_norm": 5}
    assert config["checkpoint_dir"] == "2026" and config["eval_batch_size"] == 1000
    assert config["valid_metric"] == "NDCG@10"


def test_nothing_typed_is_run(tmp_path):
    text = "__import__('os').environ.__setitem__('SLIF_RAN', '1')"
    refused("epochs must be", argv=[f"--epochs={text}"])
    path = write(tmp_path / "x.yaml", "state: !!python/object/apply:os.getcwd []\n")
    refused("x.yaml' line 1: could not determine a constructor", config_files=[path])
    assert "SLIF_RAN" not in os.environ


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--epochs=1", "--epochs=2"], "given twice"),
        (["--epochs"], "has no value"),
        (["--epochs", "--topk=3"], "has no value"),
        (["epochs=3"], "belongs to no option"),
    ],
)
def test_malformed_options(argv, message):
    refused(message, argv=argv)


def test_values_may_hold_equal_signs():
    assert read_options(["--a=b=c", "--d", "e=f"]) == {"a": "b=c", "d": "e=f"}


# ---------------------------------------------------------------- files


def test_missing_and_broken_files_are_one_line(tmp_path):
    refused("'nowhere.yaml' cannot be read", config_files="nowhere.yaml")
    for text, message in [
        ("epochs: 3\ntopk: [1\nseed: 2\n", r"line \d: "),
        ("epochs: 3\nseed: 1\nepochs: 4\n", "line 3: key 'epochs' stands in line 1 already"),
        ("eval_args: {mode: full, mode: full}\n", "key 'mode' stands in line 1 already"),
        ("- epochs\n", "`key: value`"),
        ("epochs: !!python/name:os.system\n", "line 1"),
    ]:
        refused(message, config_files=[write(tmp_path / "bad.yaml", text)])


@pytest.mark.parametrize("words", ["[visual, text]", "['visual', 'text']", "[visual,text]"])
def test_lists_of_words_need_no_quotes(words):
    assert make(argv=[f"--modalities={words}"])["modalities"] == ["visual", "text"]


@pytest.mark.parametrize("model", ["json:dumps", "json:JSONDecoder", "json:"])
def test_only_recommenders_are_models(model):
    refused("is no recommender|cannot be imported", model=model)


def test_accepted_keys_are_the_models_own():
    assert "sge_n" in make("SLIFMR").accepted_keys
    assert "sge_n" not in make("BPR").accepted_keys


# ---------------------------------------------------------------- models, data sets, devices


def test_model_may_be_ours_recboles_a_path_or_a_class():
    assert find_model_class("LightGCN")[1].__module__.startswith("recbole_slif.")
    name, theirs = find_model_class("recbole.model.general_recommender.bpr:BPR")
    assert (name, theirs) == ("BPR", RECBOLE_BPR)
    assert find_model_class("CKE")[1].__module__.startswith("recbole.model.")
    config = make(model="CKE", argv=["--kg_embedding_size=8"])
    assert config["kg_embedding_size"] == 8
    assert config.sources["reg_weights"] == "recbole/properties/model/CKE.yaml"


def test_a_users_class_declares_its_keys_and_inherits():
    config = make(model=Mine, overrides={"my_width": 5})
    assert (config["my_width"], config["my_path"], config["model"]) == (5, None, "Mine")
    assert config["embedding_size"] == 64  # of RecBole's BPR, its parent
    refused("my_width must be a whole number", model=Mine, overrides={"my_width": "5"})


@pytest.mark.parametrize("typed", ["lightgcn", "LigthGCN", "slif-mr", "BRP"])
def test_unknown_model_offers_the_nearest(typed):
    refused("is not known; did you mean", model=typed)


def test_unknown_dataset_offers_the_nearest(tmp_path):
    (tmp_path / "books").mkdir()
    overrides = {"data_path": str(tmp_path)}
    refused("'books1'.*did you mean 'books'", dataset="books1", overrides=overrides)
    refused("'ml-100'.*did you mean 'ml-100k'", dataset="ml-100")
    refused("'amazon-bok'.*did you mean 'amazon-book'", dataset="amazon-bok")
    refused("needs amazon-book.train.inter and .*KGAT's release", dataset="amazon-book")
    refused("needs alibaba-ifashion.train.inter and .*KGIN's", dataset="alibaba-ifashion")
    with pytest.raises(ConfigError, match="no dataset is named"):
        SlifConfig("BPR")


def test_own_copy_of_the_embedded_data_set_wins(tmp_path):
    assert Path(make()["data_path"]).parent.name == "dataset_example"
    (tmp_path / "ml-100k").mkdir()
    config = make(overrides={"data_path": str(tmp_path)})
    assert config["data_path"] == str(tmp_path / "ml-100k")


def test_use_gpu_false_is_the_cpu_and_a_schedulers_choice_stays(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert make(overrides={"use_gpu": False})["device"].type == "cpu"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert make()["device"].type == "cuda"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert make(argv=["--gpu_id=1"])["device"].type == "cuda"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"


def test_looking_models_up_leaves_anomaly_mode_off():
    find_model_class("CFKG")
    assert not torch.is_anomaly_enabled()

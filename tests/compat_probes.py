"""One probe per fix, each run in forked processes with all fixes and with all but its own.

Run as a script it prints JSON: {fix: {"with": "", "without": "what went wrong"}}; empty is well.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from recbole_slif import compat
from tests.toy import write_table

# The slow imports that no fix touches are made once, before the forks.
PRELOADED = ("torch", "pandas", "scipy.sparse", "sklearn.metrics", "torch.utils.tensorboard")


def recbole_config(folder: Path, **settings):
    """RecBole's own configuration of a data set called `d`, for a stand-in model."""
    from recbole.config import Config
    from recbole.utils import InputType, ModelType

    class StandIn:
        type = ModelType.GENERAL
        input_type = InputType.PAIRWISE

    sys.argv = ["probe"]
    given = {"data_path": str(folder), "gpu_id": "", **settings}
    return Config(model=StandIn, dataset="d", config_dict=given)


def write_data(folder: Path, items=(), users=(), inter_extra=None):
    """Four interactions, with a `.item` or a `.user` file on request."""
    target = folder / "d"
    target.mkdir()
    header = ["user_id:token", "item_id:token"] + (["seen:token_seq"] if inter_extra else [])
    rows = [("u1", "i1"), ("u1", "i2"), ("u2", "i2"), ("u3", "i3")]
    if inter_extra:
        rows = [(*row, extra) for row, extra in zip(rows, inter_extra, strict=True)]
    write_table(target / "d.inter", header, rows)
    if items:
        write_table(target / "d.item", ["item_id:token", "genre:token_seq"], list(items))
    if users:
        header = ["user_id:token", "city:token", "age:float"]
        write_table(target / "d.user", header, list(users))


def probe_numpy_names(folder):
    import pandas as pd
    from recbole.data.interaction import _convert_to_tensor

    # RecBole adds some of the names when it builds a Config, ours are there before
    assert _convert_to_tensor(pd.Series([1.5, 2.5])).tolist() == [1.5, 2.5]
    recbole_config(folder)


def probe_scipy_dok_update(folder):
    from recbole.model.general_recommender.lightgcn import LightGCN
    from scipy.sparse import coo_matrix

    seen = np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    model = SimpleNamespace(n_users=2, n_items=3, interaction_matrix=coo_matrix(seen))
    got = LightGCN.get_norm_adj_mat(model).to_dense().numpy()
    whole = np.zeros((5, 5))
    whole[:2, 2:], whole[2:, :2] = seen, seen.T
    scale = 1 / np.sqrt(whole.sum(1) + 1e-7)
    np.testing.assert_allclose(got, scale[:, None] * whole * scale[None, :], rtol=1e-5)


def probe_pandas_fill(folder):
    from recbole.data.dataset import Dataset

    write_data(folder, users=[("u1", "rome", 20), ("u2", "", ""), ("u3", "oslo", 40)])
    columns = {"inter": ["user_id", "item_id"], "user": ["user_id", "city", "age"]}
    dataset = Dataset(recbole_config(folder, load_col=columns))
    row = dataset.token2id("user_id", "u2")
    assert int(dataset.user_feat["city"][row]) == 0, dataset.user_feat["city"]
    assert float(dataset.user_feat["age"][row]) == 30.0, dataset.user_feat["age"]
    assert dataset.user_feat["city"].min() >= 0


def read_genres(folder, items):
    from recbole.data.dataset import Dataset

    write_data(folder, items=items)
    columns = {"inter": ["user_id", "item_id"], "item": ["item_id", "genre"]}
    dataset = Dataset(recbole_config(folder, load_col=columns))
    tokens = {}
    for item, _ in items:
        row = dataset.item_feat["genre"][dataset.token2id("item_id", item)]
        tokens[item] = [dataset.id2token("genre", int(i)) for i in row if i > 0]
    return tokens


def probe_pandas_sequence_cells(folder):
    got = read_genres(folder, [("i1", "a b"), ("i2", ""), ("i3", "b")])
    assert got == {"i1": ["a", "b"], "i2": [], "i3": ["b"]}, got


def probe_pandas_sequence_lengths(folder):
    got = read_genres(folder, [("i1", "a b c"), ("i2", "c"), ("i3", "b a")])
    assert got == {"i1": ["a", "b", "c"], "i2": ["c"], "i3": ["b", "a"]}, got
    with tempfile.TemporaryDirectory() as other:
        _read_knowledge_sequences(Path(other))


def _read_knowledge_sequences(folder):
    from recbole.data.dataset import KnowledgeBasedDataset

    write_data(folder, inter_extra=["i1 i3", "i2", "i3 i2 i1", "i1"])
    target = folder / "d"
    header = ["head_id:token", "relation_id:token", "tail_id:token"]
    write_table(target / "d.kg", header, [("e1", "r", "x"), ("e3", "r", "x")])
    write_table(target / "d.link", ["item_id:token", "entity_id:token"], [("i1", "e1")])
    columns = {"inter": ["user_id", "item_id", "seen"], "kg": None, "link": None}
    columns["kg"] = ["head_id", "relation_id", "tail_id"]
    columns["link"] = ["item_id", "entity_id"]
    dataset = KnowledgeBasedDataset(
        recbole_config(folder, load_col=columns, alias_of_item_id=["seen"])
    )
    rows = dataset.inter_feat["seen"]
    got = [[dataset.id2token("item_id", int(i)) for i in row if i > 0] for row in rows]
    # items without a link are dropped by RecBole, which leaves the rows of i1
    assert got == [["i1", "i3"]], got


def probe_hyperopt_generator(folder):
    from recbole.trainer import HyperTuning

    tried = []

    def objective(values, _files):
        tried.append((values["a"], values["b"]))
        score = float(values["a"] * 10 + values["b"])
        return {
            "model": "m",
            "best_valid_score": score,
            "valid_score_bigger": True,
            "best_valid_result": {},
            "test_result": {},
        }

    with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
        for algo in ("exhaustive", "random", "bayes"):
            tried.clear()
            space = {"choice": {"a": [1, 2], "b": [3, 4]}}
            search = HyperTuning(
                objective, params_dict=space, algo=algo, max_evals=12, early_stop=99
            )
            search.run()
            best = search.best_params
            assert (best["a"], best["b"]) == max(tried), (algo, best, tried)
            if algo == "exhaustive":
                assert sorted(tried) == [(1, 3), (1, 4), (2, 3), (2, 4)], tried


def probe_hyperopt_pkg_resources(folder):
    import hyperopt

    assert hyperopt.fmin is not None
    from hyperopt import atpe

    source = getattr(atpe, "pkg_resources", None)
    if source is not None and not hasattr(source, "__file__"):
        assert source.resource_string("hyperopt.atpe", "fmin.py").startswith(b"from")
        assert "pkg_resources" not in sys.modules


def probe_literals_only(folder):
    from recbole.trainer import HyperTuning

    text = "__import__('os').environ.__setitem__('SLIF_PROBE', 'ran') or 'x'"
    config = recbole_config(folder, some_key=text, width="[3, 4]", rate="1e-3", flag="true")
    assert "SLIF_PROBE" not in os.environ, "a configuration string was run"
    assert (config["width"], config["rate"], config["flag"]) == ([3, 4], 1e-3, True)
    search = folder / "search.hyper"
    search.write_text("rate choice [1,2]\n", "utf-8")
    HyperTuning(None, params_file=str(search))
    search.write_text(f"rate choice [{text}]\n", "utf-8")
    with contextlib.suppress(NameError):
        HyperTuning(None, params_file=str(search))
    assert "SLIF_PROBE" not in os.environ, "a search file was run"


class _Bomb:
    def __reduce__(self):
        return exec, ("import os; os.environ['SLIF_PROBE'] = 'ran'",)


def probe_plain_files(folder):
    import torch
    from recbole.model.general_recommender import ldiffrec, neumf

    np.save(folder / "bad.npy", np.array([_Bomb()], dtype=object), allow_pickle=True)
    torch.save({"state_dict": _Bomb()}, folder / "bad.pth")
    for module, name in ((ldiffrec.np, "bad.npy"), (neumf.torch, "bad.pth")):
        options = {"allow_pickle": True} if name.endswith("npy") else {"map_location": "cpu"}
        with contextlib.suppress(Exception):
            module.load(folder / name, **options)
    assert "SLIF_PROBE" not in os.environ, "a file of a model was unpickled"
    np.save(folder / "good.npy", np.arange(3.0))
    assert ldiffrec.np.load(folder / "good.npy", allow_pickle=True).tolist() == [0.0, 1.0, 2.0]
    torch.save({"state_dict": {"w": torch.ones(2)}}, folder / "good.pth")
    assert neumf.torch.load(folder / "good.pth", map_location="cpu")["state_dict"]["w"].sum() == 2
    assert neumf.torch.nn is torch.nn


def probe_teacher_names(folder):
    from recbole.model.context_aware_recommender import kd_dagfm

    def teacher(text):
        return eval("eval(text)", vars(kd_dagfm), {"text": text})  # noqa: S307 - as KD_DAGFM does

    assert teacher("CrossNet") is kd_dagfm.CrossNet
    with contextlib.suppress(Exception):
        teacher("__import__('os').environ.__setitem__('SLIF_PROBE', 'ran')")
    assert "SLIF_PROBE" not in os.environ, "the name of a teacher was run"
    with contextlib.suppress(Exception):
        assert teacher("torch") is None, "a teacher that is no network"


def probe_collector_counts(folder):
    import torch
    from recbole.evaluator import Collector, Evaluator

    metrics = ["ItemCoverage", "AveragePopularity", "GiniIndex", "ShannonEntropy"]
    config = recbole_config(folder, metrics=[*metrics, "Recall"], topk=[2])
    config["device"] = torch.device("cpu")
    collector = Collector(config)
    data = SimpleNamespace(num=lambda _: 4, item_counter={1: 2, 2: 1, 3: 1}, user_counter={1: 3})
    collector.data_collect(SimpleNamespace(dataset=data))
    scores = torch.tensor([[-9.0, 3.0, 2.0, 1.0], [-9.0, 1.0, 3.0, 2.0]])
    rows = torch.tensor([0, 1]), torch.tensor([1, 1])
    for _ in range(2):  # what belongs to one evaluation must be forgotten
        collector.eval_batch_collect(scores, None, *rows)
        got = Evaluator(config).evaluate(collector.get_data_struct())
    # top 2 are items (1, 2) and (2, 3): 3 of 4 ids, [PAD] counted; popularity (2+1)/2 and (1+1)/2
    assert got["itemcoverage@2"] == 0.75 and got["averagepopularity@2"] == 1.25, got
    assert got["recall@2"] == 0.5, got


def probe_pop_counts(folder):
    import torch
    from recbole.data.interaction import Interaction
    from recbole.model.general_recommender.pop import Pop

    config = {"USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "NEG_PREFIX": "neg_"}
    config |= {"LABEL_FIELD": "label", "device": torch.device("cpu")}
    model = Pop(config, SimpleNamespace(num=lambda _: 4))
    columns = {"item_id": torch.tensor([1, 1, 2, 3, 3]), "label": torch.tensor([1.0, 1, 1, 0, 0])}
    model.calculate_loss(Interaction(columns))
    model.calculate_loss(Interaction({"item_id": torch.tensor([2, 1])}))
    assert model.item_cnt.flatten().tolist() == [0, 3, 2, 0], model.item_cnt


def probe_anomaly_mode(folder):
    import torch
    from recbole.model.sequential_recommender.sine import SINE

    assert SINE and not torch.is_anomaly_enabled(), "anomaly detection is on"


def probe_use_gpu(folder):
    import torch

    torch.cuda.is_available = lambda: True
    os.environ["CUDA_VISIBLE_DEVICES"] = "3"
    assert recbole_config(folder, gpu_id="0").device.type == "cuda"
    os.environ["CUDA_VISIBLE_DEVICES"] = "3"
    config = recbole_config(folder, gpu_id="0", use_gpu=False)
    assert config.device.type == "cpu" and config["gpu_id"] == "0", config["device"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


def run_forked(name: str, leave_out: bool) -> str:
    """Run a probe in a child process and return what went wrong there, or ''."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.write(writing, _outcome(name, leave_out).encode()[:4000])
        os.close(writing)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        text = stream.read().decode()
    os.waitpid(child, 0)
    return text


def _outcome(name: str, leave_out: bool) -> str:
    fix = next(fix for fix in compat.FIXES if fix.name == name)
    if leave_out:
        for hooks in compat._finder._hooks.values():
            if fix.around in hooks:
                hooks.remove(fix.around)
    try:
        with tempfile.TemporaryDirectory() as folder:
            globals()["probe_" + name.replace("-", "_")](Path(folder))
    except BaseException as error:
        sys.stderr.write(traceback.format_exc())
        return f"{type(error).__name__}: {error}"
    return ""


def main() -> None:
    import importlib
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    for module in PRELOADED:
        importlib.import_module(module)
    result = {
        fix.name: {
            "needed": fix.needed(),
            "with": run_forked(fix.name, leave_out=False),
            "without": run_forked(fix.name, leave_out=True),
        }
        for fix in compat.FIXES
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

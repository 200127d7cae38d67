"""The benchmark's data and report at tiny sizes: their structure, never their speed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import data_path, epochs, growth, limits, precision, ranking, self_loop
from benchmarks.compare import main
from benchmarks.dataset import ArrayDataset, HeldOut
from benchmarks.files import write_files
from benchmarks.generate import Sizes, synthetic_data
from benchmarks.real import data_of, read_interactions
from benchmarks.report import counts, ratios, targets, whole_epoch
from benchmarks.sides import Plan
from recbole_slif.data.dataset import MultimodalKGDataset
from recbole_slif.errors import DataError
from recbole_slif.factory import load_data
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.quick_start import run

TINY = Sizes(
    n_users=60,
    n_items=40,
    n_pairs=400,
    n_entities=70,
    n_relations=4,
    n_triples=200,
    dims=(("visual", 6),),
)
FLAGS = [
    f"--{name.replace('_', '-')}={getattr(TINY, name)}" for name in vars(TINY) if name != "dims"
]


def test_generated_data_has_the_sizes_asked_for_and_follows_its_seed():
    data, again, other = synthetic_data(TINY, 3), synthetic_data(TINY, 3), synthetic_data(TINY, 4)
    assert len(set(zip(data.users, data.items, strict=True))) == TINY.n_pairs
    assert set(data.users) == set(range(1, TINY.n_users + 1))
    assert set(data.items) == set(range(1, TINY.n_items + 1))
    kg = data.knowledge
    assert len(set(zip(kg.heads, kg.relations, kg.tails, strict=True))) == TINY.n_triples
    assert set(range(1, TINY.n_items + 1)) <= set(kg.heads)
    assert kg.tails.min() > TINY.n_items and kg.tails.max() <= TINY.n_entities
    assert kg.relations.min() >= 1 and kg.relations.max() <= TINY.n_relations
    features = data.features["visual"]
    assert features.matrix.shape == (TINY.n_items + 1, 6)
    assert not features.presence[0]
    for name in ("users", "items"):
        np.testing.assert_array_equal(getattr(data, name), getattr(again, name))
        assert not np.array_equal(getattr(data, name), getattr(other, name))


@pytest.mark.parametrize("wrong", [{"n_pairs": 10}, {"n_entities": 40}, {"n_triples": 5}])
def test_sizes_that_cannot_be_are_refused(wrong):
    with pytest.raises(DataError):
        synthetic_data(Sizes(**{**vars(TINY), **wrong}))


def test_real_interactions_replace_the_generated_ones(tmp_path):
    path = tmp_path / "amazon-book.train.inter"
    path.write_text("user_id:token\titem_id:token\nb\t9\na\t9\na\t7\n", "utf-8")
    users, items = read_interactions(path)
    assert users.tolist() == [2, 1, 1]
    assert items.tolist() == [2, 2, 1]
    data = synthetic_data(TINY, interactions=(users, items))
    assert (data.n_users, data.n_items) == (3, 3)
    for text, wrong in {
        "user_id:token\tthing:token\n1\t2\n": "line 1: no column 'item_id'",
        "user_id:token\titem_id:token\n1\t2\n1 3\n": "line 3",
        "user_id:token\titem_id:token\n": "no interactions",
    }.items():
        path.write_text(text, "utf-8")
        with pytest.raises(DataError, match=wrong):
            read_interactions(path)
    with pytest.raises(DataError, match=r"none\.inter: cannot be read"):
        read_interactions(tmp_path / "none.inter")


FASHION = {
    "train.inter": "user_id:token\titem_id:token\n"
    + "".join(f"u{user}\ti{item}\n" for user in range(8) for item in (2, 10, 7) if user != item),
    # e5 is i10, e9 is i2, e8 an item's that has no interactions; i7 has no link
    "link": "item_id:token\tentity_id:token\ni10\te5\ni2\te9\ni99\te8\n",
    "kg": "head_id:token\trelation_id:token\ttail_id:token\n"
    "e9\tr1\te5\ne8\tr0\te9\ne5\tr10\te30\ne5\tr10\te30\ne30\tr1\te30\n",
}


def write_fashion(folder, **changed):
    for end, text in {**FASHION, **changed}.items():
        if text is not None:
            (folder / f"alibaba-ifashion.{end}").write_text(text, "utf-8")


def test_a_real_graph_is_joined_to_the_items_through_its_links(tmp_path):
    write_fashion(tmp_path)
    data = data_of("alibaba-ifashion", tmp_path, TINY, 0)
    kg = data.knowledge
    # ids follow the tokens: i2, i7, i10, and behind the items e8, e30
    assert data.n_users == 9 and data.n_items == 4
    assert sorted(data.items[data.users == 3]) == [2, 3]
    assert kg.entity_tokens.tolist() == ["[PAD]", "e9", "i7", "e5", "e8", "e30"]
    assert kg.relation_tokens.tolist() == ["[PAD]", "r0", "r1", "r10"]
    triples = set(zip(kg.heads.tolist(), kg.relations.tolist(), kg.tails.tolist(), strict=True))
    assert triples == {(1, 2, 3), (4, 1, 1), (3, 3, 5)} and kg.n_triples == 3
    assert kg.linked.tolist() == [False, True, False, True]
    assert (kg.n_entities, kg.n_relations) == (6, 4)
    assert data.features["visual"].matrix.shape == (4, 6)


def test_a_real_graph_is_the_one_that_training_reads(tmp_path, make_config):
    folder = tmp_path / "alibaba-ifashion"
    folder.mkdir()
    write_fashion(folder, **{"test.inter": "user_id:token\titem_id:token\nu2\ti2\n"})
    own = data_of("alibaba-ifashion", tmp_path, TINY, 0)
    config = make_config("BPR", "alibaba-ifashion", protocol="benchmark", state="ERROR")
    dataset = MultimodalKGDataset(config)
    assert (dataset.user_num, dataset.item_num) == (own.n_users, own.n_items)
    for name in ("heads", "relations", "tails", "linked", "entity_tokens", "relation_tokens"):
        theirs = getattr(dataset.knowledge, name)
        np.testing.assert_array_equal(getattr(own.knowledge, name), theirs)


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"kg": FASHION["kg"] + "e1\tr1\n"}, r"alibaba-ifashion\.kg: line 7: 2 column"),
        ({"link": FASHION["link"] + "\te5\n"}, r"\.link: line 5: 'item_id' is empty"),
        ({"train.inter": FASHION["train.inter"] + "u1\n"}, r"\.train\.inter: line 24: 1 column"),
        ({"kg": "head_id:token\trelation_id:token\ttail_id:token\n"}, r"\.kg: no triples"),
        ({"link": "item_id:token\tentity_id:token\n2\t9\n"}, r"\.link: no line links an item"),
        ({"link": None}, r"no alibaba-ifashion\.link"),
        ({"train.inter": None}, r"train\.inter does not exist: .* --data"),
    ],
)
def test_what_is_wrong_with_a_real_graph_is_named(tmp_path, changed, wrong):
    write_fashion(tmp_path, **changed)
    with pytest.raises(DataError, match=wrong):
        data_of("alibaba-ifashion", tmp_path, TINY, 0)


def test_a_real_graph_needs_a_folder():
    with pytest.raises(DataError, match="--data"):
        data_of("alibaba-ifashion", None, TINY, 0)


def test_a_run_on_a_real_graph_says_what_it_ran_on(tmp_path, capsys):
    write_files(synthetic_data(TINY, 3), tmp_path, "alibaba-ifashion")
    path = tmp_path / "result.json"
    words = ["--dataset=alibaba-ifashion", f"--data={tmp_path}", "--dims=visual=6", "--rounds=1"]
    words += ["--batch-size=64", "--eval-users=20", f"--output={path}"]
    assert main(words) == 0
    result = json.loads(path.read_text("utf-8"))
    assert result["dataset"] == "alibaba-ifashion"
    assert result["interactions"] == result["knowledge"] == "real"
    read = data_of("alibaba-ifashion", tmp_path, TINY, 0)
    assert result["sizes"] == {**counts(read), "dims": {"visual": 6}}
    assert (counts(read)["n_users"], counts(read)["n_relations"]) == (60, 4)
    assert result["evaluated_users"] == (np.bincount(read.users) >= 5).sum() < 60
    page = capsys.readouterr().out
    assert "alibaba-ifashion: real interactions, real knowledge graph; 60 users" in page
    assert f"to {result['evaluated_users']} users" in page


def test_an_epoch_is_its_start_and_all_its_steps():
    dataset = ArrayDataset(synthetic_data(TINY))
    parts = {
        "forward": 1.0,
        "backward": 2.0,
        "optimizer": 3.0,
        "knowledge step": 10.0,
        "epoch start": 5.0,
        "propagation": 7.0,
        "ranking": 1.0,
    }
    found = whole_epoch(parts, dataset, 100, HeldOut(dataset, 10, 0))
    assert found["step"] == 6.0
    assert found["epoch"] == 5.0 + 4 * 6.0 + 4 * 10.0
    assert found["evaluation"] == pytest.approx(7.0 + 41_113 / 10)


def test_ratios_and_targets_judge_what_they_say():
    plans = (Plan("LightGCN", "LightGCN", True, "peer"), Plan("peer", "LightGCN", False))
    run = {"LightGCN": {"step": 1.0, "epoch": 2.0}, "peer": {"step": 10.0, "epoch": 8.0}}
    found = ratios(run, plans)
    assert found == {"LightGCN": {"step": 0.1, "epoch": 0.25}}
    rows = targets({"1": found}, {"SLIFMR step": {"peak_process_gib": 5.0}})
    assert [row["reached"] for row in rows] == [True, False]


def test_a_tiny_run_writes_ratios_for_every_part(tmp_path, capsys):
    path = tmp_path / "result.json"
    few = ["--dims=visual=6", "--batch-size=64", "--rounds=1", "--eval-users=20"]
    assert main([*FLAGS, *few, f"--output={path}"]) == 0
    result = json.loads(path.read_text("utf-8"))
    kinds = ("", ", batch", ", pruned", ", pruned, bfloat16")
    ours = {f"SLIFMR {mode}{kind}" for mode in ("step", "epoch") for kind in kinds}
    ours |= {"LightGCN", "LightGCN, bfloat16", "KGAT", "KGAT, bfloat16", "KGIN"}
    assert set(result["ratios"]["1"]) == ours
    parts = {"forward", "backward", "optimizer", "step", "epoch", "evaluation"}
    assert all(parts <= set(row) for row in result["ratios"]["1"].values())
    assert all(
        value > 0 for row in result["seconds"]["1"].values() for value in row.values() if value
    )
    assert len(result["targets"]) >= 3
    assert "processor" in result["machine"] and "date" in result
    page = capsys.readouterr().out
    assert "extrapolated to 7 steps" in page
    assert all(f"| {label} |" in page for label in result["seconds"]["1"])


def test_a_missing_folder_is_one_line(tmp_path, capsys):
    assert main([*FLAGS, f"--data={tmp_path}"]) == 1
    assert "amazon-book.train.inter" in capsys.readouterr().err


# ---- epochs ------------------------------------------------------------------------------------


def test_generated_files_hold_the_generated_data(tmp_path, make_config):
    data = synthetic_data(TINY, 3)
    write_files(data, tmp_path, "tiny")
    config = make_config("BPR", "tiny", protocol="benchmark", state="ERROR")
    bundle = load_data(config)
    assert bundle.dataset.user_num == data.n_users
    assert bundle.dataset.item_num == data.n_items
    assert bundle.dataset.inter_num == TINY.n_pairs
    loops = (data.knowledge.heads == data.knowledge.tails).sum()
    assert bundle.dataset.knowledge.n_triples == TINY.n_triples - loops
    assert bundle.dataset.knowledge.linked.sum() == TINY.n_items
    features = bundle.dataset.features["visual"]
    assert features.n_observed == data.features["visual"].presence.sum()


def test_epochs_of_all_kinds_are_timed_beside_lightgcn(tmp_path, capsys):
    path = tmp_path / "epochs.json"
    words = ["--dataset=generated", "--scale=0.003", "--epochs=1", "--steps=2", f"--output={path}"]
    assert epochs.main([*words, "--models", "KGAT", "BPRR", "--embedding_size=8"]) == 0
    found = json.loads(path.read_text("utf-8"))
    assert list(found["models"]) == ["LightGCN", "KGAT", "BPRR"]
    for name in ("LightGCN", "KGAT"):
        parts = found["models"][name]
        assert parts["epoch"] == pytest.approx(
            sum(parts[key] for key in ("train", "other passes", "refresh"))
        )
        assert parts["peak_mib"] > 0
        assert parts["departures"]["embedding_size"] == {"default": 64, "value": 8}
    assert "did you mean 'BPR'?" in found["models"]["BPRR"]["error"]
    assert "| KGAT |" in capsys.readouterr().out


# ---- data path ---------------------------------------------------------------------------------


def test_reading_is_timed_beside_recboles(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("recbole_slif.data.cache.SMALLEST", 0)
    write_files(synthetic_data(TINY, 3), tmp_path, "tiny")
    (tmp_path / "tiny" / "tiny.visual.npy").unlink()
    path = tmp_path / "path.json"
    words = [f"--data={tmp_path}", "--datasets=tiny", "--rounds=1", f"--output={path}"]
    assert data_path.main(words) == 0
    found = json.loads(path.read_text("utf-8"))["datasets"]["tiny"]
    assert list(found["seconds"]) == ["RecBole", "no cache", "empty cache", "filled cache"]
    assert sum(found["split"]) == TINY.n_pairs and found["stored_mib"] > 0
    part = found["negatives"]
    assert 0 < part["share of draws"] < part["share of batches"] < 1
    assert "| tiny |" in capsys.readouterr().out
    assert data_path.main(["--datasets=tiny", f"--data={tmp_path / 'none'}"]) == 1


def test_ranking_of_tiny_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_files(synthetic_data(TINY, 0), tmp_path / "data", "tiny")
    path = tmp_path / "found.json"
    words = [f"--data={tmp_path / 'data'}", "--dataset=tiny", "--rounds=1", "--at-once", "8", "16"]
    assert ranking.main([*words, f"--output={path}"]) == 0
    found = json.loads(path.read_text("utf-8"))
    assert found["metrics equal"] is True and 0 < found["metrics"]["recall@20"] <= 1
    sides = {
        "ours",
        "product alone",
        "RecBole, default",
        "RecBole, 8 at once",
        "RecBole, 16 at once",
    }
    assert set(found["seconds"]) == sides and found["tables"] == "random"
    assert "times faster than the best" in capsys.readouterr().out
    settings = {"data_path": str(tmp_path / "data"), "epochs": 1, "checkpoint_dir": str(tmp_path)}
    trained = run("BPR", "tiny", overrides=settings)
    assert ranking.main([*words, f"--checkpoint={trained.folder}", f"--output={path}"]) == 0
    found = json.loads(path.read_text("utf-8"))
    assert found["metrics equal"] is True and found["tables"] == "of BPR, trained"


def test_self_loop_of_few_items(tmp_path, capsys):
    path = tmp_path / "found.json"
    words = ["--items", "300", "--steps=1", "--updates=1", f"--output={path}"]
    assert self_loop.main(words) == 0
    (found,) = json.loads(path.read_text("utf-8"))["sizes"]
    assert found["items"] == 300 and 0 < found["share of an epoch"] < 1
    assert "share of an epoch" in capsys.readouterr().out


def test_both_searches_of_few_items(tmp_path, capsys):
    pytest.importorskip("faiss", reason="needs faiss: pip install '.[large]'")
    path = tmp_path / "found.json"
    words = ["--items", "--searched=3000", "--probes", "1", "500", "--kinds", "clusters", "noise"]
    assert self_loop.main([*words, f"--output={path}"]) == 0
    result = json.loads(path.read_text("utf-8"))
    assert [one["rows"] for one in result["searches"]] == ["clusters", "noise"]
    for one in result["searches"]:
        assert one["500 probes"]["recall"] == 1.0 > one["1 probes"]["recall"] > 0
    x = self_loop.rows_of("clusters", 3000, np.random.default_rng(0))
    some = self_loop._exact_of(x, np.array([4, 2999]))
    assert (some == self_loop.top_k_cosine(x, self_loop.NEIGHBOURS)[0][[4, 2999]]).all()


# ---- growth ------------------------------------------------------------------------------------


def test_exponents_and_the_end_of_memory_are_those_of_the_figures():
    what = "seconds of an epoch"
    found = [
        {"edges": n, what: 3e-6 * n**1.5, "peak in GiB": 0.5 + 1e-6 * n} for n in (1e5, 1e6, 2e7)
    ]
    assert growth.exponent(found, what) == pytest.approx(1.5)
    assert growth.end_of_memory(found, 24.0) == pytest.approx(23.5e6)
    assert growth.end_of_memory(found[:1], 24.0) is None


def test_growth_of_few_edges(tmp_path, capsys):
    path = tmp_path / "found.json"
    words = ["--edges", "2000", "4000", "--models", "LightGCN", "SLIFMR", "--steps=1"]
    words += ["--ablation=kg_mm", "--search=exact", "--cl-items=40", f"--output={path}"]
    assert growth.main(words) == 0
    models = json.loads(path.read_text("utf-8"))["models"]
    assert list(models) == ["LightGCN", "SLIFMR"]
    for part in models.values():
        assert [one["edges"] for one in part["sizes"]] == [2000, 4000]
        assert all(one["steps of an epoch"] in (154, 160, 166) for one in part["sizes"])
        assert part["fits"]["fitted sizes"] == 2
    assert "| 4,000 |" in capsys.readouterr().out


# ---- limits ------------------------------------------------------------------------------------


def test_every_part_of_a_small_epoch_is_set_beside_the_limits(tmp_path, capsys):
    path = tmp_path / "found.json"
    assert limits.main(["--scale=0.01", "--rounds=1", f"--output={path}"]) == 0
    found = json.loads(path.read_text("utf-8"))
    assert min(found["limits"].values()) > 1e8
    assert len(found["parts"]) == 8
    for row in found["parts"]:
        assert row["seconds"] > 0
        counted = bool(row["bytes"] or row["operations"])
        assert counted == (row["part"] != "graphs drawn and built")
    assert "| optimizer |" in capsys.readouterr().out


def test_the_bytes_of_a_product_are_its_entries_and_its_rows():
    operator = SparseOperator.from_coo([0, 0, 2], [1, 3, 0], [1.0, 1.0, 1.0], (3, 4))
    assert limits.product_bytes(operator, 64) == 3 * (256 + 8) + 3 * 260


# ---- precision ---------------------------------------------------------------------------------


def test_all_precisions_of_a_small_step_are_timed(tmp_path, capsys):
    path = tmp_path / "found.json"
    assert precision.main(["--scale=0.01", "--rounds=1", f"--output={path}"]) == 0
    models = json.loads(path.read_text("utf-8"))["models"]
    assert len(models) == 4
    for one in models.values():
        assert list(one["seconds"]) == list(one["of float32"]) == list(precision.PRECISIONS)
        assert one["of float32"]["float32"] == 1.0 < 1.0 + min(one["of float32"].values())
    assert "| LightGCN, 3 layers |" in capsys.readouterr().out

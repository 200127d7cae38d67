"""Plans: which runs, under which hash, and what the data cannot give."""

import json
from pathlib import Path

import pytest

from recbole_slif.config import SlifConfig
from recbole_slif.errors import ConfigError
from recbole_slif.experiment.plan import decisive_settings
from tests.experiment.series import plan_of, write_experiment
from tests.running import settings
from tests.toy import write_toy


def lacking(folder, *suffixes):
    """Write the toy data without the files that end so."""
    write_toy(folder / "data", n_users=20, n_items=18)
    for path in (folder / "data" / "toy").iterdir():
        if path.name.endswith(suffixes):
            path.unlink()


def needs(plan):
    return {cell["key"]: cell["needs"] for cell in plan.cells}


EVERY_PART = [
    {"model": "SLIFMR", "settings": {"ablation": part}}
    for part in ("none", "kg", "mm", "kg_mm", "sge", "cl")
]


def test_seeds_are_the_outer_loop_and_share_one_split(tmp_path):
    path = write_experiment(tmp_path, models=["BPR", "LightGCN"], seeds=2)
    plan = plan_of(path, seed=7)
    assert [(run.cell, run.seed) for run in plan.runs] == [
        ("BPR", 7), ("LightGCN", 7), ("BPR", 8), ("LightGCN", 8)
    ]  # fmt: skip
    configs = [run.recipe.config() for run in plan.runs]
    assert {config["split_seed"] for config in configs} == {7}
    assert [config["seed"] for config in configs] == [7, 7, 8, 8]
    assert plan.seeds == (7, 8)
    assert plan.protocol == "ratio_811"
    assert len({run.settings_hash for run in plan.runs}) == 4


def test_seeds_of_the_request_win(tmp_path):
    path = write_experiment(tmp_path, models=["BPR"], seeds=[1, 5])
    assert plan_of(path).seeds == (1, 5)
    assert plan_of(path, request={"seeds": [4]}).seeds == (4,)
    assert plan_of(path, request={"seeds": 3}).seeds == (2020, 2021, 2022)
    for wrong, changes in (([1, -2], {}), ([1, 2**32], {}), (2, {"seed": 2**32 - 1})):
        with pytest.raises(ConfigError, match="seeds: a seed must be between 0 and 4294967295"):
            plan_of(path, request={"seeds": wrong}, **changes)


def test_keys_go_to_the_models_that_have_them(tmp_path):
    path = write_experiment(tmp_path, models=["BPR", "LightGCN"], settings={"n_layers": 1})
    plan = plan_of(path)
    assert plan.runs[1].recipe.config()["n_layers"] == 1
    with pytest.raises(ConfigError, match=r"n_layer.*is not known"):
        plan_of(write_experiment(tmp_path, models=["BPR"], settings={"n_layer": 1}))


def test_command_line_wins_over_settings_and_cells_over_it(tmp_path):
    path = write_experiment(
        tmp_path,
        settings={"n_layers": 1, "reg_weight": 0.5},
        sweeps=[{"key": "n_layers", "values": [2, 3], "models": ["LightGCN"]}],
    )
    configs = [run.recipe.config() for run in plan_of(path, n_layers=4, reg_weight=0.25).runs]
    assert [config["n_layers"] for config in configs] == [2, 3]
    assert {config["reg_weight"] for config in configs} == {0.25}


def test_a_cells_foreign_key_is_refused(tmp_path):
    path = write_experiment(tmp_path, cells=[{"model": "BPR", "settings": {"n_layers": 1}}])
    with pytest.raises(ConfigError, match="n_layers"):
        plan_of(path)


def test_own_folders_are_not_settings(tmp_path):
    path = write_experiment(tmp_path, models=["BPR"], settings={"checkpoint_dir": "x"})
    with pytest.raises(ConfigError, match="--out"):
        plan_of(path)
    path = write_experiment(tmp_path, cells=[{"model": "BPR", "settings": {"record_dir": "x"}}])
    with pytest.raises(ConfigError, match="--out"):
        plan_of(path)


def test_models_are_named_by_one_option_alone(tmp_path):
    path = write_experiment(tmp_path, models=["BPR", "LightGCN"])
    with pytest.raises(ConfigError, match="--models=NAME"):
        plan_of(path, model="BPR")
    with pytest.raises(ConfigError, match="names no model"):
        plan_of(path, request={"models": []})


def test_hash_follows_what_decides_the_numbers(tmp_path):
    def hashes(**changes):
        path = write_experiment(tmp_path, models=["BPR"])
        return plan_of(path, **changes).runs[0].settings_hash

    base = hashes()
    assert hashes() == base
    assert hashes(show_progress=True, save_last=False, state="ERROR") == base
    assert hashes(learning_rate=0.5) != base
    assert hashes(epochs=3) != base
    assert hashes(modalities=["text"]) != base
    noisy = {"cells": [{"model": "BPR", "noise": {"kind": "inter", "level": 0.1}}]}
    assert plan_of(write_experiment(tmp_path, **noisy)).runs[0].settings_hash != base
    noisy["cells"][0]["noise"]["level"] = 0
    assert plan_of(write_experiment(tmp_path, **noisy)).runs[0].settings_hash == base


def test_hash_follows_the_data_not_its_place(tmp_path):
    found = []
    for name, items in (("a", 18), ("b", 18), ("c", 17)):
        folder = tmp_path / name
        write_toy(folder / "data", n_users=20, n_items=items)
        path = write_experiment(folder, models=["BPR"])
        found.append(plan_of(path).runs[0].settings_hash)
    assert found[0] == found[1] != found[2]
    triples = tmp_path / "b" / "data" / "toy" / "toy.kg"
    lines = triples.read_text().splitlines()
    triples.write_text("\n".join(lines[:-1]) + "\n")
    path = write_experiment(tmp_path / "b", models=["BPR"])
    assert plan_of(path).runs[0].settings_hash != found[0]


def test_cells_under_equal_settings_are_one_training(tmp_path):
    kinds = [{"kind": kind, "levels": [0, 0.2], "models": ["KGAT"]} for kind in ("inter", "kg")]
    plan = plan_of(write_experiment(tmp_path, noise=kinds))
    assert len(plan.runs) == 4
    assert sorted(len(runs) for runs in plan.groups.values()) == [1, 1, 2]


def test_cells_say_what_the_data_lacks(tmp_path):
    lacking(tmp_path, ".npy", ".ids")
    noise = [
        {"kind": kind, "levels": [0.1], "models": ["LightGCN"]} for kind in ("inter", "modality")
    ]
    path = write_experiment(
        tmp_path, models=["BPR", "KGAT", "BM3", "CKE"], cells=EVERY_PART, noise=noise
    )
    plan = plan_of(path)
    lack = {"BM3", "SLIFMR|ablation=none", "SLIFMR|ablation=kg", "SLIFMR|ablation=sge",
            "SLIFMR|ablation=cl", "LightGCN|noise=modality:0.1"}  # fmt: skip
    assert needs(plan) == {
        cell["key"]: ["features"] if cell["key"] in lack else [] for cell in plan.cells
    }
    assert {run.cell for run in plan.runs} == set(needs(plan)) - lack


def test_cells_without_a_graph(tmp_path):
    lacking(tmp_path, ".kg", ".link")
    noise = [{"kind": "kg", "levels": [0.1], "models": ["LightGCN"]}]
    path = write_experiment(
        tmp_path, models=["BPR", "KGAT", "BM3", "CKE"], cells=EVERY_PART, noise=noise
    )
    lack = {"KGAT", "CKE", "SLIFMR|ablation=none", "SLIFMR|ablation=mm", "SLIFMR|ablation=sge",
            "SLIFMR|ablation=cl", "LightGCN|noise=kg:0.1"}  # fmt: skip
    found = needs(plan_of(path, embedding_size=..., learning_rate=0.1))
    assert {key for key, missing in found.items() if missing == ["knowledge"]} == lack
    assert all(not missing for key, missing in found.items() if key not in lack)


def test_cells_that_need_both(tmp_path):
    lacking(tmp_path, ".kg", ".link", ".npy", ".ids")
    found = needs(plan_of(write_experiment(tmp_path, cells=EVERY_PART)))
    assert found["SLIFMR|ablation=none"] == ["features", "knowledge"]
    assert found["SLIFMR|ablation=kg_mm"] == []


def test_models_can_be_chosen(tmp_path):
    path = write_experiment(tmp_path, models=["BPR", "LightGCN"])
    assert [run.cell for run in plan_of(path, request={"models": ["BPR"]}).runs] == ["BPR"]
    with pytest.raises(ConfigError, match="no cell of KGAT"):
        plan_of(path, request={"models": ["KGAT"]})
    with pytest.raises(ConfigError, match="did you mean 'BPR'"):
        plan_of(path, request={"models": ["BRP"]})


def test_protocols_are_never_mixed(tmp_path):
    settings(tmp_path)
    other = {"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}}}
    path = write_experiment(
        tmp_path, models=["BPR"], cells=[{"model": "LightGCN", "settings": other}]
    )
    with pytest.raises(ConfigError, match="mixes split protocols"):
        plan_of(path)


def test_quick_is_said_in_the_plan(tmp_path):
    path = write_experiment(tmp_path, models=["BPR"], seeds=3, quick={"seeds": 1})
    plan = plan_of(path, request={"quick": True})
    assert plan.content()["quick"] is True
    assert plan.content()["seeds"] == [2020]


def hashes(tmp_path, **changes):
    path = write_experiment(tmp_path, models=["SLIFMR"], settings=changes)
    return {run.settings_hash for run in plan_of(path).runs}


def test_a_key_counts_where_it_changes_what_is_done(tmp_path):
    plain = hashes(tmp_path)
    for idle in (
        {"table_precision": "float32"},
        {"contrast_precision": "float32"},
        {"sge_search": "exact", "sge_probes": 3},
        {"eval_block_users": 7},
    ):
        assert hashes(tmp_path, **idle) == plain
    different = [
        hashes(tmp_path, **changes)
        for changes in (
            {"table_precision": "bfloat16"},
            {"contrast_precision": "bfloat16"},
            {"sge_search": "approximate"},
            {"sge_search": "approximate", "sge_probes": 3},
        )
    ]
    assert len(set().union(plain, *different)) == 5


RECORDS = sorted((Path(__file__).parents[2] / "docs" / "results").glob("*/records/*/runs.jsonl"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.parent.name)
def test_records_that_ship_stand_although_keys_came_later(path):
    """A new key of a model needs an entry in `ADDED_LATER`, or all that was recorded is void."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert lines
    for model in {line["model"] for line in lines}:
        known = next(line["config"] for line in lines if line["model"] == model)
        asked = decisive_settings(SlifConfig(model, "ml-100k"))
        assert asked.keys() <= known.keys(), model

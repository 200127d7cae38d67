"""The experiment files: all of ours are readable, and a mistake names the nearest right key."""

import re

import pytest
import yaml

from recbole_slif.config import properties_dir
from recbole_slif.errors import ConfigError
from recbole_slif.experiment.definition import (
    find_experiment,
    known_experiments,
    read_definition,
)
from recbole_slif.experiment.noise import Noise
from recbole_slif.registry import MODELS
from tests.experiment.series import write_experiment

ARTEFACTS = {
    "table1_statistics": "table1",
    "table2_overall": "table2",
    "fig5_fusion": "fig5",
    "table3_ablation": "table3",
    "fig6_hyper": "fig6",
    "fig7_robustness": "fig7",
    "table4_self_loop": "table4",
}
LINE = re.compile(r"^(\w+):(?:.*\S)?  # \((str|int or list|str or list|list|dict|bool)\) \S.*$")


def test_every_artefact_has_its_file():
    assert {
        n: read_definition(find_experiment(n)).artefact for n in known_experiments()
    } == ARTEFACTS


@pytest.mark.parametrize("name", ARTEFACTS)
def test_each_key_of_a_file_is_explained_on_its_line(name):
    text = (properties_dir() / "experiment" / f"{name}.yaml").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    explained = [found[1] for line in lines if (found := LINE.match(line))]
    assert explained == list(yaml.safe_load(text))


def test_overall_comparison_holds_every_model_and_ends_with_ours():
    cells = read_definition(find_experiment("table2_overall")).cells
    assert [cell.key for cell in cells][-1] == "SLIFMR"
    assert {cell.model for cell in cells} == set(MODELS)
    assert {cell.group for cell in cells} <= {"general", "knowledge", "multimodal", "both"}


def test_grids_of_the_paper():
    grids = {}
    for cell in read_definition(find_experiment("fig6_hyper")).cells:
        grids.setdefault(cell.group, []).append(cell.x)
    assert grids["layers"] == [1, 2, 3, 4, 5]
    assert grids["beta"][-5:] == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert grids["gamma"] == [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    assert grids["sge_n"] == [5, 10, 15, 20, 30]
    robust = read_definition(find_experiment("fig7_robustness")).cells
    assert {cell.noise.kind for cell in robust} == {"inter", "kg", "modality"}
    for kind in ("inter", "kg", "modality"):
        ours = [c.x for c in robust if c.noise.kind == kind and c.model == "SLIFMR"]
        assert ours == [0, 0.05, 0.1, 0.15, 0.2]
    loop = read_definition(find_experiment("table4_self_loop")).cells
    assert [cell.x for cell in loop] == [1, 5, 10, 15, 20, None]
    fusion = read_definition(find_experiment("fig5_fusion")).cells
    assert [(c.label, c.x) for c in fusion][:2] == [("AILF", None), ("concatenation", None)]
    ablation = read_definition(find_experiment("table3_ablation")).cells
    assert [c.settings["ablation"] for c in ablation] == ["kg", "mm", "kg_mm", "sge", "cl", "none"]


@pytest.mark.parametrize("name", [name for name in ARTEFACTS if name != "table1_statistics"])
def test_quick_form_is_small(name):
    whole, quick = (read_definition(find_experiment(name), form) for form in (False, True))
    assert quick.seeds == 1
    assert quick.settings["epochs"] <= 5
    assert {cell.key for cell in quick.cells} <= {cell.key for cell in whole.cells}
    assert "epochs" not in whole.settings


def test_cells_are_named_by_what_makes_them(tmp_path):
    path = write_experiment(
        tmp_path,
        cells=[
            {"model": "SLIFMR", "settings": {"ablation": "kg"},
             "noise": {"kind": "inter", "level": 0.1}, "needs": ["features"], "x": 3}
        ],
    )  # fmt: skip
    (cell,) = read_definition(path).cells
    assert cell.key == "SLIFMR|ablation=kg|noise=inter:0.1"
    assert cell.noise == Noise("inter", 0.1)
    assert (cell.label, cell.group, cell.series) == ("SLIFMR", "both", "SLIFMR")


def cell(**changes):
    return {"cells": [{"model": "BPR", **changes}]}


def sweep(**changes):
    entry = {"key": "beta", "values": [0.1, 0.2], "models": ["SLIFMR"], **changes}
    return {"sweeps": [{key: value for key, value in entry.items() if value is not ...}]}


def noise(**changes):
    return {"noise": [{"kind": "kg", "levels": [0.1], "models": ["KGAT"], **changes}]}


def test_levels_of_noise_have_names_of_their_own(tmp_path):
    path = write_experiment(tmp_path, **noise(levels=[0, 0.005, 0.02, 0.025, 0.07]))
    labels = [one.label for one in read_definition(path).cells]
    assert labels == ["KGAT, 0%", "KGAT, 0.5%", "KGAT, 2%", "KGAT, 2.5%", "KGAT, 7%"]


def test_truth_values_have_no_place_on_an_axis(tmp_path):
    path = write_experiment(tmp_path, **sweep(key="sge_symmetric", values=[False, True]))
    assert [one.x for one in read_definition(path).cells] == [None, None]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({"modles": ["BPR"]}, "key 'modles' is not known; did you mean 'models'"),
        ({"models": 3}, "models must be a name or a list of names"),
        ({"models": [1]}, "models must be names"),
        ({"models": ["BPR"], "seeds": "x"}, "seeds must be a number of seeds"),
        ({"models": ["BPR"], "seeds": 0}, "seeds is a number of seeds from 1 to 1000 or a list"),
        (
            {"models": ["BPR"], "seeds": 10**20},
            "seeds is a number of seeds from 1 to 1000 or a list",
        ),
        ({"models": ["BPR"], "seeds": [1, 1]}, "list of distinct ones"),
        ({"models": ["BPR"], "seeds": True}, "seeds must be"),
        ({"models": ["BPR"], "title": ["a"]}, "title must be a text"),
        ({"models": ["BPR"], "quick": {"epochs": 1}}, "quick: key 'epochs' is not known"),
        ({}, "names nothing to run"),
        ({"statistics": True, "models": ["BPR"]}, "statistics and cells"),
        (cell(lable="x"), "cells 1: key 'lable' is not known; did you mean 'label'"),
        (cell(x="1"), "x must be a number"),
        (cell(needs=["photos"]), "needs lists features and knowledge, not 'photos'"),
        (cell(noise={"kind": "kq", "level": 0.1}), "noise 'kq' is none of inter, kg, modality"),
        (cell(noise={"kind": "kg"}), "level is missing"),
        (cell(noise={"kind": "kg", "level": 1.0}), "from 0 to below 1, not 1.0"),
        ({"cells": ["BPR"]}, "must hold keys"),
        ({"cells": [{"model": "BPR"}, {"model": "BPR"}]}, "two cells are 'BPR'"),
        ({"cells": [{"label": "x"}]}, "model is missing"),
        (sweep(vales=[1]), "did you mean 'values'"),
        (sweep(key=...), "key is missing"),
        (sweep(values=[]), "values is empty"),
        (sweep(labels=["one"]), "1 labels for 2 values"),
        (sweep(quick=[0.3]), "quick holds 0.3"),
        (sweep(key="seed"), "seed is no setting of it: all cells have the same seeds"),
        (cell(settings={"split_seed": 1}), "split_seed is no setting of it: all cells have one"),
        (cell(settings={1: 2}), "settings are named by keys, not by 1"),
        ({"models": ["BPR"], "settings": {"dataset": "x"}}, "use --dataset=NAME"),
        (
            {"cells": [{"model": "BPR", "x": 1, "settings": {"epochs": at}} for at in (1, 2)]},
            "cells 'BPR|epochs=1' and 'BPR|epochs=2' are both at x = 1 of series 'BPR'",
        ),
        (noise(levels=[2]), "from 0 to below 1, not 2"),
        (noise(kind="tails"), "noise 'tails' is none of"),
    ],
)
def test_mistakes_are_named(tmp_path, content, wanted):
    path = write_experiment(tmp_path, **content)
    with pytest.raises(ConfigError, match=re.escape(wanted)) as caught:
        read_definition(path, quick="quick" in content)
    assert "series.yaml" in str(caught.value)


def test_missing_title_and_unknown_name(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("artefact: table2\nmodels: [BPR]\n")
    with pytest.raises(ConfigError, match="title is missing"):
        read_definition(find_experiment(str(path)))
    with pytest.raises(ConfigError, match="did you mean 'table3_ablation'"):
        find_experiment("table3_ablatoin")

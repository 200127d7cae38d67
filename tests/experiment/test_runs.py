"""Experiments from end to end: equal to runs made alone, recorded once, undeterred by failures."""

import json
import re
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from recbole_slif import cli, quick_start
from recbole_slif.errors import SlifError
from recbole_slif.model.general.bpr import BPR
from recbole_slif.records import read_record
from tests.experiment.series import (
    experiment,
    lines_of,
    plan_file,
    plan_of,
    timeless,
    words,
    write_experiment,
)
from tests.running import settings

BROKEN = "tests.experiment.test_runs:Breaking"


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings(tmp_path)  # writes the toy data


class Breaking(BPR):
    """Fails in its first batch while the file `broken` is there."""

    def calculate_loss(self, interaction):
        if Path("broken").exists():
            raise SlifError("the sky fell")
        return super().calculate_loss(interaction)


def test_runs_equal_those_made_alone_to_the_bit(tmp_path, capsys):
    path = write_experiment(tmp_path, models=["KGAT", "SLIFMR", "BPR"], seeds=2)
    changes = {"epochs": 3, "learning_rate": 0.02}
    assert experiment(path, tmp_path / "out", **changes) == 0
    lines = lines_of(tmp_path / "out")
    assert [(line["cell"], line["seed"]) for line in lines] == [
        (model, seed) for seed in (2020, 2021) for model in ("KGAT", "SLIFMR", "BPR")
    ]
    for line in lines:
        chosen = settings(tmp_path, **changes, seed=line["seed"], split_seed=2020)
        alone = quick_start.run(line["model"], "toy", overrides=chosen, verbose=False)
        record = timeless(read_record(alone.record))
        for name in ("valid", "test", "epochs", "best_epoch", "fingerprint", "statistics",
                     "parameters", "departures", "versions", "precision_over_recall"):  # fmt: skip
            assert timeless(line)[name] == record[name], name
        assert line["status"] == "finished"
    shown = capsys.readouterr().out
    assert "[6/6] BPR, seed 2021: valid recall@5" in shown
    assert "6 of 6 runs are recorded" in shown


def test_folder_holds_what_a_report_reads(tmp_path):
    path = write_experiment(
        tmp_path,
        artefact="fig7",
        noise=[{"kind": "inter", "levels": [0, 0.2], "models": ["LightGCN"]}],
    )
    assert experiment(path, tmp_path / "out") == 0
    plan = plan_file(tmp_path / "out")
    assert (plan["schema"], plan["experiment"], plan["artefact"]) == (1, "series", "fig7")
    assert (plan["dataset"], plan["protocol"]) == ("toy", "ratio_811")
    assert (plan["seeds"], plan["quick"], plan["title"]) == ([2020], False, "A series")
    assert plan["command"][:2] == ["experiment", "series.yaml"]
    assert plan["cells"][1] == {
        "key": "LightGCN|noise=inter:0.2", "model": "LightGCN", "label": "LightGCN, 20%",
        "group": "inter", "x": 0.2, "series": "LightGCN", "overrides": {}, "needs": [],
        "noise": "inter:0.2",
    }  # fmt: skip
    lines = lines_of(tmp_path / "out")
    assert {line["cell"] for line in lines} == {cell["key"] for cell in plan["cells"]}
    assert lines[0]["fingerprint"] != lines[1]["fingerprint"]
    assert lines[1]["statistics"]["noise"] == {"kind": "inter", "level": 0.2, "seed": 2020}
    for line, run in zip(lines, plan["runs"], strict=True):
        assert run == {key: line[key] for key in ("cell", "seed", "settings_hash")}
        assert set(line["epochs"][0]["seconds"]) == {"refresh", "train", "evaluate"}
    assert str(tmp_path) not in (tmp_path / "out" / "runs.jsonl").read_text()
    assert not (tmp_path / "out" / "work").exists()
    assert not list((tmp_path / "out" / "claims").iterdir())


@pytest.mark.parametrize("model", ["BPR", "SLIFMR"])
def test_per_user_metrics_average_to_the_reported_ones(tmp_path, model):
    path = write_experiment(tmp_path, models=[model])
    assert experiment(path, tmp_path / "out", metric_decimal_place=12) == 0
    (line,) = lines_of(tmp_path / "out")
    with np.load(tmp_path / "out" / line["per_user"]) as found:
        assert set(found.files) == {"users", *line["test"]}
        assert found["users"].dtype == np.int64
        users = found["users"]
        assert (np.diff(users) > 0).all()
        assert users.min() >= 1
        for name, value in line["test"].items():
            assert found[name].shape == users.shape
            assert found[name].mean() == pytest.approx(value, abs=1e-11)
        assert len(set(found["recall@5"].tolist())) > 1


def test_recorded_runs_are_not_run_again(tmp_path, trained, capsys):
    path = write_experiment(tmp_path, models=["BPR", "LightGCN"], seeds=2)
    out = tmp_path / "out"
    assert experiment(path, out, "--seeds=1") == 0
    assert experiment(path, out) == 2
    assert "go on with --resume" in capsys.readouterr().err
    assert experiment(path, out, "--resume") == 0
    assert trained == [("BPR", 2020), ("LightGCN", 2020), ("BPR", 2021), ("LightGCN", 2021)]
    assert experiment(path, out, "--resume") == 0
    assert len(trained) == 4
    assert experiment(path, out, "--resume", epochs=1) == 0
    assert len(trained) == 8


def test_one_training_serves_all_cells_under_its_settings(tmp_path, trained):
    kinds = [{"kind": kind, "levels": [0, 0.2], "models": ["KGAT"]} for kind in ("inter", "kg")]
    path = write_experiment(tmp_path, noise=kinds)
    assert experiment(path, tmp_path / "out") == 0
    lines = lines_of(tmp_path / "out")
    assert len(trained) == 3
    assert len(lines) == 4
    clean = [line for line in lines if line["cell"].endswith(":0")]
    assert clean[0] == {**clean[1], "cell": clean[0]["cell"]}


def test_runs_of_other_experiments_are_reused_on_demand(tmp_path, trained, capsys):
    sweep = {"key": "n_layers", "values": [1, 2], "models": ["LightGCN"]}
    first = write_experiment(tmp_path, sweeps=[sweep])
    assert experiment(first, Path("all/first")) == 0
    second = write_experiment(tmp_path, models=["BPR", "LightGCN"], settings={"n_layers": 2})
    assert experiment(second, Path("all/second"), "--reuse=all") == 0
    shown = capsys.readouterr().out
    assert "2 runs, 0 recorded, 1 taken from all/first, 1 trainings to do (1 runs)" in shown
    assert ", taken from first; left about 0 s and 1 runs of unknown time" in shown
    assert trained == [
        ("LightGCN|n_layers=1", 2020), ("LightGCN|n_layers=2", 2020), ("BPR", 2020)
    ]  # fmt: skip
    taken, own = lines_of(Path("all/second"))  # what is there comes before what is planned first
    theirs = lines_of(Path("all/first"))[1]
    assert taken == {**theirs, "cell": "LightGCN", "reused": "first"}
    assert "reused" not in own
    with np.load(Path("all/second") / taken["per_user"]) as found:
        assert "recall@5" in found.files
    assert experiment(second, Path("all/third"), "--reuse=nowhere") == 2
    assert "nowhere" in capsys.readouterr().err


def named_and_taken(name):
    """Take over a run whose line, which others wrote, names this file; return exit and line."""
    path = write_experiment(Path.cwd(), models=["BPR"])
    theirs, ours = Path("theirs/saved/one"), Path("ours/saved/two")
    assert experiment(path, theirs) == 0
    (line,) = lines_of(theirs)
    (theirs / line["per_user"]).rename(theirs / "per_user" / "renamed.npz")
    (theirs / "runs.jsonl").write_text(json.dumps({**line, "per_user": name}) + "\n")
    for folder in ("theirs", "ours"):
        Path(folder).mkdir(exist_ok=True)
        Path(folder, "module.py").write_text(folder)
    done = experiment(path, ours, f"--reuse={theirs}")
    return done, lines_of(ours)


def test_reused_per_user_file_gets_the_name_of_its_run(tmp_path):
    done, (line,) = named_and_taken("per_user/renamed.npz")
    assert done == 0
    assert line["per_user"] == f"per_user/{line['settings_hash']}.npz"
    with np.load(Path("ours/saved/two") / line["per_user"]) as found:
        assert found["recall@5"].mean() == pytest.approx(line["test"]["recall@5"], abs=1e-4)


@pytest.mark.parametrize("name", ["per_user/gone.npz", "../../module.py"])
def test_reused_run_whose_per_user_file_is_not_there_or_outside(tmp_path, capsys, name):
    done, (line,) = named_and_taken(name)
    assert done == 0
    assert (line["status"], line["per_user"], line["reused"]) == ("finished", None, "one")
    assert "per-user metrics of 1 runs are not in this folder" in capsys.readouterr().out
    assert Path("ours/module.py").read_text() == "ours"
    assert not Path("ours/saved/two/per_user").exists()


def test_times_of_reused_runs_are_known_and_they_themselves_take_none(tmp_path, trained, capsys):
    layers = [{"key": "n_layers", "values": [1], "models": ["LightGCN"]}]
    assert experiment(write_experiment(tmp_path, sweeps=layers), Path("there/first")) == 0
    both = write_experiment(tmp_path, sweeps=[{**layers[0], "values": [1, 2]}])
    capsys.readouterr()
    assert experiment(both, Path("here/second"), "--reuse=there", "--dry_run") == 0
    shown = capsys.readouterr().out
    assert "2 runs, 0 recorded, 1 taken from there/first, 1 trainings to do (1 runs)" in shown
    assert "estimate about" in shown
    alone = write_experiment(tmp_path, sweeps=layers)
    assert experiment(alone, Path("here/third"), "--reuse=there", "--dry_run") == 0
    shown = capsys.readouterr().out
    assert "1 taken from there/first, 0 trainings to do (0 runs); estimate 0 s" in shown
    assert re.search(r"n_layers=1 .* 1 +0  +about", shown)  # the cell has nothing to do


def test_line_that_a_kill_left_out_is_copied(tmp_path, trained):
    kinds = [{"kind": kind, "levels": [0], "models": ["KGAT"]} for kind in ("inter", "kg")]
    path = write_experiment(tmp_path, noise=kinds)
    out = tmp_path / "out"
    assert experiment(path, out) == 0
    before = lines_of(out)
    (out / "runs.jsonl").write_text(json.dumps(before[0]) + "\n" + json.dumps(before[1])[:40])
    assert experiment(path, out, "--resume") == 0
    assert lines_of(out) == before
    assert len(trained) == 1


def test_failed_run_does_not_stop_the_others_and_is_tried_again(tmp_path, capsys):
    Path("broken").touch()
    path = write_experiment(tmp_path, models=["LightGCN", BROKEN, "BPR"])
    out, trusted = tmp_path / "out", f"--models=LightGCN,{BROKEN},BPR"
    assert experiment(path, out) == 2, "the file alone runs no code"
    assert trusted in capsys.readouterr().err
    assert experiment(path, out, trusted) == 1
    shown = capsys.readouterr().out
    assert f"failed: {BROKEN}, seed 2020: the sky fell" in shown
    assert "2 of 3 runs are recorded" in shown
    assert [line["status"] for line in lines_of(out)] == ["finished", "failed", "finished"]
    failed = lines_of(out)[1]
    assert (failed["error"], failed["cell"], failed["seed"]) == ("the sky fell", BROKEN, 2020)
    assert failed["per_user"] is None
    Path("broken").unlink()
    assert experiment(path, out, trusted, "--resume") == 0
    assert [line["cell"] for line in lines_of(out)] == ["LightGCN", BROKEN, "BPR", BROKEN]
    assert "failed:" not in capsys.readouterr().out


def test_run_that_fails_before_it_has_a_record(tmp_path):
    path = write_experiment(tmp_path, models=["BPR"])
    assert experiment(path, tmp_path / "out", topk=[5, 500]) == 1
    (line,) = lines_of(tmp_path / "out")
    assert line["status"] == "failed"
    assert "longer than the 18 items" in line["error"]
    assert line["config"]["topk"] == [5, 500]


def test_dry_run_shows_the_plan_and_writes_nothing(tmp_path, trained, capsys):
    path = write_experiment(tmp_path, models=["BPR", "BM3"], seeds=2)
    for file in (tmp_path / "data" / "toy").glob("*.npy"):
        file.unlink()
    assert experiment(path, tmp_path / "out", "--dry_run") == 0
    shown = capsys.readouterr().out
    assert "not run, needs features" in shown
    assert "estimate unknown" in shown
    assert not trained
    assert not (tmp_path / "out").exists()
    assert experiment(path, tmp_path / "out") == 0
    assert "not run: BM3 needs features" in capsys.readouterr().out
    assert plan_file(tmp_path / "out")["cells"][1]["needs"] == ["features"]
    assert {line["cell"] for line in lines_of(tmp_path / "out")} == {"BPR"}
    assert experiment(path, tmp_path / "next", "--dry_run") == 0
    assert "estimate about" in capsys.readouterr().out


def test_quick_form_has_a_folder_of_its_own(tmp_path, monkeypatch):
    path = write_experiment(
        tmp_path, models=["BPR"], seeds=3, quick={"seeds": 1, "settings": {"stopping_step": 1}}
    )
    line = [word for word in words(tmp_path) if not word.startswith("--stopping_step")]
    assert cli.main(["experiment", str(path), "--quick", *line]) == 0
    out = Path("saved/experiments/series-toy-quick")
    assert plan_file(out)["quick"] is True
    assert [line["config"]["stopping_step"] for line in lines_of(out)] == [1]
    assert experiment(path, out, "--resume") == 2


def test_statistics_of_several_data_sets(tmp_path, capsys):
    from tests.toy import write_toy

    write_toy(tmp_path / "data", name="other", n_users=12, n_items=15)
    argv = ["--experiment=table1_statistics", "--dataset=toy,other", "--data_path=data"]
    assert cli.main([*argv, "--out=out", "--use_gpu=False"]) == 0
    found = json.loads(Path("out/statistics.json").read_text())
    assert [entry["dataset"] for entry in found] == ["toy", "other"]
    assert plan_file(Path("out"))["artefact"] == "table1"
    first = found[0]
    assert (first["users"], first["items"]) == (20, 18)
    assert first["density"] == first["interactions"] / 360
    plan = plan_of(write_experiment(tmp_path, models=["BPR"]))
    assert plan.protocol == first["protocol"]
    assert first["entities"] == first["entities_without_items"] + first["linked_items"]
    assert set(first["features"]) == {"text", "visual"}
    assert first["versions"]["torch"] == version("torch")
    assert first["features"]["visual"] < 18
    assert "items with visual" in capsys.readouterr().out
    assert cli.main([*argv, "--out=out", "--use_gpu=False"]) == 0  # counts are taken anew


def test_statistics_leave_the_plan_of_another_experiment_alone(tmp_path, capsys):
    out = tmp_path / "out"
    assert experiment(write_experiment(tmp_path, models=["BPR"]), out) == 0
    line = ["--experiment=table1_statistics", "--dataset=toy", "--data_path=data", f"--out={out}"]
    assert cli.main(line) == 2
    assert "holds an experiment with experiment series, not table1" in capsys.readouterr().err
    assert plan_file(out)["experiment"] == "series"


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["experiment"], "name an experiment: fig5_fusion"),
        (["experiment", "table2_overal"], "did you mean 'table2_overall'?"),
        (["--experiment=table2_overal"], "did you mean 'table2_overall'?"),
        (["experiment", "table3_ablation", "--experiment=fig5_fusion"], "two experiments"),
        (["experiment", "table3_ablation", "--seeds=99999999999999999999"], "--seeds is a number"),
        (["experiment", "table3_ablation", "--workers=99999999"], "--workers must be from 1"),
        (
            ["experiment", "table3_ablation", "--workers=0"],
            "--workers must be from 1 to 1024, not 0",
        ),
        (["experiment", "table3_ablation", "--seeds=x"], "--seeds is a number"),
        (["experiment", "table3_ablation", "--dataset=toi", "--data_path=data"], "'toy'?"),
        (
            ["experiment", "table3_ablation", "--dataset=toy", "--data_path=data", "--epohcs=1"],
            "did you mean 'epochs'?",
        ),
    ],
)
def test_mistakes_are_one_line(argv, wanted, capsys):
    assert cli.main(argv) == 2
    shown = capsys.readouterr().err
    assert wanted in shown
    assert shown.count("\n") == 1


def test_command_is_offered_and_explains_itself(capsys):
    with pytest.raises(SystemExit):
        cli.main(["experiment", "--help"])
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("table2_overall", "--workers", "sweeps", "--debug"))
    assert cli.main(["--help"]) == 0
    assert "experiment  run a planned series" in capsys.readouterr().out

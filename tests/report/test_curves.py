"""`curves`: values and names of learning curves, their files, and what is refused."""

import csv
import json
import struct
import sys

import pytest

from recbole_slif.errors import ConfigError
from recbole_slif.report import canvas, curves
from recbole_slif.report.curves import main, read_curves


def record(run_id, model="BPR", dataset="toy", seed=1, values=(0.1, 0.3, 0.2), **config):
    epochs = [
        {"epoch": at, "valid": {"recall@20": value, "ndcg@20": value / 2},
         "seconds": {"train": 1.0 + at, "evaluate": 0.5}}
        for at, value in enumerate(values)
    ]  # fmt: skip
    best = max(values, default=None)
    return {
        "schema": 1, "run_id": run_id, "status": "finished", "model": model, "dataset": dataset,
        "seed": seed, "config": {"learning_rate": 0.01, "gpu_id": "", **config}, "epochs": epochs,
        "best_epoch": values.index(best) if values else None, "valid_metric": "recall@20",
        "valid": {"recall@20": best}, "test": {"recall@20": 0.25},
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    def write(*records):
        for one in records:
            (tmp_path / f"{one['run_id']}.json").write_text(json.dumps(one), encoding="utf-8")
        return tmp_path

    return write


def test_curves_are_named_by_what_sets_the_runs_of_a_model_apart(folder):
    place = folder(
        record("a", learning_rate=0.01, gpu_id="0", save_last=False),
        record("b", learning_rate=0.1, save_last=True),
        record("c", model="NGCF", seed=1, layers=[64]),
        record("d", model="NGCF", seed=2, layers=[64], use_tuned=False),
        record("e", dataset="other", learning_rate=0.5),
        record("f", model="TMFUN"),
    )
    labels = [curve.label for curve in read_curves([place])]
    assert labels == [
        "BPR, learning_rate=0.01",
        "BPR, learning_rate=0.1",
        "NGCF, seed=1",
        "NGCF, seed=2",
        "BPR",
        "TMFUN (reconstruction)",
    ]


def test_a_key_that_came_later_sets_apart_only_those_who_use_it(folder):
    place = folder(
        record("a", seed=1),
        record("b", seed=2, contrast_precision="float32"),
        record("c", seed=3, contrast_precision="bfloat16"),
    )
    assert [curve.label for curve in read_curves([place])] == [
        "BPR, seed=1",
        "BPR, contrast_precision=float32, seed=2",
        "BPR, contrast_precision=bfloat16, seed=3",
    ]
    (place / "c.json").unlink()
    assert [curve.label for curve in read_curves([place])] == ["BPR, seed=1", "BPR, seed=2"]


def test_runs_of_the_same_settings_are_named_by_when_they_ran(folder):
    place = folder(
        record("BPR-toy-20261126-184842-edc967", epochs=10),
        record("BPR-toy-20261127-175232-e2d20e", epochs=100),
        record("c", learning_rate=0.1),
    )
    assert [curve.label for curve in read_curves([place])] == [
        "BPR, learning_rate=0.01, run=20261126-184842-edc967",
        "BPR, learning_rate=0.01, run=20261127-175232-e2d20e",
        "BPR, learning_rate=0.1",
    ]


def test_epochs_without_an_evaluation_leave_a_gap_and_seconds_are_medians(folder):
    run = record("a", values=(0.1, 0.3, 0.2, 0.4))
    del run["epochs"][1]["valid"]
    (curve,) = read_curves([folder(run) / "a.json"])
    assert curve.values("recall@20") == [(0, 0.1), (2, 0.2), (3, 0.4)]
    assert curve.seconds("train") == 2.5
    assert curve.seconds("refresh") is None


def test_each_data_set_gets_a_figure_and_its_values(folder, tmp_path, capsys):
    place = folder(record("a"), record("b", model="SLIFMR"), record("c", dataset="other"))
    out = tmp_path / "drawn"
    assert main([str(place), f"--out={out}", "--metric=NDCG@20"]) == 0
    assert {path.name for path in out.iterdir()} == {
        f"curves-{name}.{kind}" for name in ("toy", "other") for kind in ("png", "pdf", "csv")
    }
    rows = list(csv.DictReader((out / "curves-toy.csv").open(encoding="utf-8")))
    assert [(row["label"], row["epoch"], row["ndcg@20"]) for row in rows[:3]] == [
        ("BPR", "0", "0.05"), ("BPR", "1", "0.15"), ("BPR", "2", "0.1")
    ]  # fmt: skip
    assert rows[1]["train_seconds"] == "2.0"
    width = struct.unpack(">I", (out / "curves-toy.png").read_bytes()[16:20])[0]
    assert width == round(2 * canvas.WIDTH * canvas.DPI)
    assert "curves-other.pdf" in capsys.readouterr().out


def test_a_line_is_printed_for_each_run(folder, tmp_path, capsys):
    assert main([str(folder(record("a"))), f"--out={tmp_path / 'o'}"]) == 0
    line = capsys.readouterr().out.splitlines()[2].split()
    assert line == ["toy", "BPR", "1", "3", "1", "0.3000", "0.2500", "-", "2.0000", "0.5000"]


def painted(found, metric="recall@20"):
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(dict(canvas.STYLE)):
        axes = Figure().add_subplot()
        curves._paint(axes, found, metric)
    return axes


def test_the_best_epoch_is_marked_and_ours_stands_out(folder):
    found = read_curves([folder(record("a"), record("b", model="SLIFMR", values=(0.2, 0.5, 0.6)))])
    lines = painted(found).lines
    assert [tuple(line.get_xdata()) for line in lines] == [(0, 1, 2), (1,), (0, 1, 2), (2,)]
    assert lines[1].get_ydata()[0] == 0.3
    colours = [line.get_color() for line in lines]
    assert colours[2:] == [canvas.OURS_COLOUR] * 2
    assert colours[0] == colours[1] != canvas.OURS_COLOUR


def test_the_best_epoch_is_the_lowest_where_less_is_better(folder):
    run = record("a", values=(0.9, 0.5, 0.7))
    for entry in run["epochs"]:
        entry["valid"]["giniindex@20"] = entry["valid"]["recall@20"]
    lines = painted(read_curves([folder(run)]), "giniindex@20").lines
    assert tuple(lines[1].get_xdata()) == (1,)


def test_several_runs_of_ours_have_looks_of_their_own(folder):
    runs = [record(name, model="SLIFMR", gamma=at) for at, name in enumerate("abc")]
    lines = painted(read_curves([folder(*runs)])).lines[::2]
    assert len({(line.get_color(), str(line.get_linestyle())) for line in lines}) == 3


def test_one_model_can_be_asked_for(folder, tmp_path, capsys):
    place = folder(record("a"), record("b", model="NGCF"))
    assert main([str(place), "--models=NGCF", f"--out={tmp_path / 'o'}"]) == 0
    assert "BPR" not in capsys.readouterr().out
    assert main([str(place), "--models=NGFC", f"--out={tmp_path / 'o'}"]) == 2
    assert "NGFC" in capsys.readouterr().err


@pytest.mark.parametrize("made", ["nothing", "empty folder", "no epochs"])
def test_places_without_a_curve_are_refused(made, folder, tmp_path):
    place = tmp_path / "none"
    if made == "empty folder":
        place.mkdir()
    if made == "no epochs":
        place = folder(record("a", values=()))
    with pytest.raises(ConfigError, match=place.name):
        read_curves([place])


def test_a_metric_that_was_not_kept_is_refused_with_those_that_were(folder, tmp_path, capsys):
    assert main([str(folder(record("a"))), "--metric=hit@20", f"--out={tmp_path / 'o'}"]) == 2
    assert "there are ndcg@20, recall@20" in capsys.readouterr().err


def test_a_data_set_that_was_not_evaluated_by_the_metric_gets_no_files(folder, tmp_path, capsys):
    other = record("b", dataset="some/other")
    for entry in other["epochs"]:
        entry["valid"] = {"hit@20": entry["valid"]["recall@20"]}
    place, out = folder(record("a"), other), tmp_path / "drawn"
    assert main([str(place), f"--out={out}"]) == 0
    assert {path.stem for path in out.iterdir()} == {"curves-toy"}
    assert "some/other" in capsys.readouterr().out
    assert main([str(place), f"--out={out}", "--metric=hit@20"]) == 0
    assert {path.stem for path in out.iterdir()} == {"curves-toy", "curves-some_other"}


def test_without_matplotlib_the_line_names_no_option_of_another_command(
    folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([str(folder(record("a"))), f"--out={tmp_path / 'o'}"]) == 2
    error = capsys.readouterr().err
    assert "pip install" in error and "--no-figures" not in error

"""What a folder holds is read as it is; runs of different splits are refused by name."""

import json

import numpy as np
import pytest

from recbole_slif.errors import SlifError
from recbole_slif.report.collect import read_experiment
from recbole_slif.report.entries import SMALLER
from tests.report.folders import MOVED, STILL, cell, failed, line, metrics, write_folder

ONE, OTHER = cell("BPR"), cell("SLIFMR")


def test_runs_come_to_their_cells(tmp_path):
    lines = [
        line(OTHER, 2, test=metrics(0.4, 0.2, 0.1)),
        line(ONE, 1),
        line(OTHER, 1, test=metrics(0.2, 0.1, 0.1)),
        failed(ONE, 2, "no memory"),
    ]
    found = read_experiment(write_folder(tmp_path, [ONE, OTHER], lines, seeds=[1, 2, 3]))
    bpr, ours = found.cells
    assert ours.values("recall@20") == {1: 0.2, 2: 0.4}
    assert ours.mean("recall@20") == pytest.approx(0.3)
    assert ours.deviation("recall@20") == pytest.approx(0.02**0.5)
    assert (ours.open_seeds, bpr.open_seeds) == ((3,), (3,))
    assert [run.seed for run in bpr.failed] == [2]
    assert bpr.deviation("recall@20") is None
    assert found.notes == ()


def test_a_metric_without_a_value_is_missing(tmp_path):
    lines = [line(ONE, 1, test={"recall@20": None, "ndcg@20": 0.1})]
    found = read_experiment(write_folder(tmp_path, [ONE], lines))
    assert found.metrics() == ["ndcg@20"]
    assert found.cells[0].mean("recall@20") is None


def test_a_run_that_was_repeated_has_not_failed(tmp_path):
    lines = [failed(ONE, 1, "no memory"), line(ONE, 1), failed(ONE, 1, "late twin")]
    found = read_experiment(write_folder(tmp_path, [ONE], lines)).cells[0]
    assert len(found.runs) == 1
    assert found.failed == ()


def test_lines_of_other_settings_do_not_count(tmp_path):
    lines = [line(ONE, 1), line(ONE, 1, settings_hash="other", test=metrics(0.9, 0.9, 0.9))]
    found = read_experiment(write_folder(tmp_path, [ONE], lines))
    assert found.cells[0].mean("recall@20") == 0.1
    assert "1 recorded runs have other settings" in found.notes[0]


def test_lines_outside_the_plan_are_not_called_others_settings(tmp_path):
    lines = [line(ONE, 1), line(ONE, 2), line(OTHER, 1), line(ONE, 1, settings_hash="other")]
    folder = write_folder(tmp_path, [ONE], lines, seeds=[1])
    found = read_experiment(folder)
    assert [len(cell.runs) for cell in found.cells] == [1]
    outside, stale = found.notes
    assert outside.startswith("2 recorded runs are left out") and "cells or seeds" in outside
    assert stale.startswith("1 recorded runs have other settings")
    plan = json.loads((folder / "plan.json").read_text())
    del plan["runs"]  # such a plan tells cells and seeds alone
    (folder / "plan.json").write_text(json.dumps(plan))
    assert [note[:18] for note in read_experiment(folder).notes] == ["2 recorded runs ar"]


def test_damaged_lines_are_left_out_and_said(tmp_path):
    folder = write_folder(tmp_path, [ONE], [line(ONE, 1)])
    with (folder / "runs.jsonl").open("a") as stream:
        stream.write('{"cell": "BPR", "sta\n')
    found = read_experiment(folder)
    assert len(found.runs) == 1
    assert "1 damaged lines" in found.notes[0]


def test_a_cell_that_cannot_run_says_what_it_needs(tmp_path):
    poor = cell("BM3", needs=["features", "knowledge"])
    found = read_experiment(write_folder(tmp_path, [ONE, poor], [line(ONE, 1)])).cells[1]
    assert found.state == "needs features and a knowledge graph"
    assert found.open_seeds == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fingerprint": "aaaa"}, ("split", "cff20fd6cb03e055", "aaaa")),
        ({"statistics": {"protocol": "benchmark"}}, ("protocol", "ratio_811", "benchmark")),
        ({"dataset": "books"}, ("data set", "toy", "books")),
        (
            {"protocol": {"eval_args": {"mode": {"valid": "full", "test": "uni100"}}}},
            ("protocol", "ratio_811", "uni100"),
        ),
    ],
    ids=["split", "protocol", "data set", "candidates"],
)
def test_what_does_not_compare_is_refused_naming_both(tmp_path, change, words):
    folder = write_folder(tmp_path, [ONE, OTHER], [line(ONE, 1), line(OTHER, 1, **change)])
    with pytest.raises(SlifError) as caught:
        read_experiment(folder)
    for word in (*words, "BPR", "SLIFMR"):
        assert word in str(caught.value)


def test_noise_in_interactions_has_splits_of_its_own(tmp_path):
    clean, noisy, same = (
        cell("BPR", x=0.0, noise="inter:0"),
        cell("BPR", x=0.2, noise="inter:0.2"),
        cell("SLIFMR", x=0.2, noise="inter:0.2"),
    )
    lines = [
        line(clean, 1),
        line(noisy, 1, fingerprint="n1"),
        line(noisy, 2, fingerprint="n2"),
        line(same, 1, fingerprint="n1"),
    ]
    cells = [clean, noisy, same]
    read_experiment(write_folder(tmp_path / "good", cells, lines))
    lines[3]["fingerprint"] = "n3"
    with pytest.raises(SlifError, match=r"noise inter:0.2, seed 1.*'n1'.*'n3'"):
        read_experiment(write_folder(tmp_path / "bad", cells, lines))
    lines = [line(clean, 1), line(same, 1, noise="kg:0.2", fingerprint="n1")]
    other = cell("SLIFMR", x=0.2, noise="kg:0.2")
    lines[1] = line(other, 1, fingerprint="n1")
    with pytest.raises(SlifError, match="different split"):
        read_experiment(write_folder(tmp_path / "kg", [clean, other], lines))


def test_code_of_several_states_is_said(tmp_path):
    lines = [line(ONE, 1), line(OTHER, 1, commit="feedbeef0000", versions={"torch": "2.15"})]
    notes = read_experiment(write_folder(tmp_path, [ONE, OTHER], lines)).notes
    assert "2 commits: 5d776e4e65, feedbeef00" in notes[0]
    assert "2 sets of library versions" in notes[1]


def test_runs_that_have_not_learned_are_named(tmp_path):
    lines = [
        line(ONE, 1, epochs=STILL),
        line(ONE, 2, epochs=STILL),
        line(ONE, 3, epochs=MOVED),
        line(OTHER, 1, epochs=MOVED),
        line(OTHER, 2, epochs=None),
    ]
    notes = read_experiment(write_folder(tmp_path, [ONE, OTHER], lines)).notes
    assert len(notes) == 1
    assert "ranking loss had moved" in notes[0] and notes[0].endswith(": BPR (2 of 3)")


def test_a_reconstruction_is_marked_wherever_it_is_named(tmp_path):
    cells = [
        cell("TMFUN"),
        cell("TMFUN", label="TMFUN, shallow", overrides={"n_layers": 1}),
        cell("BPR"),
    ]
    lines = [line(planned, 1) for planned in cells]
    found = read_experiment(write_folder(tmp_path, cells, lines))
    names = [(cell.model, cell.label, cell.series) for cell in found.cells]
    marked = "TMFUN (reconstruction)"
    assert names == [
        ("TMFUN", marked, marked),
        ("TMFUN", f"{marked}, shallow", marked),
        ("BPR", "BPR", "BPR"),
    ]
    assert "TMFUN: a reconstruction, its equations are ours" in found.notes
    found = read_experiment(write_folder(tmp_path / "bpr", cells[2:], lines[2:]))
    assert not any("reconstruction" in note for note in found.notes)


def test_folders_that_are_none_are_refused_with_the_file(tmp_path):
    with pytest.raises(SlifError, match=r"plan\.json' is missing"):
        read_experiment(tmp_path / "nowhere")
    folder = write_folder(tmp_path / "empty", [ONE], [])
    with pytest.raises(SlifError, match="no run yet"):
        read_experiment(folder)
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps({**plan, "schema": 9}))
    with pytest.raises(SlifError, match="schema 9, not 1"):
        read_experiment(folder)
    del plan["seeds"]
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(SlifError, match="lacks seeds"):
        read_experiment(folder)
    (folder / "plan.json").write_text("{")
    with pytest.raises(SlifError, match="cannot be read"):
        read_experiment(folder)


def test_damaged_per_user_files_are_named(tmp_path):
    lines = [line(ONE, 1, per_user="per_user/a.npz")]
    found = read_experiment(write_folder(tmp_path, [ONE], lines))
    with pytest.raises(SlifError, match=r"a\.npz' cannot be read"):
        found.per_user(found.runs[0])
    (tmp_path / "per_user").mkdir()
    np.savez(tmp_path / "per_user/a.npz", users=[1, 2], **{"recall@20": [0.1]})
    with pytest.raises(SlifError, match="metrics of its length"):
        found.per_user(found.runs[0])


def test_what_is_better_when_smaller_agrees_with_recbole():
    from recbole.evaluator.register import smaller_metrics

    assert set(smaller_metrics) == SMALLER

"""Every number of a table, from records whose values are known."""

import pytest

from recbole_slif.errors import SlifError
from recbole_slif.report.collect import read_experiment
from recbole_slif.report.quantities import plain_rows, protocol_check
from recbole_slif.report.sections import chosen_metrics, sections
from recbole_slif.report.tables import marks, result_tables
from tests.report.folders import MOVED, STILL, cell, failed, line, metrics, write_folder

METRICS = ["recall@20", "ndcg@20", "precision@20"]


def tables_of(folder, metrics=METRICS, asked=None):
    """Return the tables of all sections."""
    experiment = read_experiment(folder)
    return [
        table
        for section in sections(experiment)
        for table in result_tables(experiment, section, metrics, asked)
    ]


def texts(table):
    """Return a table as texts, the best starred, the second with a plus."""
    sign = {"best": "*", "second": "+", "": ""}
    return [[sign[entry.mark] + entry.text for entry in row] for row in table.rows]


def overall(folder):
    """Write four models: one failed in part, one that needs features, one with a metric less."""
    cells = [
        cell("BPR", group="general"),
        cell("KGAT", group="knowledge"),
        cell("BM3", group="multimodal", needs=["features"]),
        cell("DiffKG", group="knowledge"),
        cell("SLIFMR", group="both"),
    ]
    bpr, kgat, _, diffkg, ours = cells
    lines = [
        line(bpr, 1, test=metrics(0.10, 0.05, 0.010)),
        line(bpr, 2, test=metrics(0.12, 0.07, 0.012)),
        line(kgat, 1, test=metrics(0.20, 0.11, 0.020)),
        failed(kgat, 2, "no memory"),
        failed(diffkg, 1, "loss is not finite"),
        failed(diffkg, 2, "loss is not finite"),
        line(ours, 1, test={"recall@20": 0.21, "ndcg@20": 0.10}),
        line(ours, 2, test={"recall@20": 0.23, "ndcg@20": 0.12}),
    ]
    return write_folder(folder, cells, lines)


def test_the_table_of_models(tmp_path):
    table = tables_of(overall(tmp_path))[0]
    assert table.header == (
        "model", "kind", "seeds", "Recall@20", "NDCG@20", "Precision@20", "P/R"
    )  # fmt: skip
    assert texts(table) == [
        ["BPR", "general", "2", "0.1100 ± 0.0141", "+0.0600 ± 0.0141", "+0.0110 ± 0.0014", "0.100"],
        ["KGAT", "knowledge", "1", "+0.2000", "*0.1100", "*0.0200", "0.100"],
        ["DiffKG", "knowledge", "-", "failed", "-", "-", "-"],
        ["BM3", "multimodal", "-", "needs features", "-", "-", "-"],
        ["SLIFMR", "both", "2", "*0.2200 ± 0.0141", "*0.1100 ± 0.0141", "-", "-"],
        ["SLIFMR to best baseline", "", "", "+10.00 % (KGAT)", "+0.00 % (KGAT)", "-", ""],
    ]
    assert table.rules == {1, 3, 4, 5}
    assert "Failed: DiffKG, seed 1, 2: loss is not finite" in table.notes
    assert "Failed: KGAT, seed 2: no memory" in table.notes
    assert any("Precision@20/Recall@20 is 0.100, as it should" in note for note in table.notes)


def test_a_worse_subject_has_a_negative_improvement(tmp_path):
    cells = [cell("BPR"), cell("SLIFMR")]
    lines = [line(cells[0], 1), line(cells[1], 1, test=metrics(0.09, 0.05, 0.02))]
    gains = texts(tables_of(write_folder(tmp_path, cells, lines))[0])[-1]
    assert gains[1:4] == ["-10.00 % (BPR)", "+0.00 % (BPR)", "+100.00 % (BPR)"]


def test_nothing_is_counted_against_a_best_baseline_of_0(tmp_path):
    cells = [cell("BPR"), cell("KGAT"), cell("SLIFMR")]
    values = (0.4, 0.0, 0.5)
    lines = [
        line(one, 1, test={"giniindex@20": value}) for one, value in zip(cells, values, strict=True)
    ]
    table = tables_of(write_folder(tmp_path, cells, lines), ["giniindex@20"])[0]
    assert texts(table)[-1] == ["SLIFMR", "0.5000"], "BPR is not the best"


def test_one_seed_has_no_deviation(tmp_path):
    cells = [cell("BPR")]
    table = tables_of(write_folder(tmp_path, cells, [line(cells[0], 1)]))[0]
    assert texts(table) == [["BPR", "*0.1000", "*0.0500", "*0.0100", "0.100"]]


def test_the_ablation_shows_changes_against_the_full_model(tmp_path):
    cells = [
        cell("SLIFMR", overrides={"ablation": "kg"}, label="w/o KG&MM"),
        cell("SLIFMR", overrides={"ablation": "none"}, label="SLIF-MR"),
    ]
    lines = [line(cells[0], 1, test={"recall@20": 0.15}), line(cells[1], 1,
             test={"recall@20": 0.2})]  # fmt: skip
    table = tables_of(write_folder(tmp_path, cells, lines, artefact="table3"), ["recall@20"])[0]
    assert table.header == ("variant", "Recall@20", "change in Recall@20")
    assert texts(table) == [
        ["w/o KG&MM", "+0.1500", "-25.00 %"],
        ["SLIF-MR", "*0.2000", "-"],
    ]
    assert "Changes are against SLIF-MR; below 0 is worse than it." in table.notes


def test_a_cell_without_a_level_has_a_row_below_the_curves(tmp_path):
    cells = [
        cell(model, group="kg", x=x, noise=f"kg:{x:g}", label=f"{model}, {x:.0%}")
        for model in ("KGAT", "SLIFMR")
        for x in (0.0, 0.2)
    ]
    cells.append(cell("BPR", group="kg", label="no graph"))
    cells.append(cell("BM3", group="kg", needs=["features"]))
    known = dict(zip((one["key"] for one in cells), (0.2, 0.1, 0.3, 0.2, 0.25), strict=False))
    lines = [line(one, 1, test={"recall@20": known[one["key"]]}) for one in cells[:5]]
    (table,) = tables_of(write_folder(tmp_path, cells, lines, artefact="fig7"), ["recall@20"])
    assert texts(table) == [
        ["KGAT", "0.2000", "0.1000", "50.0 %"],
        ["SLIFMR", "*0.3000", "+0.2000", "33.3 %"],
        ["no graph", "+0.2500", "*0.2500", "-"],
        ["BM3", "needs features", "-", "-"],
    ]
    assert table.rules == {2}
    assert "no graph, BM3: no place on the axis, so the same at every level." in table.notes


def test_a_curve_that_ends_earlier_has_no_loss_at_the_last_level(tmp_path):
    cells = [
        cell(model, group="kg", x=x, noise=f"kg:{x:g}", label=f"{model}, {x:.0%}")
        for model, levels in (("KGAT", (0.0, 0.1)), ("KGIN", (0.1, 0.2)), ("SLIFMR", (0.0, 0.2)))
        for x in levels
    ]
    lines = [line(one, 1, test={"recall@20": 0.2 - one["x"] / 2}) for one in cells]
    table = tables_of(write_folder(tmp_path, cells, lines, artefact="fig7"), ["recall@20"])[0]
    assert table.header[-1] == "loss at 20 %"
    losses = {row[0]: row[-1] for row in texts(table)}
    assert losses == {"KGAT": "-", "KGIN": "-", "SLIFMR": "50.0 %"}


def test_changes_and_losses_turn_where_less_is_better(tmp_path):
    less = ["giniindex@20"]
    cells = [
        cell("SLIFMR", overrides={"ablation": name}, label=name) for name in ("kg", "ii", "none")
    ]
    lines = [
        line(one, 1, test={"giniindex@20": value})
        for one, value in zip(cells, (0.9, 0.0, 0.6), strict=True)
    ]
    table = tables_of(write_folder(tmp_path / "a", cells, lines, artefact="table3"), less)[0]
    assert [row[2] for row in texts(table)] == ["-50.00 %", "+100.00 %", "-"]
    cells = [
        cell(model, group="kg", x=x, noise=f"kg:{x:g}", label=f"{model}, {x:.0%}")
        for model in ("KGAT", "SLIFMR")
        for x in (0.0, 0.2)
    ]
    lines = [
        line(one, 1, test={"giniindex@20": value})
        for one, value in zip(cells, (0.5, 0.6, 0.5, 0.5), strict=True)
    ]
    table = tables_of(write_folder(tmp_path / "b", cells, lines, artefact="fig7"), less)[0]
    assert [row[-1] for row in texts(table)] == ["20.0 %", "0.0 %"]


def test_ties_share_a_mark_and_the_next_value_is_second():
    assert marks([0.3, 0.30004, 0.2, 0.2, 0.1, None]) == ["best"] * 2 + ["second"] * 2 + ["", ""]
    assert marks([0.3, 0.2], smaller=True) == ["second", "best"]
    assert marks([None]) == [""]


def test_noise_makes_a_row_for_each_model_and_a_column_for_each_level(tmp_path):
    cells = [
        cell(model, group="kg", x=x, noise=f"kg:{x:g}", label=f"{model}, {x:.0%}")
        for model in ("KGAT", "SLIFMR")
        for x in (0.0, 0.1, 0.2)
    ]
    known = dict(zip((one["key"] for one in cells), (0.2, 0.18, 0.15, 0.3, 0.28, 0.27),
                     strict=True))  # fmt: skip
    lines = [
        line(one, 1, test={"recall@20": known[one["key"]], "precision@20": 0.02}) for one in cells
    ]
    found = tables_of(write_folder(tmp_path, cells, lines, artefact="fig7"), ["recall@20"])
    assert len(found) == 1
    assert found[0].header == ("replaced triples (%)", "0 %", "10 %", "20 %", "loss at 20 %")
    assert texts(found[0]) == [
        ["KGAT", "+0.2000", "+0.1800", "+0.1500", "25.0 %"],
        ["SLIFMR", "*0.3000", "*0.2800", "*0.2700", "10.0 %"],
    ]


def test_sweeps_stand_in_tables_of_their_own(tmp_path):
    cells = [
        cell("SLIFMR", group=group, x=float(x), overrides={key: x}, label=f"{key} = {x}")
        for group, key in (("layers", "n_layers"), ("sge_n", "sge_n"))
        for x in (1, 2)
    ]
    lines = [line(one, 1, test={"recall@20": 0.1 * one["x"]}) for one in cells]
    found = tables_of(write_folder(tmp_path, cells, lines, artefact="fig6"), ["recall@20"])
    assert [table.title for table in found] == [
        "Number of layers",
        "Neighbours in the correlation graph (N)",
    ]
    assert texts(found[0]) == [["n_layers = 1", "+0.1000"], ["n_layers = 2", "*0.2000"]]


def test_the_interval_table_has_times(tmp_path):
    one = cell("SLIFMR", group="interval", x=1.0, overrides={"sge_interval": 1}, label="1")
    never = cell("SLIFMR", group="interval", overrides={"ablation": "sge"}, label="never")
    lines = [line(one, 1), line(never, 1, epochs=[{"seconds": {"train": 1.0}}])]
    folder = write_folder(tmp_path, [one, never], lines, artefact="table4")
    table = tables_of(folder, ["recall@20"])[0]
    assert table.header[-2:] == ("s/epoch", "of it refresh")
    assert [row[-2:] for row in texts(table)] == [["2.50", "0.50"], ["1.00", "-"]]


def test_a_row_of_another_protocol_stands_apart(tmp_path):
    cells = [cell(name) for name in ("A", "B", "DiffMM")]
    lines = [
        line(one, 1, test={"recall@20": 0.1, "precision@20": value})
        for one, value in zip(cells, (0.0105, 0.0107, 0.0074), strict=True)
    ]
    experiment = read_experiment(write_folder(tmp_path, cells, lines))
    text = protocol_check(experiment.cells, ["recall@20"])
    assert "0.074 to 0.107; DiffMM (0.074) stand apart from 0.105" in text
    assert protocol_check(experiment.cells, ["recall@5"]) is None


def test_lists_of_a_model_that_has_not_learned_say_nothing_of_the_split(tmp_path):
    cells = [cell(name) for name in ("A", "B", "C")]
    lines = [
        line(one, 1, test={"recall@20": 0.1, "precision@20": value}, epochs=history)
        for one, value, history in zip(
            cells, (0.01, 0.01, 0.05), (MOVED, MOVED, STILL), strict=True
        )
    ]
    experiment = read_experiment(write_folder(tmp_path, cells, lines))
    assert "is 0.100, as it should be" in protocol_check(experiment.cells, ["recall@20"])


def test_metrics_are_those_at_20_or_at_the_largest_k(tmp_path):
    one = cell("BPR")

    def chosen(name, test, asked=()):
        folder = write_folder(tmp_path / name, [one], [line(one, 1, test=test)])
        return chosen_metrics(read_experiment(folder), asked)

    many = {"precision@20": 0.1, "recall@50": 0.1, "ndcg@20": 0.1, "recall@20": 0.1}
    assert chosen("a", many) == ["recall@20", "ndcg@20", "precision@20"]
    assert chosen("b", {"recall@3": 0.1, "recall@5": 0.2, "hit@5": 0.1}) == ["recall@5"]
    assert chosen("c", {"mae": 0.1}) == ["mae"]
    assert chosen("d", many, ["Recall@50", "recall@50"]) == ["recall@50"]
    with pytest.raises(SlifError, match=r"no run has 'recall@7'; there are precision@20"):
        chosen("e", many, ["recall@7"])


def test_the_plain_rows_hold_everything(tmp_path):
    experiment = read_experiment(overall(tmp_path))
    rows = plain_rows(experiment, sections(experiment))
    by_model = {row["model"]: row for row in rows}
    assert by_model["BPR"]["recall@20 mean"] == pytest.approx(0.11)
    assert by_model["BPR"]["precision/recall@20"] == pytest.approx(0.1)
    assert by_model["BPR"]["refresh s/epoch"] == 0.5
    assert by_model["SLIFMR"]["recall@20 improvement %"] == pytest.approx(10.0)
    assert by_model["SLIFMR"]["precision@20 mean"] is None
    assert by_model["BM3"]["state"] == "needs features"
    assert by_model["DiffKG"]["failed"] == 2

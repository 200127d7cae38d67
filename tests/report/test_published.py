"""The paper's values stand beside ours where data set and protocol are the same, and only there."""

import pytest

from recbole_slif import cli
from recbole_slif.report.collect import read_experiment
from recbole_slif.report.published import paper_value, published, remark, why_not
from recbole_slif.report.sections import sections
from recbole_slif.report.tables import result_tables
from tests.report.folders import cell, line, write_folder

BOOK = {"dataset": "amazon-book", "protocol": "benchmark"}
FULL = cell("SLIFMR", overrides={"ablation": "none"}, label="SLIF-MR")
WITHOUT = cell("SLIFMR", overrides={"ablation": "sge"}, label="w/o SGE")


def book(folder, cells, **changes):
    changes = {**BOOK, **changes}
    own = {"dataset": changes["dataset"], "statistics": {"protocol": changes["protocol"]}}
    lines = [line(one, 1, **own) for one in cells]
    return read_experiment(write_folder(folder, cells, lines, **changes))


def test_same_data_and_protocol_show_them(tmp_path):
    experiment = book(tmp_path, [WITHOUT, FULL], artefact="table3")
    assert why_not(experiment) is None
    table = result_tables(experiment, sections(experiment)[0], ["recall@20", "ndcg@20"])[0]
    assert table.header[-2:] == ("Recall@20 (paper)", "NDCG@20 (paper)")
    assert [[entry.text for entry in row[-2:]] for row in table.rows] == [
        ["0.1851", "0.1008"],
        ["0.1891", "0.1024"],
    ]
    hidden = result_tables(experiment, sections(experiment)[0], ["recall@20"], paper=False)[0]
    assert not any("paper" in name for name in hidden.header)
    assert "twice" in remark("table3")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": "ml-100k"}, "for amazon-book and yelp2018, this is ml-100k"),
        ({"protocol": "ratio_811"}, "protocol benchmark, this is ratio_811"),
        ({"artefact": "fig6"}, "figure without numbers"),
        ({"artefact": "mine"}, "no table of this artefact"),
        ({"artefact": "metrics"}, "no table of this artefact"),
        ({"artefact": "figures of mine"}, "no table of this artefact"),
    ],
)
def test_otherwise_a_sentence_says_why_not(tmp_path, changes, words):
    experiment = book(tmp_path, [FULL], **{"artefact": "table3", **changes})
    assert words in why_not(experiment)
    assert paper_value(experiment, experiment.cells[0], "recall@20") is None


def test_values_of_sampled_candidates_do_not_stand_beside_the_papers(tmp_path):
    mode = {"valid": "full", "test": "uni5"}
    lines = [line(FULL, 1, dataset="amazon-book", statistics={"protocol": "benchmark"},
                  protocol={"eval_args": {"mode": mode}})]  # fmt: skip
    folder = write_folder(tmp_path, [FULL], lines, artefact="table3", **BOOK)
    experiment = read_experiment(folder)
    assert why_not(experiment).endswith("this is benchmark with candidates uni5.")
    assert paper_value(experiment, experiment.cells[0], "recall@20") is None
    assert cli.main(["report", str(folder), "--no-figures"]) == 0
    for name in ("table.md", "table.tex", "table.csv", "index.html"):
        shown = (folder / "report" / name).read_text()
        assert "benchmark with candidates uni5" in shown, name
        assert "0.1891" not in shown, name


def test_only_rows_of_the_same_settings_have_a_value(tmp_path):
    cells = [cell("KGAT"), cell("KGAT", overrides={"n_layers": 2}), cell("Pop")]
    experiment = book(tmp_path / "a", cells)
    assert [paper_value(experiment, one, "recall@20") for one in experiment.cells] == [
        0.1162,
        None,
        None,
    ]
    assert paper_value(experiment, experiment.cells[0], "recall@10") is None
    interval = cell("SLIFMR", x=5.0, overrides={"sge_interval": 5})
    experiment = book(tmp_path / "b", [interval, WITHOUT], artefact="table4")
    values = [paper_value(experiment, one, "ndcg@20") for one in experiment.cells]
    assert values == [0.1013, None]
    assert paper_value(experiment, experiment.cells[0], "precision@20") is None


@pytest.mark.parametrize(
    ("dataset", "metric", "gain"),
    [("amazon-book", 0, 7.08), ("amazon-book", 1, 6.11), ("amazon-book", 2, 8.51),
     ("yelp2018", 0, 3.12), ("yelp2018", 1, 3.67), ("yelp2018", 2, 3.41)],
)  # fmt: skip
def test_the_file_repeats_the_papers_own_improvements(dataset, metric, gain):
    rows = published()["table2"][dataset]
    assert len(rows) == 15
    ours, baseline = rows["SLIFMR"][metric], rows["KRDN"][metric]
    assert (ours - baseline) / baseline * 100 == pytest.approx(gain, abs=0.006)


def test_tables_of_the_file_agree_where_they_overlap():
    content = published()
    for dataset in ("amazon-book", "yelp2018"):
        full = content["table2"][dataset]["SLIFMR"]
        assert content["table3"][dataset]["none"] == full
        assert content["table4"][dataset]["1"][:2] == full[:2]
        counts = content["table1"][dataset]
        share = counts["interactions"] / counts["users"] / counts["items"]
        assert counts["density"] == pytest.approx(share, rel=0.02)

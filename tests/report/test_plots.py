"""What the figures show, how large their letters are, and that curves differ without colour."""

import math
import struct
import sys

import matplotlib
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from recbole_slif.errors import SlifError
from recbole_slif.report import canvas, plots
from recbole_slif.report.collect import read_experiment
from recbole_slif.report.sections import sections
from tests.report.folders import MOVED, STILL, cell, line, write_folder

OKABE_ITO = {"#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}


def noise(folder, models=("KGAT", "KGIN", "SLIFMR"), seeds=(1, 2), once=()):
    cells = [
        cell(model, group="kg", x=x, noise=f"kg:{x:g}", label=f"{model}, {x:.0%}")
        for model in models
        for x in (0.0, 0.1, 0.2)
    ]
    lines = [
        line(one, seed, test={"recall@20": 0.3 - one["x"] + 0.02 * seed})
        for one in cells
        for seed in (seeds[:1] if one["x"] in once else seeds)
    ]
    return read_experiment(write_folder(folder, cells, lines, artefact="fig7"))


def painted(paint):
    """Return axes with a painter's work, under the figures' style."""
    with matplotlib.rc_context(dict(canvas.STYLE)):
        axes = Figure(figsize=(canvas.WIDTH, 2.5), layout="constrained").add_subplot()
        paint(axes)
        return axes


def test_noise_makes_a_curve_and_a_band_for_each_model(tmp_path):
    experiment = noise(tmp_path)
    axes = painted(plots._lines(experiment, sections(experiment)[0], "recall@20", True))
    assert [drawn.get_label() for drawn in axes.lines] == ["KGAT", "KGIN", "SLIFMR"]
    assert axes.lines[0].get_xdata().tolist() == [0.0, 10.0, 20.0]
    assert axes.lines[0].get_ydata().tolist() == pytest.approx([0.33, 0.23, 0.13])
    assert len(axes.collections) == 3
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert max(band) == pytest.approx(0.33 + 0.02 / 2**0.5)
    assert axes.get_xlabel() == "replaced triples (%)"
    assert axes.get_ylabel() == "Recall@20"


def test_one_seed_has_no_band(tmp_path):
    experiment = noise(tmp_path, seeds=(1,))
    axes = painted(plots._lines(experiment, sections(experiment)[0], "recall@20", True))
    assert not axes.collections


def test_a_point_of_one_seed_is_left_out_of_the_band(tmp_path):
    experiment = noise(tmp_path, models=("SLIFMR",), once=(0.2,))
    axes = painted(plots._lines(experiment, sections(experiment)[0], "recall@20", True))
    assert axes.lines[0].get_xdata().tolist() == [0.0, 10.0, 20.0]
    (band,) = (path.vertices for path in axes.collections[0].get_paths())
    assert set(band[:, 0]) == {0.0, 10.0}
    assert min(band[:, 1]) == pytest.approx(0.23 - 0.02 / 2**0.5)


def test_points_of_runs_that_have_not_learned_do_not_flatten_the_others(tmp_path):
    cells = [
        cell("SLIFMR", key=f"{x}", group="beta", x=x, label=f"beta = {x}") for x in (0.1, 0.3, 0.5)
    ]
    lines = [
        line(one, seed, test={"recall@20": value + 0.01 * seed}, epochs=history)
        for one, value, history in zip(cells, (0.36, 0.35, 0.0), (MOVED, MOVED, STILL), strict=True)
        for seed in (1, 2)
    ]
    experiment = read_experiment(write_folder(tmp_path, cells, lines, artefact="fig6"))
    (section,) = sections(experiment)
    curve, low = painted(plots._lines(experiment, section, "recall@20", True)).lines
    assert curve.get_xdata().tolist() == [0.1, 0.3]
    assert curve.axes.get_ylim()[0] > 0.3
    assert (low.get_label(), low.get_xdata().tolist()) == ("SLIFMR, not learned", [0.5])
    (figure,) = plots.draw(experiment, section, ["recall@20"], tmp_path)
    assert "had not learned to rank" in figure.caption


def test_points_stay_on_the_curve_where_no_run_has_learned(tmp_path):
    cells = [cell("SLIFMR", key=f"{x}", group="beta", x=x, label=f"beta = {x}") for x in (0.1, 0.3)]
    lines = [line(one, 1, test={"recall@20": 0.01}, epochs=STILL) for one in cells]
    experiment = read_experiment(write_folder(tmp_path, cells, lines, artefact="fig6"))
    (curve,) = painted(plots._lines(experiment, sections(experiment)[0], "recall@20", True)).lines
    assert curve.get_xdata().tolist() == [0.1, 0.3]


def luminance(colour):
    """Relative luminance by the rule of WCAG 2."""
    parts = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in to_rgb(colour)
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def test_every_curve_stands_out_from_white_paper():
    for colour in (*canvas.COLOURS, canvas.OURS_COLOUR):
        assert 1.05 / (luminance(colour) + 0.05) >= 2.0, colour


def test_curves_differ_in_colour_marker_and_line_and_are_okabe_and_itos(tmp_path):
    experiment = noise(tmp_path, models=("A", "B", "C", "D", "SLIFMR"))
    lines = painted(plots._lines(experiment, sections(experiment)[0], "recall@20", True)).lines
    for look in ("get_color", "get_marker"):
        assert len({getattr(drawn, look)() for drawn in lines}) == 5
    assert {to_hex(drawn.get_color()) for drawn in lines} <= OKABE_ITO
    assert set(map(str.lower, canvas.COLOURS)) - {"#777777"} <= OKABE_ITO


def test_letters_are_legible_at_the_width_of_a_column(tmp_path):
    experiment = noise(tmp_path)
    axes = painted(plots._lines(experiment, sections(experiment)[0], "recall@20", True))
    texts = [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label,
             *axes.get_legend().get_texts()]  # fmt: skip
    assert min(text.get_size() for text in texts) >= 8
    assert canvas.WIDTH == 3.4


@pytest.mark.parametrize("count", [3, 5, 16])
def test_names_of_curves_stay_inside_the_figure(tmp_path, count):
    models = ["TMFUN", "SLIFMR", "LightGCN", *(f"Model{at:02}" for at in range(count - 3))]
    experiment = noise(tmp_path, models=models)
    axes = painted(plots._lines(experiment, sections(experiment)[0], "recall@20", True))
    axes.figure.draw_without_rendering()
    legend, whole = axes.get_legend().get_window_extent(), axes.figure.bbox
    assert whole.x0 <= legend.x0
    assert legend.x1 <= whole.x1
    assert legend.y1 <= whole.y1
    assert axes.get_window_extent().height > 0.4 * 2.5 * axes.figure.dpi


def test_values_of_several_magnitudes_are_spread_by_their_logarithm(tmp_path):
    for name, levels, scale in (("a", (1, 2, 5), "linear"), ("b", (1e-5, 1e-4, 0.1), "log")):
        cells = [
            cell("SLIFMR", group="g", x=float(x), overrides={"gamma": x}, label=f"{x}")
            for x in levels
        ]
        folder = write_folder(tmp_path / name, cells, [line(one, 1) for one in cells])
        experiment = read_experiment(folder)
        axes = painted(plots._lines(experiment, sections(experiment)[0], "recall@20", True))
        assert axes.get_xscale() == scale
        assert [text.get_text() for text in axes.get_xticklabels()] == [f"{x:g}" for x in levels]
        assert axes.get_xlabel() == "gamma"


def test_labels_of_close_levels_do_not_run_into_each_other():
    levels = (0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9)
    shown = plots._apart([math.log(x) for x in levels], [f"{x:g}" for x in levels])
    assert shown == ["0.001", "0.01", "0.1", "0.3", "", "0.7", ""]
    assert plots._apart([1.0], ["1"]) == ["1"]
    assert plots._apart([0, 5, 10, 15, 20], list("abcde")) == list("abcde")


def test_bars_show_values_what_is_missing_and_the_papers(tmp_path):
    cells = [cell("KGAT"), cell("BM3", needs=["features"]), cell("SLIFMR")]
    own = {"dataset": "amazon-book", "statistics": {"protocol": "benchmark"}}
    lines = [line(cells[0], 1, **own), line(cells[2], 1, **own, test={"recall@20": 0.2})]
    plan = {"dataset": "amazon-book", "protocol": "benchmark"}
    experiment = read_experiment(write_folder(tmp_path, cells, lines, **plan))
    axes = painted(plots._bars(experiment, sections(experiment)[0], "recall@20", None, True))
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.2]
    assert {text.get_text() for text in axes.texts} == {"0.1000", "needs features", "0.2000"}
    assert axes.lines[-1].get_label() == "paper"
    assert axes.lines[-1].get_xdata().tolist() == [0.1162, 0.1406, 0.1891]
    lacking = next(text for text in axes.texts if text.get_text() == "needs features")
    assert lacking.get_position()[0] > 0.1406, "right of the paper's mark"
    assert axes.get_xlim()[0] == 0
    assert axes.patches[1].get_hatch()
    plain = painted(plots._bars(experiment, sections(experiment)[0], "recall@20", None, False))
    assert not plain.lines


def test_files_are_png_and_pdf_of_the_right_size(tmp_path):
    cells = [cell("SLIFMR", overrides={"fusion": "ailf"}, label="AILF: 100 % of $x_i"),
             cell("SLIFMR", overrides={"fusion": "sum"}, label=r"$\nosuch$")]  # fmt: skip
    lines = [line(one, 1) for one in cells]
    experiment = read_experiment(write_folder(tmp_path, cells, lines, artefact="fig5"))
    found = plots.draw(experiment, sections(experiment)[0], ["recall@20", "hit@20"], tmp_path)
    assert [one.name for one in found] == ["fig5-recall20"]
    width = struct.unpack(">I", found[0].png[16:20])[0]
    assert found[0].png.startswith(b"\x89PNG")
    assert width == round(canvas.WIDTH * canvas.DPI)
    assert (tmp_path / "fig5-recall20.png").read_bytes() == found[0].png
    pdf = (tmp_path / "fig5-recall20.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/Type3" not in pdf
    again = plots.draw(experiment, sections(experiment)[0], ["recall@20"], tmp_path)
    assert again == found
    assert (tmp_path / "fig5-recall20.pdf").read_bytes() == pdf


def test_the_interval_has_a_figure_of_seconds(tmp_path):
    one = cell("SLIFMR", group="interval", x=1.0, overrides={"sge_interval": 1}, label="1")
    never = cell("SLIFMR", group="interval", overrides={"ablation": "sge"}, label="never")
    folder = write_folder(tmp_path, [one, never], [line(one, 1), line(never, 1)],
                          artefact="table4")  # fmt: skip
    experiment = read_experiment(folder)
    found = plots.draw(experiment, sections(experiment)[0], ["recall@20"], tmp_path)
    assert [figure.name for figure in found] == [
        "table4-interval-recall20",
        "table4-interval-seconds",
    ]
    axes = painted(plots._seconds(experiment.cells))
    assert [bar.get_width() for bar in axes.patches] == [2.0, 2.0, 0.5, 0.5]
    axes = painted(plots._lines(experiment, sections(experiment)[0], "recall@20", True))
    assert [drawn.get_label() for drawn in axes.lines] == ["SLIFMR", "never"]


def test_without_matplotlib_one_line_says_what_to_install(tmp_path, monkeypatch):
    experiment = noise(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SlifError, match=r"pip install 'recbole-slif\[report\]'"):
        plots.draw(experiment, sections(experiment)[0], ["recall@20"], tmp_path)

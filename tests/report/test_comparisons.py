"""Who is tested against whom, the direction in words, and what is left out."""

import numpy as np
import pytest

from recbole_slif.errors import SlifError
from recbole_slif.report.collect import read_experiment
from recbole_slif.report.comparisons import SEEDS, USERS, Family, families
from recbole_slif.report.findings import family_sentence, family_table, plain_tests, spoken
from recbole_slif.report.sections import check_subject, sections
from tests.report.folders import cell, failed, line, metrics, write_folder, write_users

OURS, THEIRS = cell("SLIFMR", group="both"), cell("KGAT", group="knowledge")
HIGH = [0.50, 0.42, 0.61, 0.38, 0.55, 0.47]
LOW = [0.45, 0.40, 0.52, 0.37, 0.49, 0.44]


def two(folder, ours=HIGH, theirs=LOW, seeds=(1, 2, 3, 4, 5), metric="recall"):
    """Write SLIFMR and KGAT with these values, per user and per seed."""
    lines = []
    for planned, values in ((OURS, ours), (THEIRS, theirs)):
        for at, seed in enumerate(seeds):
            test = {f"{metric}@20": values[at]}
            lines.append(write_users(folder, line(planned, seed, test=test), **{metric: values}))
    return write_folder(folder, [OURS, THEIRS], lines)


def families_of(folder, metric="recall@20", asked=None):
    """Return the families of the folder by level."""
    experiment = read_experiment(folder)
    found = families(experiment, sections(experiment)[0], [metric], asked)
    return {family.level: family for family in found}


@pytest.mark.parametrize("level", [USERS, SEEDS])
def test_a_better_model_is_shown_above(tmp_path, level):
    family = families_of(two(tmp_path))[level]
    one = family.comparisons[0]
    assert one.direction == "SLIFMR above KGAT"
    assert one.outcome.t_holm < 0.05
    assert one.outcome.difference > 0
    assert one.verdict == "shown by both tests"
    text = family_sentence(family)
    assert "1 of 1 directions shown. SLIFMR above KGAT: shown by both tests." in text


@pytest.mark.parametrize("level", [USERS, SEEDS])
def test_a_worse_model_is_not_shown_above(tmp_path, level):
    one = families_of(two(tmp_path, LOW, HIGH))[level].comparisons[0]
    assert one.direction == "SLIFMR above KGAT"
    assert one.outcome.t_p > 0.95
    assert one.verdict == "not shown, the interval speaks for the opposite"


def test_less_is_better_turns_the_direction(tmp_path):
    family = families_of(two(tmp_path, LOW, HIGH, metric="mae"), "mae@20")[SEEDS]
    one = family.comparisons[0]
    assert one.direction == "SLIFMR below KGAT"
    assert one.verdict == "shown by both tests"
    row = plain_tests([family])[0]
    assert row["mean difference"] < 0
    assert row["low"] <= row["mean difference"] <= row["high"] < 0
    assert family_table(family).rows[0][2].text.startswith("-")


def test_users_pair_by_id_and_not_by_place(tmp_path):
    folder = two(tmp_path, seeds=(1,))
    mixed = [3, 1, 2, 0, 5, 4]
    np.savez(
        folder / "per_user/KGAT-1.npz",
        **{"users": np.arange(1, 7)[mixed], "recall@20": np.array(LOW)[mixed]},
    )
    one = families_of(folder)[USERS].comparisons[0].outcome
    assert one.wilcoxon_p == pytest.approx(1 / 64)
    assert one.difference == pytest.approx(np.mean(HIGH) - np.mean(LOW))


def test_other_users_are_not_compared(tmp_path):
    folder = two(tmp_path, seeds=(1,))
    np.savez(
        folder / "per_user/KGAT-1.npz", **{"users": np.arange(2, 8), "recall@20": np.array(LOW)}
    )
    family = families_of(folder)[USERS]
    assert not family.comparisons
    assert family.notes == ("left out, evaluated on other users: KGAT",)


def test_with_one_seed_tests_over_seeds_are_left_out_and_said(tmp_path):
    found = families_of(two(tmp_path, seeds=(1,)))
    assert found[USERS].comparisons
    assert found[USERS].seed == 1
    assert not found[SEEDS].comparisons
    assert family_sentence(found[SEEDS]).endswith("no test (left out, one seed only: KGAT).")


def test_only_shared_seeds_pair(tmp_path):
    lines = [line(OURS, seed, test={"recall@20": 0.3 + 0.01 * seed}) for seed in (1, 2, 3)]
    lines += [line(THEIRS, seed, test={"recall@20": 0.1 * seed}) for seed in (3, 2)]
    lines.append(failed(THEIRS, 1, "no memory"))
    found = families_of(write_folder(tmp_path, [OURS, THEIRS], lines))
    one = found[SEEDS].comparisons[0].outcome
    assert one.n == 2
    assert one.difference == pytest.approx((0.32 - 0.2 + 0.33 - 0.3) / 2)
    assert found[USERS].notes == ("left out, no per-user values: KGAT",)


def test_few_seeds_are_said_to_be_few(tmp_path):
    family = families_of(two(tmp_path, seeds=(1, 2, 3)))[SEEDS]
    assert "with 3 seeds Wilcoxon's p is never below 0.125" in family.notes[0]
    assert not families_of(two(tmp_path / "five"))[SEEDS].notes


def test_holm_goes_over_all_baselines(tmp_path):
    others = [cell(name) for name in ("A", "B", "C")]
    lines = [line(OURS, seed, test={"recall@20": HIGH[seed]}) for seed in range(5)]
    for planned in others:
        lines += [line(planned, seed, test={"recall@20": LOW[seed]}) for seed in range(5)]
    family = families_of(write_folder(tmp_path, [*others, OURS], lines))[SEEDS]
    assert [one.second for one in family.comparisons] == ["A", "B", "C"]
    for one in family.comparisons:
        assert one.outcome.t_holm == pytest.approx(3 * one.outcome.t_p)
    assert "after Holm over 3 never below 0.0938" in family.notes[0]


def test_a_sweep_tests_nothing_unless_asked(tmp_path):
    cells = [
        cell("SLIFMR", group="layers", x=x, overrides={"n_layers": x}, label=f"L = {x}")
        for x in (1, 2)
    ]
    lines = [
        line(one, seed, test={"recall@20": 0.1 * one["x"] + 0.001 * seed * one["x"]})
        for one in cells
        for seed in (1, 2, 3)
    ]
    folder = write_folder(tmp_path, cells, lines, artefact="fig6")
    assert families_of(folder) == {}
    asked = families_of(folder, asked="L = 2")[SEEDS].comparisons
    assert [one.direction for one in asked] == ["L = 2 above L = 1"]


def test_noise_is_compared_level_by_level(tmp_path):
    cells = [
        cell(model, group="kg", x=x, noise=f"kg:{x:g}", label=f"{model}, {x:.0%}")
        for model in ("KGAT", "SLIFMR")
        for x in (0.0, 0.2)
    ]
    lines = [
        line(one, seed, test=metrics(0.2 + 0.001 * seed, 0.1, 0.1))
        for one in cells
        for seed in (1, 2)
    ]
    family = families_of(write_folder(tmp_path, cells, lines, artefact="fig7"))[SEEDS]
    assert [one.direction for one in family.comparisons] == [
        "SLIFMR, 0% above KGAT, 0%",
        "SLIFMR, 20% above KGAT, 20%",
    ]


def test_a_cell_without_a_level_is_compared_at_every_level(tmp_path):
    cells = [
        cell(model, group="layers", x=x, overrides={"n_layers": x}, label=f"{model}, L = {x}")
        for model in ("LightGCN", "SLIFMR")
        for x in (1, 2)
    ]
    cells.append(cell("BPR", group="layers", label="no graph"))
    lines = [
        line(one, seed, test={"recall@20": HIGH[seed] * (one["x"] or 0.5)})
        for one in cells
        for seed in (1, 2)
    ]
    folder = write_folder(tmp_path, cells, lines, artefact="fig6")
    assert [one.direction for one in families_of(folder)[SEEDS].comparisons] == [
        "SLIFMR, L = 1 above LightGCN, L = 1",
        "SLIFMR, L = 2 above LightGCN, L = 2",
        "SLIFMR, L = 1 above no graph",
        "SLIFMR, L = 2 above no graph",
    ]
    asked = families_of(folder, asked="no graph")[SEEDS].comparisons
    assert [one.second for one in asked] == [one["label"] for one in cells[:4]]
    assert {one.first for one in asked} == {"no graph"}
    with pytest.raises(SlifError, match=r"L = 1'; there are LightGCN, SLIFMR, no graph$"):
        check_subject(sections(read_experiment(folder)), "SLIFMR, L = 1")


def test_levels_of_noise_do_not_read_like_further_names():
    assert spoken("SLIFMR, 5% above KGAT, 12.5 %, BM3") == "SLIFMR at 5% above KGAT at 12.5 %, BM3"
    assert spoken("0.05, 3 of 4, left out") == "0.05, 3 of 4, left out"


def test_tests_over_users_without_a_seed_do_not_name_one():
    family = Family("", "", "recall@20", USERS, None, (), ("left out, no per-user values: A, 5%",))
    assert family_sentence(family) == (
        "Recall@20, paired tests over users: no test (left out, no per-user values: A at 5%)."
    )

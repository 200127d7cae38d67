"""The tests prove the direction they state; numbers against formulas written out."""

import itertools
import math

import numpy as np
import pytest
from scipy import special

from recbole_slif.report.significance import compare, corrected, holm, smallest_wilcoxon

BETTER = np.array([0.50, 0.42, 0.61, 0.38, 0.55])
WORSE = np.array([0.45, 0.40, 0.52, 0.37, 0.49])


def t_above(differences):
    """One-sided p of the t statistic, from the incomplete beta function."""
    n = len(differences)
    mean = sum(differences) / n
    variance = sum((one - mean) ** 2 for one in differences) / (n - 1)
    t = mean / math.sqrt(variance / n)
    tail = 0.5 * special.betainc((n - 1) / 2, 0.5, (n - 1) / (n - 1 + t * t))
    return tail if t > 0 else 1 - tail


def ranks_above(differences):
    """One-sided p of the signed ranks, by all signs there can be."""
    order = np.argsort(np.abs(differences))
    rank = np.empty(len(differences))
    rank[order] = np.arange(1, len(differences) + 1)
    seen = rank[np.array(differences) > 0].sum()
    all_signs = list(itertools.product((0, 1), repeat=len(differences)))
    return sum(np.dot(signs, rank) >= seen for signs in all_signs) / len(all_signs)


def test_the_better_one_gets_the_small_p():
    found = compare(BETTER, WORSE)
    assert found.difference == pytest.approx(0.046)
    assert found.t_p < 0.05
    assert found.wilcoxon_p == pytest.approx(1 / 32)
    assert found.low > 0
    assert found.effect > 0


def test_the_worse_one_gets_the_large_p():
    found = compare(WORSE, BETTER)
    assert found.t_p > 0.95
    assert found.wilcoxon_p == pytest.approx(1.0)
    assert found.high < 0
    assert found.effect < 0


@pytest.mark.parametrize("seed", range(4))
def test_p_values_are_those_of_the_formulas(seed):
    generator = np.random.default_rng(seed)
    first, second = generator.random((2, 7))
    found = compare(first, second)
    assert found.t_p == pytest.approx(t_above(first - second), rel=1e-9)
    assert found.wilcoxon_p == pytest.approx(ranks_above(first - second), rel=1e-9)


def test_the_effect_is_the_mean_by_the_sample_deviation():
    assert compare(np.array([1.0, 3.0]), np.zeros(2)).effect == pytest.approx(2 / math.sqrt(2))


def test_the_interval_holds_the_mean_and_repeats():
    generator = np.random.default_rng(1)
    first, second = generator.random((2, 200))
    one, again = compare(first, second), compare(first, second)
    assert (one.low, one.high) == (again.low, again.high)
    assert one.low < one.difference < one.high
    half = 1.96 * (first - second).std(ddof=1) / math.sqrt(200)
    assert (one.high - one.low) / 2 == pytest.approx(half, rel=0.1)


def test_values_without_a_difference_show_nothing():
    found = compare(BETTER, BETTER)
    assert (found.t_p, found.wilcoxon_p, found.effect) == (1.0, 1.0, 0.0)
    assert (found.low, found.high) == (0.0, 0.0)


def test_differences_without_spread_have_no_t():
    found = compare(BETTER + 0.1, BETTER)
    assert math.isnan(found.t_p)
    assert math.isnan(found.effect)
    assert found.wilcoxon_p == pytest.approx(smallest_wilcoxon(5))
    assert found.low == found.high == pytest.approx(0.1)


def test_ranks_do_not_part_what_rounding_alone_makes_different():
    hits, others = np.array([3, 2, 4, 1, 5, 2]), np.array([2, 1, 3, 2, 2, 4])
    as_counts, as_shares = compare(hits, others), compare(hits / 20, others / 20)
    assert len(set(np.abs(hits / 20 - others / 20))) > len(set(np.abs(hits - others))) == 3
    assert as_counts.wilcoxon_p == pytest.approx(as_shares.wilcoxon_p, rel=1e-12)
    assert as_shares.t_p == pytest.approx(as_counts.t_p, rel=1e-9)
    assert as_shares.effect == pytest.approx(as_counts.effect, rel=1e-9)
    assert compare(np.array([0.1 + 0.2, 0.5]), np.array([0.3, 0.5])).wilcoxon_p == 1.0


def test_values_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="paired"):
        compare(BETTER, WORSE[:4])
    with pytest.raises(ValueError, match="paired"):
        compare(BETTER[:1], WORSE[:1])


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_never_exceeds_one_and_counts_what_is_undefined():
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    found = holm([0.02, math.nan])
    assert found[0] == pytest.approx(0.04)
    assert math.isnan(found[1])
    assert holm([]) == []


def test_each_test_is_corrected_with_its_like():
    first, second = compare(BETTER, WORSE), compare(WORSE, BETTER)
    found = corrected([first, second])
    assert found[0].t_holm == pytest.approx(2 * first.t_p)
    assert found[0].wilcoxon_holm == pytest.approx(2 / 32)
    assert found[1].wilcoxon_holm == 1.0

"""Paired tests of one stated direction, with effect size, interval and Holm's correction.

Each test asks whether the differences `first - second` are above 0, so its p is small when `first`
is better and near 1 when it is worse. For a metric of which less is better, the caller swaps both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

ALPHA = 0.05
CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 2020
_DIGITS = 12  # of a share, beyond which floats differ by rounding alone
_BLOCK = 4_000_000  # numbers drawn at a time


@dataclass(frozen=True)
class Outcome:
    """What the tests say of paired differences.

    Attributes:
        n: pairs.
        difference: mean of `first - second`.
        low, high: bootstrap confidence interval of the mean difference (percentiles).
        effect: Cohen's d_z, mean by standard deviation of the differences; NaN if they are all
            equal and not 0.
        t_p, wilcoxon_p: one-sided p that `first` is above; NaN where the test is not defined.
        t_holm, wilcoxon_holm: the same after Holm's correction over the family.
    """

    n: int
    difference: float
    low: float
    high: float
    effect: float
    t_p: float
    wilcoxon_p: float
    t_holm: float = math.nan
    wilcoxon_holm: float = math.nan


def compare(first: np.ndarray, second: np.ndarray, seed: int = SEED) -> Outcome:
    """Test whether `first` is above `second`.

    Args:
        first: `[n]` values, n at least 2.
        second: `[n]` values of the same users or seeds, in the same order.
        seed: of the bootstrap.

    Raises:
        ValueError: the two do not pair, or there are fewer than two pairs.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise ValueError(f"paired tests need two rows of one length, not {first.shape} and "
                         f"{second.shape}")  # fmt: skip
    differences = first - second
    scale = max(float(np.abs(first).max()), float(np.abs(second).max())) or 1.0
    mean = float(differences.mean())
    low, high = _interval(differences, seed)
    return Outcome(
        len(differences),
        mean,
        low,
        high,
        _effect(differences),
        _t_test(differences),
        _wilcoxon(differences / scale),
    )


def _constant(differences: np.ndarray) -> bool:
    """Tell whether differences have no spread beyond rounding, which no t statistic survives."""
    scale = float(np.abs(differences).max())
    return bool(np.ptp(differences) <= 1e-12 * scale)


def _effect(differences: np.ndarray) -> float:
    if _constant(differences):
        return math.nan if differences.any() else 0.0
    return float(differences.mean() / differences.std(ddof=1))


def _t_test(differences: np.ndarray) -> float:
    if _constant(differences):
        return math.nan if differences.any() else 1.0
    return float(stats.ttest_1samp(differences, 0.0, alternative="greater").pvalue)


def _wilcoxon(differences: np.ndarray) -> float:
    """Return Wilcoxon's p; pairs without a difference say nothing and are left out.

    In floats 3/20 - 2/20 is not 2/20 - 1/20. Without rounding, ranks would part such ties, of which
    the Precision of users is full.

    Args:
        differences: as shares of the greatest value.
    """
    rounded = np.round(differences, _DIGITS)
    unequal = rounded[rounded != 0]
    if not len(unequal):
        return 1.0
    return float(stats.wilcoxon(unequal, alternative="greater").pvalue)


def _interval(differences: np.ndarray, seed: int) -> tuple[float, float]:
    if _constant(differences):
        value = float(differences.mean())
        return value, value
    options: dict[str, Any] = {
        "n_resamples": RESAMPLES,
        "confidence_level": CONFIDENCE,
        "method": "percentile",
        "batch": max(1, _BLOCK // len(differences)),
    }
    generator = np.random.default_rng(seed)
    try:
        found = stats.bootstrap((differences,), np.mean, rng=generator, **options)
    except TypeError:  # scipy below 1.15
        found = stats.bootstrap((differences,), np.mean, random_state=generator, **options)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def holm(values: Sequence[float]) -> list[float]:
    """Correct p values of one family by Holm's step-down; NaN counts as a test and stays NaN."""
    plain = [1.0 if math.isnan(value) else value for value in values]
    order = sorted(range(len(plain)), key=plain.__getitem__)
    corrected, running = [math.nan] * len(plain), 0.0
    for rank, at in enumerate(order):
        running = max(running, min(1.0, (len(plain) - rank) * plain[at]))
        corrected[at] = math.nan if math.isnan(values[at]) else running
    return corrected


def corrected(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes of one family with Holm's p values."""
    t_values = holm([outcome.t_p for outcome in outcomes])
    ranks = holm([outcome.wilcoxon_p for outcome in outcomes])
    return [
        replace(outcome, t_holm=t_value, wilcoxon_holm=rank)
        for outcome, t_value, rank in zip(outcomes, t_values, ranks, strict=True)
    ]


def smallest_wilcoxon(n: int) -> float:
    """Return the smallest one-sided p that Wilcoxon's test can give for `n` pairs."""
    return 0.5**n

"""Metrics of the blocked evaluator against plain loops, on random scores, lists and histories."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from recbole_slif.data.pairs import SplitPairs
from recbole_slif.evaluation import BlockedFullSortEvaluator
from reliability.frame import Case, Setting

NAMES = ("Recall", "NDCG", "Precision", "MRR", "Hit", "MAP", "GAUC")
PLACES = 12
TOLERANCE = 2e-12
ROUGHER = {"gauc": 1e-6}  # RecBole sums its ranks in float32


class _Loader:
    """As much of an evaluation loader as the evaluator reads."""

    def __init__(self, pairs: SplitPairs, phase: str, n_items: int) -> None:
        self.pairs, self.phase = pairs, phase
        self._dataset = SimpleNamespace(item_num=n_items, uid_field="user_id")


class _Tables(torch.nn.Module):
    """Scores that are given."""

    def __init__(self, scores: np.ndarray) -> None:
        super().__init__()
        self.scores = torch.from_numpy(scores)

    def score_tables(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tables whose product is the scores."""
        return self.scores, torch.eye(self.scores.shape[1], dtype=self.scores.dtype)


@dataclass(frozen=True)
class Problem:
    """Scores, the three parts of a split, and what to count.

    Attributes:
        scores: `[n_users, n_items]`, different in each row.
        parts: users and items of train, valid and test.
        phase: which part is evaluated.
        topk: lengths of the lists.
        block: users scored at a time.
    """

    scores: np.ndarray
    parts: Sequence[tuple[np.ndarray, np.ndarray]]
    phase: str
    topk: tuple[int, ...]
    block: int


def draw(rng: np.random.Generator) -> Problem:
    """Draw a problem; every user keeps an item that it has not met."""
    n_users, n_items = int(rng.integers(2, 9)), int(rng.integers(4, 40))
    if rng.random() < 0.05:
        n_items = int(rng.integers(600, 1400))
    ranks = np.argsort(rng.random((n_users, n_items)), axis=1)
    scores = (ranks - n_items / 2).astype(np.float32)
    owner = rng.choice(4, size=(n_users, n_items), p=[0.3, 0.1, 0.15, 0.45])
    owner[:, 0], owner[0] = 3, 3  # [PAD]
    owner[np.arange(1, n_users), rng.integers(1, n_items, n_users - 1)] = 3
    phase = str(rng.choice(["valid", "test"]))
    owner[1, rng.integers(1, n_items)] = 1 if phase == "valid" else 2
    parts = []
    for part in range(3):
        users, items = np.nonzero(owner == part)
        parts.append((users, items))
    lengths = rng.integers(1, min(n_items - 1, 20) + 1, 2)
    topk = tuple(sorted({int(length) for length in lengths}))
    return Problem(scores, parts, phase, topk, int(rng.integers(1, n_users + 2)))


def found(problem: Problem) -> dict[str, float]:
    """Return the evaluator's metrics."""
    n_users, n_items = problem.scores.shape
    pairs = SplitPairs(problem.parts, n_users, n_items)
    config: dict[str, Any] = {
        "metrics": list(NAMES), "topk": list(problem.topk), "metric_decimal_place": PLACES,
        "device": "cpu", "eval_args": {"mode": {"valid": "full", "test": "full"}},
    }  # fmt: skip
    evaluator = BlockedFullSortEvaluator(config, block_users=problem.block)
    loader = _Loader(pairs, problem.phase, n_items)
    result = evaluator.evaluate(_Tables(problem.scores.copy()), loader)
    return {name.lower(): float(value) for name, value in result.items()}


def wanted(problem: Problem) -> dict[str, float]:
    """Return the metrics by loops, each by its definition."""
    place = ("train", "valid", "test").index(problem.phase)
    held: dict[int, set[int]] = {}
    known: dict[int, set[int]] = {}
    for part, (users, items) in enumerate(problem.parts):
        for user, item in zip(users.tolist(), items.tolist(), strict=True):
            if part == place:
                held.setdefault(user, set()).add(item)
            elif part < place:
                known.setdefault(user, set()).add(item)
    sums: dict[str, list[float]] = {}
    areas: list[tuple[float, int]] = []
    for user, positives in sorted(held.items()):
        left = [item for item in range(1, problem.scores.shape[1])
                if item not in known.get(user, set())]  # fmt: skip
        ranked = sorted(left, key=lambda item: -problem.scores[user, item])
        for k in problem.topk:
            hits = [item in positives for item in ranked[:k]]
            for name, value in _of_list(hits, len(positives), k).items():
                sums.setdefault(f"{name}@{k}", []).append(value)
        areas += _area(ranked, positives)
    means = {name: sum(values) / len(values) for name, values in sums.items()}
    if areas:
        weight = sum(count for _, count in areas)
        means["gauc"] = sum(area * count for area, count in areas) / weight
    return means


def _of_list(hits: Sequence[bool], n_positives: int, k: int) -> dict[str, float]:
    found_places = [place for place, hit in enumerate(hits, start=1) if hit]
    gain = sum(1.0 / math.log2(place + 1) for place in found_places)
    best = sum(1.0 / math.log2(place + 1) for place in range(1, min(n_positives, k) + 1))
    precise = [(number + 1) / place for number, place in enumerate(found_places)]
    return {
        "recall": len(found_places) / n_positives,
        "precision": len(found_places) / k,
        "hit": float(bool(found_places)),
        "mrr": 1.0 / found_places[0] if found_places else 0.0,
        "ndcg": gain / best,
        "map": sum(precise) / min(n_positives, k),
    }


def _area(ranked: Sequence[int], positives: set[int]) -> list[tuple[float, int]]:
    """Return the share of pairs of a positive before a negative, weighted by the positives."""
    before = right = 0
    for item in ranked:
        if item in positives:
            before += 1
        else:
            right += before
    n_others = len(ranked) - len(positives)
    if not n_others or not positives:
        return []
    return [(right / (len(positives) * n_others), len(positives))]


def compare(seed: int, number: int) -> None:
    """Draw a problem and compare both results.

    Raises:
        AssertionError: a metric differs, or is missing.
    """
    problem = draw(np.random.default_rng([seed, 77, number]))
    logging.disable(logging.WARNING)  # GAUC leaves users without negatives out, and says so
    try:
        ours, theirs = found(problem), wanted(problem)
    finally:
        logging.disable(logging.NOTSET)
    off = {
        name: (ours.get(name), value)
        for name, value in theirs.items()
        if name not in ours or abs(ours[name] - value) > ROUGHER.get(name, TOLERANCE)
    }
    if off:
        raise AssertionError(f"{problem.phase}, topk {problem.topk}: {off}")


def cases(setting: Setting) -> Iterator[Case]:
    """Yield random problems."""
    for number in range(setting.cases):
        run = partial(compare, setting.seed, number)
        yield Case(f"problem {setting.seed}-{number}", run)

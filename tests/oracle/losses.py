"""Losses written with loops in float64."""

from __future__ import annotations

import math


def _unit(row) -> list[float]:
    norm = math.sqrt(sum(float(value) ** 2 for value in row))
    return [float(value) / norm if norm > 1e-12 else 0.0 for value in row]


def cosine(a, b) -> float:
    """Cosine similarity; 0 if either row is 0."""
    return sum(p * q for p, q in zip(_unit(a), _unit(b), strict=True))


def info_nce_terms(anchors, targets, temperature, exclude_positive, negatives=None) -> list[float]:
    """Minus log of the positive's exponential over the sum of the others', Eq. (19)."""
    terms = []
    for i, anchor in enumerate(anchors):
        positive = cosine(anchor, targets[i]) / temperature
        if negatives is None:
            others = [targets[j] for j in range(len(targets)) if j != i]
        else:
            others = list(negatives)
        scores = [cosine(anchor, other) / temperature for other in others]
        if not exclude_positive:
            scores.append(positive)
        highest = max(scores)
        total = math.fsum(math.exp(score - highest) for score in scores)
        terms.append(highest + math.log(total) - positive)
    return terms


def inter_modal(views, unified, mask, temperature, exclude_positive) -> float:
    """Sum over the views of the mean contrast among the items that have the view, Eq. (20)."""
    total = 0.0
    for v, view in enumerate(views):
        items = [i for i in range(len(view)) if mask[i][v]]
        if len(items) < 2:
            continue
        terms = info_nce_terms(
            [view[i] for i in items], [unified[i] for i in items], temperature, exclude_positive
        )
        total += sum(terms) / len(terms)
    return total


def _squared_distance(a, b) -> float:
    return sum((p - q) ** 2 for p, q in zip(_unit(a), _unit(b), strict=True))


def spread_literal(rows, t) -> float:
    """Minus the mean over all pairs, i = j included, of log e^(-t d^2), Eq. (21)."""
    total = 0.0
    for a in rows:
        for b in rows:
            total -= math.log(math.exp(-t * _squared_distance(a, b)))
    return total / len(rows) ** 2


def spread_uniform(rows, t) -> float:
    """Log of the mean over distinct pairs of e^(-t d^2), what the text means by Eq. (21)."""
    powers = []
    for i, a in enumerate(rows):
        for b in rows[:i]:
            powers.append(math.exp(-t * _squared_distance(a, b)))
    return math.log(math.fsum(powers) / len(powers))


def intra_modal(views, mask, t, spread) -> float:
    """Sum over the views of the spread of the items that have the view, Eq. (22)."""
    total = 0.0
    for v, view in enumerate(views):
        rows = [view[i] for i in range(len(view)) if mask[i][v]]
        if len(rows) > 1:
            total += spread(rows, t)
    return total


def bpr_terms(positive, negative) -> list[float]:
    """-ln sigmoid(y_ui - y_uj) of each triple, Eq. (23)."""
    return [
        -math.log(1.0 / (1.0 + math.exp(-(float(p) - float(n)))))
        for p, n in zip(positive, negative, strict=True)
    ]


def penalty(tables, batch_size) -> float:
    """Squared norm of all entries per training pair, the last term of Eq. (24)."""
    return sum(float(value) ** 2 for table in tables for row in table for value in row) / batch_size

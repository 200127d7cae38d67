"""Item-level fusion written with loops in float64."""

from __future__ import annotations

import math


def fusion_weights(matrix, bias, views, mask) -> list[list[float]]:
    """Softmax over an item's present views of (W [views] + b) / sqrt(d), Eq. (14)."""
    result = []
    for i in range(len(views[0])):
        joined = [
            float(value) if mask[i][v] else 0.0 for v, view in enumerate(views) for value in view[i]
        ]
        dim = len(views[0][i])
        powers = []
        for v, line in enumerate(matrix):
            score = float(bias[v]) + sum(float(w) * x for w, x in zip(line, joined, strict=True))
            powers.append(math.exp(score / math.sqrt(dim)) if mask[i][v] else 0.0)
        result.append([power / sum(powers) for power in powers])
    return result


def unified_rows(views, weights, mask) -> list[list[float]]:
    """Sum of an item's present views by its weights, Eq. (15)."""
    result = []
    for i, item_weights in enumerate(weights):
        row = [0.0] * len(views[0][i])
        for v, weight in enumerate(item_weights):
            if mask[i][v]:
                for k, value in enumerate(views[v][i]):
                    row[k] += weight * float(value)
        result.append(row)
    return result

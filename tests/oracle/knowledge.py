"""Relational attention written with loops in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence


def _project(matrix, row) -> list[float]:
    return [sum(float(a) * float(b) for a, b in zip(line, row, strict=True)) for line in matrix]


def edge_logit(matrix, head_row, relation_row, tail_row) -> float:
    """Score of one triple, (W_r x_t)^T tanh(W_r x_h + x_r), Eq. (11)."""
    projected_tail = _project(matrix, tail_row)
    projected_head = _project(matrix, head_row)
    score = 0.0
    for t, h, r in zip(projected_tail, projected_head, relation_row, strict=True):
        score += t * math.tanh(h + float(r))
    return score


def attention_weights(heads: Sequence[int], logits: Sequence[float]) -> list[float]:
    """Softmax of the triples' scores among the triples of the same head, Eq. (12)."""
    weights = []
    for head, logit in zip(heads, logits, strict=True):
        rivals = [
            math.exp(other - logit) for h, other in zip(heads, logits, strict=True) if h == head
        ]
        weights.append(1.0 / sum(rivals))
    return weights


def propagate(heads, tails, weights, rows) -> list[list[float]]:
    """One layer: each head sums its tails' rows by weight, without itself, Eq. (10)."""
    out = [[0.0] * len(rows[0]) for _ in rows]
    for head, tail, weight in zip(heads, tails, weights, strict=True):
        for k, value in enumerate(rows[tail]):
            out[head][k] += weight * float(value)
    return out


def knowledge_rows(heads, tails, weights, rows, n_layers: int) -> list[list[float]]:
    """Mean of the layers 0 .. L, Eq. (13)."""
    layer = [[float(value) for value in row] for row in rows]
    total = [row[:] for row in layer]
    for _ in range(n_layers):
        layer = propagate(heads, tails, weights, layer)
        for i, row in enumerate(layer):
            for k, value in enumerate(row):
                total[i][k] += value
    return [[value / (n_layers + 1) for value in row] for row in total]

"""KRDN's formulas as loops in float64, one function each."""

from __future__ import annotations

import math

import numpy as np

LEAK = 0.01


def sigmoid(value):
    return 1.0 / (1.0 + math.exp(-value))


def unit(row):
    length = math.sqrt(sum(value * value for value in row))
    return [value / length for value in row] if length > 1e-12 else [0.0 for _ in row]


def dot(first, second):
    return sum(float(a) * float(b) for a, b in zip(first, second, strict=True))


def masked_mean(heads, relations, tails, kept, rows, relation_rows, combine):
    """Mean over a head's kept edges of what `combine` makes of tail and relation, by entry."""
    out = np.zeros_like(rows)
    for head in range(len(rows)):
        found = [
            [combine(rows[t, k], relation_rows[r, k]) for k in range(rows.shape[1])]
            for h, r, t, keep in zip(heads, relations, tails, kept, strict=True)
            if h == head and keep
        ]
        for k in range(rows.shape[1]):
            if found:
                out[head, k] = sum(message[k] for message in found) / len(found)
    return out


def times(tail, relation):
    return tail * relation


def plus(tail, relation):
    return tail + relation


def shares(user, items, queries):
    """Softmax over a user's items of the sigmoid of their products with the user."""
    scores = [math.exp(sigmoid(dot(user, queries[i]))) for i in items]
    return [score / sum(scores) for score in scores]


def routing(pairs, users, items, queries, gap, rounds):
    """Both towers' users after some rounds, and the pairs that the last one takes in.

    `users`, `items` and `queries` hold a table each.
    """
    out = [np.zeros_like(table) for table in users]
    taken = set()
    for u in range(len(users[0])):
        own = [i for user, i in pairs if user == u]
        rows = [table[u] for table in users]
        for number in range(rounds):
            if number:
                rows = [unit(row) for row in rows]
            p, c = (shares(row, own, table) for row, table in zip(rows, queries, strict=True))
            rows = [np.zeros(users[0].shape[1]) for _ in users]
            for place, i in enumerate(own):
                if abs(sigmoid(p[place]) - sigmoid(c[place])) < gap:
                    rows[0] = rows[0] + p[place] * items[0][i]
                    rows[1] = rows[1] + c[place] * items[1][i]
                    if number == rounds - 1:
                        taken.add((u, i))
        out[0][u], out[1][u] = rows
    return out, taken


def contrast(users, items, user_ids, positives, negatives, weights, margin):
    """Hinge on the cosines of a pair and of its negatives, mean over the batch."""
    total = 0.0
    for u, i, others, weight in zip(user_ids, positives, negatives, weights, strict=True):
        near = dot(unit(users[u]), unit(items[i]))
        excess = [dot(unit(users[u]), unit(items[j])) - margin for j in others]
        active = [value for value in excess if value > 0]
        total += weight * max(1.0 - near, 0.0) + sum(active) / (len(active) + 1e-5)
    return total / len(user_ids)


def entities(rows, relation_rows, edges, kept, n_items, cross_weight, level_weight):
    """Both halves of one hop; without `level_weight`, the first alone."""
    heads, relations, tails = edges
    cross = [(h < n_items) != (t < n_items) for h, t in zip(heads, tails, strict=True)]
    out = np.zeros_like(rows)
    halves = ((cross_weight, times, True), (level_weight, plus, False))
    for weight, combine, kind in halves:
        if weight is None:
            continue
        chosen = [keep and c == kind for keep, c in zip(kept, cross, strict=True)]
        means = masked_mean(heads, relations, tails, chosen, rows, relation_rows, combine)
        for h in range(len(rows)):
            for k in range(rows.shape[1]):
                value = dot(weight[k], means[h])
                out[h, k] += 0.5 * (value if value > 0 else LEAK * value)
    return out


def towers(tables, relation_rows, edges, samples, pairs, n_items, weights, gap, rounds):
    """Sums over the hops of users, entities, collaborative users and items, without dropout.

    Returns:
        The four tables, and the pairs that count on the last hop.

    Args:
        tables: the four ego tables.
        relation_rows: one row per relation.
        edges: heads, relations and tails.
        samples: what each hop keeps, edge by edge.
        pairs: (user, item) of the interactions.
        n_items: number of item ids.
        weights: (W_1, W_2) of each hop, W_2 None where there is none.
        gap: gamma.
        rounds: of the routing.
    """
    heads, relations, _ = edges
    rows = [table.copy() for table in tables]
    total = [table.copy() for table in tables]
    kept = [True] * len(heads)
    for hop, (cross_weight, level_weight) in enumerate(weights):
        kept = [old and bool(new) for old, new in zip(kept, samples[hop], strict=True)]
        mean_relation = np.zeros((n_items, relation_rows.shape[1]))
        for i in range(n_items):
            found = [
                relation_rows[r]
                for h, r, keep in zip(heads, relations, kept, strict=True)
                if h == i and keep
            ]
            if found:
                mean_relation[i] = sum(found) / len(found)
        items = rows[1][:n_items]
        asked = np.zeros_like(items)
        for i in range(n_items):
            for k in range(items.shape[1]):
                asked[i, k] = items[i, k] * mean_relation[i, k]
        asking, towers_items = (rows[0], rows[2]), (items, rows[3])
        users, taken = routing(pairs, asking, towers_items, (asked, rows[3]), gap, rounds)
        met = np.zeros_like(rows[3])
        for i in range(n_items):
            found = [rows[2][u] for u, item in pairs if item == i]
            if found:
                met[i] = sum(found) / len(found)
        gathered = [
            users[0],
            entities(rows[1], relation_rows, edges, kept, n_items, cross_weight, level_weight),
            users[1],
            met,
        ]
        rows = [np.array([unit(row) for row in table]) for table in gathered]
        total = [old + new for old, new in zip(total, rows, strict=True)]
    return total, taken

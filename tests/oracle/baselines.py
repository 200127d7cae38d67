"""The baselines' own formulas written as loops in float64, one function each."""

import numpy as np


def relational_mean(heads, relations, tails, entities, relation_rows, kept=None):
    """KGIN, Section 3.2.2: mean over a head's edges of tail times relation, entry by entry."""
    n, d = entities.shape
    out = np.zeros((n, d))
    for h in range(n):
        count = 0
        for edge in range(len(heads)):
            if heads[edge] != h or (kept is not None and not kept[edge]):
                continue
            count += 1
            for k in range(d):
                out[h, k] += relation_rows[relations[edge], k] * entities[tails[edge], k]
        if count:
            out[h] /= count
    return out


def softmax(row):
    weights = [np.exp(value - max(row)) for value in row]
    return [weight / sum(weights) for weight in weights]


def intent_rows(logits, relation_rows):
    """KGIN, Section 3.1.1: an intent is a softmax mixture of the relations."""
    out = np.zeros((len(logits), relation_rows.shape[1]))
    for p, row in enumerate(logits):
        for r, weight in enumerate(softmax(list(row))):
            out[p] += weight * relation_rows[r]
    return out


def user_intents(users, latent, intents):
    """KGIN, Section 3.2.1: each user's softmax mixture of the intents."""
    out = np.zeros((len(users), intents.shape[1]))
    for u, user in enumerate(users):
        scores = [float(sum(a * b for a, b in zip(user, row, strict=True))) for row in latent]
        for p, weight in enumerate(softmax(scores)):
            out[u] += weight * intents[p]
    return out


def cosine_independence(logits):
    """KGIN, Section 3.1.2: squared cosines summed over the pairs of intents."""
    total = 0.0
    for a in range(len(logits)):
        for b in range(a + 1, len(logits)):
            lengths = np.sqrt(sum(logits[a] ** 2)) * np.sqrt(sum(logits[b] ** 2))
            total += (sum(x * y for x, y in zip(logits[a], logits[b], strict=True)) / lengths) ** 2
    return total


def contrast_independence(logits, temperature):
    """KGIN, Section 3.1.2: minus the log share of each intent's similarity with itself."""
    unit = [row / np.sqrt(sum(row**2)) for row in logits]
    total = 0.0
    for own in unit:
        everyone = sum(np.exp(float(own @ other) / temperature) for other in unit)
        total -= np.log(np.exp(float(own @ own) / temperature) / everyone)
    return total


def distance_correlation(first, second):
    """Distance correlation (Szekely et al., 2007) of two samples of numbers, without guards."""

    def centred(values):
        n = len(values)
        d = [[abs(values[i] - values[j]) for j in range(n)] for i in range(n)]
        rows = [sum(row) / n for row in d]
        mean = sum(rows) / n
        return [[d[i][j] - rows[i] - rows[j] + mean for j in range(n)] for i in range(n)]

    def product(a, b):
        n = len(a)
        return sum(a[i][j] * b[i][j] for i in range(n) for j in range(n)) / n**2

    a, b = centred(list(first)), centred(list(second))
    own = np.sqrt(product(a, a)) * np.sqrt(product(b, b))
    return np.sqrt(max(product(a, b), 0.0)) / np.sqrt(own)


def translation_loss(entities, relation_rows, relations, projections):
    """KGAT, Section 3.1: softplus of the true minus the corrupted squared distance, mean."""
    total = 0.0
    for (head, tail, corrupted), r in zip(entities, relations, strict=True):
        target = projections[r] @ head + relation_rows[r]
        true = sum((target - projections[r] @ tail) ** 2)
        false = sum((target - projections[r] @ corrupted) ** 2)
        total += np.log1p(np.exp(true - false))
    return total / len(relations)


def leaky(value, slope):
    return value if value > 0 else slope * value

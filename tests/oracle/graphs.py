"""The graph equations written as loops over lists in float64, to check the fast code against."""

import math

import numpy as np


def random_dense(n_rows, n_cols, density=0.3, seed=0):
    """A dense matrix most of whose entries are zero; the rest lie in (0, 1]."""
    rng = np.random.default_rng(seed)
    kept = rng.random((n_rows, n_cols)) < density
    return np.where(kept, 1.0 - rng.random((n_rows, n_cols)), 0.0)


def adjacency(pairs, n_users, n_items, item_graph=None):
    """Eq. (1), and the first row of Eq. (18) when `item_graph` is given."""
    n = n_users + n_items
    matrix = np.zeros((n, n))
    for user, item in pairs:
        matrix[user, n_users + item] = 1.0
        matrix[n_users + item, user] = 1.0
    if item_graph is not None:
        for i in range(n_items):
            for j in range(n_items):
                matrix[n_users + i, n_users + j] = item_graph[i, j]
    return matrix


def cosine(a, b):
    """Eq. (2) and Eq. (16): similarity of two rows, or None where a row has no direction."""
    dot = length_a = length_b = 0.0
    for left, right in zip(a, b, strict=True):
        dot += float(left) * float(right)
        length_a += float(left) ** 2
        length_b += float(right) ** 2
    if length_a == 0.0 or length_b == 0.0:
        return None
    return dot / math.sqrt(length_a) / math.sqrt(length_b)


def top_k(x, k, presence=None, include_self=False):
    """Eq. (3): for each row the list of (similarity, id), best first, lowest id among equals."""
    n = len(x)
    present = [True] * n if presence is None else presence
    result = []
    for i in range(n):
        found = []
        for j in range(n):
            if not (present[i] and present[j]) or (i == j and not include_self):
                continue
            similarity = cosine(x[i], x[j])
            if similarity is not None:
                found.append((similarity, j))
        found.sort(key=lambda pair: (-pair[0], pair[1]))
        result.append(found[:k])
    return result


def normalise(matrix):
    """Eq. (4): both endpoints' row sums to the power -1/2."""
    n = len(matrix)
    degrees = [sum(float(matrix[i, j]) for j in range(n)) for i in range(n)]
    result = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if degrees[i] > 0 and degrees[j] > 0:
                result[i, j] = matrix[i, j] / math.sqrt(degrees[i]) / math.sqrt(degrees[j])
    return result


def knn(x, k, presence=None, weight="cosine", symmetric=False, include_self=False):
    """Eq. (17): top-k without [PAD] and without negative weights, then normalised."""
    n = len(x)
    present = [True] * n if presence is None else list(presence)
    present[0] = False
    matrix = np.zeros((n, n))
    for i, row in enumerate(top_k(x, k, present, include_self)):
        for similarity, j in row:
            if similarity > 0:
                matrix[i, j] = similarity if weight == "cosine" else 1.0
    if symmetric:
        for i in range(n):
            for j in range(i):
                matrix[i, j] = matrix[j, i] = max(matrix[i, j], matrix[j, i])
    return normalise(matrix)


def keep_weight(edge, edges):
    """Eq. (6) for one edge of a bipartite graph."""
    degree_a = sum(1 for other in edges if other[0] == edge[0])
    degree_b = sum(1 for other in edges if other[1] == edge[1])
    return 1.0 / (math.sqrt(degree_a) * math.sqrt(degree_b))


def keep_weight_knowledge(edge, edges):
    """Eq. (6) for one triple of one node set, each of whose ends counts it once."""
    degrees = [sum((a == node) + (b == node) for a, b in edges) for node in edge]
    return 1.0 / (math.sqrt(degrees[0]) * math.sqrt(degrees[1]))


def light_layer(pairs, x, n_users, n_items):
    """Eq. (7): one layer on the plain graph, from the neighbourhoods themselves."""
    items_of = [sorted({i for u, i in pairs if u == user}) for user in range(n_users)]
    users_of = [sorted({u for u, i in pairs if i == item}) for item in range(n_items)]
    result = np.zeros_like(x)
    for user in range(n_users):
        for item in items_of[user]:
            scale = 1.0 / (math.sqrt(len(items_of[user])) * math.sqrt(len(users_of[item])))
            for c in range(x.shape[1]):
                result[user, c] += scale * x[n_users + item, c]
                result[n_users + item, c] += scale * x[user, c]
    return result


def readout(layers):
    """Eq. (8): mean of the layers 1 .. L, plus the input."""
    n_layers = len(layers) - 1
    total = layers[0].copy()
    for layer in layers[1:]:
        for place in np.ndindex(*layer.shape):
            total[place] += layer[place] / n_layers
    return total


def mixture(graphs, weights, presence):
    """Eq. (5) with the weights shared out among the modalities each item has."""
    n = len(presence)
    result = np.zeros((n, n))
    for i in range(n):
        total = sum(weights[m] for m in range(len(graphs)) if presence[i][m])
        for m, graph in enumerate(graphs):
            if presence[i][m]:
                for j in range(n):
                    result[i, j] += weights[m] / total * graph[i, j]
    return result


def feature_layer(mixed, x):
    """Eq. (9): one layer, the sum over the neighbours."""
    result = np.zeros_like(x)
    for i in range(len(x)):
        for j in range(len(x)):
            for c in range(x.shape[1]):
                result[i, c] += mixed[i, j] * x[j, c]
    return result


def row_normalise(matrix):
    """The second row of Eq. (18) as a sum whose rows are scaled to sum 1."""
    result = np.zeros_like(matrix)
    for i, row in enumerate(matrix):
        total = sum(float(value) for value in row)
        for j, value in enumerate(row):
            result[i, j] = value / total if total > 0 else 0.0
    return result


def root_normalise(matrix):
    """The second row of Eq. (18) as a sum in the form of Eq. (4): over both row sums' roots."""
    sums = [sum(abs(float(value)) for value in row) for row in matrix]
    result = np.zeros_like(matrix)
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            if sums[i] > 0 and sums[j] > 0:
                result[i, j] = value / (sums[i] ** 0.5 * sums[j] ** 0.5)
    return result

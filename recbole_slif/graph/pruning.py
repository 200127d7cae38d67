"""Degree-sensitive edge pruning: edges between popular nodes are the likeliest to go."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recbole_slif.errors import ConfigError


def keep_weights(
    endpoint_a: ArrayLike, endpoint_b: ArrayLike, n_nodes_a: int, n_nodes_b: int
) -> NDArray[np.float64]:
    """Relative chance of each edge of a bipartite graph to be kept, Eq. (6).

    Args:
        endpoint_a: Node ids `[n_edges]` on one side, below `n_nodes_a`.
        endpoint_b: Node ids `[n_edges]` on the other side, below `n_nodes_b`.
        n_nodes_a: Number of nodes on the first side.
        n_nodes_b: Number of nodes on the second side.

    Returns:
        `[n_edges]`: one over the square root of the product of both endpoints' edge counts.
    """
    first = np.asarray(endpoint_a, dtype=np.int64)
    second = np.asarray(endpoint_b, dtype=np.int64)
    counts_a = np.bincount(first, minlength=n_nodes_a)
    counts_b = np.bincount(second, minlength=n_nodes_b)
    return _inverse_root(counts_a[first], counts_b[second])


def keep_weights_knowledge(
    heads: ArrayLike, tails: ArrayLike, n_entities: int
) -> NDArray[np.float64]:
    """The weights of `keep_weights` for triples, whose two ends are one set of nodes.

    An entity's degree counts the base triples it is in as head or as tail (inverse triples are
    not to be given: a triple and its inverse stay or go together).

    Returns:
        `[n_triples]`.
    """
    first, second = np.asarray(heads, dtype=np.int64), np.asarray(tails, dtype=np.int64)
    counts = np.bincount(first, minlength=n_entities) + np.bincount(second, minlength=n_entities)
    return _inverse_root(counts[first], counts[second])


def draw_edges(
    weights: ArrayLike, drop_ratio: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw the edges that stay, without replacement and in proportion to their weights.

    Each edge gets an exponential waiting time of rate `weight`; the earliest ones stay, which is
    the same as drawing one edge after the other from those left.

    Args:
        weights: Positive keep weights `[n_edges]`.
        drop_ratio: Share of edges to drop, in [0, 1]; 0 keeps all and draws no random number.
        generator: Source of randomness; the only state that is advanced.

    Returns:
        Sorted indices of exactly `round((1 - drop_ratio) * n_edges)` edges.

    Raises:
        ConfigError: `drop_ratio` lies outside [0, 1].
    """
    if not 0.0 <= drop_ratio <= 1.0:
        raise ConfigError(f"the pruning ratio must lie in [0, 1], not {drop_ratio}")
    rates = np.asarray(weights, dtype=np.float64)
    n_kept = round((1.0 - drop_ratio) * rates.size)
    if n_kept == rates.size:
        return np.arange(rates.size)
    times = generator.standard_exponential(rates.size) / rates
    return np.sort(np.argpartition(times, n_kept)[:n_kept])


def _inverse_root(
    degrees_a: NDArray[np.int64], degrees_b: NDArray[np.int64]
) -> NDArray[np.float64]:
    return 1.0 / (np.sqrt(degrees_a) * np.sqrt(degrees_b))

"""Which directions of the triples a knowledge model propagates along."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_slif.graph.knowledge import with_inverse


def directed_triples(
    dataset: Any, inverse_relations: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return the triples of a data set, with their inverses if the model or the data set asks.

    Args:
        dataset: has `knowledge` and RecBole's `kg_reverse_r`, which adds inverses to its triples.
        inverse_relations: the model's own setting.

    Returns:
        Heads, relations and tails, `[n_edges]` each, and the number of relation ids, [PAD] included
        and the user-item relation excluded, which RecBole numbers next.
    """
    graph = dataset.knowledge
    if inverse_relations or dataset.kg_reverse_r:
        return with_inverse(graph)
    return graph.heads, graph.relations, graph.tails, graph.n_relations

"""Which directions of the triples a knowledge model propagates along."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_slif.errors import ConfigError
from recbole_slif.graph.knowledge import KnowledgeGraph, with_inverse


def directed_triples(
    graph: KnowledgeGraph, settings: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return the triples with their inverses, if the model or the data set asks for them.

    Args:
        graph: the base triples.
        settings: has `inverse_relations`, the model's own key, and RecBole's `kg_reverse_r`, which
            adds inverses to the triples that a data set hands out in batches.

    Returns:
        Heads, relations and tails, `[n_edges]` each, and the number of relation ids, [PAD] included
        and the user-item relation excluded, which RecBole numbers next.
    """
    if settings["inverse_relations"] or settings["kg_reverse_r"]:
        return with_inverse(graph)
    return graph.heads, graph.relations, graph.tails, graph.n_relations


def item_headed(
    graph: KnowledgeGraph, settings: Any, n_items: int
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], int]:
    """Return those of the directed triples that items head, and the number of relation ids.

    Args:
        graph: the base triples.
        settings: see `directed_triples`.
        n_items: entity ids below it are items.

    Raises:
        ConfigError: the graph has triples and no item heads one.
    """
    heads, relations, tails, n_relations = directed_triples(graph, settings)
    own = np.flatnonzero(heads < n_items)
    if len(heads) and not len(own):
        raise ConfigError(
            "no item heads a triple of the .kg file, so nothing of it would be used: set "
            "inverse_relations to True"
        )
    return (heads[own], relations[own], tails[own]), n_relations

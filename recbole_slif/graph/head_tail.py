"""A knowledge graph with one edge for each (head, tail), from which parts are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from recbole_slif.graph.knowledge import KnowledgeEdges


@dataclass(frozen=True, eq=False)
class HeadTailGraph:
    """Directed edges ordered by head, then tail, each pair of ids at most once.

    An edge is known by its number, its place in the arrays; a part of the graph is an array of
    such numbers.

    Attributes:
        heads: `[n_edges]` int64, ascending.
        relations: `[n_edges]` int64.
        tails: `[n_edges]` int64, ascending within a head.
        n_entities: Number of entity ids.
        n_relations: Number of relation ids.
    """

    heads: np.ndarray
    relations: np.ndarray
    tails: np.ndarray
    n_entities: int
    n_relations: int

    @classmethod
    def from_triples(
        cls,
        heads: np.ndarray,
        relations: np.ndarray,
        tails: np.ndarray,
        n_entities: int,
        preference: Sequence[int] | np.ndarray,
    ) -> HeadTailGraph:
        """Keep one relation of each (head, tail).

        Args:
            heads: `[n_triples]` entity ids, any order.
            relations: `[n_triples]` relation ids.
            tails: `[n_triples]` entity ids.
            n_entities: Number of entity ids.
            preference: Rank of each relation id; the lowest one stays.
        """
        ranks = np.asarray(preference)
        keys = np.asarray(heads, np.int64) * n_entities + tails
        order = np.lexsort((ranks[relations], keys))
        ordered = keys[order]
        first = np.ones(len(ordered), dtype=bool)
        first[1:] = ordered[1:] != ordered[:-1]
        kept = order[first]
        head, relation, tail = (
            np.asarray(part, np.int64)[kept] for part in (heads, relations, tails)
        )
        return cls(head, relation, tail, n_entities, len(ranks))

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return len(self.heads)

    def offsets(self) -> np.ndarray:
        """Return the first edge of each head, `[n_entities + 1]`."""
        return np.searchsorted(self.heads, np.arange(self.n_entities + 1))

    def find(self, heads: ArrayLike, tails: ArrayLike) -> np.ndarray:
        """Return the numbers of those of the pairs `[n]` that are edges, ascending, each once."""
        keys = self.heads * self.n_entities + self.tails
        wanted = np.unique(np.asarray(heads, np.int64) * self.n_entities + np.asarray(tails))
        return np.flatnonzero(np.isin(keys, wanted, assume_unique=True))

    def part(self, chosen: np.ndarray, device: torch.device | str | None = None) -> KnowledgeEdges:
        """Lay the edges of the given numbers `[n]` out for attention."""
        columns = (self.heads[chosen], self.relations[chosen], self.tails[chosen])
        return KnowledgeEdges.build(*columns, self.n_entities, self.n_relations, device)

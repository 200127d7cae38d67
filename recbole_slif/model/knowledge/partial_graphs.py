"""Interactions and triples as edges for attention: whole, and a part of each that is redrawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_slif.graph.knowledge import KnowledgeEdges, KnowledgeGraph
from recbole_slif.graph.subgraph import draw_share
from recbole_slif.model.knowledge.directions import directed_triples


class PartialGraphs:
    """KACL's graphs, each with an edge from every node to itself and without relations.

    So triples that join the same two entities the same way are one edge.

    Attributes:
        whole: edges of users and items (users first), each interaction both ways, and of entities.
        parts: the same of the kept interactions and triples; the whole graphs until the first draw.
        gates: values of the gates on the edges of both parts, None where there are none yet.
    """

    gates: tuple[Tensor | None, Tensor | None]

    def __init__(
        self,
        users: np.ndarray,
        items: np.ndarray,
        n_users: int,
        n_items: int,
        graph: KnowledgeGraph,
        settings: Any,
        device: torch.device,
    ) -> None:
        """Lay out the whole graphs.

        Args:
            users: `[n_pairs]` of the training pairs; those given twice count once.
            items: `[n_pairs]`.
            n_users: number of users.
            n_items: number of items.
            graph: the base triples.
            settings: says which directions of the triples to take, see `directed_triples`.
            device: where the edges live.
        """
        self.n_nodes, self.n_entities, self.device = n_users + n_items, graph.n_entities, device
        self._pairs = np.unique(np.stack([users, items + n_users]), axis=1)
        heads, _, tails, _ = directed_triples(graph, settings)
        self._ends, self._relations = np.stack([heads, tails]), graph.relations
        everything = np.ones(self._pairs.shape[1], bool), np.ones(graph.n_triples, bool)
        self.whole = self._lay_out(*everything)
        self._take(*everything, self.whole)

    def draw(self, share: float) -> None:
        """Redraw the parts: this share of the interactions, and of the triples of each relation.

        A triple and its inverse stay or go together.
        """
        pairs = draw_share(np.zeros(self._pairs.shape[1], dtype=np.int64), share)
        triples = draw_share(self._relations, share)
        self._take(pairs, triples, self._lay_out(pairs, triples))

    def state(self) -> dict[str, Tensor]:
        """Return which pairs and triples are kept, and the gates if there are any."""
        pairs, triples = self._kept
        state = {"kept_pairs": torch.from_numpy(pairs), "kept_triples": torch.from_numpy(triples)}
        if self.gates[0] is not None and self.gates[1] is not None:
            state |= {"pair_gates": self.gates[0], "triple_gates": self.gates[1]}
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave."""
        kept = state["kept_pairs"].cpu().numpy(), state["kept_triples"].cpu().numpy()
        self._take(*kept, self._lay_out(*kept))
        if "pair_gates" in state:
            self.gates = state["pair_gates"], state["triple_gates"]

    def _take(
        self,
        pairs: np.ndarray,
        triples: np.ndarray,
        edges: tuple[KnowledgeEdges, KnowledgeEdges],
    ) -> None:
        self._kept, self.parts = (pairs, triples), edges
        self.gates = None, None

    def _lay_out(
        self, pairs: np.ndarray, triples: np.ndarray
    ) -> tuple[KnowledgeEdges, KnowledgeEdges]:
        """Lay out the kept pairs `[n_pairs]` bool and base triples `[n_triples]` bool."""
        near, far = self._pairs[:, pairs]
        directions = self._ends.shape[1] // max(len(triples), 1)
        heads, tails = _distinct(self._ends[:, np.tile(triples, directions)], self.n_entities)
        both_ways = np.concatenate([near, far]), np.concatenate([far, near])
        return self._with_loops(*both_ways, self.n_nodes), self._with_loops(
            heads, tails, self.n_entities
        )

    def _with_loops(self, heads: np.ndarray, tails: np.ndarray, n_nodes: int) -> KnowledgeEdges:
        own = np.arange(n_nodes)
        heads, tails = np.concatenate([heads, own]), np.concatenate([tails, own])
        one_relation = np.zeros(len(heads), dtype=np.int64)
        return KnowledgeEdges.build(heads, one_relation, tails, n_nodes, 1, self.device)


def _distinct(ends: np.ndarray, n_nodes: int) -> np.ndarray:
    """Keep the first of equal edges `[2, n]`, in their order, and none from a node to itself."""
    between = np.flatnonzero(ends[0] != ends[1])
    _, first = np.unique(ends[0, between] * n_nodes + ends[1, between], return_index=True)
    return ends[:, between[np.sort(first)]]

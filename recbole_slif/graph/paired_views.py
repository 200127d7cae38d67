"""Two thinned copies of a knowledge graph and of the interactions, drawn for an epoch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from recbole_slif.graph.bipartite import bipartite_operator
from recbole_slif.graph.dropout import draw_kept
from recbole_slif.graph.knowledge import KnowledgeEdges
from recbole_slif.graph.sparse import SparseOperator

View = tuple[KnowledgeEdges, SparseOperator]
Triples = tuple[np.ndarray, np.ndarray, np.ndarray]
Pairs = tuple[np.ndarray, np.ndarray]


class PairedViews:
    """Keeps which triples and interactions each of two views has; builds the graphs when asked.

    All draws come from torch's CPU generator. Before the first draw both views are whole.

    Attributes:
        triples: heads, relations and tails `[n_triples]` of those taken, at first all.
        pairs: users and items `[n_pairs]`.
    """

    triples: Triples
    _graphs: list[View] | None

    def __init__(
        self,
        triples: Triples,
        pairs: Pairs,
        graph_size: tuple[int, int],
        table_sizes: tuple[int, int],
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Remember the whole graphs.

        Args:
            triples: heads, relations and tails `[n_triples]`.
            pairs: users and items `[n_pairs]`.
            graph_size: numbers of entity ids and of relation ids.
            table_sizes: numbers of users and of items, [PAD] included.
            device: where the graphs live.
            dtype: type of the interactions' weights.
        """
        self.pairs = pairs
        self._graph_size, self._table_sizes = graph_size, table_sizes
        self._device, self._dtype = device, dtype
        self._all = triples
        self.take(np.arange(len(triples[0])))

    def take(self, places: np.ndarray) -> None:
        """Go on with some of the triples, by their places among all; both views are whole."""
        self._taken = places
        heads, relations, tails = self._all
        self.triples = heads[places], relations[places], tails[places]
        counts = len(places), len(self.pairs[0])
        self._use(*(torch.ones(2, count, dtype=torch.bool) for count in counts))

    def knowledge(self, kept: Tensor | None = None) -> KnowledgeEdges:
        """Index the triples, or the kept `[n_triples]` of them."""
        chosen = slice(None) if kept is None else kept.numpy()
        heads, relations, tails = (part[chosen] for part in self.triples)
        n_entities, n_relations = self._graph_size
        return KnowledgeEdges.build(heads, relations, tails, n_entities, n_relations, self._device)

    def interactions(self, kept: Tensor) -> SparseOperator:
        """Normalise the kept `[n_pairs]` of the interactions by the degrees they leave."""
        users, items = (part[kept.numpy()] for part in self.pairs)
        n_users, n_items = self._table_sizes
        return bipartite_operator(
            users, items, n_users, n_items, dtype=self._dtype, device=self._device
        )

    def draw_knowledge(self, rate: float) -> list[KnowledgeEdges]:
        """Redraw the triples of both views, each dropped with chance `rate`; return the graphs.

        The interactions are whole until they are redrawn too.
        """
        kept = [torch.from_numpy(draw_kept(len(self.triples[0]), rate)) for _ in range(2)]
        self._use(torch.stack(kept), torch.ones(2, len(self.pairs[0]), dtype=torch.bool))
        return [self.knowledge(part) for part in kept]

    def draw_interactions(self, chances: Tensor, per_item: bool) -> None:
        """Redraw the interactions of both views.

        Args:
            chances: `[n_items]` chance of an item's interactions to stay, on the CPU.
            per_item: one draw for each item, whose interactions stay or go together; or one each.
        """
        items = torch.from_numpy(self.pairs[1])
        if per_item:
            kept = (torch.rand(2, len(chances)) < chances).index_select(1, items)
        else:
            kept = torch.rand(2, len(items)) < chances.index_select(0, items)
        self._use(self._masks["knowledge_kept"], kept)

    def graphs(self) -> list[View]:
        """Return the triples and the normalised interactions of both views."""
        if self._graphs is None:
            masks = zip(*self._masks.values(), strict=True)
            self._graphs = [(self.knowledge(kg), self.interactions(ui)) for kg, ui in masks]
        return self._graphs

    def state(self) -> dict[str, Tensor]:
        """Return what was taken and what views keep.

        `triples_taken` `[n_triples]`, `knowledge_kept` `[2, n_triples]` and `interactions_kept`
        `[2, n_pairs]`.
        """
        return {"triples_taken": torch.from_numpy(self._taken), **self._masks}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave."""
        self.take(state["triples_taken"].cpu().numpy())
        self._use(state["knowledge_kept"].cpu(), state["interactions_kept"].cpu())

    def _use(self, knowledge: Tensor, interactions: Tensor) -> None:
        self._masks = {"knowledge_kept": knowledge, "interactions_kept": interactions}
        self._graphs = None

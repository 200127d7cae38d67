"""The three graphs of SLIF-MR and the loop that feeds the correlation graph back into them.

Paper: Guo et al., SLIF-MR, arXiv 2507.09998, Sections III-A and III-B2; no official code is public.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recbole_slif.errors import ConfigError
from recbole_slif.graph.approximate import approximate_top_k_cosine, load_faiss
from recbole_slif.graph.bipartite import bipartite_operator
from recbole_slif.graph.csr import matrix_of_state, matrix_state
from recbole_slif.graph.item_item import Search, knn_graph, merge_graphs, top_k_cosine
from recbole_slif.graph.knowledge import KnowledgeEdges, KnowledgeGraph, with_inverse
from recbole_slif.graph.pruning import draw_edges, keep_weights, keep_weights_knowledge
from recbole_slif.graph.sparse import SparseOperator


@dataclass(frozen=True)
class GraphSettings:
    """How the graphs are pruned, enhanced and normalised; fields carry the YAML keys' names."""

    prune_ui: float
    prune_kg: float
    prune_refresh: Literal["epoch", "once"]
    sge_n: int
    sge_search: Literal["exact", "approximate"]
    sge_probes: int
    sge_start: int
    sge_interval: int
    sge_merge: Literal["replace", "ema", "accumulate"]
    sge_decay: float
    sge_max_edges: int
    sge_weight: float
    sge_norm: Literal["joint", "block"]
    sge_symmetric: bool
    sge_kg_prior: bool
    seed: int

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> GraphSettings:
        """Take the fields from the keys of the same names."""
        return cls(**{field.name: settings[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class Graphs:
    """The operators one propagation uses.

    Attributes:
        bipartite: normalised A^n, `[n_users + n_items, n_users + n_items]`.
        correlation: the graph joined to S, `[n_items, n_items]`, or None before the first refresh.
        base_share: factor on S before the correlation graph joins it; below 1 under `ema` alone.
        triples: the KG^n in both directions, or None without a knowledge branch.
    """

    bipartite: SparseOperator
    correlation: SparseOperator | None
    base_share: float
    triples: KnowledgeEdges | None


class SelfLoop:
    """Holds the base graphs and the correlation graph; hands out operators for one epoch.

    Training sees edges drawn by Eq. (6); evaluation sees every edge. Both see the correlation
    graph in force, which is never pruned. Draws depend on the seed and the epoch alone, so a
    resumed run draws the same edges.
    """

    def __init__(
        self,
        pairs: tuple[np.ndarray, np.ndarray],
        n_users: int,
        n_items: int,
        knowledge: KnowledgeGraph | None,
        settings: GraphSettings,
        device: torch.device,
    ) -> None:
        """Precompute the keep weights of Eq. (6).

        Args:
            pairs: users and items of the training interactions, `[n_pairs]` each.
            n_users: users with [PAD].
            n_items: items with [PAD].
            knowledge: base triples, or None to leave the knowledge branch out.
            settings: pruning and enhancement settings.
            device: where operators live.

        Raises:
            ConfigError: `sge_interval` is below 1, or `sge_search` needs what is not installed.
        """
        if settings.sge_interval < 1:
            raise ConfigError(f"sge_interval must be at least 1, not {settings.sge_interval}")
        self.pairs, self.n_users, self.n_items = pairs, n_users, n_items
        self.knowledge, self.settings, self.device = knowledge, settings, device
        self._search: Search = top_k_cosine
        if settings.sge_search == "approximate":
            load_faiss()  # before an epoch is trained in vain
            self._search = partial(
                approximate_top_k_cosine, probes=settings.sge_probes, seed=settings.seed
            )
        self.latest: sp.csr_array | None = None
        self.merged: sp.csr_array | None = None
        self.base_share = 1.0
        self._pair_weights = keep_weights(*pairs, n_users, n_items)
        if knowledge is not None:
            self._triple_weights = keep_weights_knowledge(
                knowledge.heads, knowledge.tails, knowledge.n_entities
            )

    @property
    def n_relations(self) -> int:
        """Relations of KG^n: the base ones, their inverses and the correlation relation."""
        if self.knowledge is None:
            return 0
        return 2 * self.knowledge.n_relations

    def due(self, epoch: int) -> bool:
        """Tell whether the correlation graph is rebuilt before epoch `epoch` (from 0)."""
        since = epoch - self.settings.sge_start
        return since >= 0 and since % self.settings.sge_interval == 0

    def refresh(self, unified: Tensor) -> None:
        """Rebuild G^n from the unified items `[n_items, d]` and merge it as Eq. (18) says.

        A^n takes G^n alone. S and the KG take it by `sge_merge`: `replace` forgets the last one,
        `ema` keeps a share `sge_decay` of everything so far, `accumulate` unites the edge sets.
        """
        chosen = self.settings
        self.latest = knn_graph(
            unified, chosen.sge_n, symmetric=chosen.sge_symmetric, search=self._search
        )
        previous = self.merged
        if chosen.sge_merge == "ema":
            self.base_share *= chosen.sge_decay
            if previous is None:
                previous = sp.csr_array(self.latest.shape, dtype=self.latest.dtype)
        self.merged = merge_graphs(
            previous, self.latest, chosen.sge_merge, chosen.sge_decay, chosen.sge_max_edges
        )

    def training_graphs(self, epoch: int) -> Graphs:
        """Draw the edges of epoch `epoch` by Eq. (6) and join the correlation graph."""
        drawn = 0 if self.settings.prune_refresh == "once" else epoch
        kept_pairs = draw_edges(
            self._pair_weights, self.settings.prune_ui, self._generator(drawn, 0)
        )
        kept_triples = None
        if self.knowledge is not None:
            kept_triples = draw_edges(
                self._triple_weights, self.settings.prune_kg, self._generator(drawn, 1)
            )
        return self._assemble(kept_pairs, kept_triples)

    def full_graphs(self) -> Graphs:
        """Return the unpruned graphs with the correlation graph in force, for evaluation."""
        return self._assemble(None, None)

    def state(self) -> dict[str, Tensor]:
        """Return the correlation graphs as tensors for a checkpoint; one that is both goes once."""
        found = {"base_share": torch.tensor(self.base_share, dtype=torch.float64)}
        if self.latest is not None:
            found |= matrix_state(self.latest, "latest")
        if self.merged is not None and self.merged is not self.latest:
            found |= matrix_state(self.merged, "merged")
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave."""
        self.base_share = float(state["base_share"])
        shape = (self.n_items, self.n_items)
        self.latest = matrix_of_state(state, "latest", shape)
        merged = matrix_of_state(state, "merged", shape)
        self.merged = self.latest if merged is None else merged

    def _generator(self, epoch: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, stream, epoch])

    def _assemble(self, kept_pairs: np.ndarray | None, kept_triples: np.ndarray | None) -> Graphs:
        users, items = self.pairs
        if kept_pairs is not None:
            users, items = users[kept_pairs], items[kept_pairs]
        bipartite = bipartite_operator(
            users,
            items,
            self.n_users,
            self.n_items,
            item_graph=self.latest,
            norm=self.settings.sge_norm,
            graph_weight=self.settings.sge_weight,
        ).to(self.device)
        correlation = None
        if self.merged is not None:
            correlation = SparseOperator.from_scipy(self.merged, device=self.device)
        return Graphs(bipartite, correlation, self.base_share, self._triples(kept_triples))

    def _triples(self, kept: np.ndarray | None) -> KnowledgeEdges | None:
        """Join the kept triples, their inverses and the correlation edges, Eq. (18) third row."""
        graph = self.knowledge
        if graph is None:
            return None
        if kept is not None:
            graph = replace(
                graph,
                heads=graph.heads[kept],
                relations=graph.relations[kept],
                tails=graph.tails[kept],
            )
        heads, relations, tails, n_relations = with_inverse(graph)
        log_prior = None
        if self.merged is not None:
            extra = sp.coo_array(self.merged)
            if self.settings.sge_kg_prior:
                log_prior = np.concatenate([np.zeros(len(heads)), np.log(extra.data)])
            heads = np.concatenate([heads, extra.row])
            tails = np.concatenate([tails, extra.col])
            relations = np.concatenate([relations, np.full(extra.nnz, n_relations)])
        return KnowledgeEdges.build(
            heads,
            relations,
            tails,
            graph.n_entities,
            self.n_relations,
            device=self.device,
            log_prior=log_prior,
        )

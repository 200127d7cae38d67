"""The feature branch and the knowledge branch of SLIF-MR, each a module of its own.

Paper: Guo et al., SLIF-MR, arXiv 2507.09998, Section III-A; no official code is public.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recbole_slif.data.features import ModalityFeatures
from recbole_slif.errors import ConfigError
from recbole_slif.graph.item_item import knn_graph
from recbole_slif.graph.knowledge import KnowledgeEdges, KnowledgeGraph, triples_at
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers.feature_projection import FeatureProjection
from recbole_slif.layers.light_conv import feature_convolution
from recbole_slif.layers.relation_conv import RelationalAttention
from recbole_slif.layers.translation import translation_loss


def require_sources(
    dataset: Any, with_knowledge: bool, with_features: bool, ablation: str = "none"
) -> None:
    """Check that the data set has the files of the branches that are switched on.

    Raises:
        ConfigError: it has not; the message names the files and the ablation that does without.
    """
    missing = {}
    if not dataset.knowledge.linked.any():
        missing["kg"] = "knowledge graph with linked items (.kg and .link files)"
        if dataset.knowledge.n_triples:
            missing["kg"] = "item that its .link file joins to its .kg file (compare the tokens)"
    if not dataset.features:
        missing["mm"] = "item features (an .npy file per modality)"
    wanted = {"kg": with_knowledge, "mm": with_features}
    faults = [text for part, text in missing.items() if wanted[part]]
    instead = "" if ablation == "none" else f" in place of {ablation}"
    if faults:  # the way out leaves out all that is missing, also what is switched off already
        raise ConfigError(
            f"data set '{dataset.dataset_name}' has no {' and no '.join(faults)}: "
            f"add the files (docs/DATASETS.md) or run with --ablation={'_'.join(missing)}{instead}"
        )


class FeatureBranch(nn.Module):
    """Propagation on the item feature graph: builds S^m, learns alpha_m, applies Eq. (9).

    Attributes:
        presence: items that have each modality, bool `[n_items, n_modalities]`.
    """

    presence: Tensor

    def __init__(
        self,
        features: Mapping[str, ModalityFeatures],
        dim: int,
        settings: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        """Build one graph per modality from its raw, frozen features.

        Args:
            features: matrix and presence per modality name.
            dim: width of the tables.
            settings: reads `knn_*`, `modal_weight`, `feature_init`, `readout_interaction` and
                `sge_feature_norm`.
            device: where the graphs live.
        """
        super().__init__()
        self.readout = settings["readout_interaction"]
        self.correlation_norm = settings["sge_feature_norm"]
        self.weight_kind = settings["modal_weight"]
        self.graphs: list[SparseOperator] = []
        presence, matrices = [], []
        for modality in features.values():
            raw, present = torch.from_numpy(modality.matrix), torch.from_numpy(modality.presence)
            graph = knn_graph(
                raw,
                settings["knn_k"],
                presence=present,
                include_self=settings["knn_include_self"],
                weight=settings["knn_weight"],
            )
            self.graphs.append(SparseOperator.from_scipy(graph, device=device))
            presence.append(present)
            matrices.append(raw)
        self.register_buffer("presence", torch.stack(presence, dim=1), persistent=False)
        start = 0.0 if self.weight_kind == "softmax" else 1.0 / len(matrices)
        self.modality_logits = nn.Parameter(
            torch.full((len(matrices),), start), requires_grad=self.weight_kind != "fixed"
        )
        self.projection = None
        if settings["feature_init"] == "project":
            self.projection = FeatureProjection(matrices, self.presence, dim)

    @property
    def modality_weights(self) -> Tensor:
        """Weights alpha_m of the modalities in S, `[n_modalities]`; free ones of any sign."""
        if self.weight_kind == "softmax":
            return torch.softmax(self.modality_logits, dim=0)
        return self.modality_logits

    def forward(
        self,
        items: Tensor,
        n_layers: int,
        correlation: SparseOperator | None,
        base_share: float = 1.0,
    ) -> Tensor:
        """Return the feature view `[n_items, d]` from the item rows `[n_items, d]`."""
        start = items if self.projection is None else self.projection()
        return feature_convolution(
            self.graphs,
            self.modality_weights,
            self.presence,
            start,
            n_layers,
            self.readout,
            correlation=correlation,
            correlation_norm=self.correlation_norm,
            mixture_weight=base_share,
            share_out=self.weight_kind != "free",
        )


class KnowledgeBranch(nn.Module):
    """Attentive propagation on the knowledge graph, learned per step or refreshed per epoch."""

    def __init__(self, n_relations: int, dim: int, readout: str) -> None:
        """Create W_r and the relation rows.

        Args:
            n_relations: relations with inverses and the correlation relation.
            dim: width of the tables.
            readout: layer readout of Eq. (13).
        """
        super().__init__()
        self.readout = readout
        self.relational_attention = RelationalAttention(n_relations, dim)
        self._refreshed: SparseOperator | None = None

    @torch.no_grad()
    def refresh(self, entities: Tensor, triples: KnowledgeEdges | None) -> None:
        """Freeze the attention of an epoch: weights from the rows as they are, no gradient."""
        if triples is not None:
            weights = self.relational_attention.attention(entities, triples)
            self._refreshed = triples.operator(weights)

    def used_parameters(self, triples: KnowledgeEdges | None) -> list[Tensor]:
        """Return W_r `[n, d, d]` and the rows `[n, d]` of the relations that have edges.

        Only these may be penalised: Adam scales a gradient by its own size, so a parameter that
        the penalty alone moves would be driven to zero at full speed.
        """
        if triples is None:
            return []
        counts = torch.tensor(triples.pairs_per_relation, device=triples.device)
        present = counts.nonzero().squeeze(1)
        parameters = self.relational_attention.parameters()
        return [parameter.index_select(0, present) for parameter in parameters]

    def translation(self, entities: Tensor, graph: KnowledgeGraph, count: int) -> Tensor:
        """Return KGAT's TransR loss on `count` triples drawn with replacement.

        Args:
            entities: `[n_entities, d]`.
            graph: base triples to draw from, with their inverses, whose relations weigh what
                their tails gather; the corrupted tail is any entity but [PAD].
            count: triples to draw.
        """
        drawn = torch.randint(2 * graph.n_triples, (count,)).numpy()
        corrupted = torch.randint(1, graph.n_entities, (count,))
        heads, relations, tails = map(torch.from_numpy, triples_at(graph, drawn))
        rows = torch.stack([heads, tails, corrupted], dim=1).to(entities.device)
        attention = self.relational_attention
        return translation_loss(
            nn.functional.embedding(rows, entities),
            attention.relation_embedding,
            relations.to(entities.device),
            attention.relation_projection,
        )[0]

    def forward(self, entities: Tensor, triples: KnowledgeEdges, n_layers: int) -> Tensor:
        """Return the propagated entity table `[n_entities, d]`."""
        frozen = self._refreshed if self.training else None
        return self.relational_attention(entities, triples, n_layers, self.readout, frozen)

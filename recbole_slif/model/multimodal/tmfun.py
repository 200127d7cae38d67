"""TMFUN, a RECONSTRUCTION: attention-guided multi-step fusion of item features.

Paper: Zhou et al., SIGIR 2023. No code of it is public, and its equations could not be had.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from torch import Tensor, nn

from recbole_slif.batch_parts import whole_batch
from recbole_slif.errors import ConfigError
from recbole_slif.graph.bipartite import bipartite_operator
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers.fusion import masked_softmax, weighted_sum
from recbole_slif.layers.light_conv import feature_convolution, light_convolution
from recbole_slif.layers.modality_projection import ModalityProjection
from recbole_slif.layers.row_penalty import row_penalty
from recbole_slif.losses import info_nce, unit_rows
from recbole_slif.model.base import GraphRecommender, xavier_table
from recbole_slif.model.multimodal.features import modalities_of
from recbole_slif.model.pairwise import ranking_loss, triple_rows


class TMFUN(GraphRecommender, GeneralRecommender):
    r"""Attention-guided multi-step fusion: a RECONSTRUCTION, not the authors' model.

    Known of the paper are its abstract and summaries by others: modality graphs and one item graph
    of features, an attention that relates interactions to features for an early fusion, further
    fusion in steps, and a contrast that aligns the modalities. **Every equation below is ours**;
    results of this class say nothing certain about the published model.

    .. math::
        f^m = W_m x^m + b_m, \qquad \tilde f^m = S^m f^m, \qquad
        (g_u, g_i) = \frac{1}{L+1} \sum_{l=0}^{L} \hat A^l (e_u, e_i)

    .. math::
        c_i = \sum_m softmax_m\Big(\frac{(W_q g_i) \cdot (W_k \tilde f^m_i)}{\sqrt d}\Big)
              \tilde f^m_i, \qquad
        h_i = \Big(\sum_m softmax_m(w)\, S^m\Big)^{L_m} e_i

    .. math::
        x_u = g_u, \qquad x_i = g_i + \frac{h_i}{\|h_i\|} + \frac{c_i}{\|c_i\|}, \qquad
        y_{ui} = x_u \cdot x_i

    .. math::
        L = \frac{1}{B} \sum -\ln \sigma(y_{ui} - y_{uj})
            + \lambda_c \sum_{m < n} \frac{1}{2} \big(N(\tilde f^m, \tilde f^n)
            + N(\tilde f^n, \tilde f^m)\big)
            + \lambda_2 \frac{1}{2B} \sum (\|e_u\|^2 + \|e_i\|^2 + \|e_j\|^2)

    ================ ====================================== ==================
    symbol           meaning                                code
    ================ ====================================== ==================
    e_u, e_i         rows of users and items                `user_embedding`, `item_embedding`
    \hat A           normalised training pairs              `adjacency`
    S^m              nearest items by x^m, normalised       `item_graphs`
    L, L_m           layers                                 `n_layers`, `n_item_layers`
    x^m, W_m, b_m    raw features and their map             `projection`
    W_q, W_k         attention, no bias                     `query_map`, `key_map`
    w                weights of the modality graphs         `modality_logits`
    N                InfoNCE by cosine, temperature tau     `temperature`, `contrast`
    \lambda          weights                                `cl_weight`, `reg_weight`
    ================ ====================================== ==================

    All losses are means. N compares the distinct items of the batch's pairs that have both
    modalities, the positive standing in the denominator too; it is taken both ways, so that the
    order of modalities has no effect. Both softmaxes run over the modalities an item has; an item
    without any is g_i alone. A data set of **one modality** leaves nothing to weigh or to align:
    W_q, W_k and w do not exist then, and the contrast is 0.

    Citation: Y. Zhou, J. Guo, H. Sun, B. Song, F. R. Yu. "Attention-guided Multi-step Fusion: A
    Hierarchical Fusion Network for Multimodal Recommendation", SIGIR 2023, arXiv 2304.11979.
    Official code: none. The graphs follow LATTICE, which the paper builds on: the item itself is
    one of its neighbours, edges weigh the similarity, and those of 0 or less are left out.
    """

    loss_names = ("bpr", "contrast", "norm")
    shares_batches = True

    def __init__(self, config: Any, dataset: Any) -> None:
        """Create tables, maps and the fixed graphs of the training split.

        Raises:
            ConfigError: the data set has no features, or a setting lies outside its range.
        """
        super().__init__(config, dataset)
        self.temperature: float = config["temperature"]
        if self.temperature <= 0.0:
            raise ConfigError(f"temperature must be above 0, not {self.temperature}")
        modalities = modalities_of(dataset, "TMFUN")
        size = config["embedding_size"]
        self.n_layers: int = config["n_layers"]
        self.n_item_layers: int = config["n_item_layers"]
        self.cl_weight: float = config["cl_weight"]
        self.reg_weight: float = config["reg_weight"]
        self.user_embedding = xavier_table(self.n_users, size)
        self.item_embedding = xavier_table(self.n_items, size)
        self.projection = ModalityProjection(modalities.matrices, modalities.presence, size)
        count = len(modalities.names)
        self.several = count > 1
        if self.several:
            self.query_map = nn.Linear(size, size, bias=False)
            self.key_map = nn.Linear(size, size, bias=False)
            nn.init.xavier_uniform_(self.query_map.weight)
            nn.init.xavier_uniform_(self.key_map.weight)
            self.modality_logits = nn.Parameter(torch.zeros(count))
        graphs = modalities.knn_graphs(config["knn_k"], config["knn_include_self"], "cosine")
        self.item_graphs = [
            SparseOperator.from_scipy(graph, device=self.device) for graph in graphs
        ]
        pairs = self.training_pairs(dataset)
        self.adjacency = bipartite_operator(*pairs, self.n_users, self.n_items, device=self.device)
        self.to(self.device)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the user table `[n_users, d]` and item table `[n_items, d]`."""
        return self.fuse(self.modality_rows())

    def modality_rows(self) -> list[Tensor]:
        """Return the features of each modality, smoothed over its graph: `[n_items, d]` each."""
        rows = self.projection()
        return [graph @ table for graph, table in zip(self.item_graphs, rows, strict=True)]

    def fuse(self, modality_rows: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Join interactions, item graph and modalities to users `[n_users, d]`, items `[n, d]`."""
        ego_items = self.item_embedding.weight
        ego = torch.cat([self.user_embedding.weight, ego_items])
        nodes = light_convolution(self.adjacency, ego, self.n_layers, readout="mean")
        users, items = nodes.split([self.n_users, self.n_items])
        early = self.early_fusion(items, modality_rows)
        related = feature_convolution(
            self.item_graphs,
            self.modality_weights,
            self.projection.present,
            ego_items,
            self.n_item_layers,
            readout="last",
        )
        return users, items + unit_rows(related) + unit_rows(early)

    @property
    def modality_weights(self) -> Tensor:
        """Weights of the modality graphs in the item graph, `[n_modalities]`."""
        if not self.several:
            return self.item_embedding.weight.new_ones(1)
        return torch.softmax(self.modality_logits, dim=0)

    def early_fusion(self, items: Tensor, modality_rows: list[Tensor]) -> Tensor:
        """Weigh each item's modalities by attention to its interactions.

        Args:
            items: g_i `[n_items, d]`.
            modality_rows: `[n_items, d]` per modality.

        Returns:
            `[n_items, d]`, zeros for items without any modality.
        """
        if not self.several:
            return modality_rows[0]
        queries = self.query_map(items) / math.sqrt(items.shape[1])
        logits = torch.stack([(queries * self.key_map(x)).sum(1) for x in modality_rows], dim=1)
        present = self.projection.present
        # whoever has nothing weighs rows of zeros
        weights = masked_softmax(logits, present | ~present.any(dim=1, keepdim=True))
        return weighted_sum(torch.stack(modality_rows, dim=1), weights)

    def contrast(self, modality_rows: list[Tensor], items: Tensor) -> Tensor:
        """Align every two modalities over the distinct `items` `[n]` that have both; a scalar."""
        distinct = items.unique()
        present = self.projection.present.index_select(0, distinct)
        total = modality_rows[0].new_zeros(())
        for first, second in combinations(range(len(modality_rows)), 2):
            chosen = distinct[present[:, first] & present[:, second]]
            a, b = (nn.functional.embedding(chosen, modality_rows[at]) for at in (first, second))
            for anchors, targets in ((a, b), (b, a)):
                found = info_nce(anchors, targets, self.temperature, False, detach_targets=False)
                total = total + found / 2.0
        return total

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weighted parts of the loss of a batch, in the order of `loss_names`."""
        modality_rows = self.modality_rows()
        rows = triple_rows(self, interaction, *self.fuse(modality_rows))
        ranking = ranking_loss(rows)
        contrast = ranking.new_zeros(())
        if self.cl_weight:
            contrast = self.contrast(modality_rows, whole_batch(interaction)[self.ITEM_ID])
        ego = triple_rows(self, interaction, self.user_embedding.weight, self.item_embedding.weight)
        return ranking, self.cl_weight * contrast, self.reg_weight * row_penalty(*ego)

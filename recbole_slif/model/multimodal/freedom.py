"""FREEDOM: a frozen item graph of features beside a user-item graph pruned in each epoch.

Paper: Zhou and Shen, ACM MM 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from torch import Tensor
from torch.nn import functional as F

from recbole_slif.batch_parts import whole_batch
from recbole_slif.errors import ConfigError
from recbole_slif.graph.bipartite import bipartite_operator
from recbole_slif.graph.pruning import draw_edges, keep_weights
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers.light_conv import light_convolution, modality_shares
from recbole_slif.layers.modality_projection import ModalityProjection
from recbole_slif.losses import bpr_loss
from recbole_slif.model.base import GraphRecommender, xavier_table
from recbole_slif.model.limits import require_share
from recbole_slif.model.multimodal.features import Modalities, modalities_of
from recbole_slif.model.pairwise import ranking_loss, triple_rows


class FREEDOM(GraphRecommender, GeneralRecommender):
    r"""Frozen item-item graph, denoised user-item graph.

    .. math::
        S = \sum_m \alpha_m D_m^{-1/2} K^m D_m^{-1/2}, \qquad h_i = (S^{L_m} e)_i, \qquad
        (g_u, g_i) = \frac{1}{L+1} \sum_{l=0}^{L} \hat A^l (e_u, e_i)

    .. math::
        x_u = g_u, \qquad x_i = g_i + h_i, \qquad y_{ui} = x_u \cdot x_i, \qquad
        f^m_i = W_m x^m_i + b_m

    .. math::
        L = \frac{1}{B} \sum -\ln \sigma(y_{ui} - y_{uj})
            + \lambda \sum_m \frac{1}{B_m} \sum -\ln \sigma(x_u \cdot f^m_i - x_u \cdot f^m_j)

    ================ ====================================== ==================
    symbol           meaning                                code
    ================ ====================================== ==================
    e_u, e_i         rows of users and items                `user_embedding`, `item_embedding`
    K^m, D_m         nearest items by x^m, 0 or 1; row sums `knn_k`, the item itself is one of them
    \alpha_m         weights of the modalities              `visual_weight`
    S                item graph, frozen                     `item_graph`
    \hat A           normalised pairs: a share of them,     `training_graph`, `adjacency`
                     drawn in each epoch, or all
    L, L_m           layers                                 `n_layers`, `n_item_layers`
    x^m, W_m, b_m    raw features and their map             `projection`
    \lambda          weight of the modality losses          `modality_weight`
    B_m              triples whose two items have m
    ================ ====================================== ==================

    Before each epoch a share `prune_ui` of the pairs is dropped: those that stay are drawn
    without replacement in proportion to `1 / sqrt(d_u d_i)` and normalised anew by the degrees
    left. Evaluation sees all pairs. Both losses are means; there is no penalty.

    Citation: X. Zhou, Z. Shen. "A Tale of Two Graphs: Freezing and Denoising Graph Structures for
    Multimodal Recommendation", ACM MM 2023. Official code: https://github.com/enoche/FREEDOM (no
    licence stated, "no commercial use"; the same model in https://github.com/enoche/MMRec, GPL-3).
    Departures from it:

    - the raw features x stay as they are; that code trains them as well, which at 4,096 features
      an item takes more memory than all the rest: `freeze_features: False`;
    - any set of modalities: `visual` weighs `visual_weight`, the others share the rest equally
      (without `visual`, or alone, all weigh the same), shared out anew among those an item has;
    - items without a modality are in neither its graph nor its loss, and neighbours of a
      similarity of 0 or less are none;
    - the maps W_m start Xavier-uniform with biases at 0.
    """

    loss_names = ("bpr", "modality")
    shares_batches = True

    def __init__(self, config: Any, dataset: Any) -> None:
        """Create tables, maps and the fixed graphs of the training split.

        Raises:
            ConfigError: the data set has no features, or a setting lies outside its range.
        """
        super().__init__(config, dataset)
        require_share(config, "prune_ui")
        modalities = modalities_of(dataset, "FREEDOM")
        size = config["embedding_size"]
        self.n_layers: int = config["n_layers"]
        self.prune_ui: float = config["prune_ui"]
        self.modality_weight: float = config["modality_weight"]
        self.n_item_layers: int = config["n_item_layers"]
        self.user_embedding = xavier_table(self.n_users, size)
        self.item_embedding = xavier_table(self.n_items, size)
        trainable = not config["freeze_features"]
        self.projection = ModalityProjection(
            modalities.matrices, modalities.presence, size, trainable=trainable
        )
        graph = mixed_graph(modalities, config["knn_k"], config["visual_weight"])
        self.item_graph = SparseOperator.from_scipy(graph, device=self.device)
        self.pairs = self.training_pairs(dataset)
        self._keep_weights = keep_weights(*self.pairs, self.n_users, self.n_items)
        self.adjacency = self._graph(np.arange(len(self.pairs[0])))
        self._kept: Tensor | None = None
        self._pruned = self.adjacency
        self.to(self.device)

    def _graph(self, kept: np.ndarray) -> SparseOperator:
        """Return the graph of the pairs numbered `kept`, normalised by the degrees in it."""
        users, items = (ids[kept] for ids in self.pairs)
        return bipartite_operator(users, items, self.n_users, self.n_items, device=self.device)

    def pre_epoch(self, epoch: int) -> None:
        """Draw the pairs that stay in this epoch."""
        if self.prune_ui == 0.0:
            return
        # seeded by torch's generator, whose state checkpoints hold
        generator = np.random.default_rng(int(torch.randint(2**62, ())))
        self._take(draw_edges(self._keep_weights, self.prune_ui, generator))

    def _take(self, kept: np.ndarray) -> None:
        self._kept, self._pruned = torch.from_numpy(kept), self._graph(kept)

    def epoch_state(self) -> dict[str, Tensor]:
        """Return the numbers of the pairs that the epoch kept; scores do not depend on them."""
        return {} if self._kept is None else {"kept": self._kept}

    def load_epoch_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the epoch's pairs."""
        if "kept" in state:
            self._take(state["kept"].cpu().numpy())
        super().load_epoch_state(state)

    @property
    def training_graph(self) -> SparseOperator:
        """The epoch's user-item graph; drawn now if no epoch has begun."""
        if self._kept is None:
            self.pre_epoch(0)
        return self._pruned

    def forward(self) -> tuple[Tensor, Tensor]:
        """Propagate once; return the user table `[n_users, d]` and item table `[n_items, d]`."""
        adjacency = self.training_graph if self.training else self.adjacency
        ego_items = self.item_embedding.weight
        ego = torch.cat([self.user_embedding.weight, ego_items])
        nodes = light_convolution(adjacency, ego, self.n_layers, readout="mean")
        users, items = nodes.split([self.n_users, self.n_items])
        related = light_convolution(self.item_graph, ego_items, self.n_item_layers, readout="last")
        return users, items + related

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """Return the ranking loss of a batch and the weighted one of the features alone."""
        tables, whole = self.forward(), whole_batch(interaction)
        rows = triple_rows(self, interaction, *tables)
        ranking = ranking_loss(rows)
        if not self.modality_weight:
            return ranking, ranking.new_zeros(())
        if whole is not interaction:  # a mean over some of the rows only
            rows = triple_rows(self, whole, *tables)
        positive, negative = whole[self.ITEM_ID], whole[self.NEG_ITEM_ID]
        items, place = torch.unique(torch.cat([positive, negative]), return_inverse=True)
        present = self.projection.present.index_select(0, items)
        total = ranking.new_zeros(())
        for number, table in enumerate(self.projection(items)):
            both = present[:, number].index_select(0, place).view(2, -1).all(dim=0)
            total = total + feature_ranking(rows.users, F.embedding(place, table), both)
        return ranking, self.modality_weight * total


def feature_ranking(users: Tensor, features: Tensor, both: Tensor) -> Tensor:
    """Rank each user's item before the sampled one by one modality's features.

    Args:
        users: rows `[batch, d]`.
        features: rows of the items, then of the sampled items `[2 * batch, d]`.
        both: bool `[batch]`, whether both items have the modality; the others are left out.

    Returns:
        The mean over the triples left; 0 of none.
    """
    scores = (users.repeat(2, 1) * features).sum(dim=1).view(2, -1)
    chosen = both.nonzero().squeeze(1)
    return bpr_loss(*(row.index_select(0, chosen) for row in scores))


def mixed_graph(modalities: Modalities, k: int, visual_weight: float) -> sp.csr_array:
    """Build S: the modalities' binary graphs, weighted per item by what the item has.

    Raises:
        ConfigError: `k` is below 1 or `visual_weight` lies outside [0, 1].
    """
    if not 0.0 <= visual_weight <= 1.0:
        raise ConfigError(f"visual_weight must lie in [0, 1], not {visual_weight}")
    count = len(modalities.names)
    weights = torch.full((count,), 1.0 / count, dtype=torch.float64)
    if "visual" in modalities.names and count > 1:
        weights[:] = (1.0 - visual_weight) / (count - 1)
        weights[modalities.names.index("visual")] = visual_weight
    shares = modality_shares(weights, modalities.presence).numpy()
    graphs = modalities.knn_graphs(k, include_self=True, weight="binary")
    parts = [sp.diags_array(shares[:, at]) @ graph for at, graph in enumerate(graphs)]
    return sp.csr_array(sum(parts[1:], parts[0]))

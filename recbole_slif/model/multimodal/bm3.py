"""BM3: bootstrapped representations of users, items and their features, without negatives.

Paper: Zhou et al., WWW 2023.
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_slif.graph.bipartite import bipartite_operator
from recbole_slif.layers.light_conv import light_convolution
from recbole_slif.layers.modality_projection import ModalityProjection
from recbole_slif.layers.row_penalty import row_penalty
from recbole_slif.losses import unit_rows
from recbole_slif.model.base import GraphRecommender, xavier_table
from recbole_slif.model.limits import require_share
from recbole_slif.model.multimodal.features import modalities_of
from recbole_slif.negatives import refuse_negatives


class BM3(GraphRecommender, GeneralRecommender):
    r"""Bootstrapped multimodal model: each view predicts the others' dropped-out rows.

    .. math::
        (h_u, \bar h_i) = \frac{1}{L+1} \sum_{l=0}^{L} (D^{-1/2} A D^{-1/2})^l (e_u, e_i), \qquad
        h_i = \bar h_i + e_i, \qquad f^m_i = W_m x^m_i + b_m

    .. math::
        L_{ui} = 1 - \cos(P h_u, \hat h_i) + 1 - \cos(P h_i, \hat h_u), \qquad
        L_{align} = \sum_m 1 - \cos(P f^m_i, \hat h_i), \qquad
        L_{mask} = \sum_m 1 - \cos(P f^m_i, \hat f^m_i)

    .. math::
        L = L_{ui} + \lambda_{cl} (L_{align} + L_{mask})
            + \lambda_{reg} \frac{\|H_u\|_F + \|H_i\|_F}{|I|}, \qquad
        y_{ui} = P h_u \cdot P h_i

    ================ =================================== ==================
    symbol           meaning                             code
    ================ =================================== ==================
    e_u, e_i         rows of users and items             `user_embedding`, `item_embedding`
    A, D             training pairs, degrees             `adjacency` (normalised)
    L                layers                              `n_layers`
    x^m, W_m, b_m    raw features and their map          `projection`
    P                one predictor for all views         `predictor` (with bias)
    \hat h, \hat f   a row after dropout, no gradient    `_targets`
    H_u, H_i         all rows h_u and h_i                `propagate`
    \lambda          weights                             `cl_weight`, `reg_weight`
    ================ =================================== ==================

    Only pairs that happened are looked at. The first three losses are means over the batch's
    pairs, those with features over the pairs whose item has the modality; the last is over the
    whole propagated tables, [PAD] left out, and its norms are not squared.

    Citation: X. Zhou, H. Zhou, Y. Liu, Z. Zeng, C. Miao, P. Wang, Y. You, F. Jiang. "Bootstrap
    Latent Representations for Multi-modal Recommendation", WWW 2023. Official code:
    https://github.com/enoche/BM3 (GPL-3). Departures from it:

    - the raw features x stay as they are; that code trains them as well, which at 4,096 features
      an item takes more memory than all the rest: `freeze_features: False`;
    - items without a modality are left out of its losses, and features are mapped for the batch's
      items alone, which changes no value;
    - the maps W_m and P start Xavier-uniform and Xavier-normal, all biases at 0.
    """

    input_type = InputType.POINTWISE  # with `train_neg_sample_args` null: the pairs and no more
    loss_names = ("pairs", "align", "mask", "norm")

    def __init__(self, config: Any, dataset: Any) -> None:
        """Create tables, maps and the normalised adjacency of the training split.

        Raises:
            ConfigError: the data set has no features, negatives are asked for, or `dropout` lies
                outside [0, 1).
        """
        super().__init__(config, dataset)
        refuse_negatives(
            config, "BM3 learns from positive pairs alone and would take a negative for one"
        )
        require_share(config, "dropout")
        modalities = modalities_of(dataset, "BM3")
        size = config["embedding_size"]
        self.n_layers: int = config["n_layers"]
        self.dropout: float = config["dropout"]
        self.cl_weight: float = config["cl_weight"]
        self.reg_weight: float = config["reg_weight"]
        self.user_embedding = xavier_table(self.n_users, size)
        self.item_embedding = xavier_table(self.n_items, size)
        trainable = not config["freeze_features"]
        self.projection = ModalityProjection(
            modalities.matrices, modalities.presence, size, trainable=trainable
        )
        self.predictor = nn.Linear(size, size)
        nn.init.xavier_normal_(self.predictor.weight)
        nn.init.zeros_(self.predictor.bias)
        pairs = self.training_pairs(dataset)
        self.adjacency = bipartite_operator(*pairs, self.n_users, self.n_items, device=self.device)
        self.to(self.device)

    def propagate(self) -> tuple[Tensor, Tensor]:
        """Return h_u `[n_users, d]` and h_i `[n_items, d]`, before the predictor."""
        ego_items = self.item_embedding.weight
        ego = torch.cat([self.user_embedding.weight, ego_items])
        nodes = light_convolution(self.adjacency, ego, self.n_layers, readout="mean")
        users, items = nodes.split([self.n_users, self.n_items])
        return users, items + ego_items

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the predicted user table `[n_users, d]` and item table `[n_items, d]`."""
        users, items = self.propagate()
        return self.predictor(users), self.predictor(items)

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """Return the weighted parts of the loss of a batch of pairs, in order of `loss_names`."""
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        users, items = self.propagate()
        distinct, place = torch.unique(item, return_inverse=True)
        item_target = self._targets(items, item)
        pairs = self._distance(F.embedding(user, users), item_target).mean()
        pairs = pairs + self._distance(F.embedding(item, items), self._targets(users, user)).mean()
        align = mask = pairs.new_zeros(())
        present = self.projection.present.index_select(0, item)
        for number, rows in enumerate(self.projection(distinct)):
            feature = F.embedding(place, rows)
            kept = present[:, number]
            align = align + _mean(self._distance(feature, item_target), kept)
            mask = mask + _mean(self._distance(feature, self._targets(rows, place)), kept)
        norm = row_penalty(users[1:], items[1:], squared=False)
        return pairs, self.cl_weight * align, self.cl_weight * mask, self.reg_weight * norm

    @torch.no_grad()
    def _targets(self, table: Tensor, ids: Tensor) -> Tensor:
        """Look rows `[batch, d]` up after dropout; an id met twice has one and the same row."""
        distinct, place = torch.unique(ids, return_inverse=True)
        rows = F.dropout(table.index_select(0, distinct), self.dropout, training=self.training)
        return rows.index_select(0, place)

    def _distance(self, rows: Tensor, targets: Tensor) -> Tensor:
        """One minus the cosine of predicted rows and their targets, `[batch]`."""
        return 1.0 - (unit_rows(self.predictor(rows)) * unit_rows(targets)).sum(dim=1)


def _mean(values: Tensor, kept: Tensor) -> Tensor:
    """Mean of the values `[n]` where `kept`; 0 of none."""
    return (values * kept).sum() / kept.sum().clamp(min=1)

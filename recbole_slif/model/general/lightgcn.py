"""LightGCN: linear propagation on the user-item graph, mean over layers.

Paper: He et al., SIGIR 2020.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.model.init import xavier_uniform_initialization
from torch import Tensor, nn

from recbole_slif.graph.bipartite import bipartite_operator
from recbole_slif.layers.light_conv import light_convolution
from recbole_slif.layers.row_penalty import row_penalty
from recbole_slif.model.base import GraphRecommender
from recbole_slif.model.pairwise import (
    batch_nodes,
    penalty_rows,
    ranking_loss,
    rows_at,
    triple_rows,
)


class LightGCN(GraphRecommender, GeneralRecommender):
    r"""Graph convolution without weights or activations.

    .. math::
        X^{l} = D^{-1/2} A D^{-1/2} X^{l-1}, \qquad X = \frac{1}{L+1} \sum_{l=0}^{L} X^l,
        \qquad y_{ui} = x_u \cdot x_i

    .. math::
        L = -\frac{1}{B} \sum \ln \sigma(y_{ui} - y_{uj})
            + \lambda \frac{1}{2B} \sum (\|x^0_u\|^2 + \|x^0_i\|^2 + \|x^0_j\|^2)

    ============= ============================ ==================
    symbol        meaning                      code
    ============= ============================ ==================
    X^0           rows of users and items      `user_embedding`, `item_embedding`
    A, D          training pairs, degrees      `adjacency` (normalised)
    L             layers                       `n_layers`
    \lambda       weight of the penalty        `reg_weight`
    ============= ============================ ==================

    The layers are one polynomial of the adjacency applied to X^0 at once. RecBole's penalty is not
    squared unless asked; `require_pow: False` gives its default.

    Citation: X. He, K. Deng, X. Wang, Y. Li, Y. Zhang, M. Wang. "LightGCN: Simplifying and
    Powering Graph Convolution Network for Recommendation", SIGIR 2020. Official code:
    https://github.com/kuandeng/LightGCN (no licence stated) and, in PyTorch,
    https://github.com/gusye1234/LightGCN-PyTorch (no licence stated).
    Departure: rows are drawn Xavier-uniform as in the former and in RecBole; the latter draws them
    normal with deviation 0.1.
    """

    shares_batches = True

    def __init__(self, config: Any, dataset: Any) -> None:
        """Create the two tables and the normalised adjacency of the training split."""
        super().__init__(config, dataset)
        self.n_layers: int = config["n_layers"]
        self.reg_weight: float = config["reg_weight"]
        self.require_pow: bool = config["require_pow"]
        self.user_embedding = nn.Embedding(self.n_users, config["embedding_size"])
        self.item_embedding = nn.Embedding(self.n_items, config["embedding_size"])
        pairs = self.training_pairs(dataset)
        self.adjacency = bipartite_operator(*pairs, self.n_users, self.n_items, device=self.device)
        self.apply(xavier_uniform_initialization)
        self.to(self.device)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Propagate once; return the user table `[n_users, d]` and item table `[n_items, d]`."""
        users, items = self._propagate().split([self.n_users, self.n_items])
        return users, items

    def _propagate(self, rows: Tensor | None = None) -> Tensor:
        """Return the nodes, users first; only `rows` of them where given."""
        ego = torch.cat([self.user_embedding.weight, self.item_embedding.weight])
        return light_convolution(self.adjacency, ego, self.n_layers, readout="mean", rows=rows)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Return the ranking loss of a batch with the penalty on its ego rows."""
        nodes = batch_nodes(self, interaction)
        rows = rows_at(self, interaction, nodes, self._propagate(nodes))
        tables = self.user_embedding.weight, self.item_embedding.weight
        look_up = partial(triple_rows, self, users=tables[0], items=tables[1])
        ego = penalty_rows(interaction, look_up(interaction), self.require_pow, look_up)
        penalty = row_penalty(*ego, squared=self.require_pow)
        return ranking_loss(rows) + self.reg_weight * penalty

"""NGCF: non-linear propagation on the user-item graph with element-wise interaction terms.

Paper: Wang et al., SIGIR 2019.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.model.init import xavier_normal_initialization
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_slif.errors import ConfigError
from recbole_slif.graph.bipartite import bipartite_matrix
from recbole_slif.graph.dropout import thinned_operator
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers.bi_interaction import BiInteraction
from recbole_slif.layers.messages import messages
from recbole_slif.layers.row_penalty import row_penalty
from recbole_slif.model.base import GraphRecommender
from recbole_slif.model.limits import require_share
from recbole_slif.model.pairwise import penalty_rows, ranking_loss, triple_rows


class NGCF(GraphRecommender, GeneralRecommender):
    r"""Neural graph collaborative filtering.

    .. math::
        X^{l} = norm(drop(a(W_1^l (X^{l-1} + \hat{A} X^{l-1})
                + W_2^l (X^{l-1} \odot \hat{A} X^{l-1})))), \qquad
        X = [X^0 \| X^1 \| \dots \| X^L], \qquad y_{ui} = x_u \cdot x_i

    with a penalty :math:`\lambda \frac{1}{2B} \sum \|\cdot\|^2` on the batch's rows beside the
    mean ranking loss.

    ============= =============================== ==================
    symbol        meaning                         code
    ============= =============================== ==================
    X^0           rows of users and items         `user_embedding`, `item_embedding`
    \hat{A}       normalised adjacency            `adjacency`
    W_1, W_2      weights, with biases            `layers[l]`
    a             LeakyReLU of slope 0.2          `forward`
    norm, drop    row norm 1, message dropout     `forward`
    \lambda       weight of the penalty           `reg_weight`
    ============= =============================== ==================

    Node dropout removes entries of the adjacency anew in each training step and scales the others
    up; evaluation sees all of them.

    Citation: X. Wang, X. He, M. Wang, F. Feng, T.-S. Chua. "Neural Graph Collaborative Filtering",
    SIGIR 2019. Official code: https://github.com/xiangwang1223/neural_graph_collaborative_filtering
    (no licence stated). Departures from it: as in the paper, the two terms are added before the
    activation and the adjacency is the symmetric one (that code activates each term and averages
    neighbours by default); the normalised rows enter the next layer, and rows and weights are drawn
    Xavier-normal with biases at 0, as in RecBole (there Xavier-uniform, biases too). The penalty is
    on the ego rows, the parameters themselves, and squared; RecBole penalises the propagated rows,
    not squared: `reg_rows: propagated` with `require_pow: False`.
    """

    shares_batches = True

    def __init__(self, config: Any, dataset: Any) -> None:
        """Create tables, layers and the normalised adjacency of the training split.

        Raises:
            ConfigError: `reg_rows` is not known or a dropout rate lies outside [0, 1).
        """
        super().__init__(config, dataset)
        self.node_dropout: float = config["node_dropout"]
        self.message_dropout: float = config["message_dropout"]
        self.reg_weight: float = config["reg_weight"]
        self.reg_rows: str = config["reg_rows"]
        self.require_pow: bool = config["require_pow"]
        self._check_settings()
        widths = [config["embedding_size"], *config["hidden_size_list"]]
        self.user_embedding = nn.Embedding(self.n_users, widths[0])
        self.item_embedding = nn.Embedding(self.n_items, widths[0])
        self.layers = nn.ModuleList(BiInteraction(*shape) for shape in pairwise(widths))
        pairs = self.training_pairs(dataset)
        self._matrix = bipartite_matrix(*pairs, self.n_users, self.n_items)
        self.adjacency = SparseOperator.from_scipy(self._matrix, device=self.device)
        self.apply(xavier_normal_initialization)
        self.to(self.device)

    def _check_settings(self) -> None:
        if self.reg_rows not in ("ego", "propagated"):
            raise ConfigError(f"reg_rows '{self.reg_rows}' is not one of ego, propagated")
        require_share(vars(self), "node_dropout", "message_dropout")

    def _step_adjacency(self) -> SparseOperator:
        """Return the adjacency of this step: node dropout while training, all of it otherwise."""
        if not self.training or self.node_dropout == 0.0:
            return self.adjacency
        return thinned_operator(self.adjacency, self._matrix, self.node_dropout)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Propagate once; return tables `[n_users, D]`, `[n_items, D]`, D the sum of all widths."""
        adjacency = self._step_adjacency()
        nodes = torch.cat([self.user_embedding.weight, self.item_embedding.weight])
        outputs = [nodes]
        for layer in self.layers:
            sums, products = layer(nodes, adjacency @ nodes)
            activated = F.leaky_relu(sums + products, negative_slope=0.2)
            nodes = messages(activated, self.message_dropout, self.training)
            outputs.append(nodes)
        users, items = torch.cat(outputs, dim=1).split([self.n_users, self.n_items])
        return users, items

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Return the ranking loss of a batch with the penalty."""
        tables = self.forward()
        penalised = rows = triple_rows(self, interaction, *tables)
        if self.reg_rows == "ego":
            tables = self.user_embedding.weight, self.item_embedding.weight
            penalised = triple_rows(self, interaction, *tables)
        look_up = partial(triple_rows, self, users=tables[0], items=tables[1])
        penalised = penalty_rows(interaction, penalised, self.require_pow, look_up)
        penalty = row_penalty(*penalised, squared=self.require_pow)
        return ranking_loss(rows) + self.reg_weight * penalty

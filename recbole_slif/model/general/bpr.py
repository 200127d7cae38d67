"""BPR: matrix factorisation with the pairwise ranking loss.

Paper: Rendle et al., UAI 2009.
"""

from __future__ import annotations

from typing import Any

from recbole.model.abstract_recommender import GeneralRecommender
from recbole.model.init import xavier_normal_initialization
from torch import Tensor, nn

from recbole_slif.layers.row_penalty import row_penalty
from recbole_slif.model.base import GraphRecommender
from recbole_slif.model.pairwise import ranking_loss, triple_rows


class BPR(GraphRecommender, GeneralRecommender):
    r"""Matrix factorisation: a user's score of an item is the product of their rows.

    .. math::
        y_{ui} = e_u \cdot e_i, \qquad
        L = -\frac{1}{B} \sum \ln \sigma(y_{ui} - y_{uj})
            + \lambda \frac{1}{2B} \sum (\|e_u\|^2 + \|e_i\|^2 + \|e_j\|^2)

    ============= ============================ ==================
    symbol        meaning                      code
    ============= ============================ ==================
    e_u, e_i      rows of users and items      `user_embedding`, `item_embedding`
    \lambda       weight of the penalty        `reg_weight`
    ============= ============================ ==================

    RecBole's BPR has no penalty; `reg_weight: 0` gives it.

    Citation: S. Rendle, C. Freudenthaler, Z. Gantner, L. Schmidt-Thieme. "BPR: Bayesian
    Personalized Ranking from Implicit Feedback", UAI 2009. The authors' code is part of
    MyMediaLite, https://github.com/zenogantner/MyMediaLite (GPL-3.0); it draws one triple a step
    and weighs the penalty of each row by itself, where this model takes means over a batch.
    """

    shares_batches = True

    def __init__(self, config: Any, dataset: Any) -> None:
        """Create the two tables, drawn Xavier-normal."""
        super().__init__(config, dataset)
        self.reg_weight: float = config["reg_weight"]
        self.user_embedding = nn.Embedding(self.n_users, config["embedding_size"])
        self.item_embedding = nn.Embedding(self.n_items, config["embedding_size"])
        self.apply(xavier_normal_initialization)
        self.to(self.device)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the user table `[n_users, d]` and the item table `[n_items, d]`."""
        return self.user_embedding.weight, self.item_embedding.weight

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Return the ranking loss of a batch with its penalty."""
        rows = triple_rows(self, interaction, *self.forward())
        return ranking_loss(rows) + self.reg_weight * row_penalty(*rows)

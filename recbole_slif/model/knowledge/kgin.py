"""KGIN: user intents as mixtures of relations, relational path aggregation.

Paper: Wang et al., WWW 2021.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from recbole.model.abstract_recommender import KnowledgeRecommender
from recbole.model.init import xavier_uniform_initialization
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_slif.batch_parts import whole_batch
from recbole_slif.errors import ConfigError
from recbole_slif.graph.bipartite import bipartite_matrix
from recbole_slif.graph.dropout import draw_kept, thinned_operator
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers.intent import independence, intent_rows, user_intents
from recbole_slif.layers.messages import messages
from recbole_slif.layers.relational_mean import RelationalMean
from recbole_slif.layers.row_penalty import row_penalty
from recbole_slif.model.base import GraphRecommender
from recbole_slif.model.knowledge.directions import directed_triples
from recbole_slif.model.limits import require_share
from recbole_slif.model.pairwise import batch_nodes, penalty_rows, ranking_loss, rows_at


class KGIN(GraphRecommender, KnowledgeRecommender):
    r"""Knowledge graph-based intent network.

    .. math::
        e_p = \sum_r softmax_r(w_{rp}) e_r, \qquad
        u^l = norm\Big(\frac{1}{|N_u|} \sum_{i \in N_u} x^{l-1}_i \odot
              \big(1 + \sum_p \beta(u, p) e_p\big)\Big)

    .. math::
        x^l_h = norm\Big(\frac{1}{|N_h|} \sum_{(h, r, t)} e_r \odot x^{l-1}_t\Big), \qquad
        y_{ui} = \Big(\sum_{l=0}^{L} u^l\Big) \cdot \Big(\sum_{l=0}^{L} x^l_i\Big)

    .. math::
        Loss = L_{bpr} + \lambda_1 L_{ind}(w) + \lambda_2 \frac{1}{2B} \sum \|\cdot\|^2

    ================ ================================== ==================
    symbol           meaning                            code
    ================ ================================== ==================
    u^0, x^0         rows of users and entities         `user_embedding`, `entity_embedding`
    e_r              rows of relations                  `relation_embedding`
    w                what intents are made of           `relation_logits`
    e_p              intents                            `intent_rows`
    \beta(u, p)      softmax over the latent rows       `latent_embedding`, `user_intents`
    L_{ind}          independence of the intents        `independence`
    L                layers                             `context_hops`
    \lambda_1, _2    weights                            `sim_regularity`, `reg_weight`
    ================ ================================== ==================

    While training, each step keeps a random share of the triples (means are taken over those left)
    and of the interactions (scaled up), and drops out messages; evaluation sees everything.

    Citation: X. Wang, T. Huang, D. Wang, Y. Yuan, Z. Liu, X. He, T.-S. Chua. "Learning Intents
    behind Interactions with Knowledge Graph for Recommendation", WWW 2021. Official code:
    https://github.com/huangtinglin/Knowledge_Graph_based_Intent_Network (no licence stated), which
    is followed, the penalty on propagated rows included. Departures from it: each edge is dropped
    by its own draw instead of an exact number of them, at a rate that is the share kept there
    (at .5 the same); users' and entities' rows are drawn as a table each, there as one; and `ind:
    mi` contrasts the intents as the paper says, where that code contrasts the relations.

    RecBole's KGIN differs. Each has a key that gives its behaviour, but for the first:

    - it evaluates with edges dropped: never done here;
    - it drops interactions at the rate meant for messages: `interaction_dropout_rate`;
    - it takes triples in one direction unless the data set adds inverses: `inverse_relations`;
    - its intents mix in [PAD] and the user-item relation: `intent_relations: all`;
    - its penalty is not squared: `require_pow: False`.
    """

    shares_batches = True

    def __init__(self, config: Any, dataset: Any) -> None:
        """Create the parameters and the fixed graphs of the training split.

        Raises:
            ConfigError: a choice is not known or a dropout rate lies outside [0, 1).
        """
        super().__init__(config, dataset)
        self.settings = config
        self.context_hops: int = config["context_hops"]
        self.node_dropout_rate: float = config["node_dropout_rate"]
        rate = config["interaction_dropout_rate"]
        self.interaction_dropout_rate: float = self.node_dropout_rate if rate is None else rate
        self.mess_dropout_rate: float = config["mess_dropout_rate"]
        self._check_settings()
        size = config["embedding_size"]
        n_relations = self._build_graphs(dataset)
        n_factors = config["n_factors"]
        self.user_embedding = nn.Embedding(self.n_users, size)
        self.entity_embedding = nn.Embedding(dataset.knowledge.n_entities, size)
        self.latent_embedding = nn.Embedding(n_factors, size)
        self.relation_embedding = nn.Embedding(n_relations, size)
        self.relation_logits = nn.Parameter(torch.empty(n_factors, n_relations))
        nn.init.xavier_uniform_(self.relation_logits)
        self.apply(xavier_uniform_initialization)
        self.to(self.device)

    def _check_settings(self) -> None:
        choices = {"intent_relations": ("knowledge", "all"), "ind": ("cosine", "distance", "mi")}
        for key, allowed in choices.items():
            if self.settings[key] not in allowed:
                raise ConfigError(
                    f"{key} '{self.settings[key]}' is not one of {', '.join(allowed)}"
                )
        rates = ("node_dropout_rate", "interaction_dropout_rate", "mess_dropout_rate")
        require_share(vars(self), *rates)

    def _build_graphs(self, dataset: Any) -> int:
        """Build both fixed aggregations; return the number of rows of the relation table."""
        heads, relations, tails, n_relations = directed_triples(dataset.knowledge, self.settings)
        if self.settings["intent_relations"] == "all":
            n_relations += 1
        else:
            relations, n_relations = relations - 1, n_relations - 1
        self.entity_means = RelationalMean(
            heads, relations, tails, dataset.knowledge.n_entities, n_relations, self.device
        )
        pairs = self.training_pairs(dataset)
        matrix = bipartite_matrix(*pairs, self.n_users, self.n_items)
        self._interactions = matrix[: self.n_users, self.n_users :]
        counts = np.diff(self._interactions.indptr)
        self._interactions.data = np.repeat(1.0 / np.maximum(counts, 1), counts)
        self.user_means = SparseOperator.from_scipy(self._interactions, device=self.device)
        return n_relations

    def _step_graphs(self) -> tuple[RelationalMean, SparseOperator]:
        """Return the aggregations of this step: thinned while training, whole otherwise."""
        entity_means, user_means = self.entity_means, self.user_means
        if self.training and self.node_dropout_rate > 0.0:
            kept = draw_kept(entity_means.n_edges, self.node_dropout_rate)
            entity_means = entity_means.without(kept)
        if self.training and self.interaction_dropout_rate > 0.0:
            rate = self.interaction_dropout_rate
            user_means = thinned_operator(user_means, self._interactions, rate)
        return entity_means, user_means

    def forward(self) -> tuple[Tensor, Tensor]:
        """Propagate once; return the user table `[n_users, d]` and item table `[n_items, d]`."""
        users, items = self._propagate().split([self.n_users, self.n_items])
        return users, items

    def _propagate(self, nodes: Tensor | None = None) -> Tensor:
        """Return users, then items `[n_users + n_items, d]`; only `nodes` of them where given."""
        ids = None if nodes is None else self._parted(nodes)
        entity_means, user_means = self._step_graphs()
        users, entities = self.user_embedding.weight, self.entity_embedding.weight
        intents = intent_rows(self.relation_logits, self.relation_embedding.weight)
        total = self._scored(users, entities, ids)
        whole_hops = self.context_hops if ids is None else self.context_hops - 1
        for _ in range(whole_hops):
            gathered = user_means @ entities[: self.n_items]
            users, entities = self._hop(users, gathered, entities, entity_means, intents)
            total = total + self._scored(users, entities, ids)
        if ids is None or self.context_hops == 0:
            return total
        user_ids, item_ids = ids
        gathered = user_means.product_at(entities[: self.n_items], user_ids)
        users, means = F.embedding(user_ids, users), entity_means.at(item_ids)
        return total + torch.cat(self._hop(users, gathered, entities, means, intents))

    def _parted(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Part ascending nodes into users and items."""
        first = int(torch.searchsorted(nodes, self.n_users))
        return nodes[:first], nodes[first:] - self.n_users

    def _scored(self, users: Tensor, entities: Tensor, ids: tuple[Tensor, Tensor] | None) -> Tensor:
        """Join the rows of users and items; only those of `ids` of both where given."""
        if ids is None:
            return torch.cat([users, entities[: self.n_items]])
        user_ids, item_ids = ids
        return torch.cat([F.embedding(user_ids, users), F.embedding(item_ids, entities)])

    def _hop(
        self,
        users: Tensor,
        gathered: Tensor,
        entities: Tensor,
        means: RelationalMean,
        intents: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the next layer of users `[n, d]`, for what they gathered, and of entities."""
        gates = 1.0 + user_intents(users, self.latent_embedding.weight, intents)
        entities = means(entities, self.relation_embedding.weight)
        return self._message(gates * gathered), self._message(entities)

    def _message(self, rows: Tensor) -> Tensor:
        """Drop out and normalise the rows `[n, d]` of one layer."""
        return messages(rows, self.mess_dropout_rate, self.training)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Return the ranking loss of a batch with its penalty and the intents' independence."""
        squared = self.settings["require_pow"]
        nodes = batch_nodes(self, whole_batch(interaction))
        look_up = partial(rows_at, self, nodes=nodes, table=self._propagate(nodes))
        rows = look_up(interaction)
        penalised = penalty_rows(interaction, rows, squared, look_up)
        penalty = row_penalty(*penalised, squared=squared)
        shared = independence(
            self.relation_logits, self.settings["ind"], self.settings["temperature"]
        )
        return (
            ranking_loss(rows)
            + self.settings["reg_weight"] * penalty
            + self.settings["sim_regularity"] * shared
        )

"""KGAT (Wang et al., KDD 2019): attention on the joint graph of users, items and entities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from recbole.model.abstract_recommender import KnowledgeRecommender
from recbole.model.init import xavier_normal_initialization
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_slif.batch_parts import own_rows, whole_batch
from recbole_slif.graph.knowledge import KnowledgeEdges
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers.bi_interaction import KnowledgeAggregator
from recbole_slif.layers.messages import drop_out
from recbole_slif.layers.relation_conv import RelationalAttention
from recbole_slif.layers.row_penalty import row_penalty
from recbole_slif.layers.translation import translation_loss
from recbole_slif.model.base import GraphRecommender
from recbole_slif.model.knowledge.directions import directed_triples
from recbole_slif.model.limits import require_layers
from recbole_slif.model.pairwise import batch_nodes, penalty_rows, ranking_loss, rows_at


class KGAT(GraphRecommender, KnowledgeRecommender):
    r"""Knowledge graph attention network on the collaborative knowledge graph (CKG).

    .. math::
        \pi(h, r, t) = (W_r e_t)^T \tanh(W_r e_h + e_r), \qquad
        n_h = \sum_{(h, r, t)} softmax_h(\pi(h, r, t)) x_t

    .. math::
        x^l = drop(a(W_1^l (x^{l-1} + n^{l-1})) + a(W_2^l (x^{l-1} \odot n^{l-1}))), \qquad
        y_{ui} = [e_u \| norm(x^1_u) \| \dots] \cdot [e_i \| norm(x^1_i) \| \dots]

    trained in turns: the mean ranking loss over the interactions, and TransR over the triples,

    .. math::
        g(h, r, t) = \|W_r e_h + e_r - W_r e_t\|^2, \qquad
        L_{KG} = \frac{1}{B} \sum softplus(g(h, r, t) - g(h, r, t'))

    each with the penalty :math:`\lambda \frac{1}{2B} \sum \|\cdot\|^2` on the rows it used.

    ============== ================================ ==================
    symbol         meaning                          code
    ============== ================================ ==================
    e_u, e_h, e_t  rows of users and entities       `user_embedding`, `entity_embedding`
    e_r, W_r       rows and matrices of relations   `relations`
    softmax \pi    attention of each edge           `_attention`
    W_1, W_2, a    weights, LeakyReLU               `aggregators`
    ============== ================================ ==================

    The CKG holds each interaction in both directions under one relation and each triple with its
    inverse. Attention is refreshed after each epoch, without gradient; before the first, an edge
    weighs one over the number of its head's edges of the same relation.

    Citation: X. Wang, X. He, Y. Cao, M. Liu, T.-S. Chua. "KGAT: Knowledge Graph Attention Network
    for Recommendation", KDD 2019. Official code:
    https://github.com/xiangwang1223/knowledge_graph_attention_network (MIT). Departures from it:
    no pretrained rows; `gcn` adds a node's own row, `graphsage` has LeakyReLU for ReLU, and the
    slope is .01, theirs .2, all as in RecBole; one Adam steps both losses, theirs has two;
    relations are as wide as entities; an interaction has one relation for both directions; inverse
    triples and their corruptions train inverse relations, and interactions drawn at random the
    user-item relation, in the batch of the triples themselves.

    RecBole's KGAT differs. Each has a key that gives its behaviour, but for the last:

    - one layer: `layers: [64]`;
    - triples in one direction unless the data set adds inverses: `inverse_relations: False`;
    - the user-item relation is never trained: `kg_loss_interactions: False`;
    - a penalty that is not squared: `require_pow: False`;
    - two relations between one head and tail have their scores added before the softmax: here
      each triple has its own weight, as in the paper.
    """

    loss_names = ("bpr", "translation")
    shares_batches = True

    def __init__(self, config: Any, dataset: Any) -> None:
        """Create the parameters and the CKG of the training split.

        Raises:
            ConfigError: `aggregator_type` is not known, or `layers` is empty.
        """
        super().__init__(config, dataset)
        self.settings = config
        require_layers(config["layers"])
        size = config["embedding_size"]
        self.mess_dropout: float = config["mess_dropout"]
        self.n_knowledge_entities: int = dataset.knowledge.n_entities
        self.edges = self._joint_graph(dataset)
        self.user_embedding = nn.Embedding(self.n_users, size)
        self.entity_embedding = nn.Embedding(self.n_knowledge_entities, size)
        self.relations = RelationalAttention(self.edges.n_relations, size)
        widths = [size, *config["layers"]]
        self.aggregators = nn.ModuleList(
            KnowledgeAggregator(*shape, config["aggregator_type"]) for shape in pairwise(widths)
        )
        self._use_attention(self._initial_attention())
        self.apply(xavier_normal_initialization)
        self.to(self.device)

    def _joint_graph(self, dataset: Any) -> KnowledgeEdges:
        """Join interactions and triples; users are nodes 0 .. n_users - 1, entities follow."""
        graph = dataset.knowledge
        self.n_base_relations: int = graph.n_relations
        heads, relations, tails, n_relations = directed_triples(graph, self.settings)
        # a data set that adds inverses itself has them in its batches already
        reversed_batches = bool(self.settings["kg_reverse_r"])
        self.invert_batches: bool = self.settings["inverse_relations"] and not reversed_batches
        users, items = self.training_pairs(dataset)
        items = items + self.n_users
        self._pairs = torch.from_numpy(np.stack([users, items], axis=1)).to(self.device)
        n_batched = graph.n_triples * (2 if reversed_batches else 1)
        self.interaction_share = len(users) / max(n_batched, 1)
        self.interaction_relation: int = n_relations
        interacts = np.full(2 * len(users), n_relations)
        return KnowledgeEdges.build(
            np.concatenate([users, items, heads + self.n_users]),
            np.concatenate([interacts, relations]),
            np.concatenate([items, users, tails + self.n_users]),
            self.n_users + graph.n_entities,
            n_relations + 1,
            device=self.device,
        )

    def _initial_attention(self) -> Tensor:
        """Weigh the edges `[n_edges]` of one head and relation alike, 1 over their number."""
        per_pair = self.edges.pair_offsets.diff()
        return 1.0 / per_pair[self.edges.pair_of_edge]

    def _use_attention(self, attention: Tensor) -> None:
        self._attention = attention
        self.gather = self.edges.operator(attention)
        # entities are only scored through items: the last layer leaves their rows out
        scored = self.gather.to_scipy()[: self.n_users + self.n_items]
        self.gather_scored = SparseOperator.from_scipy(scored, device=self.device)
        self.clear_tables()

    @torch.no_grad()
    def refresh_attention(self) -> None:
        """Weigh all edges anew from the parameters as they are."""
        self._use_attention(self.relations.attention(self._ego_rows(), self.edges))

    def post_epoch(self, epoch: int) -> None:
        """Refresh the attention after the epoch's last batch."""
        self.refresh_attention()

    def epoch_state(self) -> dict[str, Tensor]:
        """Return the attention `[n_edges]` in force."""
        return {"attention": self._attention}

    def load_epoch_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the attention; the scores are then those of the saved model."""
        self._use_attention(state["attention"].to(self.device))

    def _ego_rows(self) -> Tensor:
        """Return the rows of all nodes, `[n_users + n_entities, d]`."""
        return torch.cat([self.user_embedding.weight, self.entity_embedding.weight])

    def forward(self) -> tuple[Tensor, Tensor]:
        """Propagate once; return tables `[n_users, D]`, `[n_items, D]`, D the sum of all widths."""
        users, items = self._propagate().split([self.n_users, self.n_items])
        return users, items

    def _propagate(self, rows: Tensor | None = None) -> Tensor:
        """Return users, then items `[n_users + n_items, D]`; only `rows` of them where given."""
        n_scored = self.n_users + self.n_items

        def scored(nodes: Tensor) -> Tensor:
            return nodes[:n_scored] if rows is None else F.embedding(rows, nodes)

        dropped = partial(drop_out, rate=self.mess_dropout, training=self.training)
        nodes = self._ego_rows()
        outputs = [scored(nodes)]
        for aggregator in self.aggregators[:-1]:
            nodes = dropped(aggregator(nodes, self.gather @ nodes))
            outputs.append(F.normalize(scored(nodes), dim=1))
        last = self.gather_scored
        gathered = last @ nodes if rows is None else last.product_at(nodes, rows)
        nodes = dropped(self.aggregators[-1](scored(nodes), gathered))
        return torch.cat([*outputs, F.normalize(nodes, dim=1)], dim=1)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Return the ranking loss of a batch with the penalty on its propagated rows."""
        squared = self.settings["require_pow"]
        nodes = batch_nodes(self, whole_batch(interaction))
        look_up = partial(rows_at, self, nodes=nodes, table=self._propagate(nodes))
        rows = look_up(interaction)
        penalised = penalty_rows(interaction, rows, squared, look_up)
        penalty = row_penalty(*penalised, squared=squared)
        return ranking_loss(rows) + self.settings["reg_weight"] * penalty

    def calculate_kg_loss(self, interaction: Any) -> Tensor:
        """Return the TransR loss of a batch of triples with the penalty on its projected rows."""
        nodes, relations = self._kg_batch(whole_batch(interaction))
        if self.settings["require_pow"]:  # a root over all rows is no sum of roots over parts
            nodes, relations = own_rows(interaction, nodes, relations)
        entities = F.embedding(nodes, self._ego_rows())
        loss, used = translation_loss(
            entities,
            self.relations.relation_embedding,
            relations,
            self.relations.relation_projection,
        )
        penalty = row_penalty(*used, squared=self.settings["require_pow"])
        return loss + self.settings["reg_weight"] * penalty

    def _kg_batch(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """Return nodes `[n, 3]` (head, true tail, corrupted tail) and relations `[n]`."""
        names = (self.HEAD_ENTITY_ID, self.TAIL_ENTITY_ID, self.NEG_TAIL_ENTITY_ID)
        head, tail, corrupted = (interaction[name] + self.n_users for name in names)
        relation = interaction[self.RELATION_ID]
        parts = [(head, relation, tail, corrupted)]
        first_entity = self.n_users + 1
        if self.invert_batches:
            inverse = relation + self.n_base_relations - 1
            drawn = self._draw(len(head), first_entity, self.n_users + self.n_knowledge_entities)
            parts.append((tail, inverse, head, drawn))
        if self.settings["kg_loss_interactions"]:
            count = math.ceil(len(head) * self.interaction_share)
            user, item = self._pairs[self._draw(count, 0, len(self._pairs))].unbind(dim=1)
            interacts = torch.full_like(user, self.interaction_relation)
            other_item = self._draw(count, first_entity, self.n_users + self.n_items)
            parts.append((user, interacts, item, other_item))
            parts.append((item, interacts, user, self._draw(count, 1, self.n_users)))
        heads, relations, tails, others = (torch.cat(column) for column in zip(*parts, strict=True))
        return torch.stack([heads, tails, others], dim=1), relations

    def _draw(self, count: int, low: int, high: int) -> Tensor:
        """Draw `count` ids in `low .. high - 1` by torch's CPU generator, whatever the device."""
        return torch.randint(low, high, (count,)).to(self.device)

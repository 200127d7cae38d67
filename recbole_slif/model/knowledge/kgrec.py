"""KGRec: triples that explain much are hidden and reconstructed, those that explain little dropped.

Paper: Yang et al., KDD 2023.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.model.abstract_recommender import KnowledgeRecommender
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_slif.errors import ConfigError
from recbole_slif.graph.bipartite import bipartite_matrix
from recbole_slif.graph.dropout import Thinned, operator_of, thin
from recbole_slif.graph.edge_sides import RelationDraws, SidedEdges
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers import rationale_attention as rationale
from recbole_slif.layers import rationale_views as views
from recbole_slif.layers.messages import messages
from recbole_slif.layers.relational_mean import RelationalMean
from recbole_slif.layers.row_penalty import row_penalty
from recbole_slif.model.base import GraphRecommender, xavier_table
from recbole_slif.model.knowledge.directions import directed_triples
from recbole_slif.model.limits import require_share
from recbole_slif.model.pairwise import ranking_loss, triple_rows


class KGRec(GraphRecommender, KnowledgeRecommender):
    r"""Knowledge graph self-supervised rationalisation.

    .. math::
        u^l = norm\Big(\frac{1}{|N_u|} \sum_{i \in N_u} x^{l-1}_i\Big), \qquad
        x^l_h = norm\Big(\sum_{(h, r, t)} a^{l-1}_{hrt} \, x^{l-1}_t \odot e_r\Big), \qquad
        y_{ui} = \Big(\sum_{l=0}^{L} u^l\Big) \cdot \Big(\sum_{l=0}^{L} x^l_i\Big)

    with the weights `a` of `RationaleAttention`. The rationale score of a triple is its weight for
    the rows `x^0`, times the number of its head's triples, without gradient. Each step

    1. keeps half of each relation's triples and each interaction by half a chance, scaled up;
    2. scores the triples and adds Gumbel noise; :math:`\mu_i` is an item's mean score;
    3. hides from the propagation the best triples and as many at random, M in all, and
       reconstructs them;
    4. contrasts two views of the items: :math:`z^1` from messages both ways along interactions
       drawn by :math:`\mu_i`, and :math:`z^2` from the triples without the worst ones, as plain
       means (`RelationalMean`). Both normalise and add up L layers and go through an MLP each.

    .. math::
        Loss = L_{bpr} + \frac{\lambda_2}{2B} \sum \|\cdot\|^2
        + \lambda_m \frac{1}{|M|} \sum_{(h, r, t) \in M} -\ln \sigma(x_h \cdot (x_t \odot e_r))
        + \lambda_c L_{cl}(z^1, z^2)

    `L_bpr` and `L_cl` (`partner_contrast`) are means over the batch and over all items. [PAD] is no
    item. Items without a link have no triples: they are never hidden and keep their row. Evaluation
    sees everything and drops nothing.

    ================== ===================================== ============================
    symbol             meaning                               code
    ================== ===================================== ============================
    u^0, x^0           rows of users, then entities          `node_embedding`
    e_r                rows of relations, inverses included  `relation_embedding`
    a                  attention                             `attention`
    \mu                mean score around an item             `item_scores`
    M                  hidden triples                        `choose_masked`, `mask_size`
    z^1, z^2           projected views                       `projectors`
    \lambda_m, _c, _2  `mae_weight`, `cl_weight`             `reg_weight` for the last
    L                  layers                                `context_hops`
    ================== ===================================== ============================

    Citation: Y. Yang, C. Huang, L. Xia, C. Huang. "Knowledge Graph Self-Supervised Rationalization
    for Recommendation", KDD 2023. Official code: https://github.com/HKUDS/KGRec (Apache-2.0).
    Departures from it:

    - its loop over the relations stops one short, so that the last inverse relation is never
      trained; here it is, and `skip_last_relation: True` gives the released behaviour;
    - a relation keeps at least one triple in each step, and each half of M is at most a quarter of
      the step's triples, which matters on tiny graphs alone;
    - its rate of node dropout is the share that it keeps, which at .5 is the same.

    As there, the contrast holds the positive twice in the denominator (`cl_positive_twice: False`
    gives the usual form), and an item's mean score over no triples counts as 1.
    """

    loss_names = ("bpr", "reconstruction", "contrast")
    shares_batches = True

    def __init__(self, config: Any, dataset: Any) -> None:
        """Create the parameters and the fixed graphs of the training split.

        Raises:
            ConfigError: a setting lies outside its limits.
        """
        super().__init__(config, dataset)
        self.settings = config
        self._check_settings()
        self.context_hops: int = config["context_hops"]
        size = config["embedding_size"]
        self.n_knowledge_entities: int = dataset.knowledge.n_entities
        n_relations = self._build_graphs(dataset)
        self.node_embedding = xavier_table(self.n_users + self.n_knowledge_entities, size)
        self.relation_embedding = xavier_table(n_relations, size)
        self.attention = rationale.RationaleAttention(size, config["n_heads"])
        self.projectors = nn.ModuleList(
            nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size)) for _ in range(2)
        )
        self.to(self.device)

    def _check_settings(self) -> None:
        settings = self.settings
        require_share(settings, "node_dropout_rate", "mess_dropout_rate", "cl_drop")
        size, n_heads = settings["embedding_size"], settings["n_heads"]
        if n_heads < 1 or size % n_heads:
            raise ConfigError(f"n_heads must divide embedding_size {size}, not be {n_heads}")

    def _build_graphs(self, dataset: Any) -> int:
        """Build what no step changes; return the number of rows of the relation table."""
        heads, relations, tails, n_ids = directed_triples(dataset.knowledge, self.settings)
        sizes = (self.n_knowledge_entities, max(n_ids - 1, 1))
        self.edges = SidedEdges.build(heads, relations - 1, tails, *sizes, device=self.device)
        ends = (self.edges.edge_heads, self.edges.relations, self.edges.tails)
        heads, relations, tails = (column.cpu().numpy() for column in ends)
        self._draws = RelationDraws(relations, self.settings["node_dropout_rate"], self.device)
        self.triple_means = RelationalMean(heads, relations, tails, *sizes, self.device)
        pairs = self.training_pairs(dataset)
        matrix = bipartite_matrix(*pairs, self.n_users, self.n_items)
        self._interactions = matrix[: self.n_users, self.n_users :]
        counts = np.diff(self._interactions.indptr)
        self._interactions.data = np.repeat(1.0 / np.maximum(counts, 1), counts)
        self.user_means = SparseOperator.from_scipy(self._interactions, device=self.device)
        return sizes[1]

    def forward(self) -> tuple[Tensor, Tensor]:
        """Propagate on the whole graphs; return `[n_users, d]` and `[n_items, d]`."""
        users, entities = self._propagate(self.user_means, self.edges)
        return users, entities[: self.n_items]

    def _ego_rows(self) -> tuple[Tensor, Tensor]:
        """Return the rows of users `[n_users, d]` and entities `[n_entities, d]`."""
        parts = (self.n_users, self.n_knowledge_entities)
        users, entities = self.node_embedding.weight.split(parts)
        return users, entities

    def _propagate(
        self,
        user_means: SparseOperator,
        edges: SidedEdges,
        masked: Tensor | None = None,
        logits: list[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the sums over the layers, `[n_users, d]` and `[n_entities, d]`.

        Edges `masked` `[n]` are left out; `logits` are the edges' scores by ego rows, if known.
        """
        users, entities = self._ego_rows()
        relations = self.relation_embedding.weight
        user_total, entity_total = users, entities
        for _ in range(self.context_hops):
            users = self._message(user_means @ entities[: self.n_items])
            gathered = self.attention(entities, relations, edges, masked, logits)
            entities, logits = self._message(gathered), None
            user_total, entity_total = user_total + users, entity_total + entities
        return user_total, entity_total

    def _message(self, rows: Tensor) -> Tensor:
        """Drop out and normalise the rows `[n, d]` of one layer."""
        return messages(rows, self.settings["mess_dropout_rate"], self.training)

    def _draw_graphs(self) -> tuple[Tensor, Thinned]:
        """Return which edges `[n_edges]` bool a step keeps, and its interactions."""
        kept = self._draws.draw()
        if self.settings["skip_last_relation"]:
            kept &= self.edges.relations != self.relation_embedding.num_embeddings - 1
        rate = self.settings["node_dropout_rate"]
        return kept, thin(self.user_means, self._interactions, rate)

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the ranking loss of a batch with its penalty, the reconstruction, the contrast."""
        settings, relations = self.settings, self.relation_embedding.weight
        kept, interactions = self._draw_graphs()
        # counted now, as `only` does: later a GPU would have a whole step to finish first
        numbers, edges = kept.nonzero().squeeze(1), self.edges.only(kept)
        logits = self.attention.logits(self._ego_rows()[1], relations, edges)
        scores = rationale.rationale_scores(logits, edges)
        noisy = scores + views.gumbel(len(scores)).to(scores)
        masked = views.choose_masked(noisy, settings["mask_size"])

        operator = operator_of(interactions, self.user_means)
        users, entities = self._propagate(operator, edges, masked, logits)
        rows = triple_rows(self, interaction, users, entities)
        ranking = ranking_loss(rows) + settings["reg_weight"] * row_penalty(*rows)
        ends = (edges.edge_heads, edges.relations, edges.tails)
        places = (part.index_select(0, masked) for part in ends)
        tables = (entities, relations, entities)
        hidden = (F.embedding(ids, table) for ids, table in zip(places, tables, strict=True))
        reconstruction = settings["mae_weight"] * views.reconstruction_loss(*hidden)
        if not settings["cl_weight"]:
            return ranking, reconstruction, torch.zeros_like(ranking)

        drop = settings["cl_drop"]
        best = numbers.index_select(0, views.drop_lowest(noisy, drop))
        explained = torch.zeros_like(kept).index_fill_(0, best, True)
        means = rationale.item_scores(scores, edges, self.n_items)
        drawn = views.draw_by_item(interactions, means, 1.0 - drop)
        item_views = (self._interaction_view(drawn), self._triple_view(explained))
        return ranking, reconstruction, settings["cl_weight"] * self._contrast(*item_views)

    def _interaction_view(self, interactions: Thinned) -> Tensor:
        """Return rows of the items `[n_items, d]` from messages both ways along interactions."""
        to_users = operator_of(interactions, self.user_means)
        to_items = to_users.transpose()
        users, entities = self._ego_rows()
        total = items = entities[: self.n_items]
        for hops_left in reversed(range(self.context_hops)):
            heard = self._message(to_users @ items) if hops_left else users
            users, items = heard, self._message(to_items @ users)
            total = total + items
        return total

    def _triple_view(self, kept: Tensor) -> Tensor:
        """Return rows of the items `[n_items, d]` from the kept `[n_edges]` triples, as means."""
        triple_means = self.triple_means.without(kept)
        total = entities = self._ego_rows()[1]
        for _ in range(self.context_hops):
            entities = self._message(triple_means(entities, self.relation_embedding.weight))
            total = total + entities
        return total[: self.n_items]

    def _contrast(self, *item_views: Tensor) -> Tensor:
        """Contrast both views of all items, [PAD] left out."""
        pairs = zip(self.projectors, item_views, strict=True)
        first, second = (projector(view[1:]) for projector, view in pairs)
        partners = torch.randperm(len(first)).to(self.device)
        temperature, twice = self.settings["cl_temperature"], self.settings["cl_positive_twice"]
        return views.partner_contrast(first, second, partners, temperature, 2 if twice else 1)

"""KGCL: contrast of views whose interactions are thinned by what the knowledge graph says.

Paper: Yang et al., SIGIR 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from recbole.model.abstract_recommender import KnowledgeRecommender
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_slif.graph.bipartite import bipartite_matrix
from recbole_slif.graph.dropout import thinned_operator
from recbole_slif.graph.knowledge import KnowledgeEdges
from recbole_slif.graph.paired_views import PairedViews
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.graph.triples import TripleSampler, draw_of_each
from recbole_slif.layers.concat_attention import ConcatAttention
from recbole_slif.layers.light_conv import light_convolution
from recbole_slif.layers.messages import drop_out
from recbole_slif.layers.row_penalty import row_penalty
from recbole_slif.layers.stability import keep_chances
from recbole_slif.layers.translation import translation_loss
from recbole_slif.losses import bpr_loss, contrast_views, negative_rows
from recbole_slif.model.base import GraphRecommender
from recbole_slif.model.knowledge.directions import item_headed
from recbole_slif.model.limits import require_share
from recbole_slif.model.pairwise import triple_rows
from recbole_slif.phases import IdBatches, Phase


class KGCL(GraphRecommender, KnowledgeRecommender):
    r"""Knowledge graph contrastive learning.

    .. math::
        x_i = e_i + \sum_{(i, r, t)} softmax_i\Big(LeakyReLU\Big(\sum_k
              \big[(W (e_i \| e_t) + b) \odot e_r\big]_k\Big)\Big) e_t, \qquad
        H = \frac{1}{L+1} \sum_{l=0}^{L} \hat{A}^l [E_u; X], \qquad y_{ui} = h_u \cdot h_i

    Before each epoch, TransE: one triple per item, a false tail t' beside it, means over a batch

    .. math::
        L_{KG} = softplus(\|e_i + e_r - e_t\|^2 - \|e_i + e_r - e_{t'}\|^2)
                 + \frac{\lambda_t}{2} \sum \|\cdot\|^2

    Then two views of the triples are drawn, each triple kept with chance `1 - view_kg_dropout`;
    items whose x changes little from one to the other (:math:`s_i = \cos`) have the better chance
    to stay in the views of the interactions (`keep_chances`), drawn once per item: an item keeps or
    loses all its users. View a is the first of both kinds, b the second. A batch's losses are sums:

    .. math::
        L = \sum softplus(y_{uj} - y_{ui}) + \lambda_c \sum_{n \in \{u, i\}}
            -\log \frac{\exp(\cos(h^a_n, h^b_n) / \tau)}{\sum_m \exp(\cos(h^a_n, h^b_m) / \tau)}
            + \lambda \frac{1}{2B} \sum (\|e_u\|^2 + \|e_i\|^2 + \|e_j\|^2)

    where m runs through all users, or all items (`cl_negatives`).

    ============== ===================================== ==================
    symbol         meaning                               code
    ============== ===================================== ==================
    E_u, e_i       rows of users and items               `user_embedding`, `item_embedding`
    e_t, e_r       rows of tails and of relations        `entity_embedding`, `relation_embedding`
    W, b           map of head and tail to a relation    `attention`
    \hat{A}, L     normalised interactions, layers       `adjacency`, `n_layers`
    a, b           the two views                         `views`
    \tau           temperature                           `temperature`
    \lambda_c, _t  weights of contrast, TransE's penalty `cl_weight`, `translation_reg`
    \lambda        weight of the penalty                 `reg_weight`
    ============== ===================================== ==================

    While training, a share of the adjacency's entries is dropped in the ranking pass (the views
    are used whole), and of the rows of items and tails, the attention weights and the rows x in
    all passes. Scores come from the full graphs; the sigmoid that the paper puts around y changes
    no ranking and is left out. An item without triples has x_i = e_i. Tails have a table of their
    own, so an item that is a tail somewhere has a row there too.

    Citation: Y. Yang, C. Huang, L. Xia, C. Li. "Knowledge Graph Contrastive Learning for
    Recommendation", SIGIR 2022. Official code: https://github.com/yuh-yang/KGCL-SIGIR22 (MIT); the
    authors' rewrite is in https://github.com/HKUDS/KGRec (Apache-2.0). Departures from the first:

    - it stops and selects by the test set: here by validation, always;
    - the paper has TransR where it trains TransE: `translation: transr`;
    - it computes degree weights and never uses them: left out;
    - input dropout is drawn per row of a table, not for each triple that uses the row, and
      stability is measured without dropout;
    - TransE's triple is drawn from all distinct triples of the item, not only those propagated, and
      its false tail from all entities; there it is the tail of a random triple;
    - items gather along the first triples in the file's order there: here they are drawn once, so
      that neither the order of the file nor that of relations decides what items hear.

    The rewrite thins edge by edge: `ui_keep: edge`; its joint table, second hop and summed readout
    are not offered.
    """

    loss_names = ("bpr", "contrast", "penalty")

    def __init__(self, config: Any, dataset: Any) -> None:
        """Create the parameters and the fixed graphs of the training split.

        Raises:
            ConfigError: a rate lies outside [0, 1), `cl_negatives` is not known, or items are
                tails alone and `inverse_relations` is off.
        """
        super().__init__(config, dataset)
        self.settings = config
        self._check_settings()
        size = config["embedding_size"]
        n_relations = self._build_graphs(dataset)
        self.user_embedding = nn.Embedding(self.n_users, size)
        self.item_embedding = nn.Embedding(self.n_items, size)
        self.entity_embedding = nn.Embedding(dataset.knowledge.n_entities, size)
        self.relation_embedding = nn.Embedding(n_relations, size)
        for table in self.children():
            nn.init.normal_(table.weight, std=0.1)
        self.attention = ConcatAttention(size, bias=True, gain=0.5)
        self.projections: nn.Parameter | None = None
        if config["translation"] == "transr":
            self.projections = nn.Parameter(torch.eye(size).repeat(n_relations, 1, 1))
        self.to(self.device)

    def _check_settings(self) -> None:
        rates = ("dropout", "interaction_dropout", "view_kg_dropout", "view_ui_dropout")
        require_share(self.settings, *rates)
        negative_rows(self.settings["cl_negatives"], torch.ones(1, dtype=torch.int64), 2)

    def _build_graphs(self, dataset: Any) -> int:
        """Build the full graphs and whole views; return the number of relation ids."""
        triples, n_relations = item_headed(dataset.knowledge, self.settings, self.n_items)
        n_entities, pairs = dataset.knowledge.n_entities, self.training_pairs(dataset)
        self.sampler = TripleSampler(*triples, n_entities)
        self.views = PairedViews(
            triples,
            pairs,
            (n_entities, n_relations),
            (self.n_users, self.n_items),
            self.device,
            torch.get_default_dtype(),
        )
        self.views.take(draw_of_each(triples[0], self.settings["triples_per_item"]))
        self.edges = self.views.knowledge()
        self._matrix = bipartite_matrix(*pairs, self.n_users, self.n_items)
        self.adjacency = SparseOperator.from_scipy(self._matrix, device=self.device)
        return n_relations

    def phases_before(self, epoch: int) -> Sequence[Phase]:
        """Return the pass over the knowledge graph, one triple per item that heads any."""
        if self.settings["translation"] == "none" or not len(self.sampler.heads):
            return ()
        batches = IdBatches(self.sampler.heads, self.settings["translation_batch_size"])
        return (Phase(("translation", "translation_penalty"), batches, self.translation),)

    def translation(self, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Return the translation loss of a triple drawn for each of `heads`, and its penalty."""
        heads = heads.to(self.device)
        relations, tails = self.sampler.draw_triples(heads)
        others = torch.stack([tails, self.sampler.negative_tails(heads, relations)], dim=1)
        head_rows = F.embedding(heads, self.item_embedding.weight).unsqueeze(1)
        rows = torch.cat([head_rows, F.embedding(others, self.entity_embedding.weight)], dim=1)
        table = self.relation_embedding.weight
        loss, used = translation_loss(rows, table, relations, self.projections)
        return loss, self.settings["translation_reg"] * row_penalty(*used)

    @torch.no_grad()
    def pre_epoch(self, epoch: int) -> None:
        """Draw the two views of the triples and, by the items' stability, of the interactions."""
        if not self.settings["cl_weight"]:
            return
        drawn = self.views.draw_knowledge(self.settings["view_kg_dropout"])
        was_training = self.training
        self.eval()
        first, second = (self._item_rows(edges) for edges in drawn)
        self.train(was_training)
        chances = self.item_chances(F.cosine_similarity(first, second))
        self.views.draw_interactions(chances.cpu(), self.settings["ui_keep"] == "item")

    def item_chances(self, stability: Tensor) -> Tensor:
        """Chance `[n_items]` of each item to stay in a view; [PAD] counts for none and has none."""
        mean_keep = 1.0 - self.settings["view_ui_dropout"]
        floor, cap = self.settings["stability_floor"], self.settings["keep_cap"]
        return F.pad(keep_chances(stability[1:], mean_keep, floor, cap), (1, 0))

    def epoch_state(self) -> dict[str, Tensor]:
        """Return which triples items gather along, and what each view keeps."""
        return self.views.state()

    def load_epoch_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the triples and the views."""
        self.clear_tables()
        self.views.load(state)
        self.edges = self.views.knowledge()

    def _item_rows(self, edges: KnowledgeEdges) -> Tensor:
        """Add to the items' rows `[n_items, d]` what they gather from their tails."""
        rate = self.settings["dropout"]
        items = drop_out(self.item_embedding.weight, rate, self.training)
        tails = drop_out(self.entity_embedding.weight, rate, self.training)
        gathered = self.attention(items, tails, self.relation_embedding.weight, edges, rate)
        return drop_out(items + gathered[: self.n_items], rate, self.training)

    def _propagate(self, edges: KnowledgeEdges, adjacency: SparseOperator) -> tuple[Tensor, Tensor]:
        """Return the tables of users and items `[n, d]` on the graphs given."""
        nodes = torch.cat([self.user_embedding.weight, self._item_rows(edges)])
        nodes = light_convolution(adjacency, nodes, self.settings["n_layers"], readout="mean")
        users, items = nodes.split([self.n_users, self.n_items])
        return users, items

    def forward(self) -> tuple[Tensor, Tensor]:
        """Propagate once; return the user table `[n_users, d]` and item table `[n_items, d]`."""
        adjacency, rate = self.adjacency, self.settings["interaction_dropout"]
        if self.training and rate > 0.0:
            adjacency = thinned_operator(adjacency, self._matrix, rate)
        return self._propagate(self.edges, adjacency)

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the summed ranking loss, the summed contrast and the penalty of a batch."""
        users, positives, negatives = triple_rows(self, interaction, *self.forward())
        scores = (users * positives).sum(1), (users * negatives).sum(1)
        ranking = bpr_loss(*scores, self.settings["loss_reduction"])
        ego = triple_rows(self, interaction, self.user_embedding.weight, self.item_embedding.weight)
        penalty = self.settings["reg_weight"] * row_penalty(*ego)
        weight = self.settings["cl_weight"]
        contrast = weight * self.contrast(interaction) if weight else ranking.new_zeros(())
        return ranking, contrast, penalty

    def contrast(self, interaction: Any) -> Tensor:
        """Contrast the users and the positive items of a batch between the two views."""
        first, second = (self._propagate(*view) for view in self.views.graphs())
        batch = interaction[self.USER_ID], interaction[self.ITEM_ID]
        chosen = self.settings
        options = chosen["temperature"], chosen["cl_negatives"], chosen["loss_reduction"]
        sides = zip(first, second, batch, strict=True)
        return torch.stack([contrast_views(a, b, ids, *options) for a, b, ids in sides]).sum()

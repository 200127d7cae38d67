"""SLIF-MR: self-loop iterative fusion of interactions, a knowledge graph and item features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from recbole.model.abstract_recommender import KnowledgeRecommender
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_slif.batch_parts import whole_batch
from recbole_slif.layers.fusion import build_fusion
from recbole_slif.layers.light_conv import light_convolution
from recbole_slif.losses import bpr_loss, inter_modal_loss, intra_modal_loss, squared_norm
from recbole_slif.model.base import GraphRecommender, xavier_table
from recbole_slif.model.branches import FeatureBranch, KnowledgeBranch, require_sources
from recbole_slif.model.compared import compared_places
from recbole_slif.model.pairwise import item_pairs
from recbole_slif.model.self_loop import Graphs, GraphSettings, SelfLoop


class SLIFMR(GraphRecommender, KnowledgeRecommender):
    r"""SLIF-MR: three graphs, item-level fusion, and a correlation graph fed back each epoch.

    Each epoch n propagates on A^n (Eq. (7), (8)), S^n (Eq. (9)) and KG^n (Eq. (10)-(13)), fuses
    the item views (Eq. (14), (15)), scores :math:`y_{ui} = \bar{x}_u \cdot x_i` and minimises

    .. math:: L = L_{bpr} + \beta L_{inter} + \gamma L_{intra} + \eta \|\Theta\|^2

    ==================  ==================================  ====================================
    symbol              meaning                             code
    ==================  ==================================  ====================================
    x^0                 ID rows of users and entities       `user_embedding`, `entity_embedding`
    \bar{x}             interaction view                    first of `views`
    \tilde{x}           feature view                        `feature_branch`
    \hat{x}             knowledge view                      `knowledge_branch`
    x_i                 unified item                        `unified`
    \alpha_m            modality weights                    `feature_branch.modality_weights`
    W_r, \hat{x}_r      relation matrices and rows          `knowledge_branch`
    A, S, G_k, G        graphs                              `self_loop`, `feature_branch.graphs`
    ==================  ==================================  ====================================

    Items without a modality or a KG link are masked out of that view's fusion weight and losses.
    Every reading of an ambiguous equation is a key of `properties/model/SLIFMR.yaml`.

    Citation: J. Guo, J. Jiang, Z. Guo, B. Song, Y. Sun. "SLIF-MR: Self-loop Iterative Fusion of
    Heterogeneous Auxiliary Information for Multimodal Recommendation", arXiv 2507.09998, 2025. No
    official code is public.
    """

    view_mask: Tensor
    loss_names = ("bpr", "inter", "intra", "norm", "translation")
    shares_batches = True

    def __init__(self, config: Any, dataset: Any) -> None:
        """Build the parameters and the base graphs from the training split `dataset`.

        Raises:
            ConfigError: a branch is switched on that the data set has no files for.
        """
        super().__init__(config, dataset)
        self.settings = config
        ablation = config["ablation"]
        with_knowledge = ablation not in ("kg", "kg_mm")
        with_features = ablation not in ("mm", "kg_mm")
        self.with_loop = ablation != "sge"
        # without other views the unified item is the interaction view: nothing to align it with
        self.beta = 0.0 if ablation in ("cl", "kg_mm") else config["beta"]
        self.gamma = 0.0 if ablation == "cl" or config["intra_mode"] == "off" else config["gamma"]
        require_sources(dataset, with_knowledge, with_features, ablation)

        knowledge = dataset.knowledge if with_knowledge else None
        pairs, graphs = self.training_pairs(dataset), GraphSettings.read(config)
        self.self_loop = SelfLoop(pairs, self.n_users, self.n_items, knowledge, graphs, self.device)
        self._training_graphs: Graphs | None = None
        self._full_graphs: Graphs | None = None

        size = config["embedding_size"]
        n_entities = self.n_items if knowledge is None else knowledge.n_entities
        self.user_embedding = xavier_table(self.n_users, size)
        self.entity_embedding = xavier_table(n_entities, size)
        self.own_tables = nn.ParameterDict()
        if config["separate_tables"]:
            # the last view keeps `entity_embedding`, so that no table is without a reader
            own_rows = with_features and config["feature_init"] == "id"
            for name in ["interaction"] * with_knowledge + ["feature"] * own_rows:
                self.own_tables[name] = xavier_table(self.n_items, size).weight
        mask = [torch.ones(self.n_items, dtype=torch.bool)]
        self.feature_branch: FeatureBranch | None = None
        if with_features:
            self.feature_branch = FeatureBranch(dataset.features, size, config, self.device)
            mask.append(self.feature_branch.presence.any(dim=1))
        self.knowledge_branch: KnowledgeBranch | None = None
        if knowledge is not None:
            self.knowledge_branch = KnowledgeBranch(
                self.self_loop.n_relations, size, config["readout_knowledge"]
            )
            mask.append(torch.from_numpy(knowledge.linked))
        self.register_buffer("view_mask", torch.stack(mask, dim=1), persistent=False)
        self.fusion = build_fusion(config["fusion"], size, len(mask)) if len(mask) > 1 else None
        self.to(self.device)

    def pre_epoch(self, epoch: int) -> None:
        """Feed the last epoch's items back (Eq. (16)-(18)), then redraw the edges (Eq. (6))."""
        if self.with_loop and self.self_loop.due(epoch):
            self.self_loop.refresh(self.score_tables()[1])
            self._full_graphs = None
            self.clear_tables()
        self._training_graphs = self.self_loop.training_graphs(epoch)
        branch, depth = self.knowledge_branch, self._depth("knowledge")
        if branch is not None and depth and self.settings["attn_refresh"] == "epoch":
            branch.refresh(self.entity_embedding.weight, self._training_graphs.triples)

    def epoch_state(self) -> dict[str, Tensor]:
        """Return the correlation graph in force."""
        return self.self_loop.state()

    def load_epoch_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the correlation graph; the scores are then those of the saved model."""
        self.self_loop.load_state(state)
        self._full_graphs = self._training_graphs = None
        super().load_epoch_state(state)

    def _graphs(self) -> Graphs:
        """Return the pruned graphs in training, all edges in evaluation."""
        if self.training:
            self._training_graphs = self._training_graphs or self.self_loop.training_graphs(epoch=0)
            return self._training_graphs
        self._full_graphs = self._full_graphs or self.self_loop.full_graphs()
        return self._full_graphs

    def extract(self, wanted: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Propagate on all graphs, Section III-A3.

        Args:
            wanted: distinct ids of the users and of the items to return; None for all.

        Returns:
            users `[n_users, d]` of the interaction graph, and one item table `[n_items, d]` per
            view: interaction, then feature and knowledge where they are switched on.
        """
        graphs, readout = self._graphs(), self.settings["readout_interaction"]
        start = torch.cat([self.user_embedding.weight, self._item_rows("interaction")])
        rows, items, sizes = None, None, [self.n_users, self.n_items]
        if wanted is not None:
            users, items = wanted
            rows, sizes = torch.cat([users, items + self.n_users]), [len(users), len(items)]
        depth = self._depth("interaction")
        nodes = light_convolution(graphs.bipartite, start, depth, readout, rows)
        user_rows, *views = nodes.split(sizes)
        if self.feature_branch is not None:
            table, depth = self._item_rows("feature"), self._depth("feature")
            view = self.feature_branch(table, depth, graphs.correlation, graphs.base_share)
            views.append(view if items is None else F.embedding(items, view))
        if self.knowledge_branch is not None:
            view = self.entity_embedding.weight
            view = self.knowledge_branch(view, graphs.triples, self._depth("knowledge"))
            views.append(view[: self.n_items] if items is None else F.embedding(items, view))
        return user_rows, views

    def _depth(self, branch: str) -> int:
        own = self.settings[f"n_layers_{branch}"]
        return self.settings["n_layers"] if own is None else own

    def _item_rows(self, branch: str) -> Tensor:
        return self.own_tables.get(branch, self.entity_embedding.weight[: self.n_items])

    def fuse(self, views: list[Tensor], mask: Tensor) -> Tensor:
        """Return the unified items `[n, d]` of the views `[n, d]` under `mask` `[n, n_views]`."""
        return views[0] if self.fusion is None else self.fusion(views, mask)[0]

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return users `[n_users, d]` and unified items `[n_items, d]`."""
        users, views = self.extract()
        return users, self.fuse(views, self.view_mask)

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """Return the weighted parts of Eq. (24) in the order of `loss_names`."""
        whole, scope = whole_batch(interaction), self.settings["cl_scope"]
        items = torch.unique(item_pairs(self, whole))  # a double is its own negative in Eq. (19)
        if scope == "all":
            items = torch.arange(self.n_items, device=items.device)
        users, user_place = torch.unique(interaction[self.USER_ID], return_inverse=True)
        user_rows, views = self.extract((users, items))
        mask = self.view_mask[items]
        unified = self.fuse(views, mask)
        user_rows = F.embedding(user_place, user_rows)
        item_place = torch.searchsorted(items, item_pairs(self, interaction))
        scores = user_rows.repeat(2, 1).mul(F.embedding(item_place, unified)).sum(dim=1)
        ranking = bpr_loss(scores[: len(user_rows)], scores[len(user_rows) :])
        place = compared_places(items, whole[self.ITEM_ID], scope, self.settings["cl_items"])
        if place is not None:
            *views, unified = (F.embedding(place, x) for x in (*views, unified))
            mask = mask[place]
        last = self._norm(whole), *self._translation(len(whole[self.USER_ID]))
        return ranking, *self.consistency_loss(views, unified, mask), *last

    def consistency_loss(
        self, views: list[Tensor], unified: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return beta and gamma times the two consistency losses; a weight of 0 costs nothing."""
        inter = intra = unified.new_zeros(())
        if self.beta:
            inter = self.beta * inter_modal_loss(
                views,
                unified,
                mask,
                self.settings["tau"],
                exclude_positive=self.settings["infonce_exclude_pos"],
                reduction=self.settings["cl_reduction"],
            )
        if self.gamma:
            intra = self.gamma * intra_modal_loss(
                views, mask, self.settings["uniformity_t"], self.settings["intra_mode"]
            )
        return inter, intra

    def _norm(self, interaction: Any) -> Tensor:
        """Return eta times the squared ego rows, of the batch or all, and relation parameters."""
        user, items = interaction[self.USER_ID], item_pairs(self, interaction)
        tables = [self.entity_embedding.weight, *self.own_tables.values()]
        if self.settings["reg_scope"] == "all":
            used, count = [self.user_embedding.weight, *tables], 1
        else:
            used, count = [F.embedding(items, rows) for rows in tables], len(user)
            used.append(self.user_embedding(user))
        branch, depth = self.knowledge_branch, self._depth("knowledge")
        if branch is not None and depth and self.settings["attn_refresh"] == "step":
            used += branch.used_parameters(self._graphs().triples)
        return self.settings["reg_weight"] * squared_norm(*used, batch_size=count)

    def _translation(self, count: int) -> tuple[Tensor, ...]:
        weight, graph = self.settings["kge_loss_weight"], self.self_loop.knowledge
        if not weight or graph is None or self.knowledge_branch is None:
            return ()
        loss = self.knowledge_branch.translation(self.entity_embedding.weight, graph, count)
        return (weight * loss,)

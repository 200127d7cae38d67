"""DiffMM: one diffusion model per modality predicts the edges of that modality's graph.

Paper: Jiang et al., MM 2024.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_slif.errors import ConfigError
from recbole_slif.graph.bipartite import bipartite_operator
from recbole_slif.graph.predicted import graphs_from_state, graphs_state
from recbole_slif.layers.light_conv import light_convolution
from recbole_slif.layers.modality_projection import ModalityProjection
from recbole_slif.losses import contrast_views, negative_rows, squared_norm, unit_rows
from recbole_slif.model.base import GraphRecommender, xavier_table
from recbole_slif.model.multimodal.features import modalities_of
from recbole_slif.model.multimodal.generation import GraphGeneration
from recbole_slif.model.pairwise import ranking_loss, triple_rows
from recbole_slif.phases import IdBatches, Phase

LEAK = 0.2


class DiffMM(GraphRecommender, GeneralRecommender):
    r"""Multi-modal diffusion model.

    Before an epoch's interactions, each modality's denoiser goes once over all users and then says
    which items a user has in that modality's graph :math:`A_m` (`GraphGeneration`, with its loss).
    The main model reads the interactions A and these graphs; :math:`Z = [E_u; E_i]`:

    .. math::
        y_m = A [E_u; \bar F_m], \quad
        y_m \leftarrow y_m + A [y_{m,u}; E_i] + \lambda_a A_m Z, \quad
        M = \sum_m softmax(w)_m y_m

    .. math::
        X = \sum_{l=0}^{L} A^l M + \lambda_r norm(M), \qquad y_{ui} = x_u \cdot x_i, \qquad
        C_m = \sum_{l=0}^{L} A^l A_m [E_u; \bar F_m]

    .. math::
        Loss = L_{bpr} + \lambda (\|E_u\|^2 + \|E_i\|^2)
            + \lambda_s \sum_{(P, Q)} (NCE_u(P, Q) + NCE_i(P, Q))

    The pairs (P, Q) are those of :math:`C_m` (`cl_method: 0`) or X with each (`1`), compared for
    the batch's users and positive items. L_bpr and NCE are means over the batch, the penalty is a
    sum over both tables.

    ================== ================================ ===================================
    symbol             meaning                          code
    ================== ================================ ===================================
    E_u, E_i           rows of users and items          `user_embedding`, `item_embedding`
    \bar F_m           projected features as unit rows  `feature_tables`
    w                  weights of the modalities        `modality_logits`
    A, A_m             graphs with self-loops           `adjacency`, `modality_graphs`
    L                  layers                           `n_layers`
    \lambda_a, _r      weights                          `graph_weight`, `residual_weight`
    \lambda, \lambda_s weights                          `reg_weight`, `ssl_weight`
    ================== ================================ ===================================

    An item without a modality has a row of zeros in F_m and no part in that modality's contrast of
    items. With one modality `cl_method: 0` has no pair; `1` is then used, and the log says so. The
    modality graphs belong to the checkpoint.

    Citation: Y. Jiang, L. Xia, W. Wei, D. Luo, K. Lin, C. Huang. "DiffMM: Multi-Modal Diffusion
    Model for Recommendation", MM 2024. Official code: https://github.com/HKUDS/DiffMM (no licence
    stated), which is followed. Departures from it:

    - it picks the best epoch on the test set, here validation alone does, without a key for theirs;
    - the item it puts first starts from the clean row and is mostly one the user has, so its graphs
      predict little: `rebuild_observed: True` gives that behaviour;
    - it divides the ranking loss by the nominal batch size; here a smaller last batch counts fully;
    - with `sampling_steps` above 0 as many steps are undone as were made; it undoes all T;
    - the maps of `trans: 1` start Xavier-uniform with biases at 0.
    """

    loss_names = ("bpr", "penalty", "contrast")
    modality_logits: Tensor
    predicted_graphs = ("modality_graphs",)

    def __init__(self, config: Any, dataset: Any) -> None:
        """Create the tables, the projections, the denoisers and the graph of the training split.

        Raises:
            ConfigError: the data set has no features, or a setting is out of range.
        """
        super().__init__(config, dataset)
        self.settings = config
        modalities = modalities_of(dataset, "DiffMM")
        self.modalities = modalities.names
        several = len(self.modalities) > 1
        self._check_settings()
        size, shape = config["embedding_size"], (self.n_users, self.n_items)
        self.user_embedding = xavier_table(self.n_users, size)
        self.item_embedding = xavier_table(self.n_items, size)
        self.linear: bool = config["trans"] == 1
        self.projection = ModalityProjection(
            modalities.matrices, modalities.presence, size, bias=self.linear
        )
        logits = torch.full((len(self.modalities),), 0.5)
        if several:
            self.modality_logits = nn.Parameter(logits)
        else:  # a softmax of one number teaches it nothing
            self.register_buffer("modality_logits", logits, persistent=False)
        self.contrast_main: bool = config["cl_method"] == 1 or not several
        if self.contrast_main and config["cl_method"] == 0:
            self.logger.info("DiffMM: one modality alone has no pair, cl_method is 1 here, not 0")
        pairs = self.training_pairs(dataset)
        self.adjacency = bipartite_operator(*pairs, *shape, self_loop=True, device=self.device)
        self.generation = GraphGeneration(len(self.modalities), pairs, shape, config, self.device)
        self.modality_graphs = [self.generation.empty_graph()] * len(self.modalities)
        self.to(self.device)
        names = [f"denoiser_{name}" for name in self.modalities]
        self._optimizers = self.generation.optimizers(names)

    def _check_settings(self) -> None:
        for key in ("trans", "cl_method"):
            if self.settings[key] not in (0, 1):
                raise ConfigError(f"{key} '{self.settings[key]}' is not one of 0, 1")
        if not self.settings["tau"] > 0.0:
            raise ConfigError(f"tau must be above 0, not {self.settings['tau']}")
        negative_rows(self.settings["cl_negatives"], torch.ones(1, dtype=torch.int64), self.n_items)

    def own_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return one Adam per denoiser."""
        return self._optimizers

    def main_parameters(self) -> list[nn.Parameter]:
        """Return all parameters but the denoisers'."""
        return self.parameters_but(self.generation.parameters())

    def phases_before(self, epoch: int) -> Sequence[Phase]:
        """Return one pass over the users per denoiser."""
        users = IdBatches(self.generation.users, self.settings["denoiser_batch_size"])
        return [
            Phase((name,), users, partial(self.denoising_loss, number), name)
            for number, name in enumerate(self._optimizers)
        ]

    def denoising_loss(self, number: int, users: Tensor) -> Tensor:
        """Return L_m of modality `number` on the users `[b]`."""
        with torch.no_grad():
            features = self.feature_tables()[number]
        return self.generation.loss(number, users, features, self.item_embedding.weight)

    def pre_epoch(self, epoch: int) -> None:
        """Rebuild each modality's graph from what its denoiser predicts."""
        self.clear_tables()
        places = range(len(self.modalities))
        self.modality_graphs = [self.generation.graph(number) for number in places]

    def epoch_state(self) -> dict[str, Tensor]:
        """Return the modality graphs."""
        return graphs_state(self.modalities, self.modality_graphs)

    def load_epoch_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the modality graphs."""
        super().load_epoch_state(state)
        self.modality_graphs = graphs_from_state(self.modalities, state, self.device)

    def feature_tables(self) -> list[Tensor]:
        """Return F_m `[n_items, d]` of each modality; zeros where an item lacks it."""
        tables = self.projection()
        return tables if self.linear else [F.leaky_relu(table, LEAK) for table in tables]

    def _propagate(self, starts: list[Tensor]) -> Tensor:
        """Return X `[n_users + n_items, d]` from the tables `[E_u; unit F_m]`."""
        users, items = self.user_embedding.weight, self.item_embedding.weight
        ego, shares = torch.cat([users, items]), torch.softmax(self.modality_logits, dim=0)
        mixed = torch.zeros_like(ego)
        for start, graph, share in zip(starts, self.modality_graphs, shares, strict=True):
            first = self.adjacency @ start
            second = self.adjacency @ torch.cat([first[: self.n_users], items])
            mixed = mixed + share * (first + second + self.settings["graph_weight"] * (graph @ ego))
        nodes = light_convolution(self.adjacency, mixed, self.settings["n_layers"], readout="sum")
        return nodes + self.settings["residual_weight"] * unit_rows(mixed)

    def _starts(self) -> list[Tensor]:
        """Return `[E_u; unit F_m]` `[n_users + n_items, d]` of each modality."""
        users = self.user_embedding.weight
        return [torch.cat([users, unit_rows(table)]) for table in self.feature_tables()]

    def forward(self) -> tuple[Tensor, Tensor]:
        """Propagate once; return the user table `[n_users, d]` and item table `[n_items, d]`."""
        users, items = self._propagate(self._starts()).split([self.n_users, self.n_items])
        return users, items

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the ranking loss, the weighted penalty and the weighted contrast of a batch."""
        starts = self._starts()
        nodes = self._propagate(starts)
        rows = triple_rows(self, interaction, nodes[: self.n_users], nodes[self.n_users :])
        penalty = squared_norm(self.user_embedding.weight, self.item_embedding.weight, batch_size=1)
        contrast, weight = penalty.new_zeros(()), self.settings["ssl_weight"]
        if weight:
            contrast = weight * self._contrast(interaction, nodes, starts)
        return ranking_loss(rows), self.settings["reg_weight"] * penalty, contrast

    def _contrast(self, interaction: Any, nodes: Tensor, starts: list[Tensor]) -> Tensor:
        """Sum the contrasts of users and items over the pairs of views."""
        users, items = interaction[self.USER_ID], interaction[self.ITEM_ID]
        n_layers, present = self.settings["n_layers"], self.projection.present
        views = [
            (light_convolution(self.adjacency, graph @ start, n_layers, "sum"), present[:, number])
            for number, (start, graph) in enumerate(zip(starts, self.modality_graphs, strict=True))
        ]
        everyone = torch.ones_like(present[:, 0])
        pairs = (
            [((nodes, everyone), view) for view in views]
            if self.contrast_main
            else list(combinations(views, 2))
        )
        total = nodes.new_zeros(())
        for (first, has_first), (second, has_second) in pairs:
            n, both = self.n_users, has_first & has_second
            total = total + self._contrast_rows(first[:n], second[:n], users)
            total = total + self._contrast_present(first[n:], second[n:], items, both)
        return total

    def _contrast_present(
        self, first: Tensor, second: Tensor, items: Tensor, present: Tensor
    ) -> Tensor:
        """Contrast the items `[b]` that are `present` `[n_items]` among those that are."""
        kept = torch.cat([present.new_ones(1), present[1:]]).nonzero().squeeze(1)
        place = present.cumsum(dim=0)
        items = place[items[present[items]]]
        return self._contrast_rows(first.index_select(0, kept), second.index_select(0, kept), items)

    def _contrast_rows(self, first: Tensor, second: Tensor, ids: Tensor) -> Tensor:
        return contrast_views(
            first, second, ids, self.settings["tau"], self.settings["cl_negatives"]
        )

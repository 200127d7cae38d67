"""DiffKG: a diffusion model over the rows of the knowledge graph says which triples matter.

Paper: Jiang et al., WSDM 2024.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from recbole.model.abstract_recommender import KnowledgeRecommender
from torch import Tensor, nn

from recbole_slif.errors import ConfigError
from recbole_slif.graph.bipartite import bipartite_matrix
from recbole_slif.graph.knowledge import KnowledgeEdges
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers.concat_attention import ConcatAttention
from recbole_slif.layers.light_conv import light_convolution
from recbole_slif.layers.messages import messages
from recbole_slif.losses import contrast_views, negative_rows, squared_norm
from recbole_slif.model.base import GraphRecommender, xavier_table
from recbole_slif.model.knowledge.generation import KnowledgeGeneration
from recbole_slif.model.limits import require_share
from recbole_slif.model.pairwise import ranking_loss, triple_rows
from recbole_slif.phases import IdBatches, Phase, own_adam


class DiffKG(GraphRecommender, KnowledgeRecommender):
    r"""Knowledge graph diffusion model.

    Before an epoch's interactions, a denoiser goes over the heads' rows of the graph (x_0 is 1 at
    the tails), then predicts each row anew; the graph G' is what it agrees on with the graph:

    .. math::
        L_d = (1 - \lambda_0) \frac{1}{B} \sum_h w_t \frac{1}{E} \|\hat x_0 - x_0\|^2
            + \lambda_0 \frac{1}{B d} \sum_h \|\hat x_{0, items} R^T E_u - e_h\|^2

    .. math::
        T = \{(h, \arg\max chain(x_0))\}, \qquad
        G' = keep_\kappa\big((T \cup T^{-1}) \cap G\big)

    The encoder reads G' or the base graph, at most N triples of each head drawn once:

    .. math::
        x^k = norm\Big(drop\Big(x^{k-1}_h + \sum_{(h, r, t)} softmax_h(\pi(h, r, t))\,
              x^{k-1}_t\Big)\Big), \qquad
        y^k = \lambda_r y^{k-1} + x^k, \qquad x^0 = y^0 = e

    .. math::
        X = \sum_{l=0}^{L} A^l [E_u; y^K_{items}], \qquad
        Loss = L_{bpr} + \lambda \sum_{\theta} \|\theta\|^2
            + \lambda_s (NCE_u(X, X') + NCE_i(X, X'))

    L_bpr and NCE are means over the batch, the penalty sums over all parameters but the
    denoiser's. X, which ranks and is evaluated, reads G' (`cl_pattern: 0`) or the base graph (`1`)
    and X' the other.

    =========================== ================================== ==============================
    symbol                      meaning                            code
    =========================== ================================== ==============================
    E_u, e, r                   rows of users, entities, relations `user_embedding`,
                                                                   `entity_embedding`,
                                                                   `relation_embedding`
    \pi                         attention on both ends             `attention`
    G, base graph, G'           edges (h, r, t)                    `KnowledgeGeneration`
    x_0, \hat x_0, w_t, chain   rows, prediction, weight, sampling `SparseDenoising`
    R, A                        training pairs; normalised with    `item_users` (R^T),
                                self-loops                         `adjacency`
    K, L                        hops, layers                       `context_hops`, `n_layers`
    N, \kappa                   triples of a head, share kept      `triples_per_head`, `keep_rate`
    \lambda_0, \lambda_r        weights                            `align_weight`,
                                                                   `residual_weight`
    \lambda, \lambda_s          weights                            `reg_weight`, `ssl_weight`
    =========================== ================================== ==============================

    G holds the inverse triples and one relation of each (h, t): the first by name, a triple before
    an inverse. Rows are made for `denoiser_batch_size` heads at a time and never E x E; losses and
    chain are exact without dense predictions (`SparseDenoising`). The denoiser, its own Adam's
    alone, sees E_u and e without teaching them. G' and the base graph belong to the checkpoint.

    **Smaller than the authors' by default:** `denoiser_hidden` is 128, theirs 1000, which makes
    an epoch on ml-100k about 5 times as long. `denoise_rows: items` and `denoise_batches` save
    more.

    Citation: Y. Jiang, Y. Yang, L. Xia, C. Huang. "DiffKG: Knowledge Graph Diffusion Model for
    Recommendation", WSDM 2024. Official code: https://github.com/HKUDS/DiffKG (no licence stated),
    which is followed. Departures from it besides that width:

    - it picks the best epoch on the test set; here selection sees validation only, without a key;
    - if nothing predicted exists, its graph is empty for an epoch; here the base graph stands in
      (`empty_graph: keep` leaves it empty);
    - its contrast looks from the other view's row among all rows of the view that ranks: here from
      the row that ranks among all of the other view's;
    - it scales the ranking loss by the nominal batch size, here a last, smaller batch counts fully;
    - heads without a triple are not denoised, and [PAD] is never a predicted tail.
    """

    loss_names = ("bpr", "penalty", "contrast")

    def __init__(self, config: Any, dataset: Any) -> None:
        """Create the parameters, the operators of the training split and the base graph.

        Raises:
            ConfigError: a setting is out of range.
        """
        super().__init__(config, dataset)
        self.settings = config
        self._check_settings()
        matrix = bipartite_matrix(
            *self.training_pairs(dataset), self.n_users, self.n_items, self_loop=True
        )
        dtype = torch.get_default_dtype()
        self.adjacency = SparseOperator.from_scipy(matrix, dtype, self.device)
        raw = matrix[self.n_users :, : self.n_users]
        raw.data[:] = 1.0
        self.item_users = SparseOperator.from_scipy(raw, dtype, self.device)
        self.generation = KnowledgeGeneration(dataset.knowledge, self.n_items, config, self.device)
        size, graph = config["embedding_size"], self.generation.graph
        self.user_embedding = xavier_table(self.n_users, size)
        self.entity_embedding = xavier_table(graph.n_entities, size)
        self.relation_embedding = xavier_table(graph.n_relations, size)
        self.attention = ConcatAttention(size, bias=False, gain=math.sqrt(2.0))
        self.to(self.device)
        rate = config["denoiser_learning_rate"] or config["learning_rate"]
        adam = own_adam(self.generation.parameters(), rate, config)
        self._optimizers: dict[str, torch.optim.Optimizer] = {"denoiser": adam}

    def _check_settings(self) -> None:
        if self.settings["cl_pattern"] not in (0, 1):
            raise ConfigError(f"cl_pattern '{self.settings['cl_pattern']}' is not one of 0, 1")
        require_share(self.settings, "mess_dropout_rate")
        if not self.settings["tau"] > 0.0:
            raise ConfigError(f"tau must be above 0, not {self.settings['tau']}")
        negative_rows(self.settings["cl_negatives"], torch.ones(1, dtype=torch.int64), self.n_items)

    def own_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the denoiser's Adam."""
        return self._optimizers

    def main_parameters(self) -> list[nn.Parameter]:
        """Return all parameters but the denoiser's."""
        return self.parameters_but(self.generation.parameters())

    def phases_before(self, epoch: int) -> Sequence[Phase]:
        """Return the denoiser's pass over the heads' rows."""
        size, count = self.settings["denoiser_batch_size"], self.settings["denoise_batches"]
        batches = IdBatches(self.generation.heads, size, count)
        return [Phase(("denoising", "alignment"), batches, self.denoising_loss, "denoiser")]

    def denoising_loss(self, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Return both parts of L_d on the rows of some heads `[b]`."""
        collected = self.item_users @ self.user_embedding.weight.detach()
        return self.generation.loss(heads, collected, self.entity_embedding.weight.detach())

    def pre_epoch(self, epoch: int) -> None:
        """Rebuild G' from what the denoiser predicts."""
        self.generation.rebuild()
        self.clear_tables()

    def epoch_state(self) -> dict[str, Tensor]:
        """Return which edges of G the base graph and G' hold."""
        return self.generation.state()

    def load_epoch_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore both graphs; the scores are then those of the saved model."""
        super().load_epoch_state(state)
        self.generation.load(state)

    def encode(self, edges: KnowledgeEdges) -> tuple[Tensor, Tensor]:
        """Propagate over `edges`, then over the interactions; `[n_users, d]`, `[n_items, d]`."""
        relations, rate = self.relation_embedding.weight, self.settings["mess_dropout_rate"]
        rows = total = self.entity_embedding.weight
        for _ in range(self.settings["context_hops"]):
            gathered = rows + self.attention(rows, rows, relations, edges)
            rows = messages(gathered, rate, self.training)
            total = self.settings["residual_weight"] * total + rows
        ego = torch.cat([self.user_embedding.weight, total[: self.n_items]])
        nodes = light_convolution(self.adjacency, ego, self.settings["n_layers"], readout="sum")
        users, items = nodes.split([self.n_users, self.n_items])
        return users, items

    def _views(self) -> tuple[KnowledgeEdges, KnowledgeEdges]:
        """Return the graph that ranks and the one it is contrasted with."""
        generated, base = self.generation.generated, self.generation.base
        return (generated, base) if self.settings["cl_pattern"] == 0 else (base, generated)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Encode by the main graph; return tables `[n_users, d]` and `[n_items, d]`."""
        return self.encode(self._views()[0])

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the ranking loss, the weighted penalty and the weighted contrast of a batch."""
        ranks, contrasted = self._views()
        main = self.encode(ranks)
        ranking = ranking_loss(triple_rows(self, interaction, *main))
        penalty = squared_norm(*self.main_parameters(), batch_size=1)
        contrast, weight = ranking.new_zeros(()), self.settings["ssl_weight"]
        if weight:
            other = self.encode(contrasted)
            options = self.settings["tau"], self.settings["cl_negatives"]
            batch = interaction[self.USER_ID], interaction[self.ITEM_ID]
            sides = zip(main, other, batch, strict=True)
            contrast = sum((contrast_views(a, b, ids, *options) for a, b, ids in sides), contrast)
        return ranking, self.settings["reg_weight"] * penalty, weight * contrast

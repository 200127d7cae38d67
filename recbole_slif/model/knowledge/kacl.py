"""KACL: attention on interactions and triples, contrasted on parts that gates choose.

Paper: Wang et al., WSDM 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from recbole.model.abstract_recommender import KnowledgeRecommender
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_slif.graph.triples import TripleSampler
from recbole_slif.layers.bilinear import bilinear_loss
from recbole_slif.layers.edge_gate import EdgeGate
from recbole_slif.layers.gat import AttentionEncoder
from recbole_slif.layers.row_penalty import row_penalty
from recbole_slif.losses import info_nce
from recbole_slif.model.base import GraphRecommender
from recbole_slif.model.knowledge.partial_graphs import PartialGraphs
from recbole_slif.model.limits import require_layers, require_share
from recbole_slif.model.pairwise import ranking_loss, triple_rows
from recbole_slif.phases import IdBatches, Phase, own_adam


class KACL(GraphRecommender, KnowledgeRecommender):
    r"""Knowledge-adaptive contrastive learning.

    Three encoders of two attention layers (`AttentionEncoder`; each node has an edge to itself)
    read the interactions :math:`G`, a part of them, and a part of the triples :math:`K`:

    .. math::
        a = GAT_a(E, G), \qquad c = GAT_c(E^c, G', g), \qquad k = GAT_k(E^k, K', g'), \qquad
        y_{ui} = [a_u \| c_u \| v_u] \cdot [a_i \| c_i \| k_i]

    :math:`G', K'` hold 70 % of the interactions and of each relation's triples, a triple with its
    inverse, redrawn each epoch. :math:`g, g'` are gates of their edges (`EdgeGate`, from the
    normalised rows of :math:`E^c, E^k`). Evaluation takes :math:`G, K` without gates.

    An epoch has three passes, each with an Adam of its own over all parameters; all are means:

    .. math::
        L_{CF} = \frac{1}{B} \sum softplus(y_{uj} - y_{ui})
                 + \lambda \frac{1}{2B} \sum \|\cdot\|^2, \qquad
        L_{KG} = \lambda_k \frac{1}{B} \sum softplus(f(h, r, t) - f(h, r, t')), \qquad
        f(h, r, t) = k_h^T R_r k_t

    .. math::
        L_{CL} = -\lambda_c \frac{1}{B} \sum_i \log \frac{\exp(\cos(p_i, q_i) / \tau)}
                 {\sum_{j \in batch} \exp(\cos(p_i, q_j) / \tau)}, \qquad
        p = P_1(c), \; q = P_2(k)

    f is an energy: the lower, the truer. Gates are drawn anew and learn in every step of the first
    pass; the other two, on the same parts, take the values of its last step as they are.

    ======================= ================================== ================================
    symbol                  meaning                            code
    ======================= ================================== ================================
    E, E^c                  rows of users and items            `main_rows`, `contrast_rows`
    E^k                     rows of entities                   `entity_rows`
    v                       users' side of the knowledge       `user_vectors`, 0 at the start
    GAT_a, _c, _k           64, 32, 16 wide, side by side      `main_`, `contrast_encoder` etc.
    g, g'                   gates                              `interaction_gate`, `triple_gate`
    P_1, P_2                Linear, ELU, Linear                `projectors`
    R_r                     a matrix for each relation         `relation_matrices`
    \lambda, _k, _c         weights                            `reg_`, `kg_`, `cl_weight`
    \tau                    temperature                        `cl_temperature`
    ======================= ================================== ================================

    Citation: H. Wang, Y. Xu, C. Yang, C. Shi, X. Li, N. Guo, Z. Liu. "Knowledge-Adaptive
    Contrastive Learning for Recommendation", WSDM 2023. Code of the authors' lab:
    https://github.com/BUPT-GAMMA/OpenHGNN, branch lfq_branch (Apache-2.0), not in its main branch.

    Departures from that code:

    - the contrast runs both ways (their mean), as in the paper: `cl_symmetric: False` is the code;
    - the first two passes take the shuffled pairs that every model here gets and the triples as
      they are given, all of them once; the code draws 8,192 distinct users with a pair each, in
      n_pairs / 8192 + 1 steps, and heads with a triple of either direction likewise;
    - items without a link are left out of the contrast, the code leaves out those without a pair;
    - every matrix is drawn Xavier-normal by itself with gain 1.414, and biases are 0; that code
      draws all relations' as one tensor, nine times narrower on ml-100k, attention's vectors and
      the gates 1.4 times narrower, and the projectors' biases as torch does.

    As there, attention and gates know no relations (the paper's gates do), so that triples which
    join the same entities are one edge; gates carry no penalty (computed there, not added) and
    scale nodes' edges to themselves too. The rows of a pretrained BPR that the first release
    appended are not offered.
    """

    loss_names = ("bpr", "penalty")

    def __init__(self, config: Any, dataset: Any) -> None:
        """Create the parameters, the graphs and the optimizers of the second and third pass.

        Raises:
            ConfigError: `layers` is empty or a dropout rate lies outside [0, 1).
        """
        super().__init__(config, dataset)
        self.settings = config
        self._check_settings()
        graph, size = dataset.knowledge, config["embedding_size"]
        pairs, shape = self.training_pairs(dataset), (self.n_users, self.n_items)
        self.graphs = PartialGraphs(*pairs, *shape, graph, config, self.device)
        self._read_triples(graph)
        widths, rates = [size, *config["layers"]], (config["feat_dropout"], config["attn_dropout"])
        total = sum(widths)
        self.main_rows = nn.Embedding(self.n_users + self.n_items, size)
        self.contrast_rows = nn.Embedding(self.n_users + self.n_items, size)
        self.entity_rows = nn.Embedding(graph.n_entities, size)
        self.user_vectors = nn.Parameter(torch.zeros(self.n_users, total))
        self.main_encoder, self.contrast_encoder, self.entity_encoder = (
            AttentionEncoder(widths, *rates) for _ in range(3)
        )
        self.interaction_gate, self.triple_gate = (
            EdgeGate(size, config["gate_temperature"]) for _ in range(2)
        )
        inner = config["projection_size"]
        self.projectors = nn.ModuleList(
            nn.Sequential(nn.Linear(total, inner), nn.ELU(), nn.Linear(inner, inner))
            for _ in range(2)
        )
        self.relation_matrices = nn.Parameter(torch.empty(graph.n_relations - 1, total, total))
        self._start_parameters()
        self.to(self.device)
        self._optimizers = {
            "knowledge": self._adam(config["kg_learning_rate"]),
            "contrast": self._adam(config["cl_learning_rate"]),
        }

    def _check_settings(self) -> None:
        require_layers(self.settings["layers"])
        require_share(self.settings, "feat_dropout", "attn_dropout")

    def _start_parameters(self) -> None:
        """Draw every matrix Xavier-normal, a relation's by itself; vectors stay or become 0."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                nn.init.zeros_(parameter)
            elif name != "user_vectors":
                for matrix in parameter if parameter.dim() == 3 else (parameter,):
                    nn.init.xavier_normal_(matrix, gain=1.414)

    def _adam(self, rate: float | None) -> torch.optim.Optimizer:
        rate = self.settings["learning_rate"] if rate is None else rate
        return own_adam(self.parameters(), rate, self.settings)

    def own_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the optimizers of the triple loss and of the contrast."""
        return self._optimizers

    def _read_triples(self, graph: Any) -> None:
        """Keep the base triples for the second pass and the linked items for the third."""
        triples = (graph.heads, graph.relations, graph.tails)
        self._triples = torch.from_numpy(np.stack(triples)).to(self.device)
        self._sampler = TripleSampler(*triples, graph.n_entities)
        self._linked = torch.from_numpy(np.flatnonzero(graph.linked)).to(self.device)

    def pre_epoch(self, epoch: int) -> None:
        """Redraw the parts of both graphs."""
        self.graphs.draw(self.settings["graph_keep_ratio"])

    def epoch_state(self) -> dict[str, Tensor]:
        """Return what the parts hold and the gates of the last step; scores need neither."""
        return self.graphs.state()

    def load_epoch_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the parts and their gates."""
        self.graphs.load(state)
        self.clear_tables()

    def forward(self) -> tuple[Tensor, Tensor]:
        """Propagate once; return tables `[n_users, D]`, `[n_items, D]`, D three times 112."""
        edges = self.graphs.whole
        gates: tuple[Tensor | None, Tensor | None] = (None, None)
        if self.training:
            edges, gates = self.graphs.parts, self._draw_gates()
        main = self.main_encoder(self.main_rows.weight, self.graphs.whole[0])
        contrast = self.contrast_encoder(self.contrast_rows.weight, edges[0], gates[0])
        known = self.entity_encoder(self.entity_rows.weight, edges[1], gates[1])
        cut = self.n_users
        users = torch.cat([main[:cut], contrast[:cut], self.user_vectors], dim=1)
        items = torch.cat([main[cut:], contrast[cut:], known[: self.n_items]], dim=1)
        return users, items

    def _draw_gates(self) -> tuple[Tensor, Tensor]:
        """Draw the gates of both parts, one for each edge; keep their values for other passes."""
        nodes, entities = self.contrast_rows.weight, self.entity_rows.weight
        pair = self.interaction_gate(F.normalize(nodes, dim=1), self.graphs.parts[0])
        triple = self.triple_gate(F.normalize(entities, dim=1), self.graphs.parts[1])
        self.graphs.gates = pair.detach(), triple.detach()
        return pair, triple

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """Return the ranking loss of a batch and the penalty on its rows, both means."""
        rows = triple_rows(self, interaction, *self.forward())
        return ranking_loss(rows), self.settings["reg_weight"] * row_penalty(*rows)

    def phases_after(self, epoch: int) -> Sequence[Phase]:
        """Return the passes over triples and linked items, but for those that weigh nothing."""
        chosen, phases = self.settings, []
        if chosen["kg_weight"]:
            ids = IdBatches(self._triples.shape[1], chosen["kg_batch_size"])
            phases.append(Phase(("knowledge",), ids, self.knowledge_loss, "knowledge"))
        if chosen["cl_weight"] and len(self._linked):
            ids = IdBatches(self._linked, chosen["cl_batch_size"])
            phases.append(Phase(("contrast",), ids, self.contrast_loss, "contrast"))
        return phases

    def _known_part(self) -> Tensor:
        """Encode the entities over the kept triples, `[n_entities, 112]`."""
        edges, gates = self.graphs.parts[1], self.graphs.gates[1]
        return self.entity_encoder(self.entity_rows.weight, edges, gates)

    def knowledge_loss(self, ids: Tensor) -> Tensor:
        """Rank the tails of the base triples `ids` before false ones, a mean."""
        heads, relations, tails = self._triples[:, ids]
        corrupted = self._sampler.negative_tails(heads, relations)
        known = self._known_part()
        ends = torch.stack([heads, tails, corrupted])
        # relation 0 is [PAD] and has no matrix
        loss = bilinear_loss(F.embedding(ends, known), relations - 1, self.relation_matrices)
        return self.settings["kg_weight"] * loss

    def contrast_loss(self, ids: Tensor) -> Tensor:
        """Contrast what both parts say of the items `ids`, which are each other's negatives."""
        edges, gates = self.graphs.parts[0], self.graphs.gates[0]
        nodes = self.contrast_encoder(self.contrast_rows.weight, edges, gates)
        views = (F.embedding(ids + self.n_users, nodes), F.embedding(ids, self._known_part()))
        first, second = (each(view) for each, view in zip(self.projectors, views, strict=True))
        tau = self.settings["cl_temperature"]
        loss = info_nce(first, second, tau, exclude_positive=False, detach_targets=False)
        if self.settings["cl_symmetric"]:
            back = info_nce(second, first, tau, exclude_positive=False, detach_targets=False)
            loss = (loss + back) / 2.0
        return self.settings["cl_weight"] * loss

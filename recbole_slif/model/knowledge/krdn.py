"""KRDN (Zhu et al., SIGIR 2023): learned knowledge edges, and pairs that two towers agree on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from recbole.model.abstract_recommender import KnowledgeRecommender
from recbole.model.init import xavier_uniform_initialization
from recbole.utils import InputType
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_slif.layers import disarm
from recbole_slif.layers.cosine_contrast import cosine_contrast
from recbole_slif.layers.denoised_routing import denoised_routing
from recbole_slif.layers.messages import drop_out
from recbole_slif.losses import unit_rows
from recbole_slif.model.base import GraphRecommender
from recbole_slif.model.knowledge.refined_graphs import RefinedTriples, Towers, check_settings
from recbole_slif.model.knowledge.thinned_pairs import Batch, Interactions, TrainingPairs
from recbole_slif.phases import own_adam


class KRDN(GraphRecommender, KnowledgeRecommender):
    r"""Knowledge-refined denoising network.

    Entities gather over the edges that a mask :math:`\prod_{k \le l} s^k`, :math:`s^k \sim
    Bernoulli(\sigma(\Phi^k))`, keeps at hop l. Cross edges join an item and another entity, level
    edges two items or two others:

    .. math::
        x^l_h = \tfrac12 a\Big(W_1^l\, mean_{cross}(x^{l-1}_t \odot e_r)\Big) +
                \tfrac12 a\Big(W_2^l\, mean_{level}(x^{l-1}_t + e_r)\Big)

    Users gather in both towers at once, and a pair counts where their attentions agree:

    .. math::
        p_{ui} = softmax_i\,\sigma\big((u \odot \bar r^l_i) \cdot x^{l-1}_i\big), \quad
        p^c_{ui} = softmax_i\,\sigma\big(u^c \cdot v^{l-1}_i\big), \quad
        u^l = \sum_i 1\big[|\sigma(p_{ui}) - \sigma(p^c_{ui})| < \gamma\big]\, p_{ui} x^{l-1}_i

    with :math:`u^{c,l}` likewise (`max_iter` rounds, each asking with what the last one gave) and
    :math:`v^l_i` the mean of its users' :math:`u^{c,l-1}`; :math:`\bar r^l_i` is over the edges
    that hop l keeps. All rows are dropped out, scaled to length 1 and added up over the hops; the
    score is the sum of the cosines in both towers. The loss is a mean over the batch, summed over
    both; w is 1 for a pair that counted on the last hop when dropout last left it in, else 0:

    .. math::
        w_{ui}\, relu(1 - \cos(u, i)) +
        \frac{\sum_j relu(\cos(u, j) - m)}{\#\{j: \cos(u, j) > m\} + 10^{-5}}

    :math:`\Phi` learns from the losses under two antithetic masks (DisARM), by an Adam of its own.

    ============== =================================== ==================
    symbol         meaning                             code
    ============== =================================== ==================
    u, x; u^c, v   rows of both towers                 `Towers`
    e_r, \bar r_i  relations, their mean at item i     `relation_embedding`, `RelationMeans`
    W_1, W_2, a    weights, LeakyReLU (0.01)           `cross_weights`, `level_weights`
    \Phi           structure logits                    `structure_logits`
    \gamma, m      gap, margin                         `gamma`, `margin`
    w              similarity bank                     `bank`
    ============== =================================== ==================

    Citation: X. Zhu, Y. Du, Y. Mao, L. Chen, Y. Hu, Y. Gao. "Knowledge-refined Denoising Network
    for Robust Recommendation", SIGIR 2023. Official code: https://github.com/xj-zhu98/KRDN (no
    licence stated). Its faults, and our departures from it:

    - its :math:`\gamma = .3` never leaves a pair out: sigmoids of numbers in [0, 1] differ by .2311
      at most, and as each softmax is over n values in (0, 1), these by .108 for n = 2 and by less
      than .6 / n. The default is small enough to act; `gamma: 0.3` is theirs;
    - it steps :math:`\Phi` up the loss: `structure_update: ascent`;
    - its bank mistakes one pair for another after a shuffle: here each pair has a fixed place;
    - it evaluates under masks drawn anew: here :math:`\Phi > 0` decides, so that scores repeat;
    - it keeps negatives for epochs (261 million on Amazon-Book): here each batch draws its own,
      never a training item of the user. When to validate and to stop is the harness's matter;
    - one draw of interactions and negatives serves the three passes of a step, and the two that
      teach :math:`\Phi` drop no messages out; means and softmax are over the interactions kept;
    - its two matrices of a hop have offsets, so that entities without kept edges hear a constant,
      and the tables of a tower are one draw: here neither;
    - it draws the mask that trains the network before the step of :math:`\Phi`, we after;
    - dropping triples (with probability 0 there) and the penalty (unused there) are left out.
    """

    input_type = InputType.POINTWISE  # with `train_neg_sample_args` null: negatives are its own
    loss_names = ("knowledge", "collaborative")
    frozen_parameters = ("structure_logits",)  # learn from `_learn_structure`, not from `backward`

    def __init__(self, config: Any, dataset: Any) -> None:
        """Create the parameters and the fixed graphs of the training split.

        Raises:
            ConfigError: a setting lies outside its range, or negatives are asked of the loader.
        """
        super().__init__(config, dataset)
        self.settings = config
        check_settings(config)
        self.context_hops: int = config["context_hops"]
        size, n_entities = config["embedding_size"], dataset.knowledge.n_entities
        self.triples = RefinedTriples(dataset.knowledge, self.n_items, config, self.device)
        shape = (self.n_users, self.n_items)
        self.pairs = TrainingPairs(*self.training_pairs(dataset), shape, self.device)
        self.bank = torch.ones(len(self.pairs), device=self.device)
        self.user_embedding = nn.Embedding(self.n_users, size)
        self.entity_embedding = nn.Embedding(n_entities, size)
        self.cf_user_embedding = nn.Embedding(self.n_users, size)
        self.cf_item_embedding = nn.Embedding(self.n_items, size)
        self.relation_embedding = nn.Embedding(self.triples.n_relations, size)
        # level edges of the last hop reach a score only where they join items
        n_level = self.context_hops - (0 if self.triples.joins_items else 1)
        self.cross_weights, self.level_weights = (
            nn.ModuleList(nn.Linear(size, size, bias=False) for _ in range(count))
            for count in (self.context_hops, n_level)
        )
        self.apply(xavier_uniform_initialization)
        chance = 0.5 + 0.5 * torch.rand(self.context_hops, self.triples.n_edges)
        self.structure_logits = nn.Parameter(torch.logit(chance, eps=1e-6))
        self.to(self.device)
        rate = config["structure_learning_rate"]
        self._structure_adam = own_adam([self.structure_logits], rate, config)

    def own_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the optimizer of the structure logits."""
        return {"structure": self._structure_adam}

    def main_parameters(self) -> list[nn.Parameter]:
        """Return all parameters but the structure logits."""
        return self.parameters_but([self.structure_logits])

    def epoch_state(self) -> dict[str, Tensor]:
        """Return the similarity bank `[n_pairs]`."""
        return {"bank": self.bank}

    def load_epoch_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the similarity bank."""
        self.bank = state["bank"].to(self.device).clone()
        self.clear_tables()

    def forward(self) -> tuple[Tensor, Tensor]:
        """Propagate once; return tables `[n_users, 2d]` and `[n_items, 2d]` of unit rows."""
        towers, _ = self.propagate(self._step_interactions(), self._draw_samples(), self.training)
        users = torch.cat([unit_rows(towers.users), unit_rows(towers.cf_users)], dim=1)
        return users, torch.cat([unit_rows(towers.entities), unit_rows(towers.cf_items)], dim=1)

    def _step_interactions(self) -> Interactions:
        """Return the interactions of this step: thinned while training, whole otherwise."""
        return self.pairs.thinned(self.settings["node_dropout_rate"] if self.training else 0.0)

    def _draw_samples(self) -> Tensor:
        """Return what each hop keeps `[n_hops, n_edges]`: drawn while training, else the likely."""
        if self.training:
            return disarm.draw_bernoulli(self.structure_logits)
        return self.structure_logits.detach() > 0.0

    def propagate(
        self, interactions: Interactions, samples: Tensor, dropout: bool
    ) -> tuple[Towers, Tensor]:
        """Run all hops under `samples` (bool `[n_hops, n_edges]`); return the rows added up.

        Of the entities only items are returned, which alone gather on the last hop. The second
        part `[n_edges]` is 1 for each pair that counted there, else 0.
        """
        relations = self.relation_embedding.weight
        knowledge = self.user_embedding.weight, self.entity_embedding.weight
        rows = total = Towers(
            *knowledge, self.cf_user_embedding.weight, self.cf_item_embedding.weight
        )
        for hop, kept in enumerate(disarm.hop_masks(samples)):
            items = rows.entities[: self.n_items]
            item_relations = self.triples.item_relations(relations, kept)
            *users, agreed = denoised_routing(
                (rows.users, rows.cf_users),
                (items, rows.cf_items),
                (items * item_relations, rows.cf_items),
                interactions.edges,
                self.settings["gamma"],
                self.settings["max_iter"],
                interactions.kept,
            )
            entities = self._entities(hop, rows.entities, relations, kept)
            gathered = users[0], entities, users[1], interactions.item_means @ rows.cf_users
            rate = self.settings["mess_dropout_rate"]
            rows = Towers(*(unit_rows(drop_out(part, rate, dropout)) for part in gathered))
            total = Towers(*(old[: len(new)] + new for old, new in zip(total, rows, strict=True)))
        return total, agreed

    def _entities(self, hop: int, rows: Tensor, relations: Tensor, kept: Tensor) -> Tensor:
        """Gather both kinds of edges into the entities `[n_entities, d]`, at last into items."""
        last = hop == self.context_hops - 1
        means = self.triples.into_items if last else self.triples.into_entities
        gathered = 0.5 * F.leaky_relu(self.cross_weights[hop](means.cross(rows, relations, kept)))
        if hop < len(self.level_weights):
            level = means.level(rows, relations, kept)
            gathered = gathered + 0.5 * F.leaky_relu(self.level_weights[hop](level))
        return gathered

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """Return the losses of both towers; while training, teach the structure logits first."""
        users, items = interaction[self.USER_ID], interaction[self.ITEM_ID]
        negatives = self.pairs.draw_unseen(users, self.settings["n_negatives"])
        batch = Batch(users, items, negatives, self.pairs.places(users, items))
        graph = self._step_interactions()
        if not (self.training and torch.is_grad_enabled()):
            towers, _ = self.propagate(graph, self._draw_samples(), self.training)
            return self._losses(towers, batch, self.bank)
        self._learn_structure(graph, batch)
        towers, agreed = self.propagate(graph, self._draw_samples(), True)
        self.bank = graph.noted(self.bank, agreed)
        return self._losses(towers, batch, self.bank)

    def _losses(self, towers: Towers, batch: Batch, bank: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses of both towers."""
        weights = bank.index_select(0, batch.places)
        given = *batch[:3], weights, self.settings["margin"]
        return (
            cosine_contrast(towers.users, towers.entities, *given),
            cosine_contrast(towers.cf_users, towers.cf_items, *given),
        )

    @torch.no_grad()
    def _learn_structure(self, graph: Interactions, batch: Batch) -> None:
        """Step the structure logits by their estimated gradient."""
        masks, losses = disarm.antithetic_masks(self.structure_logits), []
        for mask in masks:
            towers, agreed = self.propagate(graph, mask, False)
            bank = graph.noted(self.bank, agreed)
            losses.append(torch.stack(self._losses(towers, batch, bank)).sum())
        estimate = disarm.disarm_gradient(self.structure_logits, masks, (losses[0], losses[1]))
        ascent = self.settings["structure_update"] == "ascent"
        self.structure_logits.grad = -estimate if ascent else estimate
        self._structure_adam.step()
        self.structure_logits.grad = None

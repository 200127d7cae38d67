"""The generating half of DiffKG: the denoiser over heads' rows and the graph it predicts.

Paper: Jiang et al., WSDM 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbole_slif.errors import ConfigError
from recbole_slif.graph.binary_rows import BinaryRows
from recbole_slif.graph.dropout import draw_kept
from recbole_slif.graph.head_tail import HeadTailGraph
from recbole_slif.graph.knowledge import KnowledgeGraph
from recbole_slif.graph.triples import draw_of_each
from recbole_slif.layers.denoiser import Denoiser
from recbole_slif.layers.diffusion import GaussianDiffusion
from recbole_slif.layers.sparse_denoising import SparseDenoising
from recbole_slif.model.knowledge.directions import directed_triples


class KnowledgeGeneration(nn.Module):
    r"""The whole graph G, the base graph drawn from it, the denoiser and the graph G' it predicts.

    .. math::
        L_d = (1 - \lambda_0) \frac{1}{B} \sum_h w_t \frac{1}{E} \|\hat x_0 - x_0\|^2
            + \lambda_0 \frac{1}{B d} \sum_h \|\hat x_{0, items} R^T E_u - e_h\|^2

    .. math::
        T = \{(h, \arg\max chain(x_0))\}, \qquad
        G' = keep_\kappa\big((T \cup T^{-1}) \cap G\big)

    G holds one relation of each (h, t): the first by name, a triple before an inverse. The base
    graph holds at most N random edges of each head. An edge predicted from both ends is in G' once.
    Rows exist for `denoiser_batch_size` heads at a time; heads without an edge are left out.
    """

    def __init__(
        self, knowledge: KnowledgeGraph, n_items: int, settings: Any, device: torch.device
    ) -> None:
        """Draw the base graph and create the denoiser; until the first rebuild, G' is the base.

        Args:
            knowledge: base triples.
            n_items: the first so many entities are items.
            settings: configuration, see the YAML of DiffKG.
            device: where the graphs live.

        Raises:
            ConfigError: a setting is out of range.
        """
        super().__init__()
        self.settings, self.device = settings, device
        self._check_settings()
        heads, relations, tails, n_relations = directed_triples(knowledge, settings)
        ranks = relation_ranks(knowledge, n_relations)
        self.graph = HeadTailGraph.from_triples(
            heads, relations, tails, knowledge.n_entities, ranks
        )
        self._offsets = torch.from_numpy(self.graph.offsets())
        self._tails = torch.from_numpy(self.graph.tails)
        filled = self._offsets.diff().nonzero().squeeze(1)
        restricted = settings["denoise_rows"] == "items"
        self.heads = filled[filled < n_items] if restricted else filled
        self.denoiser = Denoiser(knowledge.n_entities, settings["denoiser_hidden"], normalise=True)
        self.diffusion = GaussianDiffusion(
            settings["steps"],
            settings["noise_scale"],
            settings["noise_min"],
            settings["noise_max"],
        )
        self.denoising = SparseDenoising(self.denoiser, self.diffusion)
        base = draw_of_each(self.graph.heads, settings["triples_per_head"] or None)
        self._use(base, base)

    def _check_settings(self) -> None:
        chosen = self.settings
        for key, allowed in {
            "denoise_rows": ("all", "items"),
            "empty_graph": ("base", "keep"),
        }.items():
            if chosen[key] not in allowed:
                raise ConfigError(f"{key} '{chosen[key]}' is not one of {', '.join(allowed)}")
        lowest = {"triples_per_head": 0, "denoise_batches": 1}
        for key, least in {**lowest, "denoiser_hidden": 1, "denoiser_batch_size": 1}.items():
            if chosen[key] is not None and chosen[key] < least:
                raise ConfigError(f"{key} must be at least {least}, not {chosen[key]}")
        if not 0.0 <= chosen["align_weight"] <= 1.0:
            raise ConfigError(f"align_weight must lie in [0, 1], not {chosen['align_weight']}")
        if not 0.0 < chosen["keep_rate"] <= 1.0:
            raise ConfigError(f"keep_rate must lie in (0, 1], not {chosen['keep_rate']}")

    def _use(self, base: np.ndarray, generated: np.ndarray) -> None:
        """Take the edges of the given numbers for the base graph and G'."""
        self._base_ids, self._generated_ids = base, generated
        self.base = self.graph.part(base, self.device)
        self.generated = self.graph.part(generated, self.device)

    def rows(self, heads: Tensor) -> BinaryRows:
        """Return the rows x_0 of some heads `[b]`."""
        return BinaryRows.select(self._offsets, self._tails, heads.cpu(), self.graph.n_entities)

    def loss(self, heads: Tensor, collected: Tensor, entities: Tensor) -> tuple[Tensor, Tensor]:
        """Return both parts of L_d on some heads.

        Args:
            heads: `[b]`.
            collected: R^T E_u, the rows of each item's users added up, `[n_items, d]`, detached.
            entities: rows e `[n_entities, d]`, detached.
        """
        rows, t = self.rows(heads), self.diffusion.draw_steps(len(heads))
        hidden = self.denoising.hidden(rows, t)
        errors = self.denoising.squared_errors(hidden, rows) / rows.width
        wanted = entities.index_select(0, heads.to(hidden.device))
        gaps = self.denoising.predicted_sums(hidden, collected) - wanted
        share = self.settings["align_weight"]
        weighted = self.diffusion.weight(t).to(hidden) * errors
        return (1.0 - share) * weighted.mean(), share * gaps.square().mean()

    def predicted_edges(self) -> np.ndarray:
        """Return the numbers of the edges in (T and its inverse) that G has, ascending."""
        blocks = self.heads.split(self.settings["denoiser_batch_size"])
        tails = self.denoising.best_columns(self.rows(heads) for heads in blocks)
        heads = self.heads.numpy()
        return self.graph.find(np.concatenate([heads, tails]), np.concatenate([tails, heads]))

    def rebuild(self) -> None:
        """Replace G' by a share of the predicted edges; by the base graph if none is left."""
        found = self.predicted_edges()
        kept = found[draw_kept(len(found), 1.0 - self.settings["keep_rate"])]
        fallback = not len(kept) and self.settings["empty_graph"] == "base"
        self._use(self._base_ids, self._base_ids if fallback else kept)

    def state(self) -> dict[str, Tensor]:
        """Return the numbers of the edges of the base graph and of G'."""
        return {
            "base": torch.from_numpy(self._base_ids),
            "generated": torch.from_numpy(self._generated_ids),
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Undo `state`."""
        self._use(*(state[name].cpu().numpy() for name in ("base", "generated")))


def relation_ranks(knowledge: KnowledgeGraph, n_relations: int) -> np.ndarray:
    """Rank relation ids by name, a relation just before its inverse, `[n_relations]`."""
    names = np.asarray(knowledge.relation_tokens, dtype=str)
    by_name = np.argsort(np.argsort(names, kind="stable"))
    ids = np.arange(n_relations)
    inverse = ids >= knowledge.n_relations
    return 2 * by_name[np.where(inverse, ids - knowledge.n_relations + 1, ids)] + inverse

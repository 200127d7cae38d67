"""The generating half of DiffMM: denoisers over users' rows and the graphs they predict.

Paper: Jiang et al., DiffMM, MM 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_slif.errors import ConfigError
from recbole_slif.graph.binary_rows import BinaryRows
from recbole_slif.graph.bipartite import bipartite_matrix
from recbole_slif.graph.dropout import drop_entries
from recbole_slif.graph.predicted import top_items
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers.denoiser import Denoiser
from recbole_slif.layers.diffusion import GaussianDiffusion
from recbole_slif.layers.hidden_chain import HiddenChain
from recbole_slif.phases import own_adam


class GraphGeneration(nn.Module):
    r"""One denoiser per modality, its loss, and the graph of the items it puts first.

    .. math::
        L_m = \frac{1}{B} \sum_u \Big( w_t \frac{1}{I} \|\hat x_0 - x_0\|^2
            + \lambda_0 \frac{1}{d} \|\hat x_0 F_m - x_0 E_i\|^2 \Big), \qquad
        A_m = drop\big(norm(topk(chain(x_0)) + I)\big)

    Dense rows exist for `denoiser_batch_size` users at a time. [PAD] and users without a training
    pair are left out.
    """

    def __init__(
        self,
        n_modalities: int,
        pairs: tuple[np.ndarray, np.ndarray],
        shape: tuple[int, int],
        settings: Any,
        device: torch.device,
    ) -> None:
        """Create the denoisers and keep the training pairs as sparse rows.

        Args:
            n_modalities: how many denoisers.
            pairs: users and items `[n_pairs]` of the training split.
            shape: numbers of users and of items.
            settings: configuration, see the YAML of DiffMM.
            device: where the graphs live.

        Raises:
            ConfigError: a setting is out of range.
        """
        super().__init__()
        self.settings, self.shape, self.device = settings, shape, device
        self._check_settings()
        self.diffusion = GaussianDiffusion(
            settings["steps"],
            settings["noise_scale"],
            settings["noise_min"],
            settings["noise_max"],
        )
        self.diffusion.check_steps(settings["sampling_steps"])
        hidden = settings["denoiser_hidden"]
        self.denoisers: Sequence[Denoiser] = nn.ModuleList(  # type: ignore[assignment]
            Denoiser(shape[1], hidden) for _ in range(n_modalities)
        )
        self.interactions = sp.csr_array(
            (np.ones(len(pairs[0]), dtype=np.float32), pairs), shape=shape
        )
        self.interactions.data[:] = 1.0  # a pair given twice
        self.users = torch.from_numpy(np.flatnonzero(np.diff(self.interactions.indptr)))

    def _check_settings(self) -> None:
        chosen = self.settings
        for key in ("rebuild_k", "denoiser_hidden", "denoiser_batch_size"):
            if chosen[key] < 1:
                raise ConfigError(f"{key} must be at least 1, not {chosen[key]}")
        if not 0.0 < chosen["keep_rate"] <= 1.0:
            raise ConfigError(f"keep_rate must lie in (0, 1], not {chosen['keep_rate']}")

    def optimizers(self, names: list[str]) -> dict[str, torch.optim.Optimizer]:
        """Return one Adam per denoiser under the names given."""
        own = self.settings["denoiser_learning_rate"]
        rate = self.settings["learning_rate"] if own is None else own
        return {
            name: own_adam(denoiser.parameters(), rate, self.settings)
            for name, denoiser in zip(names, self.denoisers, strict=True)
        }

    def rows(self, users: Tensor) -> Tensor:
        """Return the rows x_0 `[b, n_items]` of some users."""
        rows = torch.from_numpy(self.interactions[users.cpu().numpy()].toarray())
        return rows.to(self.device, self.denoisers[0].output.weight.dtype)

    def loss(self, number: int, users: Tensor, features: Tensor, items: Tensor) -> Tensor:
        """Return L_m on the users `[b]`, which moves the denoiser alone.

        Args:
            number: which modality.
            users: `[b]`.
            features: F_m `[n_items, d]`.
            items: E_i `[n_items, d]`.
        """
        x0, t = self.rows(users), self.diffusion.draw_steps(len(users)).to(self.device)
        found = self.denoisers[number](self.diffusion.noise(x0, t), t)
        gaps = (found @ features.detach() - x0 @ items.detach()).square().mean(dim=1)
        errors = self.diffusion.reconstruction(found, x0, t)
        return (errors + self.settings["align_weight"] * gaps).mean()

    @torch.no_grad()
    def predicted_pairs(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the users and items `[n_edges]` that denoiser `number` puts first."""
        users_found, items_found = [], []
        chain = HiddenChain(self.denoisers[number], self.diffusion)
        for users in self.users.split(self.settings["denoiser_batch_size"]):
            known = self.interactions[users.numpy()]
            rows_known = BinaryRows.from_csr(known)
            scores = chain.denoise(rows_known, self.settings["sampling_steps"])
            hidden = None if self.settings["rebuild_observed"] else known
            rows, items = top_items(scores, self.settings["rebuild_k"], hidden)
            users_found.append(users.numpy()[rows])
            items_found.append(items)
        return np.concatenate(users_found), np.concatenate(items_found)

    def graph(self, number: int) -> SparseOperator:
        """Return A_m over users and items, a share `1 - keep_rate` of its entries dropped."""
        matrix = bipartite_matrix(*self.predicted_pairs(number), *self.shape, self_loop=True)
        matrix = drop_entries(matrix, 1.0 - self.settings["keep_rate"])
        return SparseOperator.from_scipy(matrix, device=self.device)

    def empty_graph(self) -> SparseOperator:
        """Return the graph of self-loops alone, in force before the first is predicted."""
        loops = sp.eye_array(sum(self.shape), format="csr")
        return SparseOperator.from_scipy(loops, device=self.device)

"""What the multimodal models share: the features of a data set as tensors, and their graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import scipy.sparse as sp
import torch
from torch import Tensor

from recbole_slif.errors import ConfigError
from recbole_slif.graph.item_item import knn_graph


@dataclass(frozen=True)
class Modalities:
    """Raw features of all modalities, in the order of the key `modalities`.

    Attributes:
        names: `n_modalities` names.
        matrices: raw features `[n_items, dim_m]` per modality; row 0 is [PAD].
        presence: items that have each modality, bool `[n_items, n_modalities]`.
    """

    names: tuple[str, ...]
    matrices: list[Tensor]
    presence: Tensor

    def knn_graphs(
        self, k: int, include_self: bool, weight: Literal["cosine", "binary"]
    ) -> list[sp.csr_array]:
        """Build each modality's item graph `[n_items, n_items]` of `k` neighbours by cosine.

        Entries are divided by the square roots of both ends' row sums. Items without the modality
        have neither neighbours nor a place among those of others.

        Raises:
            ConfigError: `k` is below 1.
        """
        if k < 1:
            raise ConfigError(f"knn_k must be at least 1, not {k}")
        return [
            knn_graph(matrix, k, self.presence[:, number], include_self, weight)
            for number, matrix in enumerate(self.matrices)
        ]


def modalities_of(dataset: Any, model: str) -> Modalities:
    """Take the features of a data set.

    Args:
        dataset: has `features`, matrix and presence by modality.
        model: who asks, for the error.

    Raises:
        ConfigError: the data set has no features, or `modalities` leaves all of them out.
    """
    if not dataset.features:
        name = dataset.dataset_name
        raise ConfigError(
            f"model '{model}' learns from item features, but data set '{name}' has none; add "
            f"{name}.<modality>.npy (docs/DATASETS.md), set feature_path, or set modalities to "
            "null, which loads all that are found"
        )
    found = list(dataset.features.values())
    return Modalities(
        tuple(dataset.features),
        [torch.from_numpy(features.matrix) for features in found],
        torch.stack([torch.from_numpy(features.presence) for features in found], dim=1),
    )

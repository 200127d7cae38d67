"""Projected raw features as the start of the feature view (a reading beside the ID rows)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FeatureProjection(nn.Module):
    """Mean over an item's present modalities of a linear map of its raw features.

    Items without any modality start from a zero row.
    """

    share: Tensor

    def __init__(self, matrices: Sequence[Tensor], presence: Tensor, dim: int) -> None:
        """Keep the raw features frozen beside one linear map each.

        Args:
            matrices: raw features `[n_items, dim_m]` per modality.
            presence: bool `[n_items, n_modalities]`.
            dim: width of the result.
        """
        super().__init__()
        for number, matrix in enumerate(matrices):
            rows = matrix.clone()
            rows[~presence[:, number]] = 0.0  # a missing row may hold NaN
            self.register_buffer(f"raw_{number}", rows, persistent=False)
        count = presence.sum(dim=1, keepdim=True).clamp(min=1)
        self.register_buffer("share", presence / count, persistent=False)
        layers = [nn.Linear(matrix.shape[1], dim) for matrix in matrices]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.maps = nn.ModuleList(layers)

    def forward(self) -> Tensor:
        """Return `[n_items, dim]`."""
        parts = [
            layer(self.get_buffer(f"raw_{number}")) * self.share[:, number : number + 1]
            for number, layer in enumerate(self.maps)
        ]
        return torch.stack(parts).sum(dim=0)

"""Several representations of the same items become one; views an item lacks are masked out.

Every fusion is called as `fusion(views, mask)` with `n_views` tensors `[n, d]` and a bool mask
`[n, n_views]`, and returns `(unified [n, d], weights [n, n_views])`. What an absent view holds,
NaN included, never reaches the result or a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recbole_slif.errors import ConfigError


class Fusion(nn.Module):
    """Base of the fusions: stacks the views and checks that each item has one.

    Args:
        dim: Width `d` of every view.
        n_views: Number of views.
    """

    def __init__(self, dim: int, n_views: int) -> None:
        super().__init__()
        self.dim = dim
        self.n_views = n_views

    def stack(self, views: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Stack the views with absent rows as zeros.

        Args:
            views: `n_views` tensors `[n, d]`.
            mask: Bool `[n, n_views]`, whether the item has the view.

        Returns:
            `[n, n_views, d]`.

        Raises:
            ValueError: If views and mask do not fit, or an item has no view at all.
        """
        stacked = torch.stack(list(views), dim=1)
        if stacked.shape[1:] != (self.n_views, self.dim) or mask.shape != stacked.shape[:2]:
            raise ValueError(
                f"fusion of {self.n_views} views of width {self.dim} got a stack of shape "
                f"{tuple(stacked.shape)} and a mask of shape {tuple(mask.shape)}"
            )
        if not bool(mask.any(1).all()):
            lonely = int((~mask.any(1)).nonzero()[0])
            raise ValueError(f"fusion needs at least one view of every item; row {lonely} has none")
        return stacked.masked_fill(~mask.unsqueeze(2), 0.0)


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax of `[n, n_views]` logits over the present views; absent ones weigh exactly 0."""
    return logits.masked_fill(~mask, -torch.inf).softmax(1)


def weighted_sum(stacked: Tensor, weights: Tensor) -> Tensor:
    """Sum the views by each item's own weights, Eq. (15).

    Args:
        stacked: Views `[n, n_views, d]`: the rows of the interaction, feature and knowledge branch.
        weights: The weights alpha `[n, n_views]`.

    Returns:
        The unified rows x_i, `[n, d]`.
    """
    return (stacked * weights.unsqueeze(2)).sum(1)


class ItemLevelFusion(Fusion):
    """Attention-based item-level fusion: every item weighs its own views.

    ===============  ======================================
    symbol           name here
    ===============  ======================================
    W, b             `score.weight [n_views, n_views * d]`, `score.bias [n_views]`
    alpha_i          `weights(...)[i]`
    ===============  ======================================
    """

    def __init__(self, dim: int, n_views: int) -> None:
        super().__init__(dim, n_views)
        self.score = nn.Linear(n_views * dim, n_views)
        _reset(self.score)

    def weights(self, views: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Weigh the views: softmax((W [views] + b) / sqrt(d)) over those present, Eq. (14).

        Args:
            views: `n_views` tensors `[n, d]`.
            mask: Bool `[n, n_views]`.

        Returns:
            `[n, n_views]`, rows sum to 1; an item's only view weighs 1.
        """
        return self._weights(self.stack(views, mask), mask)

    def _weights(self, stacked: Tensor, mask: Tensor) -> Tensor:
        logits = self.score(stacked.flatten(1)) / math.sqrt(self.dim)
        return masked_softmax(logits, mask)

    def forward(self, views: Sequence[Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse the views; see the module's head for the shapes."""
        stacked = self.stack(views, mask)
        weights = self._weights(stacked, mask)
        return weighted_sum(stacked, weights), weights


class AttentionFusion(Fusion):
    """Views weighed by `q^T tanh(W x + b)`, one W, b and q for all views; Fig. 5's "attention"."""

    def __init__(self, dim: int, n_views: int) -> None:
        super().__init__(dim, n_views)
        self.hidden = nn.Linear(dim, dim)
        self.query = nn.Linear(dim, 1, bias=False)
        _reset(self.hidden)
        _reset(self.query)

    def forward(self, views: Sequence[Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse the views; see the module's head for the shapes."""
        stacked = self.stack(views, mask)
        logits = self.query(torch.tanh(self.hidden(stacked))).squeeze(2)
        weights = masked_softmax(logits, mask)
        return weighted_sum(stacked, weights), weights


class ConcatFusion(Fusion):
    """Views side by side, absent ones as zeros, projected back to `d`; Fig. 5's concatenation."""

    def __init__(self, dim: int, n_views: int) -> None:
        super().__init__(dim, n_views)
        self.project = nn.Linear(n_views * dim, dim)
        _reset(self.project)

    def forward(self, views: Sequence[Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse the views; the weights returned share 1 out evenly among the present ones."""
        stacked = self.stack(views, mask)
        present = mask.to(stacked.dtype)
        return self.project(stacked.flatten(1)), present / present.sum(1, keepdim=True)


class SumFusion(Fusion):
    """Sum of the present views; Fig. 5's summation."""

    def forward(self, views: Sequence[Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse the views; the weights returned are 1 for present views and 0 for the others."""
        stacked = self.stack(views, mask)
        return stacked.sum(1), mask.to(stacked.dtype)


FUSIONS: dict[str, type[Fusion]] = {
    "ailf": ItemLevelFusion,
    "concat": ConcatFusion,
    "sum": SumFusion,
    "att": AttentionFusion,
}


def build_fusion(kind: str, dim: int, n_views: int) -> Fusion:
    """Create the fusion `kind`, a key of `FUSIONS`, of `n_views` views of width `dim`.

    Raises:
        ConfigError: If `kind` is none of these.
    """
    if kind not in FUSIONS:
        raise ConfigError(f"fusion '{kind}' is not known: use {', '.join(FUSIONS)}")
    return FUSIONS[kind](dim, n_views)


def _reset(linear: nn.Linear) -> None:
    """Xavier-uniform weight, zero bias."""
    nn.init.xavier_uniform_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)

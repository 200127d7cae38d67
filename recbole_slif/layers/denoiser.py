"""The network that predicts clean rows from noisy ones (DiffRec, DiffMM, DiffKG).

Papers: Wang et al., DiffRec, SIGIR 2023; Jiang et al., DiffMM, MM 2024; Jiang et al., DiffKG,
WSDM 2024.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LONGEST_PERIOD = 10_000.0


def step_embedding(t: Tensor, dim: int, dtype: torch.dtype = torch.float32) -> Tensor:
    r"""Return :math:`(\cos(t f_k), \sin(t f_k))`, :math:`f_k = 10^{-4 k / K}`, `[b, dim]`.

    Args:
        t: steps `[b]`.
        dim: width, `K = dim // 2` frequencies; the last column of an odd width is 0.
        dtype: of the result.
    """
    half = dim // 2
    places = torch.arange(half, dtype=torch.float64, device=t.device)
    angles = t.double().unsqueeze(1) * torch.exp(-math.log(LONGEST_PERIOD) * places / max(half, 1))
    waves = torch.cat([angles.cos(), angles.sin()], dim=1).to(dtype)
    return F.pad(waves, (0, dim - 2 * half))


class Denoiser(nn.Module):
    r"""Two layers between rows as wide as a table is long.

    .. math::
        \hat x_0 = W_2 \tanh(W_x\,drop(x_t) + W_t (W_e\,wave(t) + b_e) + b_1) + b_2

    `W_x` and `W_t` are the two parts of one matrix on the concatenation of row and step, kept apart
    so that the wide rows need not be copied. Dropout acts in training mode only.

    Weights are drawn normal with variance 2 / (in + out), biases with deviation 0.001.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        time_dim: int = 10,
        normalise: bool = False,
        dropout: float = 0.5,
    ) -> None:
        """Create the weights.

        Args:
            width: entries of a row, in and out.
            hidden: width of the layer between.
            time_dim: width of a step's embedding.
            normalise: scale the rows that come in to length 1.
            dropout: share of the entries that come in dropped while training.
        """
        super().__init__()
        self.time_dim, self.normalise, self.dropout = time_dim, normalise, dropout
        self.time_embedding = nn.Linear(time_dim, time_dim)
        self.row_input = nn.Linear(width, hidden)
        self.time_input = nn.Linear(time_dim, hidden, bias=False)
        self.output = nn.Linear(hidden, width)
        ends = {
            self.time_embedding: 2 * time_dim,
            self.row_input: width + time_dim + hidden,
            self.time_input: width + time_dim + hidden,
            self.output: hidden + width,
        }
        for layer, both in ends.items():
            nn.init.normal_(layer.weight, std=math.sqrt(2.0 / both))
            if layer.bias is not None:
                nn.init.normal_(layer.bias, std=1e-3)

    def step_bias(self, t: Tensor) -> Tensor:
        """Return what the steps `t [b]` add to the hidden layer, `[b, hidden]`, b_1 left out."""
        waves = step_embedding(t, self.time_dim, self.time_input.weight.dtype)
        return self.time_input(self.time_embedding(waves))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Predict the clean rows `[b, width]` of `x_t [b, width]` at the steps `t [b]`."""
        if self.normalise:
            x_t = F.normalize(x_t)
        rows = F.dropout(x_t, self.dropout, self.training)
        return self.output(torch.tanh(self.row_input(rows) + self.step_bias(t)))

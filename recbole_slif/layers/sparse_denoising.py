"""Denoising rows of zeros and ones without their dense predictions.

The formulas are those of `Denoiser` and `GaussianDiffusion`; what differs is the order of the
products. A prediction is affine in the hidden layer, so its distance to a row of few ones needs
only the matrix `W_2^T W_2`, and the whole reverse chain runs in the hidden layer's width
(`HiddenChain`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_slif.graph.binary_rows import BinaryRows
from recbole_slif.layers.denoiser import Denoiser
from recbole_slif.layers.diffusion import GaussianDiffusion
from recbole_slif.layers.hidden_chain import HiddenChain
from recbole_slif.layers.messages import SHORTEST
from recbole_slif.layers.scratch import ScratchPool

_SCRATCH = ScratchPool()
_CACHED_ENTRIES = 1 << 20
_TILE_COLUMNS = 1024


class SparseDenoising:
    """A denoiser at work on sparse rows, in training and in the reverse chain.

    | symbol | here |
    |---|---|
    | W_x, b_1; W_2, b_2 | the denoiser's `row_input` and `output` |
    | W_t (W_e wave(t) + b_e) | its `step_bias` |
    """

    def __init__(self, denoiser: Denoiser, diffusion: GaussianDiffusion) -> None:
        self.denoiser, self.diffusion = denoiser, diffusion

    def hidden(self, rows: BinaryRows, t: Tensor, noise: Tensor | None = None) -> Tensor:
        r"""Return :math:`\tanh(W_x\,drop(x_t) + \ldots)` of noised rows, `[b, hidden]`.

        Noise and dropout are drawn where the weights lie, on a CPU a few rows at a time, straight
        into the one `[b, width]` matrix that the product needs.

        Args:
            rows: clean rows x_0.
            t: int64 `[b]` steps.
            noise: standard normal `[b, width]` in place of what is drawn.
        """
        model = self.denoiser
        weight = model.row_input.weight
        x_t = _SCRATCH.empty(len(rows), weight.new_empty(0, rows.width))
        signal = self.diffusion.signal[t.cpu()].to(weight).unsqueeze(1)
        drop = model.dropout if model.training else 0.0
        scale = torch.full_like(signal, 1.0 / (1.0 - drop))
        ends = rows.offsets.tolist()
        step = max(1, len(rows) if weight.is_cuda else _CACHED_ENTRIES // rows.width)
        for first in range(0, len(rows), step):
            here = slice(first, first + step)
            part, shares = x_t[here], signal[here]
            part = part.normal_() if noise is None else part.copy_(noise[here])
            part.mul_((1.0 - shares).sqrt())
            last = first + len(part)
            place = torch.arange(len(part)).repeat_interleave(rows.counts[here]).to(x_t.device)
            columns = rows.columns[ends[first] : ends[last]].to(x_t.device)
            part[place, columns] += shares.sqrt()[place, 0]
            if model.normalise:
                lengths = torch.linalg.vector_norm(part, dim=1, keepdim=True)
                scale[here] /= lengths.clamp_min(SHORTEST)
            if drop > 0.0:
                part.mul_(torch.rand_like(part).ge_(drop))
        products = F.linear(x_t, weight) * scale
        return torch.tanh(products + model.row_input.bias + model.step_bias(t.to(weight.device)))

    def squared_errors(self, hidden: Tensor, rows: BinaryRows) -> Tensor:
        r"""Return :math:`\|W_2 h + b_2 - x_0\|^2` of each row, `[b]`.

        .. math::
            h^T (W_2^T W_2) h + 2 h^T W_2^T b_2 + \|b_2\|^2
            - 2 \sum_{k: x_{0k} = 1} (W_2 h + b_2)_k + \sum_k x_{0k}

        Args:
            hidden: `[b, hidden]`.
            rows: clean rows x_0.
        """
        weight, bias = self.denoiser.output.weight, self.denoiser.output.bias
        square = (hidden @ (weight.t() @ weight) * hidden).sum(1)
        length = square + 2.0 * hidden @ (weight.t() @ bias) + bias.square().sum()
        at_ones = (rows @ weight * hidden).sum(1) + (rows @ bias.unsqueeze(1)).squeeze(1)
        return length - 2.0 * at_ones + rows.counts.to(hidden)

    def predicted_sums(self, hidden: Tensor, table: Tensor) -> Tensor:
        """Multiply the first m columns of the predictions by a table `[m, d]`; returns `[b, d]`."""
        weight, bias = self.denoiser.output.weight, self.denoiser.output.bias
        first = len(table)
        return hidden @ (weight[:first].t() @ table) + bias[:first] @ table

    @torch.no_grad()
    def best_columns(self, blocks: Iterable[BinaryRows]) -> np.ndarray:
        """Send clean rows through the reverse chain and name each row's largest column.

        Args:
            blocks: clean rows; dense scores exist for a tile of a block at a time.

        Returns:
            `[rows]` int64 columns, 0 ([PAD]) never among them.
        """
        chain = HiddenChain(self.denoiser, self.diffusion)
        weight, bias = self.denoiser.output.weight, self.denoiser.output.bias
        found = [np.zeros(0, np.int64)]
        for rows in blocks:
            found.append(_largest_columns(*chain.mixture(rows), weight, bias))
        return np.concatenate(found)


def _largest_columns(mixed: Tensor, share: float, weight: Tensor, bias: Tensor) -> np.ndarray:
    """Name the largest column but the first of each row of `mixed W_2^T + share b_2`, `[b]`.

    Columns come in tiles that fit a core's cache: the whole matrix takes two to five times as long,
    most of it for memory that is new to the process.
    """
    best = np.full(len(mixed), -np.inf, np.float64)
    found = np.zeros(len(mixed), np.int64)
    every = np.arange(len(mixed))
    for first in range(0, len(weight), _TILE_COLUMNS):
        tile = slice(first, first + _TILE_COLUMNS)
        scores = torch.addmm(bias[tile], mixed, weight[tile].t(), beta=share)
        if first == 0:
            scores[:, 0] = -torch.inf
        if scores.is_cuda:  # a tile is not worth the way to the host
            values, columns = (part.cpu().numpy() for part in scores.max(dim=1))
        else:  # numpy's search is ten times as fast as torch's
            values = scores.numpy()
            columns = values.argmax(axis=1)
            values = values[every, columns]
        better = values > best
        best[better], found[better] = values[better], columns[better] + first
    return found

"""The reverse chain of a denoiser computed in its hidden layer, without wide rows in between."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_slif.graph.binary_rows import BinaryRows
from recbole_slif.layers.denoiser import Denoiser
from recbole_slif.layers.diffusion import GaussianDiffusion
from recbole_slif.layers.messages import SHORTEST


class HiddenChain:
    r"""`GaussianDiffusion.denoise` for a `Denoiser` whose weights stand still.

    Every row of the chain is a mixture of the first row x, of W_2 and of b_2,

    .. math::
        x_t = a\,x + W_2 g + k\,b_2, \qquad
        h = \tanh\big(a\,W_x x + (W_x W_2)\,g + k\,W_x b_2 + b(t)\big)

    .. math::
        x_{t-1} = c_1 (W_2 h + b_2) + c_2 x_t: \qquad
        a \leftarrow c_2 a, \quad g \leftarrow c_1 h + c_2 g, \quad k \leftarrow c_1 + c_2 k

    so that a step costs a product of width `hidden` instead of two of the rows' width, and clean
    rows enter as sums of a table's rows. With rows normalised on their way in, the bracket up to
    b(t) is divided by the length of x_t, found from products of the same kind. Only rounding
    differs.
    """

    @torch.no_grad()
    def __init__(self, denoiser: Denoiser, diffusion: GaussianDiffusion) -> None:
        """Multiply the weights out; this holds copies of them, so make one per rebuilding."""
        self.denoiser, self.diffusion = denoiser, diffusion
        self.inward = denoiser.row_input.weight.t().contiguous()
        self.outward, self.offset = denoiser.output.weight, denoiser.output.bias
        self.mixing, self.offset_inward = self.outward.t() @ self.inward, self.offset @ self.inward
        if denoiser.normalise:
            self.gram = self.outward.t() @ self.outward
            self.offset_outward = self.offset @ self.outward

    @torch.no_grad()
    def mixture(self, rows: BinaryRows, n_steps: int = 0) -> tuple[Tensor, float]:
        """Run the chain on clean rows: it ends in rows W_2 g + k b_2.

        Args:
            rows: b of them.
            n_steps: see `GaussianDiffusion.denoise`; noised rows exist dense.

        Returns:
            g `[b, hidden]` and k. The last step's share a of the first rows is 0.

        Raises:
            ConfigError: `n_steps` is negative or above T.
        """
        self.diffusion.check_steps(n_steps)
        start: BinaryRows | Tensor = rows
        if n_steps:
            clean = rows.dense(self.outward)
            start = self.diffusion.noise(clean, torch.full((len(rows),), n_steps - 1))
        entered = start @ self.inward
        lengths = _Lengths(start, self) if self.denoiser.normalise else None
        mixture, share, constant = torch.zeros_like(entered), 1.0, 0.0
        for step in reversed(range(n_steps or self.diffusion.steps)):
            inner = share * entered + mixture @ self.mixing + constant * self.offset_inward
            if lengths is not None:
                inner /= lengths(mixture, share, constant)
            t = torch.tensor([step], device=inner.device)
            bias = self.denoiser.row_input.bias + self.denoiser.step_bias(t)
            clean_share = float(self.diffusion.clean_share[step])
            noisy_share = float(self.diffusion.noisy_share[step])
            mixture = clean_share * torch.tanh(inner + bias) + noisy_share * mixture
            share, constant = noisy_share * share, clean_share + noisy_share * constant
        return mixture, constant

    @torch.no_grad()
    def denoise(self, rows: BinaryRows, n_steps: int) -> Tensor:
        """Return the rows `[b, width]` the chain ends in; arguments and errors of `mixture`."""
        mixture, constant = self.mixture(rows, n_steps)
        return torch.addmm(constant * self.offset, mixture, self.outward.t())


class _Lengths:
    """Lengths of the chain's rows from what is known of the first."""

    def __init__(self, start: BinaryRows | Tensor, chain: HiddenChain) -> None:
        """Keep products of the first rows x: with W_2 `[b, hidden]`, b_2 and themselves `[b]`."""
        self.chain = chain
        self.left = start @ chain.outward
        self.height = (start @ chain.offset.unsqueeze(1)).squeeze(1)
        squares = start.square().sum(1) if isinstance(start, Tensor) else start.counts
        self.squares, self.size = squares.to(self.left), chain.offset.square().sum()

    def __call__(self, mixture: Tensor, share: float, constant: float) -> Tensor:
        """Return the lengths `[b, 1]` of `share x + W_2 mixture + constant b_2`."""
        square = share * share * self.squares + constant * constant * self.size
        square = square + (mixture @ self.chain.gram * mixture).sum(1)
        along = (self.left * mixture).sum(1) + constant * self.height
        square = square + 2.0 * share * along
        square = square + 2.0 * constant * (mixture @ self.chain.offset_outward)
        return square.clamp_min(0.0).sqrt().clamp_min(SHORTEST).unsqueeze(1)

"""Gaussian diffusion of rows of interactions or triples, few steps and a small noise.

Papers: Wang et al., DiffRec, SIGIR 2023, whose schedule and chain DiffMM (Jiang et al., MM 2024)
and DiffKG (Jiang et al., WSDM 2024) take over.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from recbole_slif.errors import ConfigError

FIRST_BETA = 1e-4
LARGEST_BETA = 0.999


class GaussianDiffusion:
    r"""The noise schedule and what follows from it; steps are counted 0 .. T-1.

    .. math::
        \sigma^2_t = linspace(s\,b_{min}, s\,b_{max}, T)_t, \quad
        \beta_t = \min\Big(1 - \frac{1 - \sigma^2_t}{1 - \sigma^2_{t-1}}, .999\Big), \quad
        \beta_0 = 10^{-4}, \quad \bar\alpha_t = \prod_{k \le t} (1 - \beta_k)

    .. math::
        x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1 - \bar\alpha_t}\,\epsilon, \qquad
        \mu_t(\hat x_0, x_t)
            = \frac{\beta_t \sqrt{\bar\alpha_{t-1}}}{1 - \bar\alpha_t} \hat x_0
            + \frac{(1 - \bar\alpha_{t-1}) \sqrt{1 - \beta_t}}{1 - \bar\alpha_t} x_t,
        \qquad \bar\alpha_{-1} = 1

    .. math::
        w_0 = 1, \qquad w_t = \frac{\bar\alpha_{t-1}}{1 - \bar\alpha_{t-1}}
            - \frac{\bar\alpha_t}{1 - \bar\alpha_t}

    Constants are computed in float64 and rounded to the type of the rows they multiply. Noise is
    drawn where the rows lie, since it is as large as they are; steps come from torch's CPU
    generator.
    """

    def __init__(self, steps: int, scale: float, low: float, high: float) -> None:
        """Compute the schedule.

        Args:
            steps: T, at least 1.
            scale: s, factor of both ends of the variances.
            low: b_min, so that `scale * low` is the variance of the first step.
            high: b_max, so that `scale * high` is the variance of the last step.

        Raises:
            ConfigError: there is no step, or the variances do not rise within (0, 1).
        """
        if steps < 1:
            raise ConfigError(f"steps must be at least 1, not {steps}")
        if not 0.0 < scale * low <= scale * high < 1.0:
            raise ConfigError(
                "noise_scale * noise_min and noise_scale * noise_max must rise within (0, 1), "
                f"not {scale * low:g} and {scale * high:g}"
            )
        self.steps = steps
        kept = 1.0 - torch.linspace(scale * low, scale * high, steps, dtype=torch.float64)
        betas = torch.full_like(kept, FIRST_BETA)
        betas[1:] = (1.0 - kept[1:] / kept[:-1]).clamp(max=LARGEST_BETA)
        signal = torch.cumprod(1.0 - betas, dim=0)
        before = torch.cat([torch.ones(1, dtype=torch.float64), signal[:-1]])
        self.betas, self.signal = betas, signal
        self.clean_share = betas * before.sqrt() / (1.0 - signal)
        self.noisy_share = (1.0 - before) * (1.0 - betas).sqrt() / (1.0 - signal)
        ratios = signal / (1.0 - signal)
        self.weights = torch.cat([torch.ones(1, dtype=torch.float64), ratios[:-1] - ratios[1:]])

    def draw_steps(self, count: int) -> Tensor:
        """Draw `count` steps uniformly, int64 `[count]` on the CPU."""
        return torch.randint(self.steps, (count,))

    def noise(self, x0: Tensor, t: Tensor, eps: Tensor | None = None) -> Tensor:
        """Return x_t `[b, width]` of clean rows `x0 [b, width]` at the steps `t [b]`.

        Args:
            x0: `[b, width]`.
            t: int64 `[b]`.
            eps: standard normal `[b, width]`; drawn when None.
        """
        if eps is None:
            # laid out row by row whatever x0 is, or the same state would draw other numbers
            eps = x0.new_empty(x0.shape).normal_()
        signal = self.signal.to(t.device)[t]
        return torch.addcmul(
            _column(signal.sqrt(), x0) * x0, _column((1.0 - signal).sqrt(), x0), eps
        )

    def posterior_mean(self, x0_hat: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the mean `[b, width]` of x_{t-1} given x_t and the predicted clean rows."""
        clean = _column(self.clean_share.to(t.device)[t], x_t)
        noisy = _column(self.noisy_share.to(t.device)[t], x_t)
        return torch.addcmul(clean * x0_hat, noisy, x_t)

    def weight(self, t: Tensor) -> Tensor:
        """Return the weight `[b]` float64 of the squared error at each step: the loss of SNR."""
        return self.weights.to(t.device)[t]

    def reconstruction(self, x0_hat: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """Return each row's weighted squared error `[b]`, a mean over its `width` entries."""
        return self.weight(t).to(x0.dtype) * (x0_hat - x0).square().mean(dim=1)

    @torch.no_grad()
    def denoise(
        self, model: Callable[[Tensor, Tensor], Tensor], x0: Tensor, n_steps: int
    ) -> Tensor:
        """Run the reverse chain of posterior means on rows; returns `[b, width]`.

        No noise is added on the way, and a model with dropout runs without it.

        Args:
            model: predicts clean rows from x_t `[b, width]` and t `[b]`.
            x0: clean rows `[b, width]`.
            n_steps: steps of noise to start from, after which as many are undone. 0 is what the
                released codes do: the clean rows themselves enter at step T-1 and all T are undone.

        Raises:
            ConfigError: `n_steps` is negative or above T.
        """
        self.check_steps(n_steps)
        was_training = isinstance(model, nn.Module) and model.training
        if isinstance(model, nn.Module):
            model.eval()
        x_t = x0 if n_steps == 0 else self.noise(x0, _steps(n_steps - 1, x0))
        for step in reversed(range(n_steps or self.steps)):
            t = _steps(step, x0)
            x_t = self.posterior_mean(model(x_t, t), x_t, t)
        if isinstance(model, nn.Module):
            model.train(was_training)
        return x_t

    def check_steps(self, n_steps: int) -> None:
        """Check how many steps of noise a chain is to start from.

        Raises:
            ConfigError: they are negative or above T.
        """
        if not 0 <= n_steps <= self.steps:
            raise ConfigError(
                f"sampling_steps must lie in 0 .. {self.steps} (steps), not {n_steps}"
            )


def _column(values: Tensor, like: Tensor) -> Tensor:
    """`values [b]` as a column `[b, 1]` of the type of `like`."""
    return values.to(like.device, like.dtype).unsqueeze(1)


def _steps(step: int, rows: Tensor) -> Tensor:
    """The same step for each of `rows [b, width]`, int64 `[b]`."""
    return torch.full((len(rows),), step, dtype=torch.int64, device=rows.device)

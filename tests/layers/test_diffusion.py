"""The noise schedule and the reverse chain against loops."""

import pytest
import torch

from recbole_slif.errors import ConfigError
from recbole_slif.layers.denoiser import Denoiser
from recbole_slif.layers.diffusion import GaussianDiffusion
from tests.oracle import diffusion as oracle

SETTINGS = [(5, 0.1, 1e-4, 0.02), (1, 0.1, 1e-4, 0.02), (3, 1.0, 0.2, 0.95)]
ROWS, WIDTH = 6, 4


def close(found, expected, tolerance=1e-12):
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=tolerance)


def rows(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, WIDTH, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("settings", SETTINGS)
def test_schedule_noise_posterior_and_weights(settings):
    diffusion = GaussianDiffusion(*settings)
    betas, signal = oracle.schedule(*settings)
    close(diffusion.betas, betas)
    close(diffusion.signal, signal)
    t = torch.arange(ROWS) % settings[0]
    x0, eps, hat = rows(0), rows(1), rows(2)
    x_t = diffusion.noise(x0, t, eps)
    close(x_t, [oracle.noise(x0[k], int(t[k]), eps[k], signal) for k in range(ROWS)])
    mean = [oracle.posterior_mean(hat[k], x_t[k], int(t[k]), betas, signal) for k in range(ROWS)]
    close(diffusion.posterior_mean(hat, x_t, t), mean)
    close(diffusion.weight(t), [oracle.weight(int(step), signal) for step in t], 1e-9)
    errors = [oracle.reconstruction(hat[k], x0[k], int(t[k]), signal) for k in range(ROWS)]
    close(diffusion.reconstruction(hat, x0, t), errors, 1e-9)


def test_the_steepest_step_is_bounded():
    assert GaussianDiffusion(2, 1.0, 1e-5, 0.99999).betas[1] == pytest.approx(0.999)


def test_single_precision_stays_single():
    diffusion, t = GaussianDiffusion(*SETTINGS[0]), torch.tensor([0, 4])
    x0 = torch.ones(2, 3)
    x_t = diffusion.noise(x0, t)
    assert x_t.dtype == diffusion.posterior_mean(x0, x_t, t).dtype == torch.float32
    assert diffusion.reconstruction(x_t, x0, t).dtype == torch.float32


def test_steps_and_noise_are_random_and_repeat_by_the_seed():
    diffusion, x0 = GaussianDiffusion(*SETTINGS[0]), torch.zeros(2000, 8)
    assert diffusion.draw_steps(1000).unique().tolist() == [0, 1, 2, 3, 4]
    t = torch.full((2000,), 4)
    torch.manual_seed(1)
    first = diffusion.noise(x0, t)
    torch.manual_seed(1)
    assert torch.equal(first, diffusion.noise(x0, t))
    torch.manual_seed(1)
    assert torch.equal(first, diffusion.noise(torch.zeros(8, 2000).t(), t))
    assert not torch.equal(first, diffusion.noise(x0, t))
    assert first.var().item() == pytest.approx(1 - diffusion.signal[4].item(), rel=0.05)


@pytest.mark.parametrize("normalise", [False, True])
def test_the_chain_from_clean_rows_undoes_all_steps(normalise):
    model = Denoiser(WIDTH, 3, time_dim=6, normalise=normalise).double()
    settings = SETTINGS[0]
    state = {name: value.tolist() for name, value in model.state_dict().items()}
    x0 = rows(3)
    expected = [
        oracle.chain(x0[k].tolist(), state, 6, *oracle.schedule(*settings), normalise)
        for k in range(ROWS)
    ]
    model.train()
    found = GaussianDiffusion(*settings).denoise(model, x0, 0)
    close(found, expected, 1e-10)
    assert model.training, "sampling left the denoiser in evaluation mode"
    assert not found.requires_grad


def test_the_chain_from_noised_rows_undoes_as_many_steps():
    diffusion, x0, asked = GaussianDiffusion(*SETTINGS[0]), rows(4), []

    def model(x_t, t):
        asked.append(t.unique().tolist())
        return x_t

    torch.manual_seed(5)
    diffusion.denoise(model, x0, 3)
    assert asked == [[2], [1], [0]]
    torch.manual_seed(5)
    noised = diffusion.noise(x0, torch.full((ROWS,), 1))
    torch.manual_seed(5)
    # at step 0 the posterior mean is the prediction itself
    seen = []
    diffusion.denoise(lambda x_t, t: seen.append(x_t) or x_t, x0, 2)
    torch.testing.assert_close(seen[0], noised)
    assert not torch.equal(seen[0], x0)


def test_the_last_step_returns_the_prediction():
    diffusion, x0 = GaussianDiffusion(1, 0.1, 1e-4, 0.02), rows(6)
    torch.testing.assert_close(diffusion.denoise(lambda x, t: x + 1, x0, 0), x0 + 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((0, 0.1, 1e-4, 0.02), "steps must be at least 1"),
        ((5, 0.0, 1e-4, 0.02), "noise_scale"),
        ((5, 0.1, 0.02, 1e-4), "noise_min"),
        ((5, 100.0, 1e-4, 0.02), "noise_max"),
    ],
)
def test_wrong_schedules_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        GaussianDiffusion(*settings)


@pytest.mark.parametrize("count", [-1, 6])
def test_wrong_numbers_of_steps_are_refused(count):
    with pytest.raises(ConfigError, match="sampling_steps"):
        GaussianDiffusion(*SETTINGS[0]).denoise(lambda x, t: x, rows(0), count)

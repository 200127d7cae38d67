"""The chain in the hidden layer against the chain of wide rows, and both against loops."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_slif.errors import ConfigError
from recbole_slif.graph.binary_rows import BinaryRows
from recbole_slif.layers.denoiser import Denoiser
from recbole_slif.layers.diffusion import GaussianDiffusion
from recbole_slif.layers.hidden_chain import HiddenChain
from tests.oracle import diffusion as oracle

WIDTH = 9
SETTINGS = (5, 0.1, 1e-4, 0.02)


def setting(normalise, noise=SETTINGS):
    torch.manual_seed(3)
    model = Denoiser(WIDTH, 4, time_dim=6, normalise=normalise).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)  # biases as large as to be seen
    rows = np.random.default_rng(1).random((6, WIDTH)) < 0.4
    rows[4] = False
    return model, GaussianDiffusion(*noise), BinaryRows.from_csr(sp.csr_array(rows))


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("noise", [SETTINGS, (3, 1.0, 0.2, 0.95)])
def test_from_clean_rows(normalise, noise):
    model, diffusion, rows = setting(normalise, noise)
    found = HiddenChain(model, diffusion).denoise(rows, 0)
    expected = diffusion.denoise(model, rows.dense(torch.zeros(0, dtype=torch.float64)), 0)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    assert not found.requires_grad


@pytest.mark.parametrize("normalise", [False, True])
def test_from_clean_rows_by_loops(normalise):
    model, diffusion, rows = setting(normalise)
    state = {name: value.tolist() for name, value in model.state_dict().items()}
    found = HiddenChain(model, diffusion).denoise(rows, 0)
    for k in (0, 1, 2):
        row = rows.dense(torch.zeros(0))[k].tolist()
        expected = oracle.chain(row, state, 6, *oracle.schedule(*SETTINGS), normalise)
        assert found[k].tolist() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("n_steps", [1, 3, 5])
def test_from_noised_rows(normalise, n_steps):
    model, diffusion, rows = setting(normalise)
    torch.manual_seed(7)
    found = HiddenChain(model, diffusion).denoise(rows, n_steps)
    torch.manual_seed(7)
    expected = diffusion.denoise(model, rows.dense(torch.zeros(0, dtype=torch.float64)), n_steps)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


def test_wrong_numbers_of_steps_are_refused():
    model, diffusion, rows = setting(False)
    with pytest.raises(ConfigError, match="sampling_steps"):
        HiddenChain(model, diffusion).denoise(rows, 6)

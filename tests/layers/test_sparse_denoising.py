"""Denoising sparse rows: the same numbers as the dense layers and as loops."""

import pytest
import torch
from torch.autograd import gradcheck

from recbole_slif.graph.binary_rows import BinaryRows
from recbole_slif.layers import sparse_denoising
from recbole_slif.layers.denoiser import Denoiser
from recbole_slif.layers.diffusion import GaussianDiffusion
from recbole_slif.layers.hidden_chain import HiddenChain
from recbole_slif.layers.sparse_denoising import SparseDenoising
from tests.oracle import diffusion as oracle

WIDTH, HIDDEN, TIME = 9, 4, 6
SCHEDULE = (5, 0.1, 1e-4, 0.02)
STEPS = torch.tensor([0, 4, 2, 1])


def make(normalise=True, dropout=0.5, width=WIDTH):
    torch.manual_seed(3)
    model = Denoiser(width, HIDDEN, TIME, normalise, dropout).double()
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.normal_(std=1.0 if name.endswith("bias") else 0.5)
    return SparseDenoising(model, GaussianDiffusion(*SCHEDULE))


def sparse(dense):
    counts = (dense != 0).sum(1)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    columns = dense.nonzero()[:, 1]
    return BinaryRows.select(offsets, columns, torch.arange(len(dense)), dense.shape[1])


def inputs(n_rows=4):
    generator = torch.Generator().manual_seed(4)
    clean = (torch.rand(n_rows, WIDTH, generator=generator) < 0.3).double()
    clean[:, 2] = 1.0
    return clean, torch.randn(n_rows, WIDTH, dtype=torch.float64, generator=generator)


def predicted(work, clean, noise):
    """The loops' predictions of all rows."""
    _, signal = oracle.schedule(*SCHEDULE)
    state = {name: value.tolist() for name, value in work.denoiser.state_dict().items()}
    rows = []
    for x0, eps, t in zip(clean.tolist(), noise.tolist(), STEPS.tolist(), strict=True):
        x_t = oracle.noise(x0, t, eps, signal)
        rows.append(oracle.denoiser(x_t, t, state, TIME, work.denoiser.normalise))
    return rows


def close(found, expected):
    torch.testing.assert_close(
        found, torch.as_tensor(expected, dtype=torch.float64), atol=1e-10, rtol=0
    )


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("cached", [1 << 20, WIDTH])
def test_agrees_with_the_loops(normalise, cached, monkeypatch):
    monkeypatch.setattr(sparse_denoising, "_CACHED_ENTRIES", cached)
    work = make(normalise)
    work.denoiser.eval()
    clean, noise = inputs()
    rows, expected = sparse(clean), predicted(work, clean, noise)
    hidden = work.hidden(rows, STEPS, noise)
    close(work.denoiser.output(hidden), expected)
    errors = [
        sum((a - b) ** 2 for a, b in zip(found, x0, strict=True))
        for found, x0 in zip(expected, clean.tolist(), strict=True)
    ]
    close(work.squared_errors(hidden, rows), errors)
    table = torch.randn(5, 3, dtype=torch.float64)
    sums = [
        [sum(row[i] * float(table[i, k]) for i in range(5)) for k in range(3)] for row in expected
    ]
    close(work.predicted_sums(hidden, table), sums)


@pytest.mark.parametrize("normalise", [True, False])
def test_agrees_with_the_dense_layers(normalise):
    work = make(normalise, dropout=0.0)
    clean, noise = inputs()
    dense = work.denoiser(work.diffusion.noise(clean, STEPS, noise), STEPS)
    hidden = work.hidden(sparse(clean), STEPS, noise)
    weights = work.diffusion.weight(STEPS)
    ours = weights * work.squared_errors(hidden, sparse(clean)) / WIDTH
    theirs = work.diffusion.reconstruction(dense, clean, STEPS)
    close(ours, theirs)
    parameters = dict(work.denoiser.named_parameters())
    both = [torch.autograd.grad(loss.sum(), parameters.values()) for loss in (ours, theirs)]
    for found, expected in zip(*both, strict=True):
        close(found, expected)


def test_gradients():
    work = make(dropout=0.0)
    clean, noise = inputs()
    rows, table = sparse(clean), torch.randn(5, 3, dtype=torch.float64)
    parameters = tuple(work.denoiser.parameters())

    def losses(*_):
        hidden = work.hidden(rows, STEPS, noise)
        return work.squared_errors(hidden, rows), work.predicted_sums(hidden, table)

    assert gradcheck(losses, parameters)


@pytest.mark.parametrize("normalise", [True, False])
def test_the_chain_is_the_dense_one(normalise):
    work = make(normalise)
    clean, _ = inputs()
    betas, signal = oracle.schedule(*SCHEDULE)
    state = {name: value.tolist() for name, value in work.denoiser.state_dict().items()}
    expected = torch.tensor(
        [oracle.chain(row, state, TIME, betas, signal, normalise) for row in clean.tolist()],
        dtype=torch.float64,
    )
    close(HiddenChain(work.denoiser, work.diffusion).denoise(sparse(clean), 0), expected)
    close(work.diffusion.denoise(work.denoiser, clean, 0), expected)
    found = work.best_columns([sparse(clean[:1]), sparse(clean[1:])])
    assert found.tolist() == (expected[:, 1:].argmax(1) + 1).tolist()


@pytest.mark.parametrize("size", [1, 3, 50])
def test_tiles_of_columns_find_the_whole_rows_best(monkeypatch, size):
    monkeypatch.setattr(sparse_denoising, "_TILE_COLUMNS", size)
    weight, mixed, bias = torch.randn(20, 4), torch.randn(30, 4), torch.randn(20)
    weight[0] = weight[7] = 30.0  # two equal columns, the first is [PAD]
    bias[11] = bias[13] = 1e3
    weight[13] = weight[11]
    scores = mixed @ weight.t() + 0.5 * bias
    scores[:, 0] = -torch.inf
    found = sparse_denoising._largest_columns(mixed, 0.5, weight, bias)
    assert found.tolist() == scores.argmax(1).tolist()
    assert set(found.tolist()) == {11}
    plain = sparse_denoising._largest_columns(mixed, 0.5, weight, torch.zeros(20))
    assert plain.tolist() == ((mixed @ weight.t())[:, 1:].argmax(1) + 1).tolist()
    assert len(set(plain.tolist())) > 5


def test_padding_is_never_the_best_column():
    work = make()
    with torch.no_grad():
        work.denoiser.output.bias[0] = 100.0
        work.denoiser.output.bias[6] = 50.0
    assert work.best_columns([sparse(inputs()[0])]).tolist() == [6] * 4
    assert work.best_columns([]).tolist() == []


def seen_rows(monkeypatch, work, rows, t):
    """What the denoiser's first matrix gets, its rows' scale included."""
    with torch.no_grad():
        work.denoiser.row_input.weight.copy_(torch.eye(WIDTH))
        work.denoiser.row_input.bias.zero_()
    monkeypatch.setattr(work.denoiser, "step_bias", lambda t: torch.zeros(1, dtype=torch.float64))
    monkeypatch.setattr(torch, "tanh", lambda x: x)
    return work.hidden(rows, t)


def test_noise_has_the_schedules_size(monkeypatch):
    work = make(normalise=False)
    work.denoiser.row_input = torch.nn.Linear(WIDTH, WIDTH).double()
    work.denoiser.eval()
    clean = inputs(1)[0].repeat(4000, 1)
    seen = seen_rows(monkeypatch, work, sparse(clean), torch.full((4000,), 4)).detach()
    signal = float(work.diffusion.signal[4])
    close(seen.mean(0).round(decimals=2), (signal**0.5 * clean[0]).round(decimals=2))
    assert seen.std(0).mean().item() == pytest.approx((1.0 - signal) ** 0.5, rel=0.02)


def test_dropout_takes_a_share_of_the_unit_rows_while_training_only(monkeypatch):
    work = make(dropout=0.25)
    work.denoiser.row_input = torch.nn.Linear(WIDTH, WIDTH).double()
    clean = inputs(1)[0].repeat(3000, 1)
    rows, t = sparse(clean), torch.zeros(3000, dtype=torch.int64)
    torch.manual_seed(7)
    dropped = seen_rows(monkeypatch, work, rows, t).detach()
    work.denoiser.eval()
    whole = seen_rows(monkeypatch, work, rows, t).detach()
    close(whole.norm(dim=1), torch.ones(3000))
    assert (dropped == 0).double().mean().item() == pytest.approx(0.25, abs=0.01)
    # a kept entry of a one is the unit row's entry over the share kept
    one = clean[0].nonzero()[0, 0]
    kept = dropped[:, one][dropped[:, one] != 0]
    assert kept.mean().item() == pytest.approx(whole[:, one].mean().item() / 0.75, rel=0.01)


def test_draws_follow_torchs_generator():
    work = make()
    rows = sparse(inputs()[0])
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(work.hidden(rows, STEPS).sum().item())
    assert values[0] == values[1] != values[2]

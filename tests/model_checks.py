"""What every model must pass, as functions that its test file calls."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch

from tests.peers import all_users, gradients


def check_every_parameter_learns(model: Any, *losses: Callable[[], torch.Tensor]) -> None:
    """Every declared parameter gets a gradient that is finite and not all zero."""
    model.train()
    found = gradients(model, sum(loss() for loss in losses))
    dead = [name for name, grad in found.items() if not grad.any() or not grad.isfinite().all()]
    assert found and not dead, f"no gradient for {dead}"


def evaluated(model: Any, dataset: Any) -> torch.Tensor:
    """Scores of all items for all users, propagated anew."""
    model.clear_tables()
    model.eval()
    return model.full_sort_predict(all_users(dataset))


def check_evaluation_repeats(model: Any, dataset: Any) -> None:
    """Evaluation has no randomness, whatever is dropped in training."""
    first = evaluated(model, dataset)
    torch.rand(3)
    assert torch.equal(first, evaluated(model, dataset))


def check_saving(model: Any, build: Callable[[], Any], dataset: Any) -> None:
    """A fresh model that loads parameters and epoch state gives the same scores to the bit."""
    buffer = io.BytesIO()
    torch.save([model.state_dict(), model.epoch_state()], buffer)
    buffer.seek(0)
    parameters, state = torch.load(buffer, weights_only=True)
    torch.manual_seed(99)
    fresh = build()
    assert not torch.equal(evaluated(fresh, dataset), evaluated(model, dataset))
    fresh.load_state_dict(parameters)
    fresh.load_epoch_state(state)
    assert torch.equal(evaluated(fresh, dataset), evaluated(model, dataset))


def train_steps(model: Any, batch: Any, steps: int, rate: float = 0.05) -> list[float]:
    """Take steps of Adam on one batch; return the losses."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    losses = []
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.calculate_loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses

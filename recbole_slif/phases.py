"""Passes of an epoch besides the interactions: what is gone through, with which loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recbole_slif.optimizers import fused


@dataclass(frozen=True)
class Phase:
    """One pass over batches with a loss of its own.

    Attributes:
        names: names of the parts of the loss, for log and record.
        batches: has a length and can be iterated again; yields what `loss` takes, with `to`.
        loss: returns the loss of a batch, or a tuple of its parts.
        optimizer: which of the model's `own_optimizers` takes the steps; `main` is the trainer's.
    """

    names: tuple[str, ...]
    batches: Any
    loss: Callable[[Any], Tensor | tuple[Tensor, ...]]
    optimizer: str = "main"


class IdBatches:
    """Batches of ids, their order drawn anew by torch's CPU generator at each iteration."""

    shuffle = False  # RecBole would ask a shuffling loader for its distributed sampler

    def __init__(self, ids: Tensor | int, size: int, n_batches: int | None = None) -> None:
        """Remember what to draw.

        Args:
            ids: `[n]` ids, or their number n for 0 .. n - 1.
            size: ids a batch; the last may be smaller.
            n_batches: at most so many batches; None for all.
        """
        self.ids = torch.arange(ids) if isinstance(ids, int) else ids
        self.size = size
        available = -(-len(self.ids) // size)
        self.count = available if n_batches is None else min(n_batches, available)

    def __len__(self) -> int:
        """Return the number of batches."""
        return self.count

    def __iter__(self) -> Iterator[Tensor]:
        """Yield ids `[size]`, each id at most once."""
        order = torch.randperm(len(self.ids))[: self.count * self.size]
        yield from self.ids[order.to(self.ids.device)].split(self.size)


def own_adam(
    parameters: Iterable[torch.nn.Parameter], rate: float, settings: Any
) -> torch.optim.Optimizer:
    """Return an Adam for passes of a model's own; the key `fused_optimizer` counts for it too.

    Args:
        parameters: what it steps, where they are to stay.
        rate: step size.
        settings: configuration.
    """
    adam = torch.optim.Adam(parameters, lr=rate)
    return adam if settings["fused_optimizer"] is False else fused(adam)


def phases_of(model: Any, when: str, epoch: int) -> Sequence[Phase]:
    """Return a model's phases `before` or `after` the interactions; none if it knows of none."""
    asked = getattr(model, f"phases_{when}", None)
    return asked(epoch) if asked is not None else ()


def learning_parameters(model: Any) -> list[torch.nn.Parameter]:
    """Return the parameters that the trainer's optimizer takes, frozen ones left out."""
    asked = getattr(model, "main_parameters", model.parameters)
    return [parameter for parameter in asked() if parameter.requires_grad]

"""The trainer of several processes: each takes its part of every batch and of the evaluation.

P processes of `train_batch_size` B make the steps of one process of P * B. Each draws the same
batches, negatives and graphs, from generators that stay equal, and takes its rows of each batch
(`batch_parts`). Losses and gradients are summed, so all make the same step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import recbole.trainer.trainer as recbole_trainer
import torch
import torch.distributed as dist
from recbole.evaluator.collector import DataStruct
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from recbole_slif import process_group
from recbole_slif.batch_parts import BatchPart
from recbole_slif.errors import ConfigError, SlifError
from recbole_slif.evaluation import BlockedFullSortEvaluator
from recbole_slif.interrupt import InterruptGuard
from recbole_slif.registry import MODELS

_LOSSES = ("calculate_loss", "calculate_kg_loss")
_PASSES = ("phases_before", "phases_after", "own_optimizers")
_BY_USER = ("rec.topk", "rec.items", "rec.meanrank")


def shares_batches(model_class: type) -> bool:
    """Tell whether a model says that processes may share its batches, and means its own losses.

    A class that replaces a loss must say so anew, and no class with passes or optimizers of its own
    can.
    """
    lineage = model_class.__mro__
    said = next((place for place, each in enumerate(lineage) if "shares_batches" in vars(each)), -1)
    if said < 0 or not vars(lineage[said])["shares_batches"]:
        return False
    newer = lineage[:said]
    if any(name in vars(each) for each in newer for name in _LOSSES):
        return False
    ours = [each for each in lineage if each.__name__ != "GraphRecommender"]
    return not any(name in vars(each) for each in ours for name in _PASSES)


def require_shareable(config: Any, model_class: type) -> None:
    """Check that a model can be trained by several processes.

    Raises:
        ConfigError: it cannot; the text names the models that can.
    """
    if not shares_batches(model_class):
        able = [name for name, entry in MODELS.items() if shares_batches(entry.load())]
        raise ConfigError(
            f"model '{config['model']}' cannot be trained by several processes, since its loss is "
            f"not known to add up over parts of a batch; start it without torchrun. Those that "
            f"can: {', '.join(able)}"
        )
    if config["enable_scaler"] and config["device"].type == "cuda":
        raise ConfigError("enable_scaler: not offered with several processes; leave it at False")


class SharedGuard(InterruptGuard):
    """Notes a signal; the processes then stop together, where they next speak to one another."""

    def check(self) -> None:
        """Do nothing: a process that left alone would keep the others waiting."""

    def check_alone(self) -> None:
        """Raise `TrainingStoppedError` if a signal has come to this process."""
        super().check()


class _NoEvents:
    """Stands for TensorBoard's writer in the processes that write nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


@contextmanager
def _without_events() -> Iterator[None]:
    """Let RecBole's trainer open no event file."""
    kept = recbole_trainer.get_tensorboard
    recbole_trainer.get_tensorboard = lambda logger: _NoEvents()
    try:
        yield
    finally:
        recbole_trainer.get_tensorboard = kept


class _EveryonesLosses(torch.autograd.Function):
    """Sums losses `[n]` over the processes; each keeps the gradient of its own part."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        return process_group.total(own.detach().clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def everyones_losses(losses: Any, share: float) -> Any:
    """Weigh a part's losses and sum them over the processes; a scalar or a tuple, as given."""
    parts = losses if isinstance(losses, tuple) else (losses,)
    own = torch.stack([part.reshape(()) * share for part in parts])
    summed = _EveryonesLosses.apply(own).unbind()
    return summed if isinstance(losses, tuple) else summed[0]


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Sum the gradients over the processes, in one message.

    A parameter without gradient in all processes keeps none; without one here alone it counts 0.
    """
    for kind in dict.fromkeys((each.device, each.dtype) for each in parameters):
        chosen = [each for each in parameters if (each.device, each.dtype) == kind]
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in chosen]
        present = chosen[0].new_tensor([each.grad is not None for each in chosen])
        flat = process_group.total(torch.cat([*(grad.flatten() for grad in found), present]))
        *sums, present = flat.split([*(grad.numel() for grad in found), len(chosen)])
        for parameter, grad, summed, seen in zip(
            chosen, found, sums, present.tolist(), strict=True
        ):
            if seen:
                parameter.grad = grad.copy_(summed.view_as(grad))


class SharedEvaluator(BlockedFullSortEvaluator):
    """Ranks every P-th block of users here and has the lists of all users in the end.

    Blocks are cut as a single process cuts them and the lists are whole numbers, so the metrics,
    computed from all lists in each process, are those of one process to the last digit.
    """

    def __init__(self, config: Any, collector: Any, guard: SharedGuard) -> None:
        block_users = config["eval_block_users"]
        super().__init__(config, collector, block_users, should_stop=guard.check_alone)
        self.guard = guard

    def _own(self, n_users: int) -> np.ndarray:
        blocks = np.arange(n_users) // self.block_users
        return np.flatnonzero(blocks % process_group.world_size() == process_group.rank())

    def _positions(self, n_users: int) -> np.ndarray:
        # whoever has no block ranks the first user, for the shape of the lists, and drops it
        own = self._own(n_users)
        return own if len(own) else super()._positions(n_users)[:1]

    @torch.no_grad()
    def collect(self, model: Any, loader: Any, show_progress: bool = False) -> DataStruct:
        """Score this process's users of `loader`; return the lists of all."""

        def own() -> DataStruct:
            return super(SharedEvaluator, self).collect(model, loader, show_progress)

        struct = process_group.together(own, self.guard)
        n_users = len(self.lists(loader).users)
        users = torch.from_numpy(self._own(n_users))
        for name in _BY_USER:
            if name in struct:
                mine = struct.get(name)
                everyones = mine.new_zeros((n_users, *mine.shape[1:]))
                everyones[users] = mine[: len(users)]
                struct.set(name, process_group.total(everyones))
        return struct


class SharedTraining:
    """What several processes do otherwise; stands between the epoch and the phases of a trainer."""

    def __init__(self: Any, config: Any, model: Any) -> None:
        require_shareable(config, type(model))
        if process_group.leads():
            super().__init__(config, model)  # type: ignore[call-arg]
        else:
            config["log_wandb"] = False
            with _without_events():
                super().__init__(config, model)  # type: ignore[call-arg]
        self._enter_folder(Path(self.checkpoint_dir) / process_group.hand_round(self.run_id))
        self.guard = SharedGuard()
        self.blocked = SharedEvaluator(config, self.eval_collector, self.guard)
        # gradients are clipped once they are summed
        self._clipping, self.clip_grad_norm = self.clip_grad_norm, None
        self.optimizer.register_step_pre_hook(self._join_gradients)

    def _join_gradients(self: Any, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        sum_gradients([each for group in optimizer.param_groups for each in group["params"]])
        if self._clipping:
            clip_grad_norm_(self.model.parameters(), **self._clipping)

    def _train_epoch(
        self: Any,
        train_data: Any,
        epoch_idx: int,
        loss_func: Callable[[Any], Any] | None = None,
        show_progress: bool = False,
    ) -> Any:
        """Run one pass over `train_data`, of each batch this process's part."""
        wanted = loss_func or self.model.calculate_loss

        def shared(whole: Any) -> Any:
            part = BatchPart(whole, process_group.rank(), process_group.world_size())
            losses = process_group.together(lambda: wanted(part), self.guard)
            return everyones_losses(losses, part.share)

        losses = super()._train_epoch(  # type: ignore[misc]
            train_data, epoch_idx, shared, show_progress
        )
        self._require_same_parameters(epoch_idx)
        return losses

    def _require_same_parameters(self: Any, epoch: int) -> None:
        """Stop if the processes' models have drifted apart, whatever the reason."""
        sums = [part.detach().double().sum() for part in self.model.parameters()]
        own = torch.stack(sums).nan_to_num().cpu()
        least, most = (
            process_group.total(own.clone(), operation)
            for operation in (dist.ReduceOp.MIN, dist.ReduceOp.MAX)
        )
        if not torch.equal(least, most):
            raise SlifError(
                f"the processes' parameters differ after epoch {epoch}: they must run on like "
                "processors with the same libraries, and the model must draw the same in all"
            )

    def _fault_of_best(self: Any) -> str:
        """Let the first process look, which may write the file while others would read it."""
        found = super()._fault_of_best() if process_group.leads() else ""  # type: ignore[misc]
        return process_group.hand_round(found)

    def _save_checkpoint(self: Any, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """Write `best.pt` in the first process while the others wait."""

        def write() -> None:
            if process_group.leads():
                super(SharedTraining, self)._save_checkpoint(epoch, verbose, **kwargs)  # type: ignore[misc]

        process_group.together(write)
        if epoch >= 0:
            self.best_epoch = epoch

    def _save_last(self: Any, epoch: int) -> None:
        """Write `last.pt` in the first process while the others wait."""

        def write() -> None:
            if process_group.leads():
                super(SharedTraining, self)._save_last(epoch)  # type: ignore[misc]

        process_group.together(write)

"""The epoch around RecBole's pass over the batches: hooks, further passes, bookkeeping."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from recbole.utils import KGDataLoaderState

from recbole_slif import random_state
from recbole_slif.checkpoint import LAST
from recbole_slif.errors import CheckpointError
from recbole_slif.interrupt import TrainingStoppedError
from recbole_slif.phases import Phase, phases_of
from recbole_slif.precision import training_precision

NOTHING_KEPT = "no epoch was finished, nothing is kept"


class EpochMixin:
    """The epoch around the phases: hooks, knowledge phase, bookkeeping, end-of-epoch checkpoint."""

    _pending: dict[str, Any] | None
    _names: list[str]

    def fit(
        self: Any,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, Any]:
        """Train as RecBole's `fit` does; a resumed run first gets its generators back.

        Raises:
            TrainingStoppedError: Ctrl-C or SIGTERM came; `last.pt` holds the last full epoch.
            SlifError: the loss is not finite.
        """
        self._train_data, self._valid_data = train_data, valid_data
        self.eval_step = min(self.eval_step, self.epochs)  # RecBole gives Pop and its like one
        self._saved, self._has_valid = saved, bool(valid_data) and self.eval_step > 0
        if self._pending is not None:
            random_state.restore_loader(train_data, self._pending["loader"])
            random_state.restore_loader(valid_data, self._pending.get("validation", {}))
            random_state.restore(self._pending["random"])
            self._pending = None
        if self._has_valid and self.cur_step > self.stopping_step:
            self.start_epoch = self.epochs

        def finish(epoch: int, score: float) -> None:
            if self.cur_step == 0:
                self.best_epoch = epoch
                self.best_valid_result = self._latest_valid
            self._finish_epoch(epoch)
            if self.cur_step == 0 and saved:
                self._save_checkpoint(epoch)
            if callback_fn is not None:
                callback_fn(epoch, score)

        try:
            with self.guard:
                found = super().fit(  # type: ignore[misc]
                    train_data, valid_data, verbose, saved, show_progress, finish
                )
                self.guard.check()  # what came after the last batch
                return found
        except (TrainingStoppedError, CheckpointError) as stop:
            raise type(stop)(f"{stop}; {self.way_on()}") from stop.__cause__

    def way_on(self: Any) -> str:
        """Say what is kept of the run and how to go on with it."""
        if (self.run_folder / LAST).is_file():
            return f"{self.epochs_done} epochs are kept, go on with --resume={self.run_folder}"
        return NOTHING_KEPT

    def _train_epoch(
        self: Any,
        train_data: Any,
        epoch_idx: int,
        loss_func: Callable[[Any], Any] | None = None,
        show_progress: bool = False,
    ) -> Any:
        started = perf_counter()
        self._names, self._first_part = [], 0
        with training_precision(self.config):
            if hasattr(self.model, "pre_epoch"):
                losses, refreshed = self._phases(train_data, epoch_idx, loss_func, show_progress)
            else:
                refreshed = 0.0
                losses = _flat(
                    super()._train_epoch(train_data, epoch_idx, loss_func, show_progress)  # type: ignore[misc]
                )
        seconds = {"refresh": refreshed, "train": perf_counter() - started - refreshed}
        named = losses
        if isinstance(losses, tuple):
            named = {self._loss_name(at): part for at, part in enumerate(losses)}
        self.history.append({"epoch": epoch_idx, "loss": named, "seconds": seconds})
        self.train_loss_dict[epoch_idx] = sum(losses) if isinstance(losses, tuple) else losses
        # validation comes first, and where there is none, `best.pt`
        waits = (epoch_idx + 1) % self.eval_step == 0 if self._has_valid else self._saved
        if not waits:
            self._finish_epoch(epoch_idx)
        return losses

    def _save_checkpoint(self: Any, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """Write `best.pt`, with validation after `last.pt`, else before it.

        RecBole asks for it first. Were it written then, a kill before `last.pt` would leave that
        one without the epoch, and the epoch it calls the best without a file.
        """
        unfinished = epoch == self.epochs_done
        if unfinished and self._has_valid:
            return
        super()._save_checkpoint(epoch, verbose, **kwargs)  # type: ignore[misc]
        if unfinished:
            self._finish_epoch(epoch)

    def _hook(self: Any, name: str, epoch: int) -> None:
        hook = getattr(self.model, name, None)
        if hook is not None:
            hook(epoch)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

    def _phases(
        self: Any, train_data: Any, epoch: int, loss_func: Any, show_progress: bool
    ) -> tuple[Any, float]:
        """Run all passes of an epoch with the hooks between them.

        Returns:
            The losses, a tuple if there are several, and the seconds that `pre_epoch` took.
        """
        found = [
            self._own_phase(phase, epoch, show_progress)
            for phase in phases_of(self.model, "before", epoch)
        ]
        started = perf_counter()
        self._hook("pre_epoch", epoch)
        refreshed = perf_counter() - started
        found.append(self._interactions(train_data, epoch, loss_func, show_progress))
        found += [
            self._own_phase(phase, epoch, show_progress)
            for phase in phases_of(self.model, "after", epoch)
        ]
        self._hook("post_epoch", epoch)
        return _flat(tuple(found)) if len(found) > 1 else _flat(found[0]), refreshed

    def _interactions(
        self: Any, train_data: Any, epoch: int, loss_func: Any, show_progress: bool
    ) -> Any:
        """Run the interactions, then the triples if the model has a knowledge loss."""
        run = super()._train_epoch  # type: ignore[misc]
        self._first_part = len(self._names)
        self._names += getattr(self.model, "loss_names", ())
        if not hasattr(train_data, "set_mode"):
            return run(train_data, epoch, loss_func, show_progress)
        train_data.set_mode(KGDataLoaderState.RS)
        losses = run(train_data, epoch, loss_func, show_progress)
        if not hasattr(self.model, "calculate_kg_loss"):
            return losses
        train_data.set_mode(KGDataLoaderState.KG)
        self._first_part += len(losses) if isinstance(losses, tuple) else 1
        return losses, run(train_data, epoch, self.model.calculate_kg_loss, show_progress)

    def _own_phase(self: Any, phase: Phase, epoch: int, show_progress: bool) -> Any:
        """Run a pass of the model's own, with the optimizer it names."""
        self._first_part = len(self._names)
        self._names += phase.names
        kept, self._title = self.optimizer, phase.names[0]
        if phase.optimizer != "main":
            self.optimizer = self.model.own_optimizers()[phase.optimizer]
        try:
            return super()._train_epoch(phase.batches, epoch, phase.loss, show_progress)  # type: ignore[misc]
        finally:
            self.optimizer, self._title = kept, "Train"

    def _finish_epoch(self: Any, epoch: int) -> None:
        self.epochs_done = epoch + 1
        if self._saved and self.config["save_last"] is not False:
            try:
                self._save_last(epoch)
            except CheckpointError:
                self.epochs_done = epoch  # the epochs that are kept
                raise


def _flat(losses: Any) -> Any:
    """Flatten nested loss tuples, the form RecBole's log line can print."""
    if not isinstance(losses, tuple):
        return losses
    flat: list[float] = []
    for part in losses:
        flat.extend(_flat(part) if isinstance(part, tuple) else [part])
    return tuple(flat)

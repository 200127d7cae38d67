"""RecBole's trainer with epoch hooks, exact resume, safe checkpoints and blocked evaluation.

`fit` stays RecBole's. What is ours hangs on the methods that `fit` calls: `_train_epoch` (hooks and
phases), `_valid_epoch` (ties), `_save_checkpoint` (format) and the end-of-epoch callback.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter, strftime
from typing import Any

import numpy as np
import torch
from recbole.trainer import PretrainTrainer, Trainer
from recbole.utils import get_trainer
from torch import Tensor

from recbole_slif import checkpoint as files
from recbole_slif import optimizers, process_group, random_state, recbole_state
from recbole_slif.batches import Batches
from recbole_slif.console import one_line
from recbole_slif.epochs import EpochMixin
from recbole_slif.errors import CheckpointError, ConfigError, SlifError
from recbole_slif.evaluation import BlockedFullSortEvaluator, SafeCollector, supports
from recbole_slif.interrupt import InterruptGuard
from recbole_slif.phases import learning_parameters
from recbole_slif.run_folder import keep_previous, load_last
from recbole_slif.wandb_runs import split_losses

# RecBole builds a gradient scaler each epoch, used or not, under a name torch has given up.
warnings.filterwarnings("ignore", message=".*GradScaler.*", category=FutureWarning)

_SAVED = ("cur_step", "best_valid_score", "best_valid_result", "best_epoch", "epochs_done")


class PhaseTrainer(Trainer):
    """One phase of training, evaluation and checkpoints; the base below RecBole's special trainers.

    Attributes:
        run_id: name of the run, also of its folder below `checkpoint_dir`.
        run_folder: holds `best.pt` and `last.pt`.
        history: one dictionary for each finished epoch: losses, seconds, validation metrics.
        best_epoch: epoch of the best validation score, -1 before the first.
    """

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        stamp = f"{strftime('%Y%m%d-%H%M%S')}-{os.urandom(3).hex()}"
        self._enter_folder(
            Path(self.checkpoint_dir) / f"{config['model']}-{config['dataset']}-{stamp}"
        )
        self.guard = InterruptGuard()
        self.eval_collector = SafeCollector(config)
        self.blocked = BlockedFullSortEvaluator(
            config,
            self.eval_collector,
            block_users=config["eval_block_users"],
            should_stop=self.guard.check,
        )
        self.header: dict[str, Any] = {"identity": {}, "config": {}}
        self.history: list[dict[str, Any]] = []
        self.best_epoch = -1
        self.epochs_done = 0
        self._train_data: Any = None
        self._valid_data: Any = None
        self._pending: dict[str, Any] | None = None
        self._batches: Batches | None = None
        self._parts: tuple[Tensor, ...] = ()
        self._names: list[str] = []
        self._first_part = 0
        self._title = "Train"
        self._latest_valid: dict[str, Any] | None = None
        split_losses(self.wandblogger, self._loss_name)

    def _enter_folder(self, folder: Path) -> None:
        self.run_folder = folder
        self.run_id = folder.name
        self.saved_model_file = str(folder / files.BEST)

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        """Build RecBole's optimizer; Adam runs fused (one pass over memory) where it can.

        Raises:
            ConfigError: `sparse_adam` is asked for and no table of the model is sparse, or scaled
                gradients would be clipped.
        """
        optimizers.require_usable(self.config, self.model, self.enable_scaler)
        optimizer = super()._build_optimizer(
            **{"params": learning_parameters(self.model), **kwargs}
        )
        if self.config["fused_optimizer"] is False or optimizers.is_sparse(self.model):
            return optimizer
        return optimizers.fused(optimizer)

    def _train_epoch(
        self,
        train_data: Any,
        epoch_idx: int,
        loss_func: Callable[[Any], Any] | None = None,
        show_progress: bool = False,
    ) -> Any:
        """Run one pass over `train_data` with a bar, a stop between batches and checked losses."""
        loader = train_data.loader if isinstance(train_data, Batches) else train_data
        self._batches = Batches(loader, self.guard, f"{self._title} {epoch_idx:>5}", show_progress)
        wanted = loss_func or self.model.calculate_loss

        def watched(interaction: Any) -> Any:
            # those that only other optimizers clear would count where the norm is clipped
            self.model.zero_grad()
            losses = wanted(interaction)
            self._parts = losses if isinstance(losses, tuple) else (losses,)
            self._batches.tell(self._parts)  # type: ignore[union-attr]
            return losses

        self._epoch = epoch_idx
        return super()._train_epoch(self._batches, epoch_idx, watched, show_progress=False)

    def _check_nan(self, loss: Tensor) -> None:
        """Stop at a loss that is not finite and say which part of it went wrong."""
        if bool(torch.isfinite(loss).all()):
            return
        parts = [
            f"{self._loss_name(self._first_part + at, 'part ')} {part.item():.4g}"
            for at, part in enumerate(self._parts)
        ]
        batch = self._batches.number if self._batches else -1
        raise SlifError(
            f"training loss is not finite in epoch {self._epoch}, batch {batch} "
            f"({', '.join(parts)}); lower learning_rate or set clip_grad_norm"
        )

    def _loss_name(self, at: int, otherwise: str = "train_loss") -> str:
        """Return what the model calls part `at` of the epoch's losses, else a number."""
        return self._names[at] if at < len(self._names) else f"{otherwise}{at + 1}"

    def _generate_train_loss_output(
        self, epoch_idx: int, s_time: float, e_time: float, losses: Any
    ) -> str:
        line = super()._generate_train_loss_output(epoch_idx, s_time, e_time, losses)
        return re.sub(r"train_loss(\d+)", lambda found: self._loss_name(int(found[1]) - 1), line)

    def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> tuple[float, Any]:
        """Evaluate; a score that only ties with the best is not counted as better.

        Raises:
            SlifError: the first score is not a number, so that no epoch can be the best.
        """
        started = perf_counter()
        score, result = super()._valid_epoch(valid_data, show_progress)
        if math.isnan(score) and self.best_epoch < 0:
            raise SlifError(
                f"valid_metric: {self.valid_metric} is not a number on this validation split, so "
                "no epoch can be chosen by it; choose another metric, or another split"
            )
        self._latest_valid = dict(result)
        if self.history:
            self.history[-1]["valid"] = dict(result)
            self.history[-1]["seconds"]["evaluate"] = perf_counter() - started
        places = self.config["metric_decimal_place"] or 4
        best = self.best_valid_score
        if math.isfinite(best) and round(score, places) == round(best, places):
            worse = -np.inf if self.valid_metric_bigger else np.inf
            score = float(np.nextafter(best, worse))
        return score, result

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> OrderedDict | None:
        """Evaluate on a loader, in blocks where the protocol is full ranking.

        Raises:
            CheckpointError: `load_best_model` is set and the checkpoint cannot be used.
        """
        if not eval_data:
            return None
        if load_best_model:
            path = model_file or self.saved_model_file
            files.restore_model(self.model, files.load(path).state["model"], path)
            self.logger.info(f"Loaded the best model of epoch {self.best_epoch}")
        if not supports(eval_data):
            return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)
        found = self.blocked.evaluate(self.model, eval_data, show_progress)
        result = OrderedDict((name, float(value)) for name, value in found.items())
        self.wandblogger.log_eval_metrics(result, head="eval")
        return result

    def _header(self, kind: str, epoch: int) -> dict[str, Any]:
        return {
            **self.header,
            "processes": process_group.description(self.config),
            "kind": kind,
            "run_id": self.run_id,
            "model": self.config["model"],
            "class": f"{type(self.model).__module__}:{type(self.model).__qualname__}",
            "dataset": self.config["dataset"],
            "epoch": epoch,
            "metric": {
                "name": self.valid_metric,
                "score": float(self.best_valid_score),
                "result": self._latest_valid if kind == "best" else self.best_valid_result,
            },
        }

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """Write `best.pt`; an already finished run that is asked to train again keeps its own."""
        path = Path(kwargs.get("saved_model_file", self.saved_model_file))
        if epoch < 0 and path.is_file():
            return
        self.best_epoch = epoch
        state = {"model": files.model_state(self.model)}
        files.save(path, files.Checkpoint(self._header("best", epoch), state))

    def _own_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the optimizers besides the main one: the model's, those of RecBole's trainer."""
        found = {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, torch.optim.Optimizer) and name != "optimizer"
        }
        if hasattr(self.model, "own_optimizers"):
            found |= self.model.own_optimizers()
        return found

    def _save_last(self, epoch: int) -> None:
        own = self._own_optimizers()
        # RecVAE's trainer puts one of its own in the main one's place and never uses that
        replaced = any(self.optimizer is each for each in own.values())
        state = {
            "model": files.model_state(self.model),
            "attributes": recbole_state.capture(self.model),
            "optimizer": None if replaced else self.optimizer.state_dict(),
            "own_optimizers": {name: optimizer.state_dict() for name, optimizer in own.items()},
            "random": random_state.capture(),
            "loader": random_state.capture_loader(self._train_data),
            "validation": random_state.capture_loader(self._valid_data),
            "trainer": {name: getattr(self, name) for name in _SAVED},
            "losses": dict(self.train_loss_dict),
            "history": self.history,
        }
        state["trainer"]["best_valid_score"] = float(self.best_valid_score)
        checkpoint = files.Checkpoint(self._header("last", epoch), state)
        keep_previous(self.run_folder)
        files.save(self.run_folder / files.LAST, checkpoint)

    def resume_checkpoint(self, resume_file: Any) -> None:
        """Take up a run where its `last.pt` left it; it goes on in the same folder.

        Raises:
            CheckpointError: the file is unusable, is a `best.pt`, or belongs to other settings.
            ConfigError: validation scores would be compared with those of another measure.
        """
        path, saved, fault = load_last(str(resume_file))
        if saved.header.get("kind") != "last":
            raise CheckpointError(
                f"checkpoint '{path}' holds no optimizer; resume from the run's last.pt"
            )
        files.require_fit(path, saved.header["identity"], self.header["identity"])
        process_group.require_same_batch(path, saved.header, self.config)
        validated = math.isfinite(saved.state["trainer"]["best_valid_score"])
        if validated:
            self._require_same_measure(saved.header)
        files.restore_model(self.model, saved.state["model"], path)
        recbole_state.restore(self.model, saved.state.get("attributes", {}), path)
        self._restore_optimizers(saved.state, path)
        for name, value in saved.state["trainer"].items():
            if validated or name != "best_valid_score":  # before the first score it is an infinity
                setattr(self, name, value)
        self.start_epoch = self.epochs_done
        self.train_loss_dict = dict(saved.state["losses"])
        self.history = list(saved.state["history"])
        self._pending = saved.state
        self._enter_folder(path.parent)
        if fault is not None:
            self.logger.warning(f"{fault}; going on from '{path}', one epoch earlier")
        self._require_best(path)
        self.logger.info(f"Resuming after epoch {self.epochs_done - 1} of run {self.run_id}")

    def _require_same_measure(self, header: Mapping[str, Any]) -> None:
        """Check that scores to come can be compared with the best one so far.

        Raises:
            ConfigError: they are of another metric, or of other lists.
        """
        saved = header["config"].get("eval_args")
        mode = self.config["eval_args"]["mode"]["valid"]
        pairs = {
            "valid_metric": (header["metric"]["name"], self.valid_metric),
            "eval_args: mode of validation": (saved["mode"]["valid"] if saved else mode, mode),
        }
        for key, (was, here) in pairs.items():
            if was != here:
                raise ConfigError(
                    f"{key} was {was} when the checkpoint was trained and cannot become {here}: "
                    "the best epoch so far was chosen by it; start a new run to change it"
                )

    def _restore_optimizers(self, state: Mapping[str, Any], path: Path) -> None:
        """Put saved states into the optimizers.

        Raises:
            CheckpointError: they are of other optimizers.
        """
        try:
            for name, optimizer in self._own_optimizers().items():
                optimizer.load_state_dict(state["own_optimizers"][name])
            if state["optimizer"] is not None:
                self.optimizer.load_state_dict(state["optimizer"])
        except (ValueError, KeyError) as error:
            raise CheckpointError(
                f"checkpoint '{path}' does not fit the optimizer: {one_line(error)}; "
                "start a new run"
            ) from error

    def _require_best(self, path: Path) -> None:
        """Check before the first epoch that the best one so far can be tested at the end.

        Raises:
            CheckpointError: `best.pt` is unusable and its epoch is not the one resumed from.
        """
        fault = self._fault_of_best() if self.best_epoch >= 0 else ""
        if not fault:
            return
        if self.best_epoch != self.epochs_done - 1:
            raise CheckpointError(
                f"{fault}; the best epoch so far ({self.best_epoch}) is in no other file: "
                f"start the run anew, or use epoch {self.epochs_done - 1} from '{path}'"
            )
        self.logger.warning(f"{fault}; written again from '{path}', which is of its epoch")
        self._latest_valid = self.best_valid_result
        self._save_checkpoint(self.best_epoch)

    def _fault_of_best(self) -> str:
        """Say why `best.pt` is not the best epoch so far; empty where it is."""
        try:
            epoch = files.load(self.saved_model_file).header.get("epoch")
        except CheckpointError as error:
            return str(error)
        if epoch == self.best_epoch:
            return ""
        # `previous.pt` may be older; the epochs after it are made again, and this file with them
        again = isinstance(epoch, int) and self.epochs_done <= epoch < self.epochs
        if again and self.best_epoch != self.epochs_done - 1:
            return ""
        return f"checkpoint '{self.saved_model_file}' is of epoch {epoch}, not {self.best_epoch}"


class SlifTrainer(EpochMixin, PhaseTrainer):
    """The trainer of this package's models and of every RecBole model without a trainer of its own.

    One epoch is `model.phases_before(epoch)`, `model.pre_epoch(epoch)`, the interactions, the
    triples if the model has `calculate_kg_loss`, `model.phases_after(epoch)`,
    `model.post_epoch(epoch)`, validation, `last.pt`.
    """


def trainer_class(config: Any, model: Any) -> type:
    """Choose the trainer: ours, or ours around the special one RecBole has for its own model.

    Raises:
        ConfigError: RecBole trains the model outside torch (decision trees), or this is a stage
            before training.
    """
    if process_group.world_size() > 1:
        from recbole_slif.distributed import SharedTraining

        return type("SharedSlifTrainer", (EpochMixin, SharedTraining, PhaseTrainer), {})
    if hasattr(model, "pre_epoch"):
        return SlifTrainer
    # a class derived from one of RecBole's is trained as that is, triples included
    theirs = (part for part in type(model).__mro__ if part.__module__.startswith("recbole.model."))
    base = get_trainer(config["MODEL_TYPE"], next(theirs).__name__)
    if base is Trainer:
        return SlifTrainer
    if not issubclass(base, Trainer):
        raise ConfigError(
            f"model '{config['model']}' is not trained by gradient steps; not offered"
        )
    if issubclass(base, PretrainTrainer) and config["train_stage"] != "finetune":
        raise ConfigError(
            f"train_stage: {config['train_stage']} of {config['model']} leaves no checkpoint of "
            "this package and is not offered; pretrain with RecBole, then write finetune, and for "
            "pre_model_path a file made by torch.save({'state_dict': weights}, path)"
        )
    return type(f"Slif{base.__name__}", (EpochMixin, base, PhaseTrainer), {})

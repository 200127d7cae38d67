"""One run in its stages: load, build, fit on train, choose on valid, test, record."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from recbole.utils import init_logger, init_seed, set_color

from recbole_slif import checkpoint, factory, process_group, wandb_runs
from recbole_slif.epochs import NOTHING_KEPT
from recbole_slif.errors import ConfigError
from recbole_slif.interrupt import TrainingStoppedError, name_of
from recbole_slif.plateau import stood_still
from recbole_slif.records import RunRecord, precision_over_recall, record_folder, seconds_of
from recbole_slif.run_folder import RunFolder, folder_of
from recbole_slif.trainer import trainer_class

_log_handlers: list[logging.Handler] = []
_log_levels: list[int] = []


@dataclass
class RunResult:
    """What a run gave.

    Attributes:
        model, dataset, seed: what was run.
        status: `finished`, `failed` or `interrupted`.
        valid, test: metrics of the best epoch; `test` is None where it was not asked for.
        best_epoch: counted from 0.
        valid_score: the best value of `valid_metric`.
        seconds: wall time of the run, data included; of a resumed run with its earlier epochs.
        record: path of the JSON record.
        folder: holds `best.pt` and `last.pt`.
        error: one line, for a run that failed.
    """

    model: str
    dataset: str
    seed: int
    status: str = "finished"
    valid: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] | None = None
    best_epoch: int = -1
    valid_score: float = float("nan")
    bigger: bool = True
    seconds: float = 0.0
    record: Path | None = None
    folder: Path | None = None
    error: str | None = None


def start_log(config: Any) -> logging.Logger:
    """Start RecBole's log with a file below `log/`, in place of the last run's.

    It is shown in colour; a program that has set up a log of its own shows it in that one.
    """
    end_log()
    root = logging.getLogger()
    others, streams = list(root.handlers), (sys.stdout, sys.stderr)
    _log_levels.append(root.level)
    root.handlers.clear()  # RecBole adds its handlers to none but an empty log
    try:
        init_logger(config)
    finally:
        ours, root.handlers[:] = list(root.handlers), others
        # it wraps the streams at each call, in the end in more layers than Python can call
        sys.stdout, sys.stderr = streams
    _log_handlers.extend(
        handler for handler in ours if not others or isinstance(handler, logging.FileHandler)
    )
    root.handlers.extend(_log_handlers)
    return root


def end_log() -> None:
    """Close the log that `start_log` opened, if there is one."""
    root = logging.getLogger()
    for handler in _log_handlers:
        root.removeHandler(handler)
        handler.close()
    _log_handlers.clear()
    while _log_levels:
        root.setLevel(_log_levels.pop())


@contextmanager
def _log_ended() -> Iterator[None]:
    """Leave no log open after the block, however it ends."""
    try:
        yield
    finally:
        end_log()


@dataclass(frozen=True)
class Hooks:
    """What a caller adds to a run.

    Attributes:
        load: returns the loaded data of a configuration; None reads the files.
        on_epoch: called with the trainer after each validated epoch.
        on_test: called with the trainer and the loaded data once the test metrics are there, with
            the best epoch in place.
    """

    load: Callable[[Any], Any] | None = None
    on_epoch: Callable[[Any], None] | None = None
    on_test: Callable[[Any, Any], None] | None = None


class Run:
    """One run in its stages; each stage leaves its result on the object."""

    def __init__(
        self,
        config: Any,
        saved: bool,
        verbose: bool,
        command: Sequence[str],
        hooks: Hooks | None = None,
    ) -> None:
        self.config = config
        self.hooks = hooks or Hooks()
        self.saved = saved
        self.verbose = verbose
        self.command = command
        self.started = perf_counter()
        self.earlier = 0.0  # seconds of the epochs that a resumed run goes on from
        self.result = RunResult(config["model"], config["dataset"], config["seed"])
        self.record: RunRecord | None = None
        self.trainer: Any = None
        self.bundle: Any = None
        self.folder: RunFolder | None = None
        self._in_memory = False
        self._best: dict[str, Any] | None = None
        self._others_wandb = wandb_runs.is_open()

    def prepare(self, resume: Path | None) -> None:
        """Load data, build model and trainer, take up a stopped run."""
        torch.autograd.set_detect_anomaly(False)
        process_group.connect(self.config["device"])
        logger = logging.getLogger()
        self.bundle = (self.hooks.load or factory.load_data)(self.config)
        if self.verbose:
            logger.info(self.bundle.dataset)
        factory.require_data(self.config, self.bundle.dataset)
        model = factory.build_model(self.config, self.bundle)
        if self.verbose:
            logger.info(model)
        try:
            self.trainer = trainer_class(self.config, model)(self.config, model)
        except ImportError as error:
            raise ConfigError(f"model '{self.config['model']}' cannot run here: {error}") from error
        self.trainer.header = {
            "identity": factory.identity(self.config, self.bundle),
            "config": factory.saved_settings(self.config),
        }
        if self.saved and process_group.leads():
            place = self.trainer.run_folder if resume is None else folder_of(resume)
            self.folder = RunFolder(place, record_folder(self.config)).take()
        if resume is not None:
            self.trainer.resume_checkpoint(resume)
            self.earlier = seconds_of(self.trainer.history)
        self.result.bigger = self.config["valid_metric_bigger"]
        if self.saved:
            self.result.folder = self.trainer.run_folder
            if process_group.leads():
                self._open_record()

    def _open_record(self) -> None:
        self.record = RunRecord(self.config, self.trainer.run_id, self.command)
        self.record.update(
            statistics=self.bundle.statistics,
            fingerprint=self.bundle.fingerprint,
            parameters=sum(part.numel() for part in self.trainer.model.parameters()),
        )
        self.result.record = self.record.write()

    def train(self, in_memory: bool = False) -> None:
        """Fit on the training split; the validation split decides on the epoch to keep.

        Args:
            in_memory: keep the best epoch in memory, for the test of a run that keeps no files.
        """
        self._in_memory = in_memory
        score, valid = self.trainer.fit(
            self.bundle.train_data,
            self.bundle.valid_data,
            verbose=self.verbose,
            saved=self.saved,
            show_progress=bool(self.config["show_progress"]) and self.verbose,
            callback_fn=lambda epoch, score: self._note(),
        )
        self.result.valid_score = float(score)
        self.result.valid = dict(valid or {})
        self.result.best_epoch = self.trainer.best_epoch
        if process_group.leads() and stood_still(self.trainer.history):
            self.trainer.logger.warning(
                f"the ranking loss of {len(self.trainer.history)} epochs stands where it began: "
                "this model has not learned to rank; raise stopping_step, epochs or learning_rate, "
                "or lower the weight of its other losses"
            )

    def _note(self) -> None:
        if self._in_memory and self.trainer.cur_step == 0:
            self._best = checkpoint.copy_state(self.trainer.model)
        if self.record is not None:
            self.record.take_training(self.trainer)
            self.record.write()
        if self.hooks.on_epoch is not None:
            self.hooks.on_epoch(self.trainer)

    def test(self) -> None:
        """Evaluate the best epoch on the test split."""
        show = bool(self.config["show_progress"]) and self.verbose
        if self._best is not None:
            checkpoint.restore_model(self.trainer.model, self._best, "in memory")
        try:
            with self.trainer.guard:
                result = self.trainer.evaluate(
                    self.bundle.test_data, load_best_model=self.saved, show_progress=show
                )
        except TrainingStoppedError as stop:
            raise TrainingStoppedError(f"{stop}; {self.trainer.way_on()}") from None
        self.result.test = dict(result) if result is not None else None
        if self.hooks.on_test is not None:
            self.hooks.on_test(self.trainer, self.bundle)

    def way_on(self, resumed: Path | None) -> str:
        """Say how to go on after a stop at any moment."""
        if self.trainer is None and resumed is not None:
            return f"go on with --resume={folder_of(resumed)}"
        return NOTHING_KEPT if self.trainer is None else self.trainer.way_on()

    def close(self, status: str, error: str | None = None) -> RunResult:
        """Write the record and close what is open."""
        self.result.status, self.result.error = status, error
        self.result.seconds = perf_counter() - self.started + self.earlier
        if self.record is not None:
            self.record.take_training(self.trainer)
            self.record.update(
                status=status,
                error=error,
                test=self.result.test,
                precision_over_recall=precision_over_recall(self.result.test),
                seconds=self.result.seconds,
            )
            self._write_end(status)
        if self.trainer is not None:
            self.trainer.tensorboard.close()
            if not self._others_wandb:
                wandb_runs.finish(self.trainer, self.trainer.run_id, status == "finished")
        if self.folder is not None:
            self.folder.release()
        return self.result

    def _write_end(self, status: str) -> None:
        """Write the last state of the record; a run that fails says why it does, not this."""
        try:
            self.record.write()  # type: ignore[union-attr]
        except ConfigError:
            if status == "finished":
                raise


@_log_ended()
def execute(
    config: Any,
    resumed: Path | None = None,
    saved: bool = True,
    test: bool = True,
    verbose: bool = True,
    command: Sequence[str] = (),
    hooks: Hooks | None = None,
) -> RunResult:
    """Train one configuration and test its best epoch.

    Args:
        config: the settled configuration.
        resumed: `last.pt` to go on from.
        saved: keep checkpoints and a record.
        test: evaluate on the test split at the end.
        verbose: log and show progress.
        command: how the run was started, for the record.
        hooks: what the caller adds.

    Raises:
        TrainingStoppedError: Ctrl-C or SIGTERM; the text says how to go on.
    """
    verbose = verbose and process_group.leads()
    init_seed(config["seed"], config["reproducibility"])
    if verbose:
        logger = start_log(config)
        logger.info(" ".join(command) or f"run {config['model']} on {config['dataset']}")
        logger.info(config)
    stages = Run(config, saved, verbose, command, hooks)
    try:
        stages.prepare(resumed)
        stages.train(in_memory=test and not saved)
        if test:
            stages.test()
    except TrainingStoppedError as stop:
        stages.close("interrupted", str(stop))
        raise
    except KeyboardInterrupt as stop:  # outside the batches, or the second signal
        said = f"stopped by {name_of(stop)}; {stages.way_on(resumed)}"
        stages.close("interrupted", said)
        raise TrainingStoppedError(said) from None
    except ModuleNotFoundError as error:  # some of RecBole's models import as late as in a step
        stages.close("failed", str(error))
        raise ConfigError(f"model '{config['model']}' cannot run here: {error}") from error
    except Exception as error:
        label = config["LABEL_FIELD"]
        if isinstance(error, KeyError) and error.args == (label,):
            error = ConfigError(
                f"model '{config['model']}' learns from labels, but no column '{label}' is there: "
                "draw negatives (train_neg_sample_args), which makes it, or set threshold to make "
                "it of a column such as the rating"
            )
        stages.close("failed", f"{type(error).__name__}: {error}")
        raise error
    finally:
        process_group.disconnect()
    result = stages.close("finished")
    if verbose:
        logger.info(set_color("best valid ", "yellow") + f": {result.valid}")
        logger.info(set_color("test result", "yellow") + f": {result.test}")
    return result

"""Runs from one call: train and test a model, or several models over several seeds side by side."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from recbole.utils import init_logger, init_seed, set_color

from recbole_slif import checkpoint as files
from recbole_slif import factory
from recbole_slif.config import SlifConfig
from recbole_slif.config_yaml import read_options
from recbole_slif.errors import ConfigError, SlifError
from recbole_slif.interrupt import TrainingStoppedError
from recbole_slif.records import RunRecord, precision_over_recall
from recbole_slif.trainer import trainer_class

_log_handlers: list[logging.Handler] = []


@dataclass
class RunResult:
    """What a run gave.

    Attributes:
        model, dataset, seed: what was run.
        status: `finished`, `failed` or `interrupted`.
        valid, test: metrics of the best epoch; `test` is None where it was not asked for.
        best_epoch: counted from 0.
        valid_score: the best value of `valid_metric`.
        seconds: wall time of the whole run, data included.
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
    """Start RecBole's coloured log with a file below `log/`, in place of the last run's."""
    root = logging.getLogger()
    for handler in _log_handlers:
        root.removeHandler(handler)
        handler.close()
    _log_handlers.clear()
    before = set(root.handlers)
    init_logger(config)
    _log_handlers.extend(handler for handler in root.handlers if handler not in before)
    return root


class _Run:
    """One run in its stages; each stage leaves its result on the object."""

    def __init__(self, config: Any, saved: bool, verbose: bool, command: Sequence[str]) -> None:
        self.config = config
        self.saved = saved
        self.verbose = verbose
        self.command = command
        self.started = perf_counter()
        self.result = RunResult(config["model"], config["dataset"], config["seed"])
        self.record: RunRecord | None = None
        self.trainer: Any = None
        self.bundle: Any = None

    def prepare(self, resume: Path | None) -> None:
        """Load data, build model and trainer, take up a stopped run."""
        torch.autograd.set_detect_anomaly(False)
        logger = logging.getLogger()
        self.bundle = factory.load_data(self.config)
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
        if resume is not None:
            self.trainer.resume_checkpoint(resume)
        self.result.bigger = self.config["valid_metric_bigger"]
        if self.saved:
            self._open_record()

    def _open_record(self) -> None:
        self.record = RunRecord(self.config, self.trainer.run_id, self.command)
        self.record.update(
            statistics=self.bundle.statistics,
            fingerprint=self.bundle.fingerprint,
            parameters=sum(part.numel() for part in self.trainer.model.parameters()),
        )
        self.result.record = self.record.write()
        self.result.folder = self.trainer.run_folder

    def train(self) -> None:
        """Fit on the training split; the validation split decides on the epoch to keep."""
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

    def _note(self) -> None:
        if self.record is not None:
            self.record.take_training(self.trainer)
            self.record.write()

    def test(self) -> None:
        """Evaluate the best epoch on the test split."""
        show = bool(self.config["show_progress"]) and self.verbose
        result = self.trainer.evaluate(
            self.bundle.test_data, load_best_model=self.saved, show_progress=show
        )
        self.result.test = dict(result) if result is not None else None

    def close(self, status: str, error: str | None = None) -> RunResult:
        """Write the record and close what is open."""
        self.result.status, self.result.error = status, error
        self.result.seconds = perf_counter() - self.started
        if self.record is not None:
            self.record.take_training(self.trainer)
            self.record.update(
                status=status,
                error=error,
                test=self.result.test,
                precision_over_recall=precision_over_recall(self.result.test),
                seconds=self.result.seconds,
            )
            self.record.write()
        if self.trainer is not None:
            self.trainer.tensorboard.close()
        return self.result


def run(
    model: str | type,
    dataset: str,
    config_files: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    argv: Sequence[str] | None = None,
    saved: bool = True,
    test: bool = True,
    verbose: bool = True,
    command: Sequence[str] = (),
) -> RunResult:
    """Train a model and test its best epoch.

    Args:
        model: a name (ours, then RecBole's), `module:Class`, or a recommender class.
        dataset: name of a data set folder below `data_path`.
        config_files: YAML files, later ones win.
        overrides: settings that win over the files.
        argv: `--key=value` words that win over everything.
        saved: keep checkpoints and a record.
        test: evaluate on the test split at the end.
        verbose: log and show progress.
        command: how the run was started, for the record.

    Raises:
        ConfigError: a name, key or value is not usable.
        DataError: a data file is not usable.
        TrainingStoppedError: Ctrl-C or SIGTERM; the text says how to go on.
    """
    config = SlifConfig(model, dataset, config_files, overrides, argv)
    return _execute(config, None, saved, test, verbose, command)


def resume(
    path: Path | str,
    overrides: Mapping[str, Any] | None = None,
    *,
    model: str | type | None = None,
    test: bool = True,
    verbose: bool = True,
    command: Sequence[str] = (),
) -> RunResult:
    """Go on with a run from its folder or `last.pt`, as if it had never been stopped.

    Args:
        path: run folder or checkpoint.
        overrides: settings to change, for instance more `epochs`.
        model: class or `module:Class` of a model that is neither ours nor RecBole's.
        test: evaluate on the test split at the end.
        verbose: log and show progress.
        command: how the run was started, for the record.

    Raises:
        CheckpointError: the checkpoint is not usable or does not fit the data.
    """
    file = files.resolve(path, ("last.pt",))
    config = factory.rebuild_config(files.load(file).header, overrides, model)
    return _execute(config, file, True, test, verbose, command)


def _execute(
    config: Any,
    resumed: Path | None,
    saved: bool,
    test: bool,
    verbose: bool,
    command: Sequence[str],
) -> RunResult:
    init_seed(config["seed"], config["reproducibility"])
    if verbose:
        logger = start_log(config)
        logger.info(" ".join(command) or f"run {config['model']} on {config['dataset']}")
        logger.info(config)
    stages = _Run(config, saved, verbose, command)
    try:
        stages.prepare(resumed)
        stages.train()
        if test:
            stages.test()
    except (TrainingStoppedError, KeyboardInterrupt) as stop:
        stages.close("interrupted", str(stop))
        raise
    except Exception as error:
        stages.close("failed", f"{type(error).__name__}: {error}")
        raise
    result = stages.close("finished")
    if verbose:
        logger.info(set_color("best valid ", "yellow") + f": {result.valid}")
        logger.info(set_color("test result", "yellow") + f": {result.test}")
    return result


def run_many(
    models: Sequence[str | type],
    dataset: str,
    config_files: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    seeds: Sequence[int] | int | None = None,
    *,
    argv: Sequence[str] | None = None,
    command: Sequence[str] = (),
    verbose: bool = True,
    debug: bool = False,
) -> list[RunResult]:
    """Run several models over several seeds on one and the same split.

    The split is drawn from `split_seed`, or from the base `seed` if that is not set, so it stays
    the same while the training seeds vary. A run that fails is noted and the others go on.

    Args:
        models: names or classes, see `run`.
        dataset: name of a data set folder below `data_path`.
        config_files: YAML files for all runs; keys a model does not have are an error.
        overrides: settings for all runs; a key that only some of the models have is theirs.
        seeds: training seeds, or how many of them from the configured one on; None takes that.
        argv: `--key=value` words for all runs.
        command: how the comparison was started, for the records.
        verbose: log and show progress.
        debug: print the traceback of a run that fails.

    Returns:
        One result for each model and seed, in that order.

    Raises:
        ConfigError: a model name, key or value is not usable; found before the first run starts.
        TrainingStoppedError: Ctrl-C or SIGTERM.
    """
    plans = _plans(models, dataset, config_files, overrides or {}, read_options(list(argv or ())))
    results = []
    for build in plans:
        base = build({})
        split_seed = base["seed"] if base["split_seed"] is None else base["split_seed"]
        for seed in _seeds(seeds, base["seed"]):
            config = build({"seed": str(seed), "split_seed": str(split_seed)})
            results.append(_guarded(config, verbose, command, debug))
    return results


def _plans(
    models: Sequence[str | type],
    dataset: str,
    files: Sequence[str] | None,
    overrides: Mapping[str, Any],
    words: Mapping[str, str],
) -> list[Callable[[Mapping[str, str]], SlifConfig]]:
    """Return for each model a function from further options to its configuration.

    A key that only another model knows is left out; one that nobody knows is left for `SlifConfig`
    to refuse.
    """
    places = {key: value for key, value in {**overrides, **words}.items() if key == "data_path"}
    known = [factory.accepted_keys(model, dataset, places) for model in models]
    shared = frozenset().union(*known)
    plans: list[Callable[[Mapping[str, str]], SlifConfig]] = []
    for model, keys in zip(models, known, strict=True):
        foreign = shared - keys
        mine = {key: value for key, value in overrides.items() if key not in foreign}
        line = {key: text for key, text in words.items() if key not in foreign}
        plans.append(partial(_planned, model, dataset, files, mine, line))
    for build in plans:
        build({})
    return plans


def _planned(
    model: str | type,
    dataset: str,
    files: Sequence[str] | None,
    overrides: Mapping[str, Any],
    words: Mapping[str, str],
    more: Mapping[str, str],
) -> SlifConfig:
    line = [f"--{key}={text}" for key, text in {**words, **more}.items()]
    return SlifConfig(model, dataset, files, overrides, line)


def _seeds(asked: Sequence[int] | int | None, base: int) -> list[int]:
    if asked is None:
        return [base]
    return [base + step for step in range(asked)] if isinstance(asked, int) else list(asked)


def _guarded(config: Any, verbose: bool, command: Sequence[str], debug: bool) -> RunResult:
    try:
        return _execute(config, None, True, True, verbose, command)
    except TrainingStoppedError:
        raise
    except Exception as error:
        if debug:
            traceback.print_exc(file=sys.stderr)
        text = str(error) if isinstance(error, SlifError) else f"{type(error).__name__}: {error}"
        return RunResult(config["model"], config["dataset"], config["seed"], "failed", error=text)


def objective(
    config_dict: Mapping[str, Any],
    config_files: Sequence[str] | None = None,
    *,
    model: str | type | None = None,
    dataset: str | None = None,
) -> dict[str, Any]:
    """Train once and return the validation metric, for a search; the test split is not read.

    Args:
        config_dict: the settings of this trial.
        config_files: YAML files below them.
        model: model to train, else the key `model` decides.
        dataset: data set, else the key `dataset` decides.

    Returns:
        The dictionary RecBole's `HyperTuning` expects, with `test_result` None.
    """
    config = SlifConfig(model, dataset, config_files, config_dict)
    result = _execute(config, None, saved=False, test=False, verbose=False, command=())
    return {
        "model": result.model,
        "best_valid_score": result.valid_score,
        "valid_score_bigger": result.bigger,
        "best_valid_result": result.valid,
        "test_result": None,
    }

"""Runs from one call: train and test a model, or several models over several seeds side by side."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from recbole_slif import checkpoint as files
from recbole_slif import factory, process_group
from recbole_slif.config import SlifConfig
from recbole_slif.config_yaml import read_options
from recbole_slif.errors import SlifError
from recbole_slif.interrupt import TrainingStoppedError
from recbole_slif.run_folder import PREVIOUS, load_last
from recbole_slif.seeds import training_seeds
from recbole_slif.stages import RunResult, execute


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
    process_group.begin()
    config = SlifConfig(model, dataset, config_files, overrides, argv)
    return execute(config, None, saved, test, verbose, command)


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
    process_group.begin()
    file = files.resolve(path, (files.LAST, PREVIOUS))
    config = factory.rebuild_config(load_last(file)[1].header, overrides, model)
    return execute(config, file, True, test, verbose, command)


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
    process_group.require_one("a comparison")
    models = [models] if isinstance(models, (str, type)) else models
    plans = _plans(models, dataset, config_files, overrides or {}, read_options(list(argv or ())))
    results = []
    for build in plans:
        base = build({})
        split_seed = base["seed"] if base["split_seed"] is None else base["split_seed"]
        for seed in training_seeds(1 if seeds is None else seeds, base["seed"]):
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


def _guarded(config: Any, verbose: bool, command: Sequence[str], debug: bool) -> RunResult:
    try:
        return execute(config, None, True, True, verbose, command)
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
    process_group.require_one("a search")
    config = SlifConfig(model, dataset, config_files, config_dict)
    result = execute(config, None, saved=False, test=False, verbose=False, command=())
    return {
        "model": result.model,
        "best_valid_score": result.valid_score,
        "valid_score_bigger": result.bigger,
        "best_valid_result": result.valid,
        "test_result": None,
    }

"""The command `hyper`: reads what is searched, searches, and writes what came of it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from recbole_slif import quick_start
from recbole_slif.atomic_files import make_folder
from recbole_slif.config import SlifConfig
from recbole_slif.config_yaml import chosen_name, read_literal, read_options, split_names
from recbole_slif.console import Parser, guarded
from recbole_slif.errors import ConfigError
from recbole_slif.experiment.plan import decisive_settings
from recbole_slif.experiment.pool import DataPool, digest
from recbole_slif.hyper.edges import edge_notes
from recbole_slif.hyper.hyperopt_search import Search
from recbole_slif.hyper.results import (
    Row,
    Train,
    TrialsFile,
    beside,
    best_of,
    write_results,
)
from recbole_slif.hyper.shared_search import (
    Task,
    join_study,
    other_studies,
    run_shared,
    short_hash,
    study_name,
)
from recbole_slif.hyper.space import (
    Parameter,
    check_algorithm,
    check_space,
    read_space,
    space_file,
)
from recbole_slif.processes import require_workers
from recbole_slif.sharing.address import read_address
from recbole_slif.sharing.study import SharedStudy

_EPILOG = """\
All other --key=value options are fixed settings of every trial.

backends:
  hyperopt  RecBole's HyperTuning in one process (default)
  optuna    processes and machines share a study: pip install 'recbole-slif[search]'
            --storage=search.db         SQLite, for processes of one machine
            --storage=search.journal    a journal file, also on a shared disk (default: beside
                                        the output file); a folder stands for a journal in it
            --storage=postgresql://user@host/name, mysql://...   for machines that share a network
            Another machine joins by the same command with the same address. Trials that a killed
            process was at are tried again, finished ones never.
  ray       trials on Ray, here or on a cluster: pip install 'ray[tune]' 'recbole-slif[search]'

examples:
  recbole-slif hyper --model=SLIFMR --algo=random --max_evals=20
  recbole-slif hyper --model=KGIN --backend=optuna --workers=2
  recbole-slif hyper --model=KGIN --backend=optuna --algo=bayes --storage=postgresql://me@db/slif
"""


@dataclass(frozen=True)
class Order:
    """A search as it was asked for.

    Attributes:
        options: the command's own options.
        base: configuration of a trial without the searched values.
        parameters: what is searched.
        train: trains with one set of values.
        output: file of the table; the trials and the best settings lie beside it.
    """

    options: argparse.Namespace
    base: SlifConfig
    parameters: list[Parameter]
    train: Train
    output: Path

    @property
    def title(self) -> str:
        """Model and data set."""
        return f"{self.options.model}-{self.options.dataset}"

    @property
    def trials_file(self) -> Path:
        """File of the trials."""
        return beside(self.output, ".trials.jsonl")

    def task(self) -> Task:
        """Return the search for a backend that shares it out."""
        asked = self.options
        return Task(
            self.train,
            tuple(self.parameters),
            bool(self.base["valid_metric_bigger"]),
            asked.algo,
            asked.max_evals,
            self.base["seed"],
            asked.early_stop,
            asked.debug,
        )


def _parser() -> Parser:
    text = "Search hyper-parameters; the validation metric decides, the test split is not read."
    parser = Parser("hyper", text, _EPILOG)
    parser.add_argument("--model", help="model to tune, default that of --config_files or SLIFMR")
    parser.add_argument("--dataset", help="data set, default that of --config_files or ml-100k")
    parser.add_argument("--params_file", help=".hyper file, default properties/hyper/MODEL.hyper")
    parser.add_argument("--config_files", help="YAML files below the trial's values")
    parser.add_argument("--algo", default="exhaustive", help="exhaustive, random or bayes")
    parser.add_argument("--max_evals", type=int, help="most trials, of the whole study")
    parser.add_argument(
        "--early_stop", type=int, default=10, help="trials without progress, not for exhaustive"
    )
    parser.add_argument("--output_file", help="result table, default hyper/MODEL-DATASET.result")
    parser.add_argument("--backend", default="hyperopt", help=", ".join(_BACKENDS))
    parser.add_argument("--workers", type=int, default=1, help="processes, not for hyperopt")
    parser.add_argument("--storage", help="where a study of Optuna's is shared, see below")
    parser.add_argument(
        "--study", help="its name, default MODEL-DATASET and a hash of ranges, settings and data"
    )
    return parser


def search_command(words: Sequence[str]) -> int:
    """Run a search from command line words."""
    options, extra = _parser().parse_known_args(words)
    _check_options(options)
    fixed = {key: read_literal(text) for key, text in read_options(extra).items()}
    files = split_names(options.config_files)
    options.model = chosen_name("model", options.model, files, "SLIFMR")
    options.dataset = chosen_name("dataset", options.dataset, files, "ml-100k")
    base = SlifConfig(options.model, options.dataset, files, fixed)
    source = space_file(options.params_file, options.model)
    parameters = read_space(source)
    _refuse_fixed(parameters, fixed, source)
    check_space(parameters, base)
    check_algorithm(options.algo, parameters)
    output = _output(options)
    train = partial(_train_trial, options.model, options.dataset, files, fixed)
    order = Order(options, base, parameters, train, output)
    rows = _BACKENDS[options.backend](order)
    title = f"{options.model} on {options.dataset}, valid {base['valid_metric']}"
    best = best_of(rows)
    print(write_results(output, rows, best, title))
    for note in edge_notes(parameters, best["params"], partial(_is_allowed, base)):
        print(f"note    {note}")
    return 0


def _output(options: argparse.Namespace) -> Path:
    """Return the file of the table, whose folder is made."""
    usual = f"{options.model}-{options.dataset}.result"
    output = Path(options.output_file or f"hyper/{usual}")
    if output.is_dir() or (options.output_file or "").endswith(("/", os.sep)):
        raise ConfigError(f"--output_file: '{output}' is a folder; name a file, {output / usual}")
    make_folder(output.parent, "choose another place with --output_file")
    return output


def _refuse_fixed(parameters: Sequence[Parameter], fixed: Mapping[str, Any], source: Path) -> None:
    """Refuse a key that is fixed on the line and searched, where the trial's value would win."""
    for name in (one.name for one in parameters if one.name in fixed):
        raise ConfigError(
            f"--{name}={fixed[name]} fixes what '{source}' searches; leave the option out, or name "
            f"a file without a line for {name} by --params_file"
        )


def _is_allowed(base: SlifConfig, name: str, value: Any) -> bool:
    try:
        base.converted(name, value, "search")
    except ConfigError:
        return False
    return True


def _check_options(options: argparse.Namespace) -> None:
    if options.max_evals is not None and options.max_evals < 1:
        raise ConfigError(f"--max_evals must be at least 1, not {options.max_evals}")
    if options.early_stop < 1:
        raise ConfigError(f"--early_stop must be at least 1, not {options.early_stop}")
    require_workers(options.workers)
    if options.backend not in _BACKENDS:
        known = ", ".join(_BACKENDS)
        raise ConfigError(f"--backend is one of {known}, not '{options.backend}'")
    shared = options.backend == "optuna"
    for name in ("storage", "study"):
        if getattr(options, name) and not shared:
            raise ConfigError(f"--{name} goes with --backend=optuna")
    if options.workers > 1 and options.backend == "hyperopt":
        raise ConfigError("--workers goes with --backend=optuna or --backend=ray")


def _by_hyperopt(order: Order) -> list[Row]:
    asked = order.options
    search = Search(
        order.train,
        order.parameters,
        asked.algo,
        asked.max_evals,
        _kept_trials(order),
        order.base["seed"],
        asked.early_stop,
    )
    search.run()
    return search.rows


def _by_optuna(order: Order) -> list[Row]:
    asked, task = order.options, order.task()
    address = read_address(asked.storage or str(beside(order.output, ".journal")))
    if address.place.rpartition(":///")[2] == str(order.output.resolve()):
        raise ConfigError(f"--output_file: '{order.output}' is the storage; name another file")
    identity = _identity(order)
    name = asked.study or study_name(order.title, identity)
    study = SharedStudy(address, name, task.maximize)
    join_study(study, identity)
    notice = None if asked.study else other_studies(study, order.title, identity)
    print(f"study {name} in {address.shown}")
    if notice:
        print(f"note: {notice}")
    rows = run_shared(task, study, asked.workers)
    file = TrialsFile(order.trials_file, _scope(identity))
    moved = file.replace(rows)
    if moved is not None:
        print(f"note: trials of another search were in {file.path}, now in {moved}")
    return rows


def _identity(order: Order) -> dict[str, Any]:
    """Return all that decides what a set of values scores, but for the values."""
    base, searched = order.base, {one.name for one in order.parameters}
    model = base.model_class
    settings = {key: value for key, value in decisive_settings(base).items() if key not in searched}
    return {
        "model": f"{model.__module__}.{model.__qualname__}",
        "searched": {one.name: [one.kind, list(one.values)] for one in order.parameters},
        "settings": settings,
        "data": digest(DataPool().data(base)),
    }


def _scope(identity: Mapping[str, Any]) -> str:
    """Hash what decides a trial's score beside its values; other ranges leave it as it is."""
    return short_hash({part: identity[part] for part in identity if part != "searched"})


def _kept_trials(order: Order) -> TrialsFile:
    """Return the trials' file, with a note if trials under other settings are in it."""
    file = TrialsFile(order.trials_file, _scope(_identity(order)))
    foreign = file.foreign()
    if foreign:
        print(
            f"note: {foreign} trials in {file.path} were made under other settings or data "
            "and do not count; --output_file keeps searches apart"
        )
    return file


def _by_ray(order: Order) -> list[Row]:
    from recbole_slif.hyper.ray_search import load_ray, run_on_ray

    load_ray()  # says what is missing before data are read
    return run_on_ray(order.task(), _kept_trials(order), order.options.workers)


_BACKENDS: dict[str, Callable[[Order], list[Row]]] = {
    "hyperopt": _by_hyperopt,
    "optuna": _by_optuna,
    "ray": _by_ray,
}


def _train_trial(
    model: str,
    dataset: str,
    files: Sequence[str],
    fixed: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    return quick_start.objective({**fixed, **settings}, files, model=model, dataset=dataset)


def main(argv: Sequence[str]) -> int:
    """Run a search; a mistake in the input is one line on stderr and exit code 2."""
    return guarded(search_command, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

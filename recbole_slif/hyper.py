"""Hyper-parameter search through RecBole's `HyperTuning`, decided by the validation metric alone.

A search writes three files beside each other: the result table, the trials (JSON lines, from which
an interrupted search goes on without repeating a training) and the best settings as YAML, ready for
`--config_files`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from recbole.trainer import HyperTuning
from tabulate import tabulate

from recbole_slif import quick_start
from recbole_slif.checkpoint import write_atomic
from recbole_slif.config import SlifConfig, properties_dir
from recbole_slif.config_yaml import read_literal, read_options, split_names
from recbole_slif.console import Parser, guarded, one_line
from recbole_slif.errors import ConfigError, SlifError
from recbole_slif.interrupt import TrainingStoppedError

_RANGES = {"uniform": 2, "quniform": 3, "loguniform": 2}
ALGORITHMS = ("exhaustive", "random", "bayes")


@dataclass(frozen=True)
class Parameter:
    """One line of a `.hyper` file.

    Attributes:
        name: configuration key.
        kind: `choice`, `uniform`, `quniform` or `loguniform` (bounds of the logarithm).
        values: the choices, or the numbers of the range.
    """

    name: str
    kind: str
    values: tuple[Any, ...]

    def space(self) -> Any:
        """Return hyperopt's expression; a choice that is a list goes as text, as RecBole's do."""
        from hyperopt import hp

        if self.kind != "choice":
            return getattr(hp, self.kind)(self.name, *self.values)
        flat = [str(value) if isinstance(value, list | tuple) else value for value in self.values]
        return hp.choice(self.name, flat)


def read_space(path: Path | str) -> list[Parameter]:
    """Read a RecBole `.hyper` file: lines `name type values`; nothing in it is run.

    Raises:
        ConfigError: naming the file and the line that cannot be read.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"parameter file '{path}' cannot be read: {reason}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if text:
            found.append(_read_line(text, f"parameter file '{path}' line {number}"))
    names = [parameter.name for parameter in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice or not found:
        fault = f"names {', '.join(sorted(twice))} twice" if twice else "names no parameter"
        raise ConfigError(f"parameter file '{path}' {fault}")
    return found


def check_space(parameters: Sequence[Parameter], config: SlifConfig) -> None:
    """Check before the first trial that the model has each key and takes each choice.

    Raises:
        ConfigError: naming the key.
    """
    for parameter in parameters:
        values = parameter.values if parameter.kind == "choice" else [config[parameter.name]]
        for value in values:
            config.converted(parameter.name, _settle(value), "parameter file")


def _space_file(given: str | None, model: str) -> Path:
    """Return the file that was named, else the model's own in `properties/hyper`."""
    source = Path(given) if given else properties_dir() / "hyper" / f"{model}.hyper"
    if not given and not source.is_file():
        raise ConfigError(
            f"model '{model}' comes without a parameter file; write one of lines such as "
            "`learning_rate choice [0.01, 0.001]` and name it with --params_file=FILE"
        )
    return source


def _read_line(text: str, where: str) -> Parameter:
    parts = text.split(None, 2)
    if len(parts) < 3:
        raise ConfigError(f"{where}: expected 'name type values', found '{text}'")
    name, kind, values = parts
    if kind == "choice":
        choices = _read_choices(values)
        if not choices:
            raise ConfigError(f"{where}: choices of {name} are no list: {values}")
        return Parameter(name, kind, tuple(choices))
    if kind not in _RANGES:
        known = ", ".join(("choice", *_RANGES))
        raise ConfigError(f"{where}: type '{kind}' of {name} is none of {known}")
    try:
        numbers = tuple(float(part) for part in values.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != _RANGES[kind] or numbers[0] >= numbers[1]:
        raise ConfigError(f"{where}: {kind} of {name} needs {_RANGES[kind]} numbers, low first")
    return Parameter(name, kind, numbers)


def _read_choices(text: str) -> list[Any]:
    listed = read_literal(text)
    if not isinstance(listed, list | tuple):
        return []
    return [read_literal(entry) if isinstance(entry, str) else entry for entry in listed]


class Search(HyperTuning):
    """RecBole's search with kept trials, a seed, and failures that do not end it.

    Args:
        train: takes the trial's settings and returns what `quick_start.objective` returns.
        parameters: what is searched.
        algo: `exhaustive`, `random` or `bayes`.
        max_evals: most trials; None means all combinations (exhaustive) or 100.
        trials_file: JSON lines of finished trials; those in it are not trained again.
        seed: of the draws.
        early_stop: trials without progress after which random and bayes end.
    """

    best_score: float | None
    best_params: dict[str, Any] | None

    def __init__(
        self,
        train: Callable[[Mapping[str, Any]], dict[str, Any]],
        parameters: Sequence[Parameter],
        algo: str = "exhaustive",
        max_evals: int | None = None,
        trials_file: Path | None = None,
        seed: int = 2020,
        early_stop: int = 10,
    ) -> None:
        if algo not in ALGORITHMS:
            raise ConfigError(f"--algo is one of {', '.join(ALGORITHMS)}, not '{algo}'")
        ranges = [entry.name for entry in parameters if entry.kind != "choice"]
        if algo == "exhaustive" and ranges:
            raise ConfigError(
                f"{', '.join(ranges)} have ranges; search with --algo=random or bayes"
            )
        space = {entry.name: entry.space() for entry in parameters}
        super().__init__(train, space=space, algo=algo, early_stop=early_stop)
        sizes = [len(entry.values) for entry in parameters if entry.kind == "choice"]
        if algo == "exhaustive":
            self.max_evals = int(np.prod(sizes))
            # a duplicate draw is not progress, so no early end before all combinations are seen
            self.early_stop_fn = None
        self.max_evals = min(self.max_evals, max_evals) if max_evals else self.max_evals
        self.seed = seed
        self.trials_file = trials_file
        self.rows: list[dict[str, Any]] = []
        self._kept = _read_trials(trials_file)

    def trial(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Train with one set of values, or take the result from the trials file."""
        import hyperopt

        settings = {name: _settle(value) for name, value in params.items()}
        key = json.dumps(settings, sort_keys=True)
        row = self._kept.get(key) or self._train(settings, key)
        self.rows.append(row)
        if row["score"] is None:
            return {"status": hyperopt.STATUS_FAIL}
        score, bigger = row["score"], row["bigger"]
        best = self.best_score
        if best is None or (score > best if bigger else score < best):
            self.best_score, self.best_params = score, settings
        return {"loss": -score if bigger else score, "status": hyperopt.STATUS_OK}

    def _train(self, settings: dict[str, Any], key: str) -> dict[str, Any]:
        try:
            result = self.objective_function(settings)
            row = {
                "params": settings,
                "score": float(result["best_valid_score"]),
                "bigger": bool(result["valid_score_bigger"]),
                "valid": dict(result["best_valid_result"] or {}),
            }
        except (ConfigError, TrainingStoppedError):
            raise
        except SlifError as error:
            row = {"params": settings, "score": None, "error": one_line(error)}
        if self.trials_file is not None:
            with self.trials_file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
        self._kept[key] = row
        return row

    def run(self) -> None:
        """Search, with hyperopt's progress bar.

        Raises:
            SlifError: every trial failed.
        """
        from hyperopt import fmin
        from hyperopt.exceptions import AllTrialsFailed

        with contextlib.suppress(AllTrialsFailed):
            fmin(
                self.trial,
                self.space,
                algo=self.algo,
                max_evals=self.max_evals,
                early_stop_fn=self.early_stop_fn,
                rstate=np.random.default_rng(self.seed),
                return_argmin=False,
            )
        if self.best_params is None:
            last = self.rows[-1]["error"] if self.rows else "none was drawn"
            raise SlifError(f"no trial gave a result; the last one: {last}")

    def table(self) -> str:
        """Lay out the trials, best first."""
        done = [row for row in self.rows if row["score"] is not None]
        done.sort(key=lambda row: -row["score"] if row["bigger"] else row["score"])
        failed = [row for row in self.rows if row["score"] is None]
        names = list(self.rows[0]["params"])
        rows = [[*row["params"].values(), f"{row['score']:.6f}"] for row in done]
        rows += [[*row["params"].values(), f"failed: {row['error']}"] for row in failed]
        headers = [*names, "valid score"]
        return tabulate(rows, headers, tablefmt="simple", disable_numparse=True)


def _settle(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    value = read_literal(value) if isinstance(value, str) else value
    return list(value) if isinstance(value, tuple) else value


def _read_trials(path: Path | None) -> dict[str, dict[str, Any]]:
    """Read kept trials; a line cut off by a crash is left out."""
    kept: dict[str, dict[str, Any]] = {}
    if path is None or not path.is_file():
        return kept
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row.get("score") is not None:
            kept[json.dumps(row["params"], sort_keys=True)] = row
    return kept


def _parser() -> Parser:
    epilog = "All other --key=value options are fixed settings of every trial."
    text = "Search hyper-parameters; the validation metric decides, the test split is not read."
    parser = Parser("hyper", text, epilog)
    parser.add_argument("--model", default="SLIFMR", help="model to tune, default SLIFMR")
    parser.add_argument("--dataset", default="ml-100k", help="data set folder, default ml-100k")
    parser.add_argument("--params_file", help=".hyper file, default properties/hyper/MODEL.hyper")
    parser.add_argument("--config_files", help="YAML files below the trial's values")
    parser.add_argument("--algo", default="exhaustive", help="exhaustive, random or bayes")
    parser.add_argument("--max_evals", type=int, help="most trials")
    parser.add_argument(
        "--early_stop", type=int, default=10, help="trials without progress, not for exhaustive"
    )
    parser.add_argument("--output_file", help="result table, default hyper/MODEL-DATASET.result")
    return parser


def search_command(words: Sequence[str]) -> int:
    """Run a search from command line words."""
    options, extra = _parser().parse_known_args(words)
    fixed = {key: read_literal(text) for key, text in read_options(extra).items()}
    files = split_names(options.config_files)
    if options.max_evals is not None and options.max_evals < 1:
        raise ConfigError(f"--max_evals must be at least 1, not {options.max_evals}")
    base = SlifConfig(options.model, options.dataset, files, fixed)
    parameters = read_space(_space_file(options.params_file, options.model))
    check_space(parameters, base)
    output = Path(options.output_file or f"hyper/{options.model}-{options.dataset}.result")
    output.parent.mkdir(parents=True, exist_ok=True)

    train = partial(_train_trial, options.model, options.dataset, files, fixed)
    search = Search(
        train,
        parameters,
        options.algo,
        options.max_evals,
        output.with_suffix(".trials.jsonl"),
        base["seed"],
        options.early_stop,
    )
    search.run()
    best = output.with_suffix(".best.yaml")
    print(f"\n{search.table()}\n")
    title = f"# best of {len(search.rows)} trials of {options.model} on {options.dataset}, "
    title += f"valid {base['valid_metric']} {search.best_score:.6f}\n"
    write_atomic(output, f"{search.table()}\n".encode())
    write_atomic(best, (title + yaml.safe_dump(search.best_params, sort_keys=True)).encode())
    print(f"best: {search.best_params}\ntable   {output}\nuse it  --config_files={best}")
    return 0


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

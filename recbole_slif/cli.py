"""The command line: `recbole-slif COMMAND`, and `run_recbole_slif.py`, whose command is `run`."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence

from tabulate import tabulate

from recbole_slif import process_group, quick_start
from recbole_slif.config import recbole_models
from recbole_slif.config_yaml import chosen_name, read_literal, read_options, split_names
from recbole_slif.console import Parser, compare_table, guarded, run_summary
from recbole_slif.errors import ConfigError
from recbole_slif.registry import MODELS
from recbole_slif.seeds import parse_seeds
from recbole_slif.stages import RunResult

DEFAULT_MODEL = "SLIFMR"
DEFAULT_DATASET = "ml-100k"

_SETTINGS_HELP = """\
every configuration key is an option as well, --key=value or --key value:
  --epochs=50 --learning_rate=0.002 --train_batch_size=2048 --topk=[10,20]
  --data_path=dataset/ --checkpoint_dir=saved --gpu_id='' (CPU) --show_progress=False
The files in properties/ list all keys with their meaning; --config_files adds your own.

examples:
"""
_RUN_EXAMPLES = """\
  {prog} --model=SLIFMR
  {prog} --model=LightGCN --dataset=ml-100k --n_layers=3
  {prog} --models=Pop,BPR,LightGCN --seeds=3
  {prog} --resume=saved/SLIFMR-ml-100k-20260101-120000-abc123
several processes train one model (docs/PROCESSES.md):
  torchrun --standalone --nproc_per_node=2 run_recbole_slif.py --model=SLIFMR
"""
_COMPARE_EXAMPLES = """\
  {prog} --models=Pop,BPR,LightGCN
  {prog} --models=LightGCN,SLIFMR --dataset=ml-100k --seeds=3
  {prog} --model=SLIFMR --seeds=1,2,3
"""


def _run_parser(command: str, description: str) -> Parser:
    compares = command == "compare"
    examples = _COMPARE_EXAMPLES if compares else _RUN_EXAMPLES
    epilog = _SETTINGS_HELP + examples.format(prog=f"recbole-slif {command}".strip())
    parser = Parser(command, description, epilog)
    parser.add_argument(
        "--model", help=f"model to train, default that of --config_files, else {DEFAULT_MODEL}"
    )
    parser.add_argument("--models", help="several models side by side, parted by commas")
    parser.add_argument(
        "--dataset", help=f"data set folder, default that of --config_files, else {DEFAULT_DATASET}"
    )
    parser.add_argument("--config_files", help="YAML files, parted by commas; later ones win")
    parser.add_argument("--seeds", help="number of seeds (5) or a list of them (1,2,3)")
    resume = argparse.SUPPRESS if compares else "run folder or last.pt to go on with"
    parser.add_argument("--resume", metavar="PATH", help=resume)
    if not compares:
        parser.add_argument("--experiment", help="a planned series instead (experiment --help)")
    return parser


def run_command(words: Sequence[str]) -> int:
    """Train one model, or several where `--models` or `--seeds` is given, or an experiment."""
    if any(word.partition("=")[0] == "--experiment" for word in words):
        process_group.require_one("an experiment")
        return _outside("experiment", words)
    parser = _run_parser("run", "Train a model, keep its best epoch by validation, test it.")
    options, settings = parser.parse_known_args(words)
    if options.resume:
        if options.models or options.dataset or options.config_files or options.seeds:
            raise ConfigError("--resume takes data set, seed and files from the checkpoint")
        changes = {key: read_literal(text) for key, text in read_options(settings).items()}
        result = quick_start.resume(options.resume, changes, model=options.model, command=words)
        return _summarise(result)
    if options.models is not None or options.seeds:
        return _compare(options, settings, words)
    files = split_names(options.config_files)
    result = quick_start.run(
        chosen_name("model", options.model, files, DEFAULT_MODEL),
        chosen_name("dataset", options.dataset, files, DEFAULT_DATASET),
        files,
        argv=settings,
        command=words,
    )
    return _summarise(result)


def _summarise(result: RunResult) -> int:
    if process_group.leads():
        print(run_summary(result))
    return 0


def compare_command(words: Sequence[str]) -> int:
    """Train several models over several seeds and print one table."""
    parser = _run_parser("compare", "Train models side by side on the same split, one table.")
    options, settings = parser.parse_known_args(words)
    if options.resume:
        raise ConfigError("--resume goes with run, one run at a time")
    return _compare(options, settings, words)


def _compare(options: argparse.Namespace, settings: list[str], words: Sequence[str]) -> int:
    if options.model and options.models:
        raise ConfigError("--model and --models exclude one another; name all in --models")
    files = split_names(options.config_files)
    if options.models is None:
        models = [chosen_name("model", options.model, files, DEFAULT_MODEL)]
    else:
        models = split_names(options.models)
    if not models:
        raise ConfigError("--models names no model; write --models=Pop,BPR,SLIFMR")
    results = quick_start.run_many(
        models,
        chosen_name("dataset", options.dataset, files, DEFAULT_DATASET),
        files,
        seeds=parse_seeds(options.seeds),
        argv=settings,
        command=words,
        debug=options.debug,
    )
    print(compare_table(results))
    return 0 if all(result.status == "finished" for result in results) else 1


def models_command(words: Sequence[str]) -> int:
    """List the models."""
    Parser("models", "List the models that --model takes.").parse_args(words)
    rows = [
        [entry.name, entry.kind, _needs(entry.needs_knowledge, entry.needs_features), entry.summary]
        for entry in MODELS.values()
    ]
    print(tabulate(rows, ["model", "kind", "needs", "in one line"], tablefmt="simple"))
    others = [name for name in recbole_models() if name not in MODELS]
    print(f"\nRecBole's own, on the same data and split: {', '.join(others)}")
    return 0


def _needs(knowledge: bool, features: bool) -> str:
    named = [word for word, asked in ((".kg", knowledge), ("features", features)) if asked]
    return ", ".join(named) or "-"


_OWN: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "run": (run_command, "train and test a model (the command if none is named)"),
    "compare": (compare_command, "train several models side by side, one table"),
    "models": (models_command, "list the models"),
}
_MODULES = {
    "hyper": ("recbole_slif.hyper", "search hyper-parameters on the validation metric"),
    "recommend": ("recbole_slif.recommend", "write top-K lists of a trained model"),
    "explain": ("recbole_slif.explain.cli", "say why items are recommended to a user"),
    "import": ("recbole_slif.importing", "turn a RecBole checkpoint, a pickle, into a safe one"),
    "embed": ("recbole_slif.embed", "export user and item vectors of a trained model"),
    "experiment": ("recbole_slif.experiment.cli", "run a planned series of runs"),
    "report": ("recbole_slif.report.cli", "tables and plots from records"),
    "curves": ("recbole_slif.report.curves", "learning curves from the records of runs"),
    "doctor": ("recbole_slif.doctor", "check the installation"),
}


def _offered() -> dict[str, str]:
    """Return command -> help of what this installation offers."""
    found = {name: text for name, (_, text) in _OWN.items()}
    for name, (module, text) in _MODULES.items():
        try:
            present = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            present = False
        if present:
            found[name] = text
    return found


def _overview() -> str:
    lines = [f"  {name:<11} {text}" for name, text in _offered().items()]
    return "commands (each has its own --help):\n" + "\n".join(lines)


def _dispatch(words: Sequence[str]) -> int:
    process_group.begin()
    command = words[0] if words and not words[0].startswith("-") else None
    if command not in (None, "run"):
        process_group.require_one(f"the command '{command}'")
    if command is None:
        if set(words) & {"-h", "--help"}:
            parser = _run_parser("", "Knowledge-aware multimodal recommendation on RecBole.")
            parser.epilog = f"{_overview()}\n\n{parser.epilog}"
            parser.print_help()
            return 0
        return run_command(words)
    offered = _offered()
    if command not in offered:
        raise ConfigError(f"command '{command}' is not known; there are {', '.join(offered)}")
    if command in _OWN:
        return _OWN[command][0](words[1:])
    return _outside(command, words[1:])


def _outside(command: str, words: Sequence[str]) -> int:
    """Run a command that is a module of its own."""
    return int(importlib.import_module(_MODULES[command][0]).main(list(words)) or 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; `argv` without the program name, None for `sys.argv`.

    Returns:
        0, or 2 for a mistake in the input, 1 for failed runs of a comparison, 130 if stopped.
    """
    return guarded(_dispatch, list(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    sys.exit(main())

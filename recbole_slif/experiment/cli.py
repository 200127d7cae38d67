"""The command `experiment`: plan, show, run, and say how it went."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from tabulate import tabulate

from recbole_slif.config_yaml import chosen_name, read_options, split_names
from recbole_slif.console import Parser, guarded, usable
from recbole_slif.errors import ConfigError, without_passwords
from recbole_slif.experiment import statistics
from recbole_slif.experiment.board import Board, make_board
from recbole_slif.experiment.definition import (
    Definition,
    find_experiment,
    known_experiments,
    read_definition,
)
from recbole_slif.experiment.estimate import Times, clock, recorded_times
from recbole_slif.experiment.folder import Folder
from recbole_slif.experiment.plan import Plan, Request, default_folder, make_plan, refuse_model
from recbole_slif.experiment.pool import DataPool
from recbole_slif.experiment.progress import Progress
from recbole_slif.experiment.runner import Options, Runner, failures, outstanding, reusable
from recbole_slif.experiment.workers import run_workers
from recbole_slif.interrupt import TrainingStoppedError
from recbole_slif.processes import require_workers
from recbole_slif.seeds import parse_seeds
from recbole_slif.sharing.address import Address, read_address

_EPILOG = """\
experiments: {names}, or a YAML file of your own; copy one of properties/experiment:
  title, artefact   one line; the table or figure a report draws (table1 ... fig7)
  models            names, or all: one cell for each
  cells             a list of model, label, group, series, x, settings, noise, needs
  sweeps            a list of key, values, labels, models, group, quick
  noise             a list of kind (inter, kg, modality), levels, models, group, quick
  seeds, settings   how many seeds (or which); configuration keys of all runs
  quick             seeds and settings that --quick takes instead

every configuration key is an option as well, --key=value: --epochs=50 --data_path=dataset/

examples:
  recbole-slif experiment table3_ablation --dataset=ml-100k --dry_run
  recbole-slif experiment table2_overall --dataset=ml-100k --seeds=5 --workers=2
  recbole-slif experiment table2_overall --dataset=ml-100k --resume
  recbole-slif experiment table2_overall --storage=postgresql://me@db.example.org/slif
"""


def _parser() -> Parser:
    text = "Run a planned series of runs: every table and figure of the paper by one command."
    parser = Parser("experiment", text, _EPILOG.format(names=", ".join(known_experiments())))
    # no positional argument: argparse would take a word such as `--topk=[3, 5]` for it
    parser.usage = "recbole-slif experiment NAME [options] [--key=value ...]"
    parser.add_argument("--experiment", metavar="NAME", help="the name, as an option")
    parser.add_argument("--dataset", help="data set, default that of --config_files or ml-100k")
    parser.add_argument("--seeds", help="number of seeds (5) or a list of them (1,2,3)")
    parser.add_argument("--models", help="cells of these models alone, parted by commas")
    parser.add_argument("--quick", action="store_true", help="few epochs, one seed, small grids")
    parser.add_argument("--resume", action="store_true", help="go on where the folder stands")
    parser.add_argument("--dry_run", action="store_true", help="show the plan, run nothing")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the runs")
    parser.add_argument(
        "--storage",
        help="share the runs with machines that give the same address: x.journal, x.db, "
        "postgresql://user@host/name, mysql://...",
    )
    parser.add_argument("--out", metavar="FOLDER", help="default saved/experiments/NAME-DATASET")
    parser.add_argument("--config_files", help="YAML files below the experiment's own settings")
    parser.add_argument(
        "--reuse",
        metavar="FOLDERS",
        help="take finished runs under the same settings from these experiments, parted by commas",
    )
    parser.add_argument(
        "--keep_checkpoints", action="store_true", help="keep those of finished runs"
    )
    return parser


def experiment_command(words: Sequence[str]) -> int:
    """Run an experiment from command line words.

    Returns:
        0, or 1 if a run failed.
    """
    first = words[0] if words and not words[0].startswith("-") else None
    options, extra = _parser().parse_known_args(words[1:] if first else words)
    name = _name(first, options.experiment)
    require_workers(options.workers)
    definition = read_definition(find_experiment(name), options.quick)
    settings = read_options(extra)
    files = tuple(split_names(options.config_files))
    options.dataset = chosen_name("dataset", options.dataset, files, "ml-100k")
    command = ("experiment", *map(without_passwords, words))
    address = read_address(options.storage) if options.storage else None
    if definition.statistics:
        refuse_model(settings)
        return _count(definition, options, settings, command)
    request = Request(
        options.dataset,
        parse_seeds(options.seeds),
        None if options.models is None else split_names(options.models),
        options.quick,
        files,
        settings,
        command,
    )
    folder = Folder(options.out or default_folder(definition, options.dataset, options.quick))
    pool = DataPool()
    plan = make_plan(definition, request, pool)
    _check_folder(plan, folder, options.resume or options.dry_run)
    board = None if options.dry_run else _board(plan, folder, address)
    reuse = _reused(options.reuse, folder)
    times = recorded_times(plan, folder, Path("saved") / "runs", reuse)
    taken = reusable(plan, reuse)
    print(overview(plan, folder, times, options.workers, taken, reuse))
    if board is None:
        return 0
    folder.write_json("plan.json", plan.content())
    how = Options(options.debug, options.keep_checkpoints, taken)
    return _run(plan, folder, pool, times, how, options.workers, board, address)


def _board(plan: Plan, folder: Folder, address: Address | None) -> Board:
    """Return who says which run is whose, once folder and storage know the same runs."""
    folder.make()
    board = make_board(plan, folder, address)
    board.begin(folder)
    return board


def _name(first: str | None, option: str | None) -> str:
    if first and option:
        raise ConfigError(f"two experiments are named: {first} and {option}")
    name = first or option
    if not name:
        raise ConfigError(f"name an experiment: {', '.join(known_experiments())}, or a YAML file")
    return name


def _reused(text: str | None, folder: Folder) -> tuple[str, ...]:
    """Return the folders to take runs from; a folder of experiments stands for all in it."""
    found: list[Path] = []
    for name in split_names(text):
        path = Path(name)
        inside = sorted(file.parent for file in path.glob("*/runs.jsonl"))
        if not (path / "runs.jsonl").is_file() and not inside:
            raise ConfigError(f"--reuse: '{name}' holds no runs.jsonl, nor does a folder in it")
        found += inside or [path]
    own = folder.path.resolve()
    return tuple(usable(path) for path in found if path.resolve() != own)


def _check_folder(plan: Plan, folder: Folder, resume: bool) -> None:
    """Refuse to mix what lies in a folder with something else."""
    if folder.read_plan() is None:
        return
    _refuse_other(plan, folder, ("experiment", "dataset", "protocol", "quick"))
    count = len(folder.recorded().finished) + len(folder.recorded().failed)
    if count and not resume:
        raise ConfigError(
            f"folder '{folder.path}' holds {count} runs; go on with --resume, or choose another "
            "with --out"
        )


def _refuse_other(plan: Plan, folder: Folder, keys: Sequence[str]) -> None:
    """Refuse a folder whose plan is of another experiment, as far as some keys tell."""
    there = folder.read_plan() or {}
    for key in keys if there else ():
        now = getattr(plan, key)
        if there.get(key) != now:
            raise ConfigError(
                f"folder '{folder.path}' holds an experiment with {key} {there.get(key)}, not "
                f"{now}; choose another with --out"
            )


def overview(
    plan: Plan,
    folder: Folder,
    times: Times,
    workers: int,
    taken: Collection[str] = (),
    reuse: Sequence[str] = (),
) -> str:
    """Lay out the plan with what is recorded and how long the rest should take.

    Args:
        plan: all runs.
        folder: where they are recorded.
        times: what runs took.
        workers: processes that share the work.
        taken: hashes of the runs that are taken from other experiments.
        reuse: the folders of those experiments.
    """
    left = outstanding(plan, folder)
    to_train = {text: runs for text, runs in left.items() if text not in taken}
    open_runs = {(run.cell, run.seed) for runs in to_train.values() for run in runs}
    reused = sum(map(len, left.values())) - len(open_runs)
    source = f", {reused} taken from {', '.join(reuse)}" if reuse else ""
    rows = []
    for cell in plan.cells:
        runs = [run for run in plan.runs if run.cell == cell["key"]]
        expected = times.expected(runs[0]) if runs else None
        each = "unknown" if expected is None else f"about {clock(expected)}"
        if cell["needs"]:
            each = f"not run, needs {' and '.join(cell['needs'])}"
        todo = sum((run.cell, run.seed) in open_runs for run in runs)
        rows.append([cell["key"], cell["label"], len(runs), todo, each])
    known, unknown = times.total([runs[0] for runs in to_train.values()])
    seeds = ", ".join(map(str, plan.seeds))
    quick = ", quick form: not for reporting" if plan.quick else ""
    lines = [
        f"{plan.experiment} ({plan.artefact}) on {plan.dataset}, protocol {plan.protocol}, "
        f"seeds {seeds}{quick}",
        "",
        tabulate(rows, ["cell", "label", "runs", "to do", "a run takes"], disable_numparse=True),
        "",
        f"{len(plan.runs)} runs, {len(plan.runs) - len(open_runs) - reused} recorded{source}, "
        f"{len(to_train)} trainings to do ({len(open_runs)} runs); "
        f"estimate {_estimate(known, unknown, len(to_train), workers)}",
        f"folder {usable(folder.path)}",
    ]
    stale = _stale(plan, folder)
    if stale:
        lines.append(f"{stale} recorded runs have other settings and do not count")
    return "\n".join(lines)


def _estimate(known: float, unknown: int, total: int, workers: int) -> str:
    if not total:
        return "0 s"
    if unknown == total:
        return "unknown, since no run of these models on this data set is recorded"
    shared = f" with {workers} workers" if workers > 1 else ""
    more = f", and {unknown} trainings of unknown time" if unknown else ""
    return f"about {clock(known / workers)}{shared}{more}"


def _stale(plan: Plan, folder: Folder) -> int:
    """Count recorded runs whose cell and seed are planned under other settings."""
    planned = {(run.cell, run.settings_hash) for run in plan.runs}
    places = {(run.cell, run.seed) for run in plan.runs}
    return sum(
        (line["cell"], line.get("seed")) in places
        and (line["cell"], line["settings_hash"]) not in planned
        for line in folder.lines()
    )


def _run(
    plan: Plan,
    folder: Folder,
    pool: DataPool,
    times: Times,
    how: Options,
    workers: int,
    board: Board,
    address: Address | None,
) -> int:
    failed_before = dict(folder.recorded().failed)
    left = outstanding(plan, folder)
    recorded = len(plan.runs) - sum(len(runs) for runs in left.values())
    workers = min(workers, max(len(left), 1))
    progress = Progress(plan, recorded, times, workers, sys.stdout, how.reuse)
    progress.drop(folder.recorded().finished)
    print()
    try:
        if workers > 1:
            run_workers(plan, folder, failed_before, progress, how, workers, address)
        else:
            Runner(plan, folder, pool, board, failed_before, progress, how).work()
    except (TrainingStoppedError, KeyboardInterrupt):
        done = len(plan.runs) - sum(len(runs) for runs in outstanding(plan, folder).values())
        raise TrainingStoppedError(
            f"stopped; {done} of {len(plan.runs)} runs are recorded in {usable(folder.path)}, "
            "go on with the same command and --resume"
        ) from None
    return _ending(plan, folder, failed_before)


def _ending(plan: Plan, folder: Folder, failed_before: dict[str, int]) -> int:
    """Say what is recorded, what failed and what the data was lacking."""
    failed = failures(plan, folder, failed_before)
    left = sum(len(runs) for runs in outstanding(plan, folder).values())
    print(f"\n{len(plan.runs) - left} of {len(plan.runs)} runs are recorded")
    for cell in plan.cells:
        if cell["needs"]:
            print(f"not run: {cell['key']} needs {' and '.join(cell['needs'])}")
    for line in failed:
        print(f"failed: {line['cell']}, seed {line['seed']}: {line.get('error')}")
    elsewhere = sum("per_user_elsewhere" in line for line in folder.lines())
    if elsewhere:
        print(
            f"per-user metrics of {elsewhere} runs are not in this folder: too large to share, or "
            "missing where the runs were taken from; without them a report lacks tests over users"
        )
    print(f"records      {usable(folder.runs_file)}")
    print(f"report       recbole-slif report {usable(folder.path)}")
    return 1 if failed else 0


def _count(
    definition: Definition,
    options: argparse.Namespace,
    settings: dict[str, str],
    command: tuple[str, ...],
) -> int:
    """Write the statistics of data sets, which takes no runs."""
    names = split_names(options.dataset)
    shown = "+".join(names)
    folder = Folder(options.out or default_folder(definition, shown, False))
    if options.dry_run:
        print(f"{definition.name} ({definition.artefact}): counts {', '.join(names)}, no runs")
        return 0
    files = tuple(split_names(options.config_files))
    found = statistics.collect(names, files, definition.settings, settings)
    protocols = sorted({entry["protocol"] for entry in found})
    plan = Plan(
        definition.name,
        definition.artefact,
        definition.title,
        shown,
        ", ".join(protocols),
        (),
        options.quick,
        (),
        command=command,
    )
    _refuse_other(plan, folder, ("experiment",))
    folder.make()
    folder.write_json("plan.json", plan.content())
    path = folder.write_json("statistics.json", found)
    hidden = ("fingerprint", "split", "features", "versions", "commit")
    rows = [[key, *(entry[key] for entry in found)] for key in found[0] if key not in hidden]
    modalities = sorted({name for entry in found for name in entry["features"]})
    rows += [
        [f"items with {name}", *(entry["features"].get(name, 0) for entry in found)]
        for name in modalities
    ]
    print(tabulate(rows, tablefmt="simple"))
    print(f"\nrecords      {usable(path)}")
    return 0


def main(argv: Sequence[str]) -> int:
    """Run an experiment; a mistake in the input is one line on stderr and exit code 2."""
    return guarded(experiment_command, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

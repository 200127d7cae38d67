"""The command `curves`: how runs learned, epoch by epoch, from their records.

recbole-slif curves saved/runs --metric=recall@20 --out=curves
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

from recbole_slif.atomic_files import make_folder, write_atomic
from recbole_slif.config_keys import ADDED_LATER, NOT_DECISIVE
from recbole_slif.config_yaml import split_names
from recbole_slif.console import Parser, guarded, usable
from recbole_slif.errors import ConfigError, SlifError
from recbole_slif.records import read_record
from recbole_slif.registry import shown_name
from recbole_slif.report import render
from recbole_slif.report.canvas import (
    WIDTH,
    file_name,
    line_look,
    require_matplotlib,
    save_figure,
)
from recbole_slif.report.entries import smaller_is_better
from recbole_slif.report.sections import OURS, metric_title

_EPILOG = """\
writes curves-DATASET.png, .pdf and .csv into --out; runs on several data sets make several figures.
A curve is named by its model, by the settings in which the runs of that model differ, and by the
run where they do not.

examples:
  recbole-slif curves saved/runs
  recbole-slif curves saved/runs/SLIFMR-ml-100k-*.json --metric=ndcg@20 --out=docs/curves
"""
_SHORT_LABEL = 20  # characters
_SECONDS = ("refresh", "train", "evaluate")
# What names a run or says how long it may go on, beside how and where it was carried out.
_ASIDE = NOT_DECISIVE | {"command", "epochs", "seed"}


@dataclass(frozen=True)
class Curve:
    """One run's way through its epochs.

    Attributes:
        label: what the figure calls it.
        record: the run's record.
    """

    label: str
    record: Mapping[str, Any]

    def values(self, metric: str) -> list[tuple[int, float]]:
        """Epochs, counted from 0, and the validation metric of those that were evaluated."""
        found = ((entry["epoch"], entry.get("valid", {})) for entry in self.record["epochs"])
        return [(epoch, valid[metric]) for epoch, valid in found if metric in valid]

    def seconds(self, part: str) -> float | None:
        """Median seconds of an epoch that `part` (refresh, train, evaluate) took."""
        taken = [entry.get("seconds", {}).get(part) for entry in self.record["epochs"]]
        known = [one for one in taken if one is not None]
        return median(known) if known else None


def read_curves(places: Sequence[str | Path]) -> list[Curve]:
    """Read the records of runs that trained for some epochs.

    Args:
        places: JSON records, or folders that hold them.

    Raises:
        ConfigError: a place does not exist or none holds a run with epochs.
    """
    records = [read_record(path) for path in _files(places)]
    trained = [record for record in records if record.get("epochs")]
    if not trained:
        raise ConfigError(
            f"{', '.join(map(str, places))}: no record of a run that trained; the records of runs "
            "are in saved/runs, or in checkpoint_dir/runs of yours"
        )
    return [Curve(_label(record, trained), record) for record in trained]


def _files(places: Sequence[str | Path]) -> Iterator[Path]:
    for place in map(Path, places):
        if place.is_dir():
            yield from sorted(place.glob("*.json"))
        elif place.is_file():
            yield place
        else:
            raise ConfigError(f"'{place}' is neither a record nor a folder of records")


def _label(record: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """Name a run by its model and by what sets it apart from the model's other runs."""
    alike = [one for one in others if _group(one) == _group(record)]
    own, theirs = _settings(record), [(one["seed"], _settings(one)) for one in alike]
    apart = [
        f"{key}={own[key]}"
        for key in sorted(own.keys() & record["config"].keys())
        if any(settings.get(key) != own[key] for _, settings in theirs)
    ]
    if len({seed for seed, _ in theirs}) > 1:
        apart.append(f"seed={record['seed']}")
    if theirs.count((record["seed"], own)) > 1:
        name = f"{record['model']}-{record['dataset']}-"
        apart.append(f"run={str(record['run_id']).removeprefix(name)}")
    return ", ".join([shown_name(record["model"]), *apart])


def _settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides how a run learns, also by keys that came after its record."""
    config = {**ADDED_LATER, **record["config"]}
    return {key: config[key] for key in config if key not in _ASIDE}


def _group(record: Mapping[str, Any]) -> tuple[str, str]:
    return record["model"], record["dataset"]


def write_curves(curves: Sequence[Curve], metric: str, out: Path) -> list[Path]:
    """Draw the curves of each data set, and write their values as CSV.

    Args:
        curves: the runs; those that were not evaluated by the metric are passed over.
        metric: as in the records, such as `recall@20`.
        out: an existing folder.

    Returns:
        The files written.

    Raises:
        ConfigError: no run has the metric.
        SlifError: matplotlib is missing.
    """
    require_matplotlib()
    shown = [curve for curve in curves if curve.values(metric)]
    if not shown:
        known = sorted({name for one in curves for entry in one.record["epochs"]
                        for name in entry.get("valid", {})})  # fmt: skip
        raise ConfigError(f"no run was evaluated by '{metric}'; there are {', '.join(known)}")
    written = []
    for dataset in dict.fromkeys(curve.record["dataset"] for curve in shown):
        chosen = [curve for curve in shown if curve.record["dataset"] == dataset]
        name = file_name("curves", dataset)
        caption = f"{metric_title(metric)} on validation by epoch; the mark is the best one"
        size = (2 * WIDTH, 2.8 + 0.18 * -(-len(chosen) // _legend_columns(chosen)))
        save_figure(out, name, caption, size, partial(_paint, curves=chosen, metric=metric))
        rows = [row for curve in chosen for row in _rows(curve, metric)]
        write_atomic(out / f"{name}.csv", render.csv_rows(rows).encode())
        written += [out / f"{name}.{kind}" for kind in ("png", "pdf", "csv")]
    return written


def _paint(axes: Any, curves: Sequence[Curve], metric: str) -> None:
    others = 0
    alone = sum(curve.record["model"] == OURS for curve in curves) == 1
    for curve in curves:
        values = curve.values(metric)
        ours = alone and curve.record["model"] == OURS
        look = line_look(ours, others)
        others += not ours
        marker = look.pop("marker")
        axes.plot(*zip(*values, strict=True), label=curve.label, linewidth=1.2, **look)
        choose = min if smaller_is_better(metric) else max
        best = choose(values, key=lambda pair: pair[1])
        axes.plot(*best, marker=marker, markersize=6, color=look["color"], linestyle="none")
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{metric_title(metric)}, validation")
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), handlelength=2.6,
                ncols=_legend_columns(curves))  # fmt: skip


def _legend_columns(curves: Sequence[Curve]) -> int:
    """Set short labels beside each other; a long one, with settings in it, takes a line."""
    return 3 if max(len(curve.label) for curve in curves) <= _SHORT_LABEL else 1


def _rows(curve: Curve, metric: str) -> Iterator[dict[str, Any]]:
    run = {"run": curve.record["run_id"], "label": curve.label}
    seconds = {entry["epoch"]: entry.get("seconds", {}) for entry in curve.record["epochs"]}
    for epoch, value in curve.values(metric):
        taken = {f"{part}_seconds": seconds[epoch].get(part, "") for part in _SECONDS}
        yield {**run, "epoch": epoch, metric: value, **taken}


def _summary(curves: Sequence[Curve], metric: str) -> str:
    rows = []
    for curve in curves:
        record = curve.record
        valid, test = ((record.get(split) or {}).get(metric) for split in ("valid", "test"))
        taken = [curve.seconds(part) for part in _SECONDS]
        rows.append([record["dataset"], curve.label, record["seed"], len(record["epochs"]),
                     record.get("best_epoch"), valid, test, *taken])  # fmt: skip
    titles = [f"{metric} {split}" for split in ("valid", "test")]
    parts = [f"s {part}" for part in _SECONDS]
    head = ["data set", "run", "seed", "epochs", "best", *titles, *parts]
    return tabulate(rows, head, tablefmt="simple", floatfmt=".4f", missingval="-")


def _parser() -> Parser:
    parser = Parser("curves", "Learning curves of runs, from their records alone.", _EPILOG)
    parser.add_argument("records", metavar="RECORD", nargs="+", help="JSON records or folders")
    parser.add_argument("--metric", help="as in the records, default their valid_metric")
    parser.add_argument("--models", help="parted by commas, default all")
    parser.add_argument("--out", metavar="FOLDER", default="curves", help="default %(default)s")
    return parser


def curves_command(words: Sequence[str]) -> int:
    """Draw the curves, write them, and print a line for each run."""
    options: argparse.Namespace = _parser().parse_args(words)
    curves, names = read_curves(options.records), split_names(options.models)
    if names:
        curves = [curve for curve in curves if curve.record["model"] in names]
        if not curves:
            raise ConfigError(f"--models={options.models}: no record is of such a model")
    metric = (options.metric or curves[0].record["valid_metric"]).lower()
    out = Path(options.out)
    make_folder(out, "choose another with --out")
    try:
        written = write_curves(curves, metric, out)
    except OSError as error:
        raise SlifError(
            f"'{out}' cannot be written ({error.strerror}); choose another --out"
        ) from error
    print(_summary(curves, metric))
    for path in written:
        print(usable(path))
    return 0


def main(argv: Sequence[str]) -> int:
    """Draw curves; a mistake in the input is one line on stderr and exit code 2."""
    return guarded(curves_command, argv)

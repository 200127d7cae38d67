"""`describe`: Table I's counts of any data set, degrees and coverage, as table, JSON and plots."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_slif.errors import DataError

from . import loading
from .writing import atomic, write_json

if TYPE_CHECKING:
    from recbole_slif.data.loaders import SplitData

    from .disk_data import DiskData

DESCRIPTION = """\
Count what data sets hold as the paper's Table I does, on the data as every model sees it, with the
spread of interactions per user and item and of triples per entity, and the share of items that
have a link and each modality. --plots draws degrees and coverage (needs matplotlib)."""
EXAMPLES = """\
  python -m dataset_tools describe --dataset ml-100k
  python -m dataset_tools describe --dataset amazon-book shop --out described --plots"""
_POINTS = (0, 10, 25, 50, 75, 90, 100)
_WORDS = ("least", "10 %", "25 %", "median", "75 %", "90 %", "most")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `describe`."""
    loading.add_options(parser, several=True)
    parser.add_argument("--out", type=Path, help="folder for NAME.describe.json and the plots")
    parser.add_argument("--plots", action="store_true", help="draw PNG and PDF into --out")


def run(options: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        DataError: A data set is not usable, or `--plots` lacks `--out`.
        ConfigError: A key or value is not usable.
        SlifError: matplotlib is missing.
    """
    if options.plots:
        from recbole_slif.report.canvas import require_matplotlib

        if not options.out:
            raise DataError("--plots needs --out, the folder to draw into")
        require_matplotlib()
    found = {}
    for name in options.dataset:
        with loading.opened(loading.configure(name, options), options.out) as data:
            # A graph may be there that no item is linked to.
            spread = {what: values for what, values in degrees(data).items() if len(values)}
            found[name] = describe(data.statistics, spread)
        if options.out:
            write_json(options.out / f"{name}.describe.json", found[name])
        if options.plots:
            draw(name, spread, found[name], options.out)
    print(tables(found))


def degrees(data: DiskData | SplitData) -> dict[str, np.ndarray]:
    """Return how often each user, item and entity occurs; entities only where there are some."""
    from .disk_data import DiskData

    if isinstance(data, DiskData):
        return data.degrees()
    dataset = data.dataset
    feats = [part.inter_feat for part in data.parts]
    found = {}
    for side, field, size in (
        ("user", dataset.uid_field, dataset.user_num),
        ("item", dataset.iid_field, dataset.item_num),
    ):
        ids = np.concatenate([feat[field].numpy() for feat in feats])
        found[f"interactions per {side}"] = np.bincount(ids, minlength=size)[1:]
    graph = dataset.knowledge
    if graph.n_triples:
        ends = np.concatenate([graph.heads, graph.tails])
        counts = np.bincount(ends, minlength=graph.n_entities)
        found["triples per entity"] = counts[counts > 0]
        items = np.bincount(ends, minlength=graph.n_entities)[1 : dataset.item_num]
        found["triples per linked item"] = items[graph.linked[1:]]
    return found


def describe(statistics: Mapping[str, Any], spreads: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the counts of Table I, the spread of degrees and the coverage, as JSON values.

    Args:
        statistics: Of the data set.
        spreads: Its `degrees`.
    """
    from recbole_slif.experiment.statistics import count

    counts = count(statistics)
    items = counts["items"]
    spread = {
        name: {
            "mean": float(values.mean()),
            "gini": gini(values),
            **{
                word: float(point)
                for word, point in zip(_WORDS, np.percentile(values, _POINTS), strict=True)
            },
        }
        for name, values in spreads.items()
    }
    coverage = {"knowledge": counts["linked_items"] / items}
    coverage |= {name: number / items for name, number in counts["features"].items()}
    return {"counts": counts, "spread": spread, "coverage": coverage}


def gini(values: np.ndarray) -> float:
    """Return the Gini coefficient of counts: 0 where all are equal, near 1 where one has all."""
    ordered = np.sort(values).astype(np.float64)
    size = len(ordered)
    if not ordered.sum():
        return 0.0
    return float(
        2 * (np.arange(1, size + 1) * ordered).sum() / (size * ordered.sum()) - 1 - 1 / size
    )


def tables(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay out the counts side by side, then the spreads."""
    from tabulate import tabulate

    rows = {name: _flat(entry["counts"], entry["coverage"]) for name, entry in found.items()}
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    counts = [[key, *(row.get(key, "-") for row in rows.values())] for key in keys]
    spreads = [
        [
            name,
            what,
            f"{entry['mean']:.1f}",
            *(f"{entry[word]:.0f}" for word in _WORDS),
            f"{entry['gini']:.2f}",
        ]
        for name, one in found.items()
        for what, entry in one["spread"].items()
    ]
    return "\n\n".join(
        [
            tabulate(counts, ["", *found], tablefmt="simple", disable_numparse=True),
            tabulate(
                spreads,
                ["data set", "", "mean", *_WORDS, "Gini"],
                tablefmt="simple",
                disable_numparse=True,
            ),
        ]
    )


def _flat(counts: Mapping[str, Any], coverage: Mapping[str, float]) -> dict[str, str]:
    row = {
        name.replace("_", " "): f"{value:,}"
        for name, value in counts.items()
        if isinstance(value, int)
    }
    row["density"] = f"{counts['density']:.2e}"
    row["train, valid, test"] = " + ".join(f"{part:,}" for part in counts["split"])
    row |= {f"items with {name}": f"{number:,}" for name, number in counts["features"].items()}
    row |= {f"share of items with {name}": f"{share:.1%}" for name, share in coverage.items()}
    return {**row, "protocol": counts["protocol"], "split": counts["fingerprint"]}


def draw(
    name: str, spreads: Mapping[str, np.ndarray], found: Mapping[str, Any], folder: Path
) -> None:
    """Draw degrees and coverage as `NAME.degrees` and `NAME.coverage`, `.png` and `.pdf`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for what, values in spreads.items():
        places, share = exceeding(values)
        axes.step(places, share, where="pre", label=what)
    axes.set(xscale="log", yscale="log", xlabel="at least so many", ylabel="share", title=name)
    axes.legend(fontsize="small")
    _save(figure, folder, f"{name}.degrees")
    figure = Figure(figsize=(4.5, 0.8 + 0.35 * len(found["coverage"])), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(list(found["coverage"]), list(found["coverage"].values()))
    axes.bar_label(bars, [f"{share:.1%}" for share in found["coverage"].values()], padding=2)
    axes.set(xlim=(0, 1.15), xlabel="share of items that have it", title=name)
    axes.invert_yaxis()
    _save(figure, folder, f"{name}.coverage")


def exceeding(values: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct positive counts and the share of all that reach each."""
    places, counts = np.unique(np.asarray(values), return_counts=True)
    share = counts[::-1].cumsum()[::-1] / counts.sum()
    return places[places > 0], share[places > 0]


def _save(figure: Any, folder: Path, stem: str) -> None:
    for kind in ("png", "pdf"):
        # Without its date a figure of the same numbers has the same bytes.
        metadata = {"CreationDate": None} if kind == "pdf" else {"Software": None}
        with atomic(folder / f"{stem}.{kind}") as file:
            figure.savefig(file, format=kind, dpi=200, metadata=metadata)

"""Our models beside RecBole's in one process: seconds and ratios of each part of an epoch.

    python -m benchmarks.compare            Amazon-Book's size, about five minutes
    python -m benchmarks.compare --dataset alibaba-ifashion --data FOLDER
    python -m benchmarks.compare --help

Few steps are timed per side, the sides in turn, and medians are multiplied by the number of steps
of an epoch. Results go to the screen as Markdown and to a JSON file.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks.dataset import ArrayDataset, HeldOut
from benchmarks.generate import Sizes
from benchmarks.measure import (
    Clock,
    PeakMemory,
    clock_for,
    heading,
    medians,
    threads_kept,
    write_result,
)
from benchmarks.real import AMAZON_BOOK, WITH_GRAPH, data_of
from benchmarks.report import counts, evaluated_users, markdown, ratios, targets, whole_epoch
from benchmarks.sides import Plan, Side
from recbole_slif.errors import SlifError
from tests.peers import stand_ins

BASE = "RecBole LightGCN"
_LAYERS = {"n_layers": 3}
_KGAT = {"layers": [64, 32, 16], "mess_dropout": 0.1, "kg_reverse_r": True}
_OUR_KGAT = {**_KGAT, "kg_loss_interactions": False}
_KGIN = {"context_hops": 2, "ind": "cosine", "mess_dropout_rate": 0.1, "kg_reverse_r": True}
_UNPRUNED = {"prune_ui": 0.0, "prune_kg": 0.0}
_HALF = {"table_precision": "bfloat16", "contrast_precision": "bfloat16"}
_NEGATIVES_TOO = {"cl_scope": "batch", **_UNPRUNED}

# Each of our models does the same work as its peer: layers, dropout rates and triples agree.
PLANS = (
    Plan("SLIFMR step", "SLIFMR", True, BASE, {"attn_refresh": "step", **_UNPRUNED}),
    Plan("SLIFMR epoch", "SLIFMR", True, BASE, {"attn_refresh": "epoch", **_UNPRUNED}),
    Plan("SLIFMR step, batch", "SLIFMR", True, BASE, {"attn_refresh": "step", **_NEGATIVES_TOO}),
    Plan("SLIFMR epoch, batch", "SLIFMR", True, BASE, {"attn_refresh": "epoch", **_NEGATIVES_TOO}),
    Plan("SLIFMR step, pruned", "SLIFMR", True, BASE, {"attn_refresh": "step"}),
    Plan("SLIFMR epoch, pruned", "SLIFMR", True, BASE, {"attn_refresh": "epoch"}),
    Plan("SLIFMR step, pruned, bfloat16", "SLIFMR", True, BASE, {"attn_refresh": "step", **_HALF}),
    Plan(
        "SLIFMR epoch, pruned, bfloat16", "SLIFMR", True, BASE, {"attn_refresh": "epoch", **_HALF}
    ),
    Plan("LightGCN", "LightGCN", True, BASE, _LAYERS),
    Plan("LightGCN, bfloat16", "LightGCN", True, BASE, {**_LAYERS, **_HALF}),
    Plan("KGAT", "KGAT", True, "RecBole KGAT", _OUR_KGAT),
    Plan("KGAT, bfloat16", "KGAT", True, "RecBole KGAT", {**_OUR_KGAT, **_HALF}),
    Plan("KGIN", "KGIN", True, "RecBole KGIN", {**_KGIN, "interaction_dropout_rate": 0.1}),
    Plan(BASE, "LightGCN", False, "", _LAYERS),
    Plan("RecBole KGAT", "KGAT", False, "", _KGAT),
    Plan("RecBole KGIN", "KGIN", False, "", _KGIN),
)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    own = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    own.formatter_class = argparse.RawDescriptionHelpFormatter
    for name in ("n_users", "n_items", "n_pairs", "n_entities", "n_relations", "n_triples"):
        default = getattr(Sizes(), name)
        option = "--" + name.replace("_", "-")
        own.add_argument(
            option, type=int, default=default, help=f"where generated (default {default})"
        )
    own.add_argument(
        "--dims",
        default=",".join(f"{name}={dim}" for name, dim in Sizes().dims),
        help="modalities and their widths, read once at the start (default %(default)s)",
    )
    own.add_argument(
        "--dataset",
        choices=list(WITH_GRAPH),
        default=AMAZON_BOOK,
        help="%(default)s: interactions real or generated, the graph generated; "
        "alibaba-ifashion: both real; features are generated (default %(default)s)",
    )
    own.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("RECBOLE_SLIF_DATA"),
        help="folder with real interactions, DATASET.train.inter in it or in DATASET/, and for a "
        "real graph .kg and .link beside it (default: $RECBOLE_SLIF_DATA, else generated)",
    )
    own.add_argument("--models", nargs="+", default=["LightGCN", "KGAT", "KGIN", "SLIFMR"])
    own.add_argument("--batch-size", type=int, default=4096)
    own.add_argument("--rounds", type=int, default=4, help="timed steps per model")
    own.add_argument("--eval-users", type=int, default=2048, help="users ranked per model")
    own.add_argument("--threads", type=int, nargs="+", default=[1])
    own.add_argument("--seed", type=int, default=0)
    own.add_argument("--output", type=Path, default=None, help="JSON file (default: a dated one)")
    return own


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison; returns the exit status."""
    chosen = parser().parse_args(argv)
    try:
        with threads_kept(), stand_ins(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"recbole\.")
            result = compare(chosen)
    except SlifError as error:
        print(error, file=sys.stderr)
        return 1
    write_result(result, chosen.output, "" if chosen.dataset == AMAZON_BOOK else chosen.dataset)
    print(markdown(result))
    return 0


def compare(chosen: argparse.Namespace) -> dict[str, Any]:
    """Build both sides, time them in turn and put the ratios together."""
    sizes = _sizes(chosen)
    data = data_of(chosen.dataset, chosen.data, sizes, chosen.seed)
    dataset = ArrayDataset(data)
    held_out = HeldOut(dataset, chosen.eval_users, chosen.seed)
    evaluated = evaluated_users(chosen.dataset, dataset)
    plans = [plan for plan in PLANS if plan.model in chosen.models]
    sides, builds = build_sides(plans, dataset, chosen)
    runs = {}
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        measured = time_sides(sides, held_out, chosen.rounds, clock_for(threads))
        runs[str(threads)] = {
            label: whole_epoch(parts, dataset, chosen.batch_size, held_out, evaluated)
            for label, parts in measured.items()
        }
    found = {threads: ratios(run, plans) for threads, run in runs.items()}
    return {
        **heading(),
        "dataset": chosen.dataset,
        "sizes": {**counts(data), "dims": dict(sizes.dims)},
        "interactions": "generated" if chosen.data is None else "real",
        "knowledge": "real" if WITH_GRAPH[chosen.dataset] else "generated",
        "batch_size": chosen.batch_size,
        "steps_per_epoch": math.ceil(dataset.inter_num / chosen.batch_size),
        "timed_steps": chosen.rounds,
        "clocks": {str(count): clock_for(count).__name__ for count in chosen.threads},
        "ranked_users": len(held_out.uid_list),
        "evaluated_users": evaluated,
        "builds": builds,
        "seconds": runs,
        "ratios": found,
        "targets": targets(found, builds),
    }


def _sizes(chosen: argparse.Namespace) -> Sizes:
    try:
        dims = tuple(
            (name, int(dim)) for name, dim in (part.split("=") for part in chosen.dims.split(","))
        )
    except ValueError as error:
        raise SlifError(f"--dims={chosen.dims} is not understood: write name=width,...") from error
    given = {name: value for name, value in vars(chosen).items() if hasattr(Sizes(), name)}
    return replace(Sizes(), **{**given, "dims": dims})


def build_sides(
    plans: Sequence[Plan], dataset: ArrayDataset, chosen: argparse.Namespace
) -> tuple[list[Side], dict[str, dict[str, Any]]]:
    """Build the models one by one and run each once, which also measures its memory.

    Returns:
        The sides, and for each label the seconds of its building and the peaks in GiB of the
        whole process and of this model alone over building, two steps, an epoch's start and an
        evaluation.
    """
    torch.set_num_threads(chosen.threads[0])
    sides, builds = [], {}
    for plan in plans:
        memory = PeakMemory()
        start = perf_counter()
        side = Side(plan, dataset, chosen.batch_size, chosen.seed)
        took = perf_counter() - start
        side.step(perf_counter)
        side.start_epoch(perf_counter)
        side.step(perf_counter)
        side.evaluate(HeldOut(dataset, 256, chosen.seed), 8, perf_counter)
        peaks = memory.peaks()
        builds[plan.label] = {
            "seconds": took,
            "peak_process_gib": peaks and peaks[0],
            "peak_model_gib": peaks and peaks[1],
        }
        sides.append(side)
        print(f"built {plan.label} in {took:.1f} s", file=sys.stderr)
    gc.collect()
    return sides, builds


def time_sides(
    sides: Sequence[Side], held_out: HeldOut, rounds: int, clock: Clock
) -> dict[str, dict[str, float]]:
    """Time the sides in turn, each part's median over the rounds.

    Returns:
        For each label the seconds of `forward`, `backward`, `optimizer`, `knowledge step` where
        there is one, `epoch start` with what it delays to the next step, `propagation`, `ranking`,
        and for RecBole `ranking default`, at its default of one user at once.
    """
    samples: dict[str, list[dict[str, float]]] = {side.plan.label: [] for side in sides}
    hooks: dict[str, float] = {}
    for side in sides:
        start = side.start_epoch(clock)
        # the first step after an epoch's start builds what the start left for later
        hooks[side.plan.label] = start + sum(side.step(clock).values())
    for _ in range(rounds):
        for side in sides:
            samples[side.plan.label].append(side.step(clock))
    measured = {}
    for side in sides:
        label = side.plan.label
        parts = medians(samples[label])
        usual = sum(parts.values())
        parts["epoch start"] = max(hooks[label] - usual, 0.0)
        measured[label] = parts
    for side in sides:
        measured[side.plan.label].update(_evaluation(side, held_out, clock))
    return measured


def _evaluation(side: Side, held_out: HeldOut, clock: Clock) -> dict[str, float]:
    """Seconds for the held-out users; RecBole's at 64 users at once (its best) and at one."""
    if side.plan.ours:
        return side.evaluate(held_out, 0, clock)
    found = side.evaluate(held_out, 64, clock)
    few = HeldOut(side.dataset, 64, 0)
    scale = len(held_out.uid_list) / len(few.uid_list)
    found["ranking default"] = side.evaluate(few, 1, clock)["ranking"] * scale
    return found


if __name__ == "__main__":
    sys.exit(main())

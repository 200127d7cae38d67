"""Time and peak memory of an epoch against the number of interactions, and where memory ends.

    python -m benchmarks.growth                           0.1 M to 20 M interactions
    python -m benchmarks.growth --edges 100000 1000000 --models LightGCN
    python -m benchmarks.growth --models SLIFMR --ablation kg_mm

Users, items, entities and triples grow with the interactions, in Amazon-Book's proportions. Each
size of each model runs in a process of its own. An epoch is what happens before its first batch
(for SLIF-MR the self-loop's refresh, the pruning, all operators) and all its training steps, of
which some are timed and the rest extrapolated.

Every step propagates over all edges, so at a fixed size of batch an epoch grows by edges times
steps, the square of the edges. The batch therefore grows with the data and an epoch keeps its
number of steps, unless `--batch-size` fixes the batch.

The exponent is the slope of a straight line through the logarithms, from `--fit-from` edges on; the
point where memory ends is read off a straight line through the peaks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from benchmarks.dataset import ArrayDataset
from benchmarks.generate import Sizes, synthetic_data
from benchmarks.measure import PeakMemory, command_line, heading, threads_kept, write_result
from benchmarks.sides import Plan, Side
from recbole_slif.errors import SlifError

EPOCH_STEPS = 166
"""Of Amazon-Book at batches of 4,096."""
EDGES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 20_000_000)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    own = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    own.formatter_class = argparse.RawDescriptionHelpFormatter
    own.add_argument("--edges", type=int, nargs="+", default=list(EDGES), help="interactions")
    own.add_argument("--models", nargs="+", choices=("LightGCN", "SLIFMR"), default=["LightGCN"])
    own.add_argument("--ablation", default="none", help="SLIF-MR's key: kg_mm takes no triples")
    own.add_argument("--cl-items", type=int, help="SLIF-MR's key: most items compared in a step")
    own.add_argument("--attention", choices=("step", "epoch"), default="epoch")
    own.add_argument("--search", choices=("exact", "approximate"), default="approximate")
    own.add_argument(
        "--batch-size", type=int, default=0, help=f"0 (default) is edges / {EPOCH_STEPS}"
    )
    own.add_argument("--steps", type=int, default=4, help="timed training steps")
    own.add_argument("--fit-from", type=int, default=0, help="fewest edges of the fitted lines")
    own.add_argument("--memory-gib", type=float, default=24.0, help="memory whose end is sought")
    own.add_argument("--output", type=Path, default=None, help="JSON file (default: a dated one)")
    own.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return own


def sizes_of(edges: int, with_triples: bool) -> Sizes:
    """Amazon-Book's counts, scaled to that many interactions; relations stay.

    Without triples there is one for each item, so that what no model reads takes no time.
    """
    base = Sizes(dims=(("visual", 16),))
    sizes = replace(base.scaled(edges / base.n_pairs, least=50), n_pairs=edges)
    if with_triples:
        return sizes
    return replace(sizes, n_triples=sizes.n_items, n_entities=sizes.n_items + 50)


def measure(model: str, edges: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """Build a model, start an epoch twice and take some steps, in this process."""
    with_triples = model == "SLIFMR" and "kg" not in chosen.ablation.split("_")
    dataset = ArrayDataset(synthetic_data(sizes_of(edges, with_triples), 0))
    overrides = {}
    if model == "SLIFMR":
        overrides = {
            "attn_refresh": chosen.attention,
            "ablation": chosen.ablation,
            "cl_items": chosen.cl_items,
            "sge_search": chosen.search,
        }
    batch = chosen.batch_size or -(-edges // EPOCH_STEPS)
    memory = PeakMemory()
    side = Side(Plan(model, model, True, "", overrides), dataset, batch, 0)
    start = side.start_epoch(process_time)
    first = sum(side.step(process_time).values())
    steps = [sum(side.step(process_time).values()) for _ in range(chosen.steps)]
    usual = statistics.median(steps)
    # the first step after an epoch's start builds what the start left for later
    begin = start + max(first - usual, 0.0)
    n_steps = -(-dataset.inter_num // batch)
    peak = memory.peaks()
    return {
        "edges": edges,
        "users": dataset.user_num - 1,
        "items": dataset.item_num - 1,
        "triples": len(dataset.knowledge.heads),
        "batch": batch,
        "steps of an epoch": n_steps,
        "seconds of a step": usual,
        "seconds before the first step": begin,
        "seconds of an epoch": begin + n_steps * usual,
        "data in GiB": memory.before and memory.before / 2**30,
        "peak in GiB": peak and peak[0],
    }


def exponent(found: Sequence[Mapping[str, Any]], what: str) -> float:
    """The slope of `what` against edges, both as logarithms."""
    logs = np.log([[one["edges"], one[what]] for one in found])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def end_of_memory(found: Sequence[Mapping[str, Any]], gib: float) -> float | None:
    """Edges at which a straight line through the peaks reaches `gib`; None where it never does."""
    peaks = [(one["edges"], one["peak in GiB"]) for one in found if one["peak in GiB"]]
    if len(peaks) < 2:
        return None
    slope, base = np.polyfit(*np.array(peaks).T, 1)
    return float((gib - base) / slope) if slope > 0 else None


def fits(found: Sequence[Mapping[str, Any]], chosen: argparse.Namespace) -> dict[str, Any]:
    """The exponents and the end of memory, from the sizes that the lines are to go through."""
    fitted = [one for one in found if one["edges"] >= chosen.fit_from]
    if len(fitted) < 2:
        return {}
    return {
        "fitted sizes": len(fitted),
        "exponent of an epoch": exponent(fitted, "seconds of an epoch"),
        "exponent of a step": exponent(fitted, "seconds of a step"),
        "exponent of the start": exponent(fitted, "seconds before the first step"),
        f"edges at {chosen.memory_gib:g} GiB, extrapolated": end_of_memory(
            fitted, chosen.memory_gib
        ),
    }


def _in_a_process(model: str, edges: int, chosen: argparse.Namespace) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.growth", "--child", "--models", model]
    words += [f"--edges={edges}", f"--steps={chosen.steps}", f"--attention={chosen.attention}"]
    words += [f"--ablation={chosen.ablation}", f"--search={chosen.search}"]
    words += [] if chosen.cl_items is None else [f"--cl-items={chosen.cl_items}"]
    words += [f"--batch-size={chosen.batch_size}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        raise SlifError(f"{model} at {edges} edges: {lines[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def markdown(result: Mapping[str, Any]) -> str:
    """Write the sizes of each model as a table, and the fits below."""
    lines = []
    for model, part in result["models"].items():
        lines += [
            f"{model}",
            "",
            "| interactions | items | before the first step | a step | steps | an epoch | peak |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {one['edges']:,} | {one['items']:,} | {one['seconds before the first step']:.2f} s "
            f"| {one['seconds of a step']:.3f} s | {one['steps of an epoch']:,} "
            f"| {one['seconds of an epoch']:.0f} s | {one['peak in GiB'] or 0:.2f} GiB |"
            for one in part["sizes"]
        ]
        lines += ["", _named(part["fits"]), ""]
    return "\n".join(lines)


def _named(found: Mapping[str, Any]) -> str:
    shown = {key: "none" if value is None else f"{value:.4g}" for key, value in found.items()}
    return ", ".join(f"{key}: {value}" for key, value in shown.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the measurements; returns the exit status."""
    chosen = parser().parse_args(argv)
    try:
        if chosen.child:
            with threads_kept(1):
                print(json.dumps(measure(chosen.models[0], chosen.edges[0], chosen)))
            return 0
        result = {
            **heading(command_line("benchmarks.growth", argv)),
            "clock": f"CPU seconds of one thread; {chosen.steps} steps timed, epochs extrapolated",
            "models": {model: {} for model in chosen.models},
        }
        for model, part in result["models"].items():
            part["sizes"] = []
            for edges in chosen.edges:
                print(f"{model}, {edges:,} interactions ...", file=sys.stderr)
                part["sizes"].append(_in_a_process(model, edges, chosen))
                part["fits"] = fits(part["sizes"], chosen)
                result["load_average"] = os.getloadavg()
                write_result(result, chosen.output, "growth")  # what is measured stays
    except SlifError as error:
        print(error, file=sys.stderr)
        return 1
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The self-loop at the sizes of two data sets: its share of an epoch, its memory, its growth.

    python -m benchmarks.self_loop
    python -m benchmarks.self_loop --items 24915 --steps 3 --updates 5

For each number of items a data set of Amazon-Book's pairs and triples per item is generated, and
SLIF-MR takes some steps; the search for the correlation graph (Eq. 16, 17) then runs on its tables.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Any

import torch

from benchmarks.dataset import ArrayDataset
from benchmarks.generate import Sizes, synthetic_data
from benchmarks.measure import PeakMemory, heading, seconds, threads_kept, write_result
from benchmarks.sides import Plan, Side
from recbole_slif.errors import SlifError
from recbole_slif.graph.item_item import knn_graph

BATCH = 4096


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    own = argparse.ArgumentParser(prog="python -m benchmarks.self_loop", description=__doc__)
    own.formatter_class = argparse.RawDescriptionHelpFormatter
    own.add_argument("--items", type=int, nargs="+", default=[24_915, 45_538])
    own.add_argument("--steps", type=int, default=3, help="timed training steps")
    own.add_argument("--updates", type=int, default=3, help="timed rebuilds of the graph")
    own.add_argument("--attention", choices=("step", "epoch"), default="epoch")
    own.add_argument("--output", type=Path, default=None, help="JSON file (default: a dated one)")
    return own


def measure(n_items: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """Time steps and rebuilds of one size, with Amazon-Book's pairs, users and triples per item."""
    memory = PeakMemory()  # before anything is freed whose memory the search could take
    knn_graph(torch.randn(n_items + 1, 64), 10)
    peak = memory.peaks()
    base, scale = Sizes(), n_items / Sizes().n_items
    names = ("n_users", "n_pairs", "n_entities", "n_triples")
    counts = {name: round(getattr(base, name) * scale) for name in names}
    sizes = Sizes(**counts, n_items=n_items, dims=(("visual", 16),))
    dataset = ArrayDataset(synthetic_data(sizes, 0))
    plan = Plan("SLIFMR", "SLIFMR", True, "", {"attn_refresh": chosen.attention})
    side = Side(plan, dataset, BATCH, 0)
    side.start_epoch(process_time)
    side.step(process_time)
    steps = [sum(side.step(process_time).values()) for _ in range(chosen.steps)]
    n_steps = -(-dataset.inter_num // BATCH)
    epoch = statistics.median(steps) * n_steps
    side.model.eval()
    with torch.no_grad():
        items = side.model.score_tables()[1].clone()
    search = min(
        seconds(lambda: knn_graph(items, side.settings["sge_n"]), process_time)
        for _ in range(chosen.updates)
    )
    return {
        "items": n_items,
        "pairs": dataset.inter_num,
        "steps of an epoch": n_steps,
        "seconds of a step": statistics.median(steps),
        "seconds of the correlation graph": search,
        "share of an epoch": search / (epoch + search),
        "peak rise of the search in GiB": peak and peak[1],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the measurements; returns the exit status."""
    chosen = parser().parse_args(argv)
    try:
        with threads_kept(1):
            found = [measure(n_items, chosen) for n_items in chosen.items]
    except SlifError as error:
        print(error, file=sys.stderr)
        return 1
    result = {
        **heading(f"python -m benchmarks.self_loop --attention {chosen.attention}"),
        "load_average": os.getloadavg(),
        "clock": "CPU seconds of one thread",
        "sizes": found,
    }
    write_result(result, chosen.output, "self-loop")
    for one in found:
        print(", ".join(f"{name}: {value}" for name, value in one.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The self-loop at the sizes of two data sets: its share of an epoch, its memory, its search.

    python -m benchmarks.self_loop
    python -m benchmarks.self_loop --items 24915 --steps 3 --updates 5
    python -m benchmarks.self_loop --items --searched 24915 45538 1000000 --probes 8 16

For each number of items a data set of Amazon-Book's pairs and triples per item is generated, and
SLIF-MR takes some steps; the search for the correlation graph (Eq. 16, 17) then runs on its tables.

With `--searched`, the approximate search (`sge_search`) runs beside the exact one on generated rows
of 64 columns: clusters of clusters, as learned tables have them, and rows without any structure,
the worst there is. From `MOST_EXACT` items on, the exact one is timed on a sample of rows and
scaled up to all of them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch

from benchmarks.dataset import ArrayDataset
from benchmarks.generate import Sizes, synthetic_data
from benchmarks.measure import PeakMemory, seconds, threads_kept, timed_heading, write_result
from benchmarks.sides import Plan, Side
from recbole_slif.errors import SlifError
from recbole_slif.graph.approximate import approximate_top_k_cosine
from recbole_slif.graph.item_item import knn_graph, top_k_cosine
from recbole_slif.ranking import exact_top_k

BATCH = 4096
WIDTH, NEIGHBOURS, SPREAD = 64, 10, 0.8
MOST_EXACT, SAMPLED_ROWS = 100_000, 1024


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    own = argparse.ArgumentParser(prog="python -m benchmarks.self_loop", description=__doc__)
    own.formatter_class = argparse.RawDescriptionHelpFormatter
    own.add_argument("--items", type=int, nargs="*", default=[24_915, 45_538])
    own.add_argument(
        "--searched", type=int, nargs="*", default=[], help="items of the two searches"
    )
    own.add_argument("--probes", type=int, nargs="+", default=[16], help="values of sge_probes")
    own.add_argument("--kinds", nargs="+", choices=("clusters", "noise"), default=["clusters"])
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


def rows_of(kind: str, n: int, rng: np.random.Generator) -> torch.Tensor:
    """Draw `[n, 64]` rows: 50 to a cluster and 2,000 to a cluster of clusters, or plain noise."""
    drawn = rng.standard_normal((n, WIDTH), dtype=np.float32)
    if kind == "noise":
        return torch.from_numpy(drawn)
    outer = rng.standard_normal((n // 2000 + 1, WIDTH), dtype=np.float32)
    inner = outer[rng.integers(0, len(outer), n // 50 + 1)]
    inner += SPREAD * rng.standard_normal(inner.shape, dtype=np.float32)
    drawn *= SPREAD
    drawn += inner[rng.integers(0, len(inner), n)]
    return torch.from_numpy(drawn)


def compare_searches(n: int, kind: str, probes: Sequence[int]) -> dict[str, Any]:
    """Time both searches on the same rows; recall of the pairs and rise of the peak memory."""
    rng = np.random.default_rng(0)
    x = rows_of(kind, n, rng)
    sampled = n > MOST_EXACT
    chosen = np.sort(rng.choice(n, SAMPLED_ROWS, replace=False)) if sampled else np.arange(n)
    start = process_time()
    wanted = _exact_of(x, chosen) if sampled else top_k_cosine(x, NEIGHBOURS)[0]
    exact = (process_time() - start) * n / len(chosen)
    found: dict[str, Any] = {"items": n, "rows": kind, "exact seconds": exact}
    found["exact timed on rows"] = len(chosen)
    for count in probes:
        memory = PeakMemory()
        start = process_time()
        ids = approximate_top_k_cosine(x, NEIGHBOURS, probes=count)[0]
        took = process_time() - start
        peak = memory.peaks()
        hits = sum(
            np.isin(one, other).sum() for one, other in zip(ids[chosen], wanted, strict=True)
        )
        found[f"{count} probes"] = {
            "seconds": took,
            "of the exact search": took / exact,
            "recall": float(hits) / wanted.numel(),
            "peak rise in GiB": peak and peak[1],
        }
    return found


def _exact_of(x: torch.Tensor, chosen: np.ndarray) -> torch.Tensor:
    """The exact neighbours of some rows `[len(chosen), k]`, compared with all rows in blocks."""
    unit = torch.nn.functional.normalize(x)
    parts = []
    for rows in torch.from_numpy(chosen).split(256):
        scores = unit[rows] @ unit.T
        scores.scatter_(1, rows.unsqueeze(1), float("-inf"))
        parts.append(exact_top_k(scores, NEIGHBOURS))
    return torch.cat(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the measurements; returns the exit status."""
    chosen = parser().parse_args(argv)
    try:
        with threads_kept(1):
            searches = [
                compare_searches(n, kind, chosen.probes)
                for n in chosen.searched
                for kind in chosen.kinds
            ]
            found = [measure(n_items, chosen) for n_items in chosen.items]
    except SlifError as error:
        print(error, file=sys.stderr)
        return 1
    result = {
        **timed_heading("benchmarks.self_loop", argv),
        "sizes": found,
        "searches": searches,
    }
    write_result(result, chosen.output, "self-loop")
    for one in [*found, *searches]:
        print(", ".join(f"{name}: {value}" for name, value in one.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

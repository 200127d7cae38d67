"""A step in float32 and with tables or comparisons in bfloat16, in turn in one process.

    python -m benchmarks.precision               Amazon-Book's size
    python -m benchmarks.precision --scale 0.1 --rounds 3

The metrics of both are compared by whole runs, such as
`python run_recbole_slif.py --model=LightGCN --seed=2020 --table_precision=bfloat16` and
`python run_recbole_slif.py --model=SLIFMR --seed=2020 --contrast_precision=bfloat16`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.dataset import ArrayDataset
from benchmarks.generate import Sizes, synthetic_data
from benchmarks.measure import medians, threads_kept, timed_heading, write_result
from benchmarks.sides import Plan, Side
from recbole_slif.errors import SlifError

BATCH = 4096
PRECISIONS: Mapping[str, Mapping[str, str | None]] = {
    "float32": {"table_precision": None, "contrast_precision": None},
    "tables bfloat16": {"table_precision": "bfloat16", "contrast_precision": None},
    "comparisons bfloat16": {"table_precision": None, "contrast_precision": "bfloat16"},
    "both bfloat16": {"table_precision": "bfloat16", "contrast_precision": "bfloat16"},
}
PLANS = (
    Plan("LightGCN, 3 layers", "LightGCN", True, "", {"n_layers": 3}),
    Plan("SLIFMR, attention per epoch", "SLIFMR", True, "", {"attn_refresh": "epoch"}),
    Plan("SLIFMR, attention per step", "SLIFMR", True, "", {"attn_refresh": "step"}),
    Plan("KGCL", "KGCL", True),
)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    own = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    own.formatter_class = argparse.RawDescriptionHelpFormatter
    own.add_argument("--scale", type=float, default=1.0, help="of Amazon-Book's counts")
    own.add_argument("--rounds", type=int, default=6, help="timed steps of each precision")
    own.add_argument("--output", type=Path, default=None, help="JSON file (default: a dated one)")
    return own


def measure(plan: Plan, dataset: ArrayDataset, rounds: int) -> dict[str, Any]:
    """Time a model's steps, the precisions in turn after one step of each that is not counted."""
    side = Side(plan, dataset, BATCH, 0)
    side.start_epoch(process_time)
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in PRECISIONS}
    for _ in range(rounds + 1):
        for name, settings in PRECISIONS.items():
            side.settings.update(settings)
            samples[name].append(side.step(process_time))
    found = {name: medians(taken[1:]) for name, taken in samples.items()}
    whole = {name: sum(parts.values()) for name, parts in found.items()}
    shares = {name: taken / whole["float32"] for name, taken in whole.items()}
    return {"seconds": found, "of float32": shares}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the measurements; returns the exit status."""
    chosen = parser().parse_args(argv)
    sizes = Sizes(dims=(("visual", 16),)).scaled(chosen.scale)
    try:
        with threads_kept(1):
            dataset = ArrayDataset(synthetic_data(sizes, 0))
            found = {plan.label: measure(plan, dataset, chosen.rounds) for plan in PLANS}
    except SlifError as error:
        print(error, file=sys.stderr)
        return 1
    result = {
        **timed_heading("benchmarks.precision", argv),
        "models": found,
    }
    write_result(result, chosen.output, "precision")
    print(f"| model | {' | '.join(PRECISIONS)} |\n|---|{'---|' * len(PRECISIONS)}")
    for label, one in found.items():
        cells = (
            f"{sum(one['seconds'][name].values()):.3f} s, {one['of float32'][name]:.2f}"
            for name in PRECISIONS
        )
        print(f"| {label} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Time and peak memory of an epoch of each model beside LightGCN's, each in a process of its own.

An epoch is everything the trainer does but evaluation: the model's own passes, its hooks and the
interactions. With `--steps N` only N batches of each pass are run, and the pass is extrapolated.
Unknown options are settings of every model, as `--key=value`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from recbole.utils import KGDataLoaderState

from benchmarks.files import write_files
from benchmarks.generate import Sizes, synthetic_data
from benchmarks.measure import Clock, clock_for, heading, write_result
from recbole_slif import factory
from recbole_slif.config import SlifConfig
from recbole_slif.errors import SlifError
from recbole_slif.phases import learning_parameters, phases_of
from recbole_slif.precision import training_precision
from recbole_slif.records import peak_memory
from recbole_slif.registry import MODELS

BASE = "LightGCN"
GENERATED = "generated"


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    own = argparse.ArgumentParser(prog="python -m benchmarks.epochs", description=__doc__)
    own.formatter_class = argparse.RawDescriptionHelpFormatter
    own.add_argument("--models", nargs="+", default=list(MODELS), help="default: all")
    own.add_argument(
        "--dataset",
        default="ml-100k",
        help=f"a data set, or '{GENERATED}' for generated data of Amazon-Book's size",
    )
    own.add_argument("--steps", type=int, default=None, help="batches a pass (default: all)")
    own.add_argument("--epochs", type=int, default=2, help="epochs run; the last is reported")
    own.add_argument("--threads", type=int, default=1)
    own.add_argument("--scale", type=float, default=1.0, help="of the generated data's counts")
    own.add_argument("--output", type=Path, default=None, help="JSON file (default: a dated one)")
    own.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return own


class Stopwatch:
    """Runs passes, all of their batches or the first few, and counts the seconds of the whole."""

    def __init__(self, model: Any, optimizer: torch.optim.Optimizer, steps: int | None) -> None:
        self.model, self.optimizer, self.steps = model, optimizer, steps
        self.clock: Clock = clock_for(torch.get_num_threads())

    def run(self, batches: Any, loss: Callable[[Any], Any], optimizer: str = "main") -> float:
        """Take the steps of a pass; return its seconds, extrapolated to all batches."""
        chosen = self.optimizer
        if optimizer != "main":
            chosen = self.model.own_optimizers()[optimizer]
        wanted = len(batches) if self.steps is None else min(self.steps, len(batches))
        start = self.clock()
        for batch in islice(batches, wanted):
            chosen.zero_grad()
            parts = loss(batch)
            (sum(parts) if isinstance(parts, tuple) else parts).backward()
            chosen.step()
        return (self.clock() - start) * len(batches) / max(wanted, 1)

    def hook(self, name: str, epoch: int) -> float:
        """Call an epoch hook; return its seconds."""
        start = self.clock()
        getattr(self.model, name)(epoch)
        return self.clock() - start

    def epoch(self, loader: Any, number: int) -> dict[str, float]:
        """Run an epoch as the trainer does; return the seconds of its parts."""
        self.model.train()
        before = self._own("before", number)
        refresh = self.hook("pre_epoch", number)
        knows = hasattr(loader, "set_mode")
        if knows:
            loader.set_mode(KGDataLoaderState.RS)
        train = self.run(loader, self.model.calculate_loss)
        if knows and hasattr(self.model, "calculate_kg_loss"):
            loader.set_mode(KGDataLoaderState.KG)
            train += self.run(loader, self.model.calculate_kg_loss)
        after = self._own("after", number)
        refresh += self.hook("post_epoch", number)
        return {"refresh": refresh, "train": train, "other passes": before + after}

    def _own(self, when: str, number: int) -> float:
        return sum(
            self.run(phase.batches, phase.loss, phase.optimizer)
            for phase in phases_of(self.model, when, number)
        )


def measure(name: str, chosen: argparse.Namespace, settings: Sequence[str]) -> dict[str, Any]:
    """Build one model and time its epochs; the last one's parts, and the process's peak memory."""
    quiet = {"state": "ERROR", "show_progress": False, "use_gpu": False}
    config = SlifConfig(name, chosen.dataset, None, quiet, list(settings))
    bundle = factory.load_data(config)
    model = factory.build_model(config, bundle)
    optimizer = torch.optim.Adam(learning_parameters(model), config["learning_rate"], fused=True)
    watch = Stopwatch(model, optimizer, chosen.steps)
    with training_precision(config):
        for number in range(chosen.epochs):
            parts = watch.epoch(bundle.train_data, number)
    return {
        **parts,
        "epoch": sum(parts.values()),
        "parameters": sum(part.numel() for part in model.parameters()),
        "peak_mib": peak_memory("cpu")["process_mib"],
        "departures": config.departures,
    }


def compare(chosen: argparse.Namespace, settings: Sequence[str]) -> dict[str, Any]:
    """Measure each model in a process of its own, LightGCN first."""
    names = list(dict.fromkeys([BASE, *chosen.models]))
    found = {}
    for name in names:
        print(f"{name} ...", file=sys.stderr)
        found[name] = _in_a_process(name, chosen, settings)
    return {
        **heading(),
        "dataset": chosen.dataset,
        "threads": chosen.threads,
        "steps": chosen.steps,
        "models": found,
    }


def _in_a_process(name: str, chosen: argparse.Namespace, settings: Iterable[str]) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.epochs", "--child", f"--models={name}", *settings]
    words += [f"--{key}={getattr(chosen, key)}" for key in ("dataset", "epochs", "threads")]
    words += [] if chosen.steps is None else [f"--steps={chosen.steps}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        return {"error": lines[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def markdown(result: dict[str, Any]) -> str:
    """Return the table: seconds of the parts, the epoch over LightGCN's, peak memory."""
    base = result["models"][BASE].get("epoch")
    lines = [
        f"{result['dataset']}, {result['threads']} thread(s), seconds",
        "",
        "| model | train | other passes | refresh | epoch | of LightGCN's | peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in result["models"].items():
        if "error" in found:
            lines.append(f"| {name} | {found['error']} | | | | | |")
            continue
        parts = " | ".join(f"{found[key]:.2f}" for key in ("train", "other passes", "refresh"))
        ratio = f"{found['epoch'] / base:.1f}" if base else ""
        lines.append(
            f"| {name} | {parts} | {found['epoch']:.2f} | {ratio} | {found['peak_mib']:.0f} |"
        )
    return "\n".join(lines)


def _sizes(scale: float) -> Sizes:
    whole = Sizes()
    counts = ("n_users", "n_items", "n_pairs", "n_entities", "n_triples")
    return replace(whole, **{name: int(getattr(whole, name) * scale) for name in counts})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison; returns the exit status."""
    chosen, settings = parser().parse_known_args(argv)
    torch.set_num_threads(chosen.threads)
    try:
        if chosen.child:
            print(json.dumps(measure(chosen.models[0], chosen, settings)))
            return 0
        with tempfile.TemporaryDirectory() as temporary:
            if chosen.dataset == GENERATED:
                write_files(synthetic_data(_sizes(chosen.scale)), Path(temporary), GENERATED)
                settings = [f"--data_path={temporary}", "--protocol=benchmark", *settings]
            result = compare(chosen, settings)
    except SlifError as error:
        print(error, file=sys.stderr)
        return 1
    write_result(result, chosen.output, f"epochs-{chosen.dataset}")
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Full-sort evaluation beside RecBole's collector: seconds, metrics, and the product's own limit.

    python -m benchmarks.ranking --data FOLDER
    python -m benchmarks.ranking --data FOLDER --users 8192 --rounds 5 --at-once 64 256
    python -m benchmarks.ranking --data FOLDER --checkpoint RUN_FOLDER

The users and histories are a public data set's, the tables random or those of a trained run, whose
lengths let most items be left out. RecBole's scoring, masking and collecting run at one user at
once, its default at this size, and at the numbers of `--at-once`; sides take turns and minima are
compared, since other programs can only add to them.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector, Evaluator

from benchmarks.dataset import Settings, settings_of
from benchmarks.measure import PeakMemory, clock_for, heading, seconds, threads_kept, write_result
from benchmarks.sides import METRICS
from recbole_slif import factory
from recbole_slif.checkpoint import load_model
from recbole_slif.config import SlifConfig
from recbole_slif.data.loaders import EvalLoader
from recbole_slif.errors import SlifError
from recbole_slif.evaluation import BlockedFullSortEvaluator

_DEFAULT_SAMPLE = 512


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    own = argparse.ArgumentParser(prog="python -m benchmarks.ranking", description=__doc__)
    own.formatter_class = argparse.RawDescriptionHelpFormatter
    own.add_argument(
        "--data",
        default=os.environ.get("RECBOLE_SLIF_DATA"),
        help="folder of the data sets' folders (default: $RECBOLE_SLIF_DATA)",
    )
    own.add_argument("--dataset", default="amazon-book")
    own.add_argument("--checkpoint", help="run whose tables and data set are taken (default: none)")
    own.add_argument("--users", type=int, default=0, help="ranked users (default: all of them)")
    own.add_argument("--at-once", type=int, nargs="+", default=[64, 256], help="RecBole's batches")
    own.add_argument("--dim", type=int, default=64)
    own.add_argument("--rounds", type=int, default=3)
    own.add_argument("--output", type=Path, default=None, help="JSON file (default: a dated one)")
    return own


class Tables:
    """Embeddings that both sides score with."""

    def __init__(self, users: torch.Tensor, items: torch.Tensor) -> None:
        """Keep the tables `[n_users, dim]` and `[n_items, dim]`."""
        self.users, self.items = users.detach(), items.detach()

    @classmethod
    def drawn(cls, n_users: int, n_items: int, dim: int) -> Tables:
        """Draw random tables."""
        drawn = torch.Generator().manual_seed(0)
        return cls(*(torch.randn(rows, dim, generator=drawn) for rows in (n_users, n_items)))

    def eval(self) -> None:
        """Nothing to switch."""

    def score_tables(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tables."""
        return self.users, self.items


class Run:
    """One data set's users, ranked by either side."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        """Read the data set; draw the tables or take a trained run's."""
        settings = {"data_path": chosen.data, "state": "CRITICAL", "use_gpu": False}
        if chosen.checkpoint:
            _, trained, bundle = load_model(chosen.checkpoint, settings)
            self.tables = f"of {type(trained).__name__}, trained"
            self.model = Tables(*trained.score_tables())
        else:
            bundle = factory.load_data(SlifConfig("LightGCN", chosen.dataset, None, settings))
            sizes = bundle.dataset.user_num, bundle.dataset.item_num
            self.tables, self.model = "random", Tables.drawn(*sizes, chosen.dim)
        self.loader: EvalLoader = bundle.test_data
        self.settings: Settings = settings_of("LightGCN", True, METRICS)
        self.settings["metric_decimal_place"] = 12
        self.n_items = int(bundle.dataset.item_num)
        if chosen.users:
            self.loader = _first(self.loader, chosen.users)
        self.evaluator = BlockedFullSortEvaluator(self.settings)
        self.n_users = len(self.evaluator.lists(self.loader).users)

    def ours(self) -> Any:
        """Rank and collect with the blocked evaluator."""
        return self.evaluator.collect(self.model, self.loader)

    @torch.no_grad()
    def recboles(self, at_once: int, n_users: int) -> Any:
        """Rank and collect as RecBole's trainer does, `at_once` users at a time."""
        collector = Collector(self.settings)
        for start in range(0, n_users, at_once):
            index = list(range(start, min(start + at_once, n_users)))
            batch, history, rows, items = self.loader.collate_fn(index)
            scores = torch.matmul(self.model.users[batch["user_id"]], self.model.items.T)
            scores = scores.view(-1, self.n_items)
            scores[:, 0] = -torch.inf
            scores[history] = -torch.inf
            collector.eval_batch_collect(scores, Interaction({}), rows, items)
        return collector.get_data_struct()

    def product(self) -> None:
        """Compute all scores and nothing else, in blocks as ours does."""
        users = self.evaluator.lists(self.loader).users
        size = self.evaluator.block_users
        out = torch.empty(self.n_items * size)
        for start in range(0, len(users), size):
            block = self.model.users[torch.from_numpy(users[start : start + size])]
            room = out[: self.n_items * len(block)].view(self.n_items, -1)
            torch.mm(self.model.items, block.T, out=room)


def _first(loader: EvalLoader, n_users: int) -> EvalLoader:
    """Leave the first `n_users` users in a loader."""
    positives = loader.pairs.positives

    def few(phase: str) -> Any:
        users, indptr, items = positives(phase)
        users, indptr = users[:n_users], indptr[: n_users + 1]
        return users, indptr, items[: indptr[-1]]

    loader.pairs.positives = few  # type: ignore[method-assign]
    return loader


def compare(chosen: argparse.Namespace) -> dict[str, Any]:
    """Time both sides in turns and compare their metrics."""
    run = Run(chosen)
    clock = clock_for(1)
    few = min(_DEFAULT_SAMPLE, run.n_users)
    sides: dict[str, list[float]] = {}
    memory = PeakMemory()
    struct = run.ours()
    peak = memory.peaks()
    for _ in range(chosen.rounds):
        sides.setdefault("ours", []).append(seconds(run.ours, clock))
        sides.setdefault("product alone", []).append(seconds(run.product, clock))
        one = seconds(lambda: run.recboles(1, few), clock) * run.n_users / few
        sides.setdefault("RecBole, default", []).append(one)
        for at_once in chosen.at_once:
            taken = seconds(lambda own=at_once: run.recboles(own, run.n_users), clock)
            sides.setdefault(f"RecBole, {at_once} at once", []).append(taken)
        print({name: round(times[-1], 2) for name, times in sides.items()}, file=sys.stderr)
    metrics = Evaluator(run.settings)
    found = metrics.evaluate(struct)
    wanted = metrics.evaluate(run.recboles(max(chosen.at_once), run.n_users))
    least = {name: min(times) for name, times in sides.items()}
    best = min(value for name, value in least.items() if name.endswith("at once"))
    taken_from = "--checkpoint RUN_FOLDER " if chosen.checkpoint else ""
    command = (
        f"python -m benchmarks.ranking --data FOLDER {taken_from}--users {chosen.users} "
        f"--rounds {chosen.rounds} --at-once {' '.join(map(str, chosen.at_once))}"
    )
    return {
        **heading(command),
        "load_average": os.getloadavg(),
        "tables": run.tables,
        "users": run.n_users,
        "items": run.n_items - 1,
        "seconds": least,
        "all seconds": sides,
        "times faster than the default": least["RecBole, default"] / least["ours"],
        "times faster than the best": best / least["ours"],
        "above the product alone": least["ours"] / least["product alone"],
        "peak rise in GiB": peak and peak[1],
        "metrics equal": dict(found) == dict(wanted),
        "metrics": {name: float(value) for name, value in found.items()},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison; returns the exit status."""
    chosen = parser().parse_args(argv)
    try:
        if chosen.data is None:
            raise SlifError("--data is missing: name the folder that holds the data sets' folders")
        with threads_kept(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = compare(chosen)
    except SlifError as error:
        print(error, file=sys.stderr)
        return 1
    write_result(result, chosen.output, "ranking")
    shown = ("users", "seconds", "times faster than the default", "times faster than the best")
    for name in (*shown, "above the product alone", "peak rise in GiB", "metrics equal"):
        print(f"{name}: {result[name]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

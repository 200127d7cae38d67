"""From files to batches beside RecBole: reading, splitting, ids, the cache and the negatives.

    python -m benchmarks.data_path --data FOLDER
    python -m benchmarks.data_path --data FOLDER --datasets amazon-book --rounds 3

FOLDER holds data sets with public splits. Each is split once and written as train, valid and test
files, which both sides then read in one process, taking turns: RecBole through `create_dataset`
and `data_preparation`, ours without the cache, with an empty one and with a filled one. Then an
epoch of our loader, negatives included, stands beside an epoch of our LightGCN.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation

from benchmarks.measure import clock_for, heading, medians, seconds, threads_kept, write_result
from recbole_slif import factory
from recbole_slif.config import SlifConfig
from recbole_slif.data.pairs import SplitPairs
from recbole_slif.errors import SlifError

_TOLD = {"state": "CRITICAL", "use_gpu": False, "show_progress": False}
_COLUMNS = {"kg": ["head_id", "relation_id", "tail_id"], "link": ["item_id", "entity_id"]}
_STEPS = 3


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    own = argparse.ArgumentParser(prog="python -m benchmarks.data_path", description=__doc__)
    own.formatter_class = argparse.RawDescriptionHelpFormatter
    own.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("RECBOLE_SLIF_DATA"),
        help="folder of the data sets' folders (default: $RECBOLE_SLIF_DATA)",
    )
    own.add_argument("--datasets", nargs="+", default=["amazon-book", "alibaba-ifashion"])
    own.add_argument("--rounds", type=int, default=3, help="readings of each side (default 3)")
    own.add_argument("--output", type=Path, default=None, help="JSON file (default: a dated one)")
    return own


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison; returns the exit status."""
    chosen = parser().parse_args(argv)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        if chosen.data is None:
            raise SlifError("--data is missing: name the folder that holds the data sets' folders")
        with threads_kept(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = {name: compare(name, chosen.data, chosen.rounds) for name in chosen.datasets}
    except SlifError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        logging.disable(level)
    words = ["--data FOLDER", f"--rounds {chosen.rounds}", "--datasets", *chosen.datasets]
    result = {
        **heading(f"python -m benchmarks.data_path {' '.join(words)}"),
        "load_average": os.getloadavg(),
        "clock": "CPU seconds of one thread; wall seconds under 'wall'",
        "datasets": found,
    }
    write_result(result, chosen.output, "data-path")
    print(markdown(found))
    return 0


def compare(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Time both sides on one data set."""
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        knows = write_split(name, folder, base / "data")
        ours = {**_TOLD, "data_path": str(base / "data"), "data_cache_dir": str(base / "cache")}
        sides: dict[str, Callable[[], Any]] = {
            "RecBole": lambda: _recbole(name, base / "data", knows),
            "no cache": lambda: _ours(name, {**ours, "data_cache": False}),
            "empty cache": lambda: _ours(name, ours, emptied=base / "cache"),
            "filled cache": lambda: _ours(name, ours),
        }
        cpu: list[dict[str, float]] = []
        wall: list[dict[str, float]] = []
        for _ in range(rounds):
            cpu.append({})
            wall.append({})
            for side, work in sides.items():
                start = perf_counter()
                cpu[-1][side] = seconds(work, clock_for(1))
                wall[-1][side] = perf_counter() - start
            print(f"{name}: {cpu[-1]}", file=sys.stderr)
        bundle = _ours(name, ours)
        stored = sum(path.stat().st_size for path in (base / "cache").iterdir())
        negatives = loader_share(name, ours)
    middle = medians(cpu)
    return {
        "seconds": middle,
        "wall": medians(wall),
        "ratios": {side: middle[side] / middle["RecBole"] for side in middle},
        "stored_mib": stored / 2**20,
        "split": bundle.statistics["split"],
        "fingerprint": bundle.fingerprint,
        "negatives": negatives,
    }


def write_split(name: str, folder: Path, target: Path) -> bool:
    """Write our split of a data set as three files with its graph; tell whether it has one."""
    settings = {**_TOLD, "data_path": str(folder), "data_cache": False}
    bundle = factory.load_data(SlifConfig("LightGCN", name, None, settings))
    place = target / name
    place.mkdir(parents=True)
    dataset = bundle.dataset
    tokens = [dataset.field2id_token[field] for field in (dataset.uid_field, dataset.iid_field)]
    for part in SplitPairs.PHASES:
        table = bundle.pairs.table(part)
        rows = zip(tokens[0][table.rows], tokens[1][table.values], strict=True)
        lines = ["user_id:token\titem_id:token", *("\t".join(row) for row in rows)]
        (place / f"{name}.{part}.inter").write_text("\n".join(lines) + "\n", "utf-8")
    source = Path(dataset.dataset_path)
    for suffix in _COLUMNS:
        path = source / f"{name}.{suffix}"
        if path.is_file():
            (place / path.name).write_bytes(path.read_bytes())
    return bool(dataset.knowledge.n_triples)


@contextmanager
def _no_arguments() -> Any:
    """Hide the command line, which RecBole's configuration reads."""
    kept, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = kept


def _recbole(name: str, folder: Path, knows: bool) -> Any:
    columns: dict[str, Any] = {"inter": ["user_id", "item_id"], **(_COLUMNS if knows else {})}
    settings = {
        **_TOLD,
        "data_path": str(folder),
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": columns,
    }
    with _no_arguments():
        config = Config("CKE" if knows else "LightGCN", name, config_dict=settings)
    return data_preparation(config, create_dataset(config))


def _ours(name: str, settings: Mapping[str, Any], emptied: Path | None = None) -> Any:
    if emptied is not None and emptied.is_dir():
        for path in emptied.iterdir():
            path.unlink()
    return factory.load_data(SlifConfig("LightGCN", name, None, settings))


def loader_share(name: str, settings: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of an epoch's negatives and batches, and their share of an epoch of LightGCN."""
    clock = clock_for(1)
    config = SlifConfig("LightGCN", name, None, settings)
    bundle = factory.load_data(config)
    loader = bundle.train_data
    users = loader._dataset.inter_feat[loader._dataset.uid_field].numpy()
    size = config["train_batch_size"]
    starts = range(0, len(users), size)
    loader._sampler.sample_by_key_ids(users[:size], 1)  # builds its table

    def draw() -> None:
        for start in starts:
            loader._sampler.sample_by_key_ids(users[start : start + size], 1)

    draws = min(seconds(draw, clock) for _ in range(3))
    batches = min(seconds(lambda: [None for _ in loader], clock) for _ in range(3))
    model = factory.build_model(config, bundle)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    few = [batch for batch, _ in zip(loader, range(_STEPS + 1), strict=False)]

    def step(batch: Any) -> None:
        optimizer.zero_grad()
        losses = model.calculate_loss(batch)
        (torch.stack(losses).sum() if isinstance(losses, tuple) else losses).backward()
        optimizer.step()

    step(few[0])
    each = min(seconds(lambda own=batch: step(own), clock) for batch in few)
    epoch = each * len(starts) + batches
    return {
        "steps": len(starts),
        "draws": draws,
        "batches with draws": batches,
        "LightGCN epoch": epoch,
        "share of draws": draws / epoch,
        "share of batches": batches / epoch,
    }


def markdown(found: Mapping[str, Any]) -> str:
    """Lay the figures out for reading."""
    lines = [
        "| data set | RecBole | ours | with the cache to fill | from the cache | ratios |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        cells = [f"{one['seconds'][side]:.2f}" for side in one["seconds"]]
        ratios = ", ".join(f"{ratio:.3f}" for ratio in list(one["ratios"].values())[1:])
        lines.append(f"| {name} | {' | '.join(cells)} | {ratios} |")
    lines += ["", "| data set | draws of an epoch | share of LightGCN's epoch | batches, share |"]
    lines.append("|---|---|---|---|")
    for name, one in found.items():
        part = one["negatives"]
        shares = part["share of draws"], part["share of batches"]
        lines.append(
            f"| {name} | {part['draws']:.3f} s | {shares[0]:.2%} "
            f"| {part['batches with draws']:.3f} s, {shares[1]:.2%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

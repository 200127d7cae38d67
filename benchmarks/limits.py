"""How far each part of a SLIF-MR epoch is from what the machine can do, measured in the same run.

    python -m benchmarks.limits                  Amazon-Book's size, whole graphs
    python -m benchmarks.limits --scale 0.1 --rounds 3

Two limits are measured first, on one thread: memory bandwidth (two arrays too large for the caches
added into a third) and the arithmetic rate (a product of two square matrices). Then each part runs
alone, forward and backward. For each part the bytes that its products must read and write without
help of a cache, or the operations of its matrix products, are counted from the graphs; divided by
the limit they are the least time. Parts that gather rows can pass the limit where rows are found in
a cache. Small work beside (masks, sums of layers, sorting) is in the time but not in the count.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import Tensor

from benchmarks.dataset import ArrayDataset
from benchmarks.generate import Sizes, synthetic_data
from benchmarks.measure import seconds, threads_kept, timed_heading, write_result
from benchmarks.sides import Plan, Side
from recbole_slif.errors import SlifError
from recbole_slif.graph.item_item import knn_graph
from recbole_slif.graph.sparse import SparseOperator

BATCH, NUMBER = 4096, 4  # pairs of a step; bytes of a float32


@dataclass(frozen=True)
class Part:
    """One part of an epoch: how often it runs, what it does, and its least traffic or work."""

    name: str
    times: int
    work: Callable[[], Any]
    bytes: float = 0.0
    operations: float = 0.0


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    own = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    own.formatter_class = argparse.RawDescriptionHelpFormatter
    own.add_argument("--scale", type=float, default=1.0, help="of Amazon-Book's counts")
    own.add_argument("--rounds", type=int, default=5, help="timed runs of each part")
    own.add_argument("--output", type=Path, default=None, help="JSON file (default: a dated one)")
    return own


def bandwidth(n: int = 1 << 25, rounds: int = 5) -> float:
    """Bytes a second of `c = a + s b` over arrays of 128 MiB, the best of some runs."""
    a, b, c = torch.rand(n), torch.rand(n), torch.empty(n)
    best = min(
        seconds(lambda: torch.add(a, b, alpha=0.5, out=c), process_time) for _ in range(rounds)
    )
    return 3 * NUMBER * n / best


def arithmetic(n: int = 1536, rounds: int = 5) -> float:
    """Operations a second of a float32 product `[n, n] x [n, n]`, the best of some runs."""
    a, b, c = torch.rand(n, n), torch.rand(n, n), torch.empty(n, n)
    best = min(seconds(lambda: torch.mm(a, b, out=c), process_time) for _ in range(rounds))
    return 2.0 * n**3 / best


def product_bytes(operator: SparseOperator, width: int) -> float:
    """Bytes of one product: a row, a column id and a value for each entry; each result row."""
    per_entry = NUMBER * width + 4 + NUMBER
    return operator.nnz * per_entry + operator.shape[0] * (NUMBER * width + 4)


def both_ways(work: Callable[[], Tensor]) -> Callable[[], None]:
    """Run `work` and the backward pass from a gradient of ones."""

    def run() -> None:
        found = work()
        found.backward(torch.ones_like(found))

    return run


def parts_of(side: Side, n_steps: int) -> list[Part]:
    """The parts of an epoch with attention learned per step, each with its count."""
    model = side.model.train()
    graphs, width = model._graphs(), side.settings["embedding_size"]
    layers, entities = side.settings["n_layers"], model.entity_embedding.weight
    triples, knowledge = graphs.triples, model.knowledge_branch
    start = torch.cat([model.user_embedding.weight, model._item_rows("interaction")])
    start = start.detach().requires_grad_()
    item_graphs = [*model.feature_branch.graphs, graphs.correlation]
    attention = knowledge.relational_attention
    weights = attention.attention(entities, triples).detach()
    frozen = triples.operator(weights)
    n_items, pairs, edges = model.n_items, triples.n_pairs, triples.n_edges
    positives = torch.randperm(n_items - 1)[: min(BATCH, n_items - 1)] + 1
    views = [torch.randn(len(positives), width, requires_grad=True) for _ in range(3)]
    mask, unified = model.view_mask[positives], torch.randn(len(positives), width)
    compared = 2.0 * len(positives) ** 2 * width * len(views)
    counts = sum(parameter.numel() for parameter in model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)

    def features() -> Tensor:
        rows = model._item_rows("feature")
        return model.feature_branch(rows, layers, graphs.correlation, graphs.base_share)

    return [
        Part(
            "interactions propagated",
            n_steps,
            both_ways(lambda: graphs.bipartite.polynomial(start, [1.0] * (layers + 1))),
            bytes=2 * layers * product_bytes(graphs.bipartite, width),
        ),
        Part(
            "feature graphs propagated",
            n_steps,
            both_ways(features),
            bytes=2 * layers * sum(product_bytes(graph, width) for graph in item_graphs),
        ),
        Part(
            "knowledge propagated, attention fixed",
            n_steps,
            both_ways(lambda: frozen.polynomial(entities, [1.0] * (layers + 1))),
            bytes=2 * layers * product_bytes(frozen, width),
        ),
        Part(
            "attention learned",
            n_steps,
            both_ways(lambda: attention.attention(entities, triples)),
            # W_r and its transpose for each (head, relation), once forward, twice backward; the
            # rows of both ends of an edge, forward and backward
            operations=3 * 2 * 2.0 * pairs * width**2 + 3 * 2.0 * edges * width,
            bytes=3 * edges * 2 * NUMBER * width,
        ),
        Part(
            "consistency losses",
            n_steps,
            both_ways(lambda: torch.stack(model.consistency_loss(views, unified, mask)).sum()),
            # scores and gradient of the one loss, distances and gradient of the other
            operations=4 * compared,
        ),
        Part("optimizer", n_steps, side.optimizer.step, bytes=7 * NUMBER * counts),
        Part(
            "correlation graph",
            1,
            lambda: knn_graph(entities.detach()[:n_items], side.settings["sge_n"]),
            operations=2.0 * n_items**2 * width,
        ),
        Part("graphs drawn and built", 1, lambda: model.self_loop.training_graphs(1)),
    ]


def measure(part: Part, rounds: int, limits: Mapping[str, float]) -> dict[str, Any]:
    """Time a part; its least time is that of its traffic plus that of its operations."""
    part.work()
    took = statistics.median(seconds(part.work, process_time) for _ in range(rounds))
    least = part.bytes / limits["bytes a second"] + part.operations / limits["operations a second"]
    return {
        "part": part.name,
        "times an epoch": part.times,
        "seconds": took,
        "seconds of an epoch": took * part.times,
        "bytes": part.bytes,
        "operations": part.operations,
        "least seconds": least,
        "times the least": took / least if least else None,
    }


def markdown(result: Mapping[str, Any]) -> str:
    """Write the limits and the parts as a table."""
    whole = sum(row["seconds of an epoch"] for row in result["parts"])
    lines = [
        f"{result['limits']['bytes a second'] / 1e9:.1f} GB/s, "
        f"{result['limits']['operations a second'] / 1e9:.0f} GFLOP/s",
        "",
        "| part | seconds | share of an epoch | GB | GFLOP | least seconds | times the least |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["parts"]:
        ratio = "" if row["times the least"] is None else f"{row['times the least']:.1f}"
        lines.append(
            f"| {row['part']} | {row['seconds']:.3f} | {row['seconds of an epoch'] / whole:.1%} "
            f"| {row['bytes'] / 1e9:.2f} | {row['operations'] / 1e9:.2f} "
            f"| {row['least seconds']:.3f} | {ratio} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the measurements; returns the exit status."""
    chosen = parser().parse_args(argv)
    sizes = Sizes().scaled(chosen.scale)
    overrides = {"attn_refresh": "step", "prune_ui": 0.0, "prune_kg": 0.0}
    try:
        with threads_kept(1):
            limits = {"bytes a second": bandwidth(), "operations a second": arithmetic()}
            dataset = ArrayDataset(synthetic_data(sizes, 0))
            side = Side(Plan("SLIFMR", "SLIFMR", True, "", overrides), dataset, BATCH, 0)
            side.start_epoch(process_time)
            n_steps = -(-dataset.inter_num // BATCH)
            found = [measure(part, chosen.rounds, limits) for part in parts_of(side, n_steps)]
            step = [sum(side.step(process_time).values()) for _ in range(chosen.rounds)]
    except SlifError as error:
        print(error, file=sys.stderr)
        return 1
    result = {
        **timed_heading("benchmarks.limits", argv),
        "limits": limits,
        "seconds of a whole step": statistics.median(step),
        "parts": found,
    }
    write_result(result, chosen.output, "limits")
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

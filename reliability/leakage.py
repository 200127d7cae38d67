"""No validation or test pair reaches what a model learns from, for every model and variant."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif import factory
from recbole_slif.testing import leaks, spies
from recbole_slif.testing.trial import Bench, require
from reliability.apart import apart
from reliability.frame import Case, Setting


def sources_are_the_same(bench: Bench) -> None:
    """Graph, features, popularity and batches are equal on data that differ in held-out pairs."""
    seen = []
    for held_out in (0, 1):
        _, config = bench.settled({"seed": 1}, held_out_seed=held_out)
        bundle = factory.load_data(config)
        dataset = bundle.train_data._dataset
        graph = dataset.knowledge
        arrays = [graph.heads, graph.relations, graph.tails, graph.linked]
        for part in dataset.features.values():
            arrays += [part.matrix, part.presence]
        loader = getattr(bundle.train_data, "general_dataloader", bundle.train_data)
        sampler = loader._sampler
        require(sampler.phase == "train", f"the sampler is at phase '{sampler.phase}'")
        arrays.append(sampler._popularity())
        for batch in loader:
            arrays += [batch[name].numpy() for name in sorted(batch.columns)]
        seen.append(arrays)
    same = all(np.array_equal(*pair) for pair in zip(*seen, strict=True))
    require(same, "graph, features, popularity or batches depend on held-out pairs")


CHECKS = (
    leaks.training_sees_the_train_split_alone,
    leaks.held_out_pairs_are_in_no_graph,
    leaks.held_out_pairs_change_nothing,
    spies.held_out_pairs_wait_for_their_turn,
    sources_are_the_same,
)
VARIANTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "SLIFMR": (
        {},
        {"sge_merge": "accumulate", "sge_kg_prior": True},
        {"sge_merge": "ema", "feature_init": "project"},
        {"separate_tables": True, "fusion": "concat"},
    ),
    "DiffKG": ({}, {"cl_pattern": 1}),
    "KGCL": ({}, {"ui_keep": "edge", "translation": "transr"}),
}


def check(model: str, overrides: Mapping[str, Any], folder: Path) -> None:
    """Run all the checks on a model under these settings."""
    for one in CHECKS:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            one(Bench(model, Path(place), overrides))


def cases(setting: Setting) -> Iterator[Case]:
    """Yield every model, then the variants of those that have further graphs."""
    plain: list[tuple[str, Mapping[str, Any]]] = [(model, {}) for model in setting.models]
    more = [
        (model, overrides)
        for model, variants in VARIANTS.items()
        for overrides in variants[1:]
        if model in setting.models
    ]
    for model, overrides in [*plain, *more][: setting.cases]:
        run = partial(check, model, overrides, setting.folder)
        yield Case(f"{model} {dict(overrides) or ''}".strip(), partial(apart, run))

"""What is to be run: cells and seeds, each run with its settings and the hash that names it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from recbole_slif import factory
from recbole_slif.config import SlifConfig, find_model_class
from recbole_slif.config_keys import ADDED_LATER, NOT_DECISIVE
from recbole_slif.config_yaml import read_literal
from recbole_slif.errors import ConfigError
from recbole_slif.experiment.definition import CellSpec, Definition
from recbole_slif.experiment.noise import NEEDS, Noise
from recbole_slif.experiment.pool import DataPool, digest, offers, reading
from recbole_slif.records import plain
from recbole_slif.registry import MODELS, unknown_model
from recbole_slif.seeds import training_seeds

SCHEMA = 1
_MEANINGLESS_AT = {"sge_probes": ("sge_search", "exact")}
_OWN_FOLDERS = ("checkpoint_dir", "record_dir")
# What each variant of SLIF-MR learns from, Table III.
_BOTH = ("features", "knowledge")
_VARIANTS = {"kg": ("features",), "mm": ("knowledge",), "kg_mm": ()}


@dataclass(frozen=True)
class Recipe:
    """All it takes to build a run's configuration again, in any process."""

    model: str
    dataset: str
    files: tuple[str, ...]
    overrides: Mapping[str, Any]
    argv: tuple[str, ...]

    def config(self, **more: Any) -> SlifConfig:
        """Build the configuration; `more` wins over all but the command line."""
        overrides = {**self.overrides, **more}
        return SlifConfig(self.model, self.dataset, self.files, overrides, list(self.argv))


@dataclass(frozen=True)
class PlannedRun:
    """One training.

    Attributes:
        cell: key of its cell.
        label: what a reader calls the cell.
        seed: training seed.
        settings_hash: of all that decides its numbers; equal hashes, equal numbers.
        recipe: how to build its configuration.
        noise: of its data, or None.
        epochs: most epochs of it.
    """

    cell: str
    label: str
    seed: int
    settings_hash: str
    recipe: Recipe
    noise: Noise | None
    epochs: int

    @property
    def title(self) -> str:
        """Cell and seed in words."""
        label = "" if self.label == self.recipe.model else f" {self.label}"
        return f"{self.recipe.model}{label}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """An experiment on one data set.

    Attributes:
        experiment, artefact, title: from the experiment's file.
        dataset, protocol: what is trained on, and its split.
        seeds: training seeds.
        quick: the reduced form.
        cells: one dictionary for each cell, as `plan.json` holds it.
        runs: what is to be run, all cells of a seed before the next seed.
        command: how the experiment was started.
    """

    experiment: str
    artefact: str
    title: str
    dataset: str
    protocol: str
    seeds: tuple[int, ...]
    quick: bool
    cells: tuple[dict[str, Any], ...]
    runs: tuple[PlannedRun, ...] = ()
    command: tuple[str, ...] = ()

    @cached_property
    def groups(self) -> dict[str, list[PlannedRun]]:
        """Hash -> the planned runs that one training serves."""
        found: dict[str, list[PlannedRun]] = {}
        for run in self.runs:
            found.setdefault(run.settings_hash, []).append(run)
        return found

    def content(self) -> dict[str, Any]:
        """Return what `plan.json` holds."""
        names = ("experiment", "artefact", "dataset", "protocol", "seeds", "quick", "title")
        runs = [
            {"cell": run.cell, "seed": run.seed, "settings_hash": run.settings_hash}
            for run in self.runs
        ]
        return plain(
            {
                "schema": SCHEMA,
                **{name: getattr(self, name) for name in names},
                "cells": self.cells,
                "command": self.command,
                "runs": runs,
            }
        )


@dataclass(frozen=True)
class Request:
    """What the user asked for beside the experiment's file.

    Attributes:
        dataset: name of the data set.
        seeds: number of seeds or seeds, None for the file's.
        models: cells of these models alone, None for all.
        quick: the reduced form.
        files: YAML files below the experiment's settings.
        words: key -> text of the command line, above the experiment's settings.
        command: how the experiment was started.
    """

    dataset: str
    seeds: int | list[int] | None = None
    models: Sequence[str] | None = None
    quick: bool = False
    files: tuple[str, ...] = ()
    words: Mapping[str, str] | None = None
    command: tuple[str, ...] = ()


def make_plan(definition: Definition, request: Request, pool: DataPool) -> Plan:
    """Lay out the runs of an experiment; reads the data to see what it offers.

    Raises:
        ConfigError: a model, key or value is not usable.
        DataError: the data is not usable.
    """
    cells = _wanted(definition.cells, request.models)
    recipes = _recipes(cells, definition, request)
    first = recipes[0].config()
    seeds = training_seeds(request.seeds or definition.seeds, int(first["seed"]))
    split_seed = first["seed"] if first["split_seed"] is None else first["split_seed"]
    fixed = {"seed": seeds[0], "split_seed": split_seed}
    recipes = [replace(one, overrides={**one.overrides, **fixed}) for one in recipes]
    planned: list[dict[str, Any]] = []
    drafts: list[PlannedRun] = []
    protocols: dict[str, str] = {}
    digests: dict[str, str] = {}
    for cell, recipe in zip(cells, recipes, strict=True):
        config = recipe.config()
        source = reading(config)
        data = pool.data(config)
        digests[source] = digests.get(source) or digest(data)
        protocols.setdefault(data.statistics["protocol"], cell.key)
        needs = _needs(cell, config) - offers(data.statistics)
        planned.append(_described(cell, needs))
        if not needs:
            drafts += _drafts(cell, recipe, config, seeds, digests[source])
    if len(protocols) > 1:
        shown = ", ".join(f"{name} ({key})" for name, key in protocols.items())
        raise ConfigError(f"experiment '{definition.name}' mixes split protocols: {shown}")
    order = {seed: at for at, seed in enumerate(seeds)}
    # runs on the same noisy data follow one another; sorting keeps the order of cells otherwise
    runs = sorted(drafts, key=lambda run: (order[run.seed], str(run.noise or "")))
    return Plan(
        definition.name,
        definition.artefact,
        definition.title,
        request.dataset,
        next(iter(protocols)),
        tuple(seeds),
        request.quick,
        tuple(planned),
        tuple(runs),
        request.command,
    )


def _wanted(cells: Sequence[CellSpec], models: Sequence[str] | None) -> list[CellSpec]:
    if models is None:
        return list(cells)
    present = {cell.model for cell in cells}
    if not models:
        raise ConfigError("--models names no model")
    for name in models:
        if name not in present:
            if name not in MODELS:
                raise unknown_model(name)
            raise ConfigError(f"--models: the experiment has no cell of {name}; "
                              f"it has {', '.join(sorted(present))}")  # fmt: skip
    return [cell for cell in cells if cell.model in models]


def refuse_model(words: Mapping[str, str]) -> None:
    """Refuse a model on the line, beside those of the experiment.

    Raises:
        ConfigError: there is one.
    """
    if "model" in words:
        raise ConfigError(
            "--model: an experiment names its models; choose among them with --models=NAME,NAME"
        )


def _recipes(cells: Sequence[CellSpec], definition: Definition, request: Request) -> list[Recipe]:
    """Return the recipe of each cell; keys that only other models have are left out."""
    words = dict(request.words or {})
    refuse_model(words)
    given = [words, definition.settings, *(cell.settings for cell in cells)]
    for name in _OWN_FOLDERS:
        if any(name in keys for keys in given):
            raise ConfigError(f"{name}: an experiment keeps its own folders; use --out=FOLDER")
    named = set(request.models or ())
    models = dict.fromkeys(cell.model for cell in cells)
    for name in models:
        if ":" in name and name not in named:
            raise ConfigError(
                f"experiment '{definition.name}' names the code '{name}' for a model; if you "
                f"trust it, say so with --models={','.join(models)}"
            )
    places = {key: v for key, v in {**definition.settings, **words}.items() if key == "data_path"}
    known = {model: factory.accepted_keys(model, request.dataset, places) for model in models}
    shared = frozenset().union(*known.values())
    recipes = []
    for cell in cells:
        foreign = shared - known[cell.model]
        settings = {key: v for key, v in definition.settings.items() if key not in foreign}
        # what makes the cell wins over the command line
        line = {key: v for key, v in words.items() if key not in foreign | set(cell.settings)}
        line = {key: text for key, text in line.items() if key not in ("seed", "split_seed")}
        own: dict[str, Any] = {
            key: read_literal(words[key]) for key in ("seed", "split_seed") if key in words
        }
        recipes.append(
            Recipe(
                cell.model,
                request.dataset,
                request.files,
                {**settings, **own, **cell.settings},
                tuple(f"--{key}={text}" for key, text in line.items()),
            )
        )
    return recipes


def _needs(cell: CellSpec, config: SlifConfig) -> set[str]:
    """Return what the data must hold for a cell to mean what it says."""
    needs = set(cell.needs) | set(NEEDS[cell.noise.kind] if cell.noise else ())
    model_class = find_model_class(cell.model)[1]
    if factory.needs_knowledge(model_class):
        needs.add("knowledge")
    entry = MODELS.get(cell.model)
    if entry is not None and entry.needs_features:
        needs.add("features")
    if entry is not None and entry.kind == "both":
        needs |= set(_VARIANTS.get(str(config["ablation"]), _BOTH))
    return needs


def _described(cell: CellSpec, needs: set[str]) -> dict[str, Any]:
    return {
        "key": cell.key,
        "model": cell.model,
        "label": cell.label,
        "group": cell.group,
        "x": cell.x,
        "series": cell.series,
        "overrides": dict(cell.settings),
        "noise": str(cell.noise) if cell.noise else None,
        "needs": sorted(needs),
    }


def _drafts(
    cell: CellSpec, recipe: Recipe, config: SlifConfig, seeds: Sequence[int], data: str
) -> list[PlannedRun]:
    found = []
    for seed in seeds:
        own = replace(recipe, overrides={**recipe.overrides, "seed": seed})
        text = settings_hash(config, cell.noise, data, seed)
        epochs = int(config["epochs"])
        found.append(PlannedRun(cell.key, cell.label, seed, text, own, cell.noise, epochs))
    return found


def decisive_settings(config: SlifConfig) -> dict[str, Any]:
    """Return the settings that decide a run's numbers, as JSON values."""
    values = config.final_config_dict
    idle = {key for key, value in ADDED_LATER.items() if values.get(key) == value}
    idle |= {key for key, (other, value) in _MEANINGLESS_AT.items() if values.get(other) == value}
    return {
        key: plain(value)
        for key, value in values.items()
        if key not in NOT_DECISIVE and key not in idle
    }


def settings_hash(config: SlifConfig, noise: Noise | None, data: str, seed: int) -> str:
    """Hash all that decides the numbers of a run.

    Args:
        config: settings of the run; its own seed does not count.
        noise: what is done to the data.
        data: digest of the data without noise.
        seed: training seed.
    """
    settings = {**decisive_settings(config), "seed": seed}
    model = config.model_class
    decisive = {
        "model": f"{model.__module__}.{model.__qualname__}",
        "settings": settings,
        "noise": str(noise) if noise and noise.level else None,
        "data": data,
    }
    text = json.dumps(decisive, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def default_folder(definition: Definition, dataset: str, quick: bool) -> Path:
    """Return where an experiment is kept unless `--out` says otherwise."""
    ending = "-quick" if quick else ""
    return Path("saved") / "experiments" / f"{definition.name}-{dataset}{ending}"

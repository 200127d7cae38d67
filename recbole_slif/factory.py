"""From names to objects: configuration, data and model, made the same way everywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import recbole
from recbole.utils import init_seed

from recbole_slif.config import SlifConfig
from recbole_slif.data.columns import digest
from recbole_slif.data.loaders import prepare_data
from recbole_slif.errors import CheckpointError, ConfigError, DataError
from recbole_slif.negatives import draws_negatives
from recbole_slif.registry import ModelEntry, find_model

_OPTIMISER = frozenset({"learner", "learning_rate", "weight_decay"})
_EXAMPLES = Path(recbole.__file__).parent / "dataset_example"


def accepted_keys(
    model: str | type, dataset: str, overrides: Mapping[str, Any] | None = None
) -> frozenset[str]:
    """Return the configuration keys that a model takes."""
    return SlifConfig(model, dataset, overrides=dict(overrides or {})).accepted_keys


def load_data(config: Any) -> Any:
    """Read, split and load the data; the split depends on `split_seed` (else `seed`) alone."""
    split_seed = config["split_seed"]
    init_seed(config["seed"] if split_seed is None else split_seed, config["reproducibility"])
    return prepare_data(config)


def require_data(config: Any, dataset: Any) -> None:
    """Check that a data set has what the model and the metrics ask for.

    Raises:
        DataError: the model learns from triples and there are none, or no item is linked to them.
        ConfigError: `topk` asks for longer lists than there are items.
    """
    name, n_items = config["dataset"], dataset.item_num - 1
    if max(config["topk"]) > n_items:
        raise ConfigError(
            f"topk: a list of {max(config['topk'])} is longer than the {n_items} items of data set "
            f"'{name}'; shorten it"
        )
    if needs_knowledge(config.model_class) and not dataset.knowledge.linked.any():
        fault = f"has none; add {name}.kg and {name}.link"
        if dataset.knowledge.n_triples:
            fault = f"links no item to its own; compare the tokens of {name}.link with the others"
        raise DataError(
            f"model '{config['model']}' learns from triples, but data set '{name}' {fault} "
            "(docs/DATASETS.md)"
        )


def needs_knowledge(model_class: type) -> bool:
    """Tell whether a model, ours, RecBole's or derived from one, is pointless without triples."""
    entry = _entry(model_class)
    if entry is not None:
        return entry.needs_knowledge
    theirs = "recbole.model.knowledge_aware_recommender"
    return any(parent.__module__.startswith(theirs) for parent in model_class.__mro__)


def _entry(model_class: type) -> ModelEntry | None:
    """Return the registry's entry of a model of ours, or of the one it is derived from."""
    entries = map(_own_entry, model_class.__mro__)
    return next((entry for entry in entries if entry is not None), None)


def _own_entry(model_class: type) -> ModelEntry | None:
    """Return the registry's entry of a model of ours; None for any other class."""
    entry = find_model(model_class.__name__)
    return entry if entry is not None and entry.path == model_class.__module__ else None


def build_model(config: Any, bundle: Any) -> Any:
    """Build the model on its device, its initial values drawn from `seed`."""
    init_seed(config["seed"], config["reproducibility"])
    built = config.model_class(config, bundle.train_data._dataset)
    return built.to(config["device"])


def identity(config: Any, bundle: Any) -> dict[str, Any]:
    """Return what a checkpoint must share with the settings it is loaded into."""
    dataset = bundle.dataset
    found = {
        "model": config["model"],
        "dataset": config["dataset"],
        "embedding_size": config["embedding_size"],
        "users": int(dataset.user_num),
        "items": int(dataset.item_num),
        "data": bundle.fingerprint,
    }
    reads = _reads(config.model_class)
    if "graph" in reads:
        graph = dataset.knowledge
        found["graph"] = digest(graph.heads, graph.relations, graph.tails, graph.linked)
    if "features" in reads:
        parts = [(part.matrix, part.presence) for part in dataset.features.values()]
        found["features"] = digest(*(array for part in parts for array in part))
    # a model that reads no further columns may still learn from labels
    label = f"inter_feat {config['LABEL_FIELD']}"
    columns = {
        name: value for name, value in bundle.columns.items() if "columns" in reads or name == label
    }
    found["columns"] = digest(np.frombuffer(json.dumps(columns).encode(), dtype=np.uint8))
    return found


def _reads(model_class: type) -> set[str]:
    """Return what a model may read besides the split: `graph`, `features`, further `columns`."""
    entry = _own_entry(model_class)
    if entry is not None:
        kinds = {"graph": ("knowledge", "both"), "features": ("multimodal", "both")}
        return {name for name, those in kinds.items() if entry.kind in those}
    if model_class.__module__.startswith("recbole.model."):
        return {"graph", "columns"} if needs_knowledge(model_class) else {"columns"}
    return {"graph", "features", "columns"}  # a class of the user's own may read anything


def saved_settings(config: Any) -> dict[str, Any]:
    """Return the settings a checkpoint keeps: plain values from which the run can be rebuilt."""
    settings = dict(config.record()["settings"])
    folder = Path(settings["data_path"]).parent
    if folder == _EXAMPLES:
        del settings["data_path"]  # found again in whatever RecBole is installed
    else:
        settings["data_path"] = str(folder)
    settings.pop("valid_metric_bigger", None)  # known from the metric
    if not draws_negatives(settings):
        settings["train_neg_sample_args"] = None
    return settings


def rebuild_config(
    header: Mapping[str, Any],
    overrides: Mapping[str, Any] | None,
    model: str | type | None = None,
) -> SlifConfig:
    """Build a checkpoint's configuration again; `overrides` win over what it holds.

    Values that RecBole derives from others (device, types) are derived anew. A class outside
    RecBole and this package is never imported on a checkpoint's word: name it as `model`.

    Raises:
        CheckpointError: the header lacks an entry or names its model by a path.
        ConfigError: the model is not known, or an override would change what was trained.
        DataError: the data set folder is not there.
    """
    missing = {"class", "model", "dataset", "config", "identity"} - set(header)
    if missing or ":" in str(header["model"]):
        raise CheckpointError(f"the checkpoint is damaged: {', '.join(sorted(missing)) or 'model'}")
    if model is None:
        theirs = str(header["class"]).startswith("recbole.model.")
        model = str(header["class"] if theirs else header["model"])
    places = {"data_path": header["config"].get("data_path"), **(overrides or {})}
    places = {key: value for key, value in places.items() if key == "data_path" and value}
    known = accepted_keys(model, header["dataset"], places)
    settings = {key: value for key, value in header["config"].items() if key in known}
    settings["use_tuned"] = False
    config = SlifConfig(model, header["dataset"], overrides={**settings, **(overrides or {})})
    _require_same_model(config, header["config"], overrides or {})
    return config


def _require_same_model(
    config: SlifConfig, saved: Mapping[str, Any], overrides: Mapping[str, Any]
) -> None:
    """Refuse changes that would make another model of the saved weights, or have no effect."""
    for key in (config.model_keys | _OPTIMISER) & set(overrides):
        if config[key] != saved.get(key):
            raise ConfigError(
                f"'{key}' was {saved.get(key)} when the checkpoint was trained and cannot become "
                f"{config[key]}; start a new run to change it"
            )

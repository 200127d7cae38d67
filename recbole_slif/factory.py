"""From names to objects: model class, configuration, data and model, the same way everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import recbole
import torch
from recbole.utils import get_model, init_seed

from recbole_slif import registry
from recbole_slif.config import SlifConfig
from recbole_slif.data.loaders import prepare_data
from recbole_slif.errors import ConfigError


def recbole_models() -> tuple[str, ...]:
    """Return the names of RecBole's own models, without importing them."""
    folder = Path(recbole.__file__).parent / "properties" / "model"
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def model_class(name: str | type) -> type:
    """Return the class of a model name: ours first, then RecBole's.

    Looking a model up makes RecBole import all of its models, one of which switches torch's
    anomaly mode on for the whole process; the mode is put back.

    Raises:
        ConfigError: nobody knows the name, or RecBole's model needs a library that is missing.
    """
    if isinstance(name, type):
        return name
    entry = registry.find_model(name)
    if entry is not None:
        return entry.load()
    if name not in recbole_models():
        raise registry.unknown_model(name, recbole_models())
    anomaly = torch.is_anomaly_enabled()
    try:
        return get_model(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"RecBole's model '{name}' cannot be used here: {error}") from error
    finally:
        torch.autograd.set_detect_anomaly(anomaly)


def build_config(
    model: str | type,
    dataset: str,
    config_files: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    argv: Sequence[str] | None = None,
) -> SlifConfig:
    """Build the configuration of a model, known by name or class, on a data set."""
    found = model_class(model)
    return SlifConfig(found, dataset, config_files, overrides, argv)


def load_data(config: Any) -> Any:
    """Read, split and load the data; the split depends on `split_seed` alone."""
    split_seed = config["split_seed"]
    init_seed(config["seed"] if split_seed is None else split_seed, config["reproducibility"])
    return prepare_data(config)


def build_model(config: Any, bundle: Any) -> Any:
    """Build the model on its device, with its initial values drawn from `seed`."""
    init_seed(config["seed"], config["reproducibility"])
    built = config.model_class(config, bundle.train_data._dataset)
    return built.to(config["device"])


def fingerprint(bundle: Any) -> str:
    """Return the fingerprint of the split: equal for equal data and equal splits."""
    return str(bundle.dataset.statistics()["fingerprint"])


def identity(config: Any, model: Any, bundle: Any) -> dict[str, Any]:
    """Return what a checkpoint must share with the settings it is loaded into."""
    dataset = bundle.dataset
    return {
        "model": config["model"],
        "dataset": config["dataset"],
        "embedding_size": config["embedding_size"],
        "users": int(dataset.user_num),
        "items": int(dataset.item_num),
        "data": fingerprint(bundle),
    }

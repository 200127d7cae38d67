"""RecBole's `Config` with our property files, strict keys and no code run from text."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import recbole
from recbole.config import Config
from recbole.model.abstract_recommender import AbstractRecommender, AutoEncoderMixin
from recbole.utils import InputType, ModelType, get_model

from recbole_slif import process_group, registry
from recbole_slif.config_checks import check_names, check_settings
from recbole_slif.config_keys import Key, command_options, nearest, read_keys
from recbole_slif.config_yaml import SettingsLoader, read_options, read_settings, split_names
from recbole_slif.data.locate import config_folder
from recbole_slif.errors import ConfigError
from recbole_slif.negatives import draws_negatives

_RECBOLE = Path(recbole.__file__).parent
_CHOICE_OF_RUN = ("model", "dataset", "config_files")
_MERGED = ("eval_args", "train_neg_sample_args", "load_col")
_KNOWLEDGE_COLUMNS = {
    "kg": ("HEAD_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "TAIL_ENTITY_ID_FIELD"),
    "link": ("ITEM_ID_FIELD", "ENTITY_ID_FIELD"),
}


def properties_dir() -> Path:
    """Return the folder of our property files, beside the package or inside an installed one."""
    installed = Path(__file__).parent / "properties"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "properties"


def known_datasets() -> tuple[str, ...]:
    """Return the names of the data sets that have a property file of ours."""
    return tuple(sorted(path.stem for path in (properties_dir() / "dataset").glob("*.yaml")))


def recbole_models() -> tuple[str, ...]:
    """Return the names of RecBole's own models: those with a property file, and Random."""
    named = (path.stem for path in (_RECBOLE / "properties/model").glob("[A-Z]*.yaml"))
    return tuple(sorted({*named, "Random"}))


def find_model_class(model: str | type) -> tuple[str, type]:
    """Look a model up: one of ours, RecBole's own, `module:Class`, or a class as it is.

    Raises:
        ConfigError: nobody knows the name, or it names something else.
    """
    if not isinstance(model, str):
        return model.__name__, _recommender(model, model.__name__)
    entry = registry.find_model(model)
    if entry is not None:
        return model, entry.load()
    if ":" in model and ".py:" not in model:
        module, _, name = model.partition(":")
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())  # an installed command does not look where it is called
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"model '{model}' cannot be imported: {error}.") from error
        return name, _recommender(found, model)
    if model not in recbole_models():
        raise registry.unknown_model(model, recbole_models())
    try:
        return model, get_model(model)
    except ImportError as error:
        raise ConfigError(f"RecBole's model '{model}' cannot be imported: {error}.") from error


def _recommender(found: Any, name: str) -> type:
    if isinstance(found, type) and issubclass(found, AbstractRecommender):
        return found
    place = "recbole.model.abstract_recommender"
    raise ConfigError(f"model '{name}' is no recommender class; derive it from one of {place}.")


class SlifConfig(Config):
    """Settings of one run, usable wherever RecBole expects its `Config`.

    Later layers win: RecBole's defaults, the general files (`overall.yaml`, `data.yaml`,
    `runtime.yaml`, no key in two of them), `dataset/NAME.yaml`, `model/NAME.yaml`,
    `tuned/DATASET/MODEL.yaml` (if `use_tuned`), configuration files, overrides, command line.
    `eval_args`, `train_neg_sample_args` and `load_col` are merged key by key.

    A class that is not ours or RecBole's declares its own keys with a class attribute
    `config_defaults` (a dictionary); a subclass of one of our models inherits that model's keys.

    Attributes:
        sources: key -> where its value comes from.
        tuned_file: name of the tuned file in use, or None.
    """

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_files: Sequence[str] | str | None = None,
        overrides: Mapping[str, Any] | None = None,
        argv: Sequence[str] | None = None,
    ) -> None:
        """Collect and check the settings.

        Args:
            model: one of our models, RecBole's, `module:Class`, or a class.
            dataset: name of the folder below `data_path`.
            config_files: YAML files, as a sequence or parted by commas or spaces.
            overrides: values that win over the files.
            argv: `--key=value` words that win over everything; `sys.argv` is never read.

        Raises:
            ConfigError: a key, value, file or name cannot be used.
        """
        self.sources: dict[str, str] = {}
        self.tuned_file: str | None = None
        self._argv = list(argv or [])
        self._given: list[tuple[str, str, Any]] = []
        super().__init__(model, dataset, split_names(config_files), dict(overrides or {}))

    def compatibility_settings(self) -> None:
        """Leave numpy alone: `compat` has added the names that are missing."""

    def _build_yaml_loader(self) -> type[SettingsLoader]:
        return SettingsLoader

    def _load_config_files(self, file_list: Sequence[str]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for name in file_list:
            content = read_settings(Path(name))
            self._given += [(key, f"file '{name}'", value) for key, value in content.items()]
            merged.update(content)
        return merged

    def _load_variable_config_dict(self, config_dict: Mapping[str, Any]) -> dict[str, Any]:
        self._given += [(key, "overrides", value) for key, value in config_dict.items()]
        return dict(config_dict)

    def _load_cmd_line(self) -> dict[str, Any]:
        options = read_options(self._argv)
        self._given += [(key, "command line", text) for key, text in options.items()]
        return dict(options)

    def _get_model_and_dataset(
        self, model: str | type | None, dataset: str | None
    ) -> tuple[str, type, str]:
        model = model if model is not None else self.external_config_dict.get("model")
        dataset = dataset if dataset is not None else self.external_config_dict.get("dataset")
        for key, value in (("model", model), ("dataset", dataset)):
            if value is None:
                raise ConfigError(f"no {key} is named; write --{key}=NAME.")
        check_names(model, dataset, self._given)
        name, model_class = find_model_class(model)  # type: ignore[arg-type]
        return name, model_class, str(dataset)

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        # RecBole's lower layers; the model's file is left to us, since ours may share the name
        super()._load_internal_config_dict("", model_class, "")
        if self.internal_config_dict["MODEL_TYPE"] == ModelType.KNOWLEDGE:
            # RecBole reads two more columns for these; here they read what the others read
            fields = ("USER_ID_FIELD", "ITEM_ID_FIELD")
            columns = [self.internal_config_dict[name] for name in fields]
            self.internal_config_dict["load_col"] = {"inter": columns}
        self.sources = dict.fromkeys(self.internal_config_dict, "RecBole")
        self._known = _known_keys(model_class)
        for path in _property_files(dataset):
            self._take_file(path)
        for path in _model_files(model_class):
            self._take_file(path)
        for declared in _declared(model_class):
            self._take(declared, f"class {model}")
        self.external_config_dict: dict[str, Any] = {}
        for key, source, value in self._given:
            self._check(key, source, value)
        if self.external_config_dict.get("use_tuned", self.internal_config_dict["use_tuned"]):
            self._take_tuned(dataset, model)

    def _take_tuned(self, dataset: str, model: str) -> None:
        """Put the searched values of one data set and model on top of the defaults."""
        path = properties_dir() / "tuned" / dataset / f"{model}.yaml"
        if path.is_file():
            self.tuned_file = f"tuned/{dataset}/{model}.yaml"
            self._take_file(path)

    def _take_file(self, path: Path) -> None:
        """Take a property file as the next layer."""
        base = properties_dir() if path.is_relative_to(properties_dir()) else _RECBOLE.parent
        self._take(read_settings(path), path.relative_to(base).as_posix())

    def _take(self, values: Mapping[str, Any], source: str) -> None:
        """Take defaults as the next layer."""
        for key, value in values.items():
            if key in self._known:
                value = self._known[key].convert(value, source)
            self.internal_config_dict[key] = _merge(key, self.internal_config_dict.get(key), value)
            self.sources[key] = source

    @property
    def accepted_keys(self) -> frozenset[str]:
        """Names of the keys that may be set for this model."""
        return frozenset(self._known)

    @property
    def model_keys(self) -> frozenset[str]:
        """Names of the keys that the model's own files, or its class, bring."""
        files = [read_settings(path) for path in _model_files(self.model_class)]
        return frozenset().union(*files, *_declared(self.model_class))

    @property
    def departures(self) -> dict[str, dict[str, Any]]:
        """The model's keys that differ from its own file: `default` and `value` of each."""
        defaults: dict[str, Any] = {}
        for layer in (
            *map(read_settings, _model_files(self.model_class)),
            *_declared(self.model_class),
        ):
            defaults.update(layer)
        known = {key: self._known[key].convert(value, key) for key, value in defaults.items()}
        return {
            key: {"default": _plain(value), "value": _plain(self[key])}
            for key, value in known.items()
            if self[key] != value
        }

    def converted(self, key: str, value: Any, source: str) -> Any:
        """Return a value in its key's type.

        Args:
            key: the key.
            value: what was given.
            source: where it was given, for the message.

        Raises:
            ConfigError: the key is unknown here, or its value cannot be used.
        """
        known = self._known.get(key)
        if known is None:
            raise _unknown_key(key, source, self.model, self._known)
        return known.convert(value, source)

    def _check(self, key: str, source: str, value: Any) -> None:
        """Take one value the user gave."""
        if key in _CHOICE_OF_RUN:
            return
        if source == "command line" and key in self._known:
            value = self._known[key].from_text(value)
        value = self.converted(key, value, source)
        self.external_config_dict[key] = _merge(key, self.external_config_dict.get(key), value)

    def _get_final_config_dict(self) -> dict[str, Any]:
        final = dict(self.internal_config_dict)
        for key, value in self.external_config_dict.items():
            final[key] = _merge(key, final.get(key), value)
        self.sources.update({key: source for key, source, _ in self._given})
        if isinstance(final["load_col"], dict):
            final["load_col"] = dict(final["load_col"])
            # one data set class serves all models, so the graph's columns are always named
            for suffix, fields in _KNOWLEDGE_COLUMNS.items():
                final["load_col"].setdefault(suffix, [final[field] for field in fields])
        return final

    def _set_default_parameters(self) -> None:
        settings = self.final_config_dict
        folder = config_folder(settings["data_path"], self.dataset, known_datasets())
        if self.sources["train_neg_sample_args"] == "overall.yaml" and self._takes_no_negatives():
            settings["train_neg_sample_args"] = None
        check_settings(settings, self.sources)
        self._check_pairs()
        try:
            super()._set_default_parameters()
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
            raise ConfigError(f"{error}") from error
        settings["data_path"] = str(folder)

    def _check_pairs(self) -> None:
        drawn = draws_negatives(self.final_config_dict)
        paired = getattr(self.model_class, "input_type", None) == InputType.PAIRWISE
        # RecBole calls some models pairwise that are not trained by steps
        untaught = self.model_class.type == ModelType.TRADITIONAL
        if paired and not (drawn or untaught or self._takes_no_negatives()):
            raise ConfigError(
                f"train_neg_sample_args: {self.model} learns from pairs of a positive and a "
                "negative item, so null leaves it nothing; write {distribution: uniform}."
            )

    def _takes_no_negatives(self) -> bool:
        """Tell RecBole's models that learn from whole rows, or by cross entropy over all items."""
        listwise = getattr(self.model_class, "input_type", None) == InputType.LISTWISE
        whole_rows = issubclass(self.model_class, AutoEncoderMixin)
        return listwise or whole_rows or self.final_config_dict.get("loss_type") == "CE"

    def _init_device(self) -> None:
        chosen = self.sources.get("gpu_id") != "overall.yaml"
        with process_group.own_gpu(self.final_config_dict, chosen):
            super()._init_device()

    def record(self) -> dict[str, Any]:
        """Return what was settled and where each value comes from, fit for JSON."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "tuned_file": self.tuned_file,
            "settings": {key: _plain(value) for key, value in self.final_config_dict.items()},
            "sources": dict(self.sources),
            "given": [
                {"key": key, "source": source, "value": _plain(value)}
                for key, source, value in self._given
            ],
        }

    def __str__(self) -> str:
        tuned = f"\nTuned values: {self.tuned_file}" if self.tuned_file else ""
        return f"{super().__str__()}{tuned}"


def _property_files(dataset: str) -> list[Path]:
    """Return our files below the model's: overall, the other general ones, the data set's."""
    base = properties_dir()
    general = sorted(base.glob("*.yaml"), key=lambda path: (path.stem != "overall", path.stem))
    return [path for path in (*general, base / "dataset" / f"{dataset}.yaml") if path.is_file()]


def _model_files(model_class: type) -> list[Path]:
    """Return the property files of a model and its parents, the parents' first."""
    files = []
    for parent in reversed(model_class.__mro__):
        root = parent.__module__.partition(".")[0]
        base = {"recbole_slif": properties_dir(), "recbole": _RECBOLE / "properties"}.get(root)
        if base is not None:
            files.append(base / "model" / f"{parent.__name__}.yaml")
    return [path for path in files if path.is_file()]


def _declared(model_class: type) -> list[Mapping[str, Any]]:
    """Return the `config_defaults` of a model and its parents, the parents' first."""
    found = [vars(parent).get("config_defaults") for parent in reversed(model_class.__mro__)]
    return [declared for declared in found if declared]


def _known_keys(model_class: type) -> dict[str, Key]:
    """Return every key a user may set for this model."""
    theirs = [_RECBOLE / "properties" / name for name in ("overall.yaml", "dataset/sample.yaml")]
    theirs += sorted((_RECBOLE / "properties/quick_start_config").glob("*.yaml"))
    ours = [*_property_files(""), *sorted((properties_dir() / "dataset").glob("*.yaml"))]
    known: dict[str, Key] = {}
    for path in [*theirs, *ours, *_model_files(model_class)]:
        for name, found in read_keys(path, ours=not path.is_relative_to(_RECBOLE)).items():
            # a later file may set another default without repeating the limits
            limits = found.limits or (known[name].limits if name in known else None)
            known[name] = replace(found, limits=limits)
    for declared in _declared(model_class):
        for key, value in declared.items():
            types = () if value is None else (type(value),)
            known[key] = Key(key, types, (), nullable=value is None)
    return known


def _unknown_key(key: str, source: str, model: str, known: Mapping[str, Key]) -> ConfigError:
    """Build the error for a key this model does not have."""
    folders = (properties_dir() / "model", _RECBOLE / "properties/model")
    owners: dict[str, None] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.yaml")):
            if key in read_keys(path, ours=folder is folders[0]):
                owners[path.stem] = None
    if owners:
        near = nearest(key, known, 0.8) or "."
        named = ", ".join(list(owners)[:4])
        return ConfigError(f"{source}: key '{key}' belongs to {named}, not to {model}{near}")
    near = nearest(key, [*known, *command_options])
    return ConfigError(f"{source}: key '{key}' is not known{near or '.'}")


def _merge(key: str, lower: Any, value: Any) -> Any:
    """Lay a value over the lower layer's; three keys hold settings of their own."""
    if key in _MERGED and isinstance(lower, dict) and isinstance(value, dict):
        return {**lower, **value}
    return value


def _plain(value: Any) -> Any:
    """Turn a setting into what JSON can hold."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return str(value)

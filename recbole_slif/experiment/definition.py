"""An experiment as its YAML file writes it: strict keys, plain values, nothing run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_slif.config import properties_dir
from recbole_slif.config_keys import nearest
from recbole_slif.config_yaml import read_settings
from recbole_slif.errors import ConfigError
from recbole_slif.experiment.noise import KINDS, Noise
from recbole_slif.registry import MODELS
from recbole_slif.seeds import require_count

_TEXT, _LIST, _MAP, _WHOLE, _NUMBER = (str,), (list,), (dict,), (int,), (int, float)
_TYPES = {
    _TEXT: "a text",
    _LIST: "a list",
    _MAP: "a mapping of keys",
    _WHOLE: "a whole number",
    _NUMBER: "a number",
    (bool,): "True or False",
    (str, list): "a name or a list of names",
    (int, list): "a number of seeds or a list of them",
}
_TOP = {
    "title": _TEXT,
    "artefact": _TEXT,
    "statistics": (bool,),
    "models": (str, list),
    "seeds": (int, list),
    "settings": _MAP,
    "cells": _LIST,
    "sweeps": _LIST,
    "noise": _LIST,
    "quick": _MAP,
}
_CELL = {
    "model": _TEXT,
    "label": _TEXT,
    "group": _TEXT,
    "series": _TEXT,
    "x": _NUMBER,
    "settings": _MAP,
    "noise": _MAP,
    "needs": _LIST,
}
_SWEEP = {
    "key": _TEXT,
    "values": _LIST,
    "labels": _LIST,
    "models": (str, list),
    "group": _TEXT,
    "quick": _LIST,
}
_NOISE = {"kind": _TEXT, "levels": _LIST, "models": (str, list), "group": _TEXT, "quick": _LIST}
_QUICK = {"seeds": (int, list), "settings": _MAP}
_WRITTEN = {
    "title": "; write a line above the tables, such as `title: Overall comparison`",
    "artefact": "; write whose shape the report has, such as `artefact: table2`",
}
DATA_PARTS = ("features", "knowledge")
# Keys that the runs of an experiment do not take from its settings, and what says them instead.
_ELSEWHERE = {"dataset": "use --dataset=NAME", "model": "models, cells and sweeps name the models"}
_OF_ALL_CELLS = {
    **_ELSEWHERE,
    "seed": "all cells have the same seeds; use seeds",
    "split_seed": "all cells have one split; set it for all",
}


@dataclass(frozen=True)
class CellSpec:
    """One cell as the file, a sweep or a noise series asks for it."""

    model: str
    label: str
    group: str
    series: str
    x: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    noise: Noise | None = None
    needs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Model, settings and noise as one text, the cell's name in records."""
        parts = [self.model, *(f"{key}={value}" for key, value in self.settings.items())]
        return "|".join([*parts, *([f"noise={self.noise}"] if self.noise else [])])


@dataclass(frozen=True)
class Definition:
    """What an experiment file says.

    Attributes:
        name: file name without ending.
        artefact: which table or figure a report draws from it.
        title: one line.
        statistics: nothing is trained, the data sets are counted.
        seeds: how many training seeds, or which.
        settings: keys of all runs.
        cells: what is trained with each seed.
    """

    name: str
    artefact: str
    title: str
    statistics: bool
    seeds: int | list[int]
    settings: Mapping[str, Any]
    cells: tuple[CellSpec, ...]


def known_experiments() -> tuple[str, ...]:
    """Return the names of the experiments that come with the package."""
    return tuple(sorted(path.stem for path in (properties_dir() / "experiment").glob("*.yaml")))


def find_experiment(name: str) -> Path:
    """Return the file of an experiment: one of ours by name, or a path to a YAML file.

    Raises:
        ConfigError: there is no such experiment.
    """
    if name in known_experiments():
        return properties_dir() / "experiment" / f"{name}.yaml"
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    if path.suffix in (".yaml", ".yml"):
        raise ConfigError(f"experiment file '{name}' does not exist")
    known = known_experiments()
    near = nearest(Path(name).stem, known)
    raise ConfigError(
        f"experiment '{name}' is not known{near or '.'} There are {', '.join(known)}, "
        "or name a YAML file of your own"
    )


def read_definition(path: Path, quick: bool = False) -> Definition:
    """Read an experiment file.

    Args:
        path: the file.
        quick: take its reduced grids, seeds and settings.

    Raises:
        ConfigError: naming the file, the key and what it should be.
    """
    where = f"experiment file '{path.name}'"
    content = _checked(read_settings(path), _TOP, where)
    for name in ("title", "artefact"):
        _present(content, name, where)
    reduced = _checked(content.get("quick", {}), _QUICK, f"{where}, quick") if quick else {}
    parts: list[tuple[CellSpec, ...]] = []
    for name in content:  # in the order of the file
        if name == "models":
            parts.append(tuple(_plain_cell(model) for model in _models(content[name], where)))
        elif name in _BUILDERS:
            for at, entry in enumerate(content[name], start=1):
                parts.append(_BUILDERS[name](entry, f"{where}, {name} {at}", quick))
    cells = tuple(cell for part in parts for cell in part)
    statistics = bool(content.get("statistics", False))
    if statistics == bool(cells):
        fault = "has statistics and cells; keep one" if cells else "names nothing to run"
        raise ConfigError(f"{where} {fault} (models, cells, sweeps or noise)")
    _refuse_twice(cells, where)
    settings = {**content.get("settings", {}), **reduced.get("settings", {})}
    _refuse_keys(settings, _ELSEWHERE, where)
    for cell in cells:
        _refuse_keys(cell.settings, _OF_ALL_CELLS, f"{where}, cell {cell.key}")
    seeds = _seeds(reduced.get("seeds", content.get("seeds", 1)), where)
    return Definition(
        path.stem, content["artefact"], content["title"], statistics, seeds, settings, cells
    )


def _checked(content: Any, schema: Mapping[str, tuple[type, ...]], where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ConfigError(f"{where} must hold keys, not {content!r}")
    for key, value in content.items():
        if key not in schema:
            hint = nearest(str(key), schema)
            raise ConfigError(f"{where}: key '{key}' is not known{hint or '.'} "
                              f"There are {', '.join(schema)}")  # fmt: skip
        types = schema[key]
        wrong_bool = isinstance(value, bool) and bool not in types
        if not isinstance(value, types) or wrong_bool:
            raise ConfigError(f"{where}: {key} must be {_TYPES[types]}, not {value!r}")
    return content


def _present(content: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in content:
        raise ConfigError(f"{where}: {key} is missing{_WRITTEN.get(key, '')}")
    return content[key]


def _models(value: str | Sequence[str], where: str) -> list[str]:
    """Return model names; `all` is every model of the package, SLIFMR last."""
    if value == "all":
        return [*(name for name in MODELS if name != "SLIFMR"), "SLIFMR"]
    names = [value] if isinstance(value, str) else list(value)
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise ConfigError(f"{where}: models must be names, not {wrong[0]!r}")
    return names


def _seeds(value: int | list[Any], where: str) -> int | list[int]:
    numbers = value if isinstance(value, list) else [value]
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) for seed in numbers)
    if not numbers or not whole or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ConfigError(f"{where}: seeds is a number of seeds or a list of distinct ones")
    return value if isinstance(value, list) else require_count(value, f"{where}: seeds")


def _plain_cell(model: str, **changes: Any) -> CellSpec:
    kind = MODELS[model].kind if model in MODELS else "other"
    return CellSpec(**{"model": model, "label": model, "group": kind, "series": model, **changes})


def _own_cell(entry: Any, where: str, quick: bool) -> tuple[CellSpec, ...]:
    entry = _checked(entry, _CELL, where)
    changes = {name: value for name, value in entry.items() if name not in ("noise", "needs")}
    if "noise" in entry:
        noise = _checked(entry["noise"], {"kind": _TEXT, "level": _NUMBER}, f"{where}, noise")
        level = _present(noise, "level", f"{where}, noise")
        changes["noise"] = _read_noise(_present(noise, "kind", f"{where}, noise"), level, where)
    needs = tuple(entry.get("needs", ()))
    for name in needs:
        if name not in DATA_PARTS:
            raise ConfigError(f"{where}: needs lists {' and '.join(DATA_PARTS)}, not '{name}'")
    _present(entry, "model", where)
    return (_plain_cell(**{**changes, "needs": needs}),)


def _read_noise(kind: str, level: Any, where: str) -> Noise:
    if kind not in KINDS:
        hint = nearest(kind, KINDS)
        raise ConfigError(f"{where}: noise '{kind}' is none of {', '.join(KINDS)}{hint}")
    if not _is_number(level) or not 0 <= level < 1:
        raise ConfigError(f"{where}: a noise level is a share from 0 to below 1, not {level!r}")
    return Noise(kind, float(level))


def _is_number(value: Any) -> bool:
    return isinstance(value, _NUMBER) and not isinstance(value, bool)


def _series(entry: Any, schema: Mapping[str, Any], values: str, where: str) -> dict[str, Any]:
    entry = _checked(entry, schema, where)
    for name in (values, "models"):
        _present(entry, name, where)
    if not entry[values]:
        raise ConfigError(f"{where}: {values} is empty")
    strange = [value for value in entry.get("quick", []) if value not in entry[values]]
    if strange:
        raise ConfigError(f"{where}: quick holds {strange[0]!r}, which {values} does not")
    return entry


def _sweep(entry: Any, where: str, quick: bool) -> tuple[CellSpec, ...]:
    entry = _series(entry, _SWEEP, "values", where)
    key, values = _present(entry, "key", where), entry["values"]
    labels = entry.get("labels", [f"{key} = {value}" for value in values])
    if len(labels) != len(values):
        raise ConfigError(f"{where}: {len(labels)} labels for {len(values)} values")
    wanted = entry.get("quick", values) if quick else values
    return tuple(
        _plain_cell(
            model,
            label=str(label),
            group=entry.get("group", key),
            x=float(value) if _is_number(value) else None,
            settings={key: value},
        )
        for model in _models(entry["models"], where)
        for label, value in zip(labels, values, strict=True)
        if value in wanted
    )


def _noise(entry: Any, where: str, quick: bool) -> tuple[CellSpec, ...]:
    entry = _series(entry, _NOISE, "levels", where)
    kind = _present(entry, "kind", where)
    levels = entry.get("quick", entry["levels"]) if quick else entry["levels"]
    drawn = [_read_noise(kind, level, where) for level in levels]
    return tuple(
        _plain_cell(
            model,
            label=f"{model}, {noise.level * 100:g}%",
            group=entry.get("group", kind),
            x=noise.level,
            noise=noise,
        )
        for model in _models(entry["models"], where)
        for noise in drawn
    )


def _refuse_twice(cells: Sequence[CellSpec], where: str) -> None:
    keys = [cell.key for cell in cells]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise ConfigError(f"{where}: two cells are '{twice[0]}'; keep one of them")
    places: dict[tuple[str, str, float], str] = {}
    for cell in cells:
        if cell.x is None:
            continue
        other = places.setdefault((cell.group, cell.series, cell.x), cell.key)
        if other != cell.key:
            raise ConfigError(
                f"{where}: cells '{other}' and '{cell.key}' are both at x = {cell.x:g} of series "
                f"'{cell.series}' in group '{cell.group}'; give one another series or group"
            )


def _refuse_keys(settings: Mapping[Any, Any], refused: Mapping[str, str], where: str) -> None:
    for key in settings:
        if not isinstance(key, str):
            raise ConfigError(f"{where}: settings are named by keys, not by {key!r}")
        if key in refused:
            raise ConfigError(f"{where}: {key} is no setting of it: {refused[key]}")


_BUILDERS: Mapping[str, Callable[[Any, str, bool], tuple[CellSpec, ...]]] = {
    "cells": _own_cell,
    "sweeps": _sweep,
    "noise": _noise,
}

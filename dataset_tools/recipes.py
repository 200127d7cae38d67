"""Recipes: YAML files that say which commands make a data set from which files."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from recbole_slif.config_yaml import read_settings
from recbole_slif.errors import ConfigError

from .manifest import manifest

# Names that every recipe may use in its commands.
PLACES = ("name", "out", "data_path")
_HOLE = re.compile(r"\{([^{}]*)\}")
_RECIPE = {"about": str, "settings": dict, "routes": dict}
_ROUTE = {"about": str, "files": dict, "steps": list}
_FILE = {"path": str, "from": str, "url": str, "sum": str, "size": int}
_STEP = {"name": str, "run": str, "writes": list, "reads": list, "optional": bool}


@dataclass(frozen=True)
class Source:
    """A raw file or folder.

    Attributes:
        path: Below the raw folder.
        origin: Where it is to be had, in words.
        url: Address for `--download`, if there is one.
        sum: Its check sum, as `sha256:HEX`.
        size: Its bytes.
    """

    path: str
    origin: str = ""
    url: str | None = None
    sum: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Step:
    """One command of a recipe.

    Attributes:
        name: What it makes.
        run: Words of the command, with holes.
        writes: Files that it makes, below the data set's folder.
        reads: Files of that folder that it reads, beside those that `run` names.
        optional: It is left out where a raw file of its is missing.
    """

    name: str
    run: list[str]
    writes: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    optional: bool = False


@dataclass(frozen=True)
class Route:
    """One way to a data set.

    Attributes:
        about: In a line.
        files: Name to raw file.
        steps: In their order.
        settings: Values of the holes that the user may change.
    """

    about: str
    files: dict[str, Source]
    steps: list[Step]
    settings: dict[str, str]


def shipped() -> dict[str, Path]:
    """Return the recipes that come with the package, by name."""
    folder = Path(str(resources.files(__package__) / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name: str) -> tuple[str, Path]:
    """Return data set name and file of a recipe, shipped or the user's own.

    Raises:
        ConfigError: There is none.
    """
    if name in shipped():
        return name, shipped()[name]
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path.stem, path
    near = difflib.get_close_matches(name, shipped(), n=1, cutoff=0.4)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise ConfigError(
        f"recipe '{name}' is not known{hint} There are {', '.join(shipped())}; for your own give "
        "the path of a .yaml file"
    )


def load_routes(name: str, path: Path) -> dict[str, Route]:
    """Read a recipe.

    Raises:
        ConfigError: A key is unknown, missing or of the wrong kind, or a command has a hole that
            nothing fills.
        DataError: The file cannot be read.
    """
    content = read_settings(path)
    _check(path, "", content, _RECIPE, ("routes",))
    settings = {key: _text(path, key, value) for key, value in content.get("settings", {}).items()}
    routes = {}
    for title, body in content["routes"].items():
        _check(path, f"routes.{title}", body, _ROUTE, ("steps",))
        routes[str(title)] = _route(name, path, str(title), body, settings)
    if not routes:
        raise ConfigError(f"{path}: routes: there is none")
    return routes


def _route(
    name: str, path: Path, title: str, body: Mapping[str, Any], settings: dict[str, str]
) -> Route:
    files = {}
    for key, entry in body.get("files", {}).items():
        where = f"routes.{title}.files.{key}"
        _check(path, where, entry, _FILE, ("path",))
        if Path(entry["path"]).is_absolute() or ".." in Path(entry["path"]).parts:
            raise ConfigError(f"{path}: {where}.path: '{entry['path']}' must lie below --raw")
        origin = _origin(name, entry.get("from", ""))
        files[str(key)] = Source(
            entry["path"], origin, entry.get("url"), entry.get("sum"), entry.get("size")
        )
    steps = []
    for number, entry in enumerate(body["steps"], start=1):
        where = f"routes.{title}.steps[{number}]"
        _check(path, where, entry, _STEP, ("name", "run"))
        steps.append(_step(path, where, entry))
    twice = {*PLACES} & {*files, *settings} | files.keys() & settings.keys()
    if twice:
        raise ConfigError(f"{path}: '{min(twice)}' is the name of two things; rename one")
    for step in steps:
        for hole in _holes([*step.run, *step.writes, *step.reads]):
            _known(path, f"routes.{title}, step '{step.name}'", hole, [*PLACES, *files, *settings])
    return Route(body.get("about", ""), files, steps, settings)


def _step(path: Path, where: str, entry: Mapping[str, Any]) -> Step:
    from .__main__ import offered

    commands = offered()
    try:
        words = shlex.split(entry["run"])
    except ValueError as error:
        raise ConfigError(f"{path}: {where}.run: {error}") from error
    for key in ("writes", "reads"):
        if not all(isinstance(file, str) for file in entry.get(key, [])):
            raise ConfigError(f"{path}: {where}.{key}: must be a list of file names")
    if not words:
        raise ConfigError(f"{path}: {where}.run: is empty")
    _known(path, f"{where}.run", words[0], list(commands))
    lists = {key: list(entry.get(key, [])) for key in ("writes", "reads")}
    return Step(entry["name"], words, **lists, optional=entry.get("optional", False))


def _origin(name: str, text: str) -> str:
    """Return where a file is to be had; `releases.KIND` and `raw.PART` stand in the manifest."""
    entry: Any = manifest().get(name, {})
    for key in text.split("."):
        entry = entry.get(key) if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping):
        return text
    licence = entry.get("licence") or "no licence is stated"
    folder = f", folder {entry['folder']}" if "folder" in entry else ""
    return f"{entry['source']}{folder} (terms: {licence})"


def _check(
    path: Path, where: str, body: Any, allowed: Mapping[str, type], needed: Sequence[str]
) -> None:
    shown = f"{path}: {where}".rstrip(": ")
    if not isinstance(body, dict):
        raise ConfigError(f"{shown}: must be a mapping with {', '.join(allowed)}")
    for key, value in body.items():
        _known(path, where or "the file", str(key), list(allowed))
        if not isinstance(value, allowed[key]) or (allowed[key] is int and value is True):
            raise ConfigError(f"{shown}: '{key}' must be a {allowed[key].__name__}")
    for key in needed:
        if not body.get(key):
            raise ConfigError(f"{shown}: '{key}' is missing")


def _known(path: Path, where: str, key: str, names: Sequence[str]) -> None:
    if key in names:
        return
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(names)}"
    raise ConfigError(f"{path}: {where}: '{key}' is not known; {hint}")


def _text(path: Path, key: str, value: Any) -> str:
    if isinstance(value, dict | list) or value is None:
        raise ConfigError(f"{path}: settings.{key}: must be one value")
    return str(value)


def _holes(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        yield from _HOLE.findall(word)


def fill(words: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """Put values into the holes of words; a value with blanks stays in its word."""
    return [_HOLE.sub(lambda found: values[found[1]], word) for word in words]


def holes(step: Step) -> set[str]:
    """Return the names of the holes in a step's command."""
    return set(_holes(step.run))


def choose_route(routes: Mapping[str, Route], wanted: str | None, name: str) -> tuple[str, Route]:
    """Return the route of a name, by default the first.

    Raises:
        ConfigError: There is none of that name.
    """
    title = wanted or next(iter(routes))
    if title not in routes:
        raise ConfigError(f"--route: '{title}' is none of {name}'s: {', '.join(routes)}")
    return title, routes[title]


def change(settings: Mapping[str, str], pairs: Sequence[str]) -> dict[str, str]:
    """Return settings with `KEY=VALUE` pairs put in.

    Raises:
        ConfigError: A key is none of the recipe's.
    """
    changed = dict(settings)
    for pair in pairs:
        key, mark, value = pair.partition("=")
        if not mark:
            raise ConfigError(f"--set: '{pair}' must be KEY=VALUE")
        if key not in settings:
            near = difflib.get_close_matches(key, settings, n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(settings)}"
            raise ConfigError(f"--set: the recipe has no '{key}'{hint}")
        changed[key] = value
    return changed

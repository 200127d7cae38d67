"""Reads settings as plain data: YAML without tags or repeated keys, and literals from text."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from recbole_slif.errors import ConfigError

_NUMBER = re.compile(
    r"^[-+]?(?:[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
    r"|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN|NAN)$"
)
_TRUTH = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_MOST_VALUES = 100_000
_DEEPEST = 100
_WORDS = {"true": True, "false": False, "none": None, "null": None, "~": None}


class SettingsLoader(yaml.SafeLoader):
    """YAML of plain values: `1e-3` is a number, `off` a word, a key stands once."""

    def get_single_node(self) -> yaml.Node | None:
        """Compose the file and refuse aliases that stand for themselves or for a flood."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _count(node, {}, set())
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping and refuse a key that is there twice."""
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if key_node.value in seen:
                problem = f"key '{key_node.value}' stands in line {seen[key_node.value]} already"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if isinstance(key_node.value, str):
                seen[key_node.value] = line
        return super().construct_mapping(node, deep=deep)


def _count(node: yaml.Node, known: dict[int, int], open_: set[int]) -> int:
    """Return how many values a node stands for, its aliases written out.

    Raises:
        ConstructorError: an alias stands within what it names, or for too many values.
    """
    if id(node) in known:
        return known[id(node)]
    problem = "an alias stands within what it names" if id(node) in open_ else None
    open_.add(id(node))
    inner = [] if problem or isinstance(node, yaml.ScalarNode) else node.value
    pairs = (entry if isinstance(entry, tuple) else (entry,) for entry in inner)
    total = 1 + sum(_count(part, known, open_) for pair in pairs for part in pair)
    if total > _MOST_VALUES:
        problem = f"aliases stand for more than {_MOST_VALUES:,} values"
    if problem:
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    open_.discard(id(node))
    known[id(node)] = total
    return total


def _set_resolvers() -> None:
    """Replace YAML 1.1's readings of numbers and truth values, which surprise people."""
    replaced = {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"}
    SettingsLoader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in replaced]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    SettingsLoader.add_implicit_resolver("tag:yaml.org,2002:bool", _TRUTH, list("tTfF"))
    SettingsLoader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))


_set_resolvers()


def read_settings(path: Path) -> dict[str, Any]:
    """Read one YAML file of settings.

    Raises:
        ConfigError: the file is missing, is no YAML, repeats a key, or holds no `key: value` lines.
    """
    path = Path(os.path.expanduser(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"configuration file '{path}' cannot be read: {error.strerror or error}."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"configuration file '{path}' is not UTF-8 text.") from error
    try:
        content = yaml.load(text, Loader=SettingsLoader)  # noqa: S506 - derives from SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"configuration file '{path}'{line}: {error.problem}.") from error
    except (yaml.YAMLError, ValueError) as error:  # a day that is none, a number without end
        raise ConfigError(f"configuration file '{path}': {error}.") from error
    except RecursionError as error:
        raise ConfigError(f"configuration file '{path}' is nested too deep.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"configuration file '{path}' must hold lines of the form `key: value`.")
    return {str(key): value for key, value in content.items()}


def chosen_name(key: str, given: str | None, files: Sequence[str], default: str) -> str:
    """Return the name that is given for `model` or `dataset`, else the last file's, else `default`.

    Raises:
        ConfigError: a file cannot be read, or names a model by its code.
    """
    if given:
        return given
    contents = [read_settings(Path(name)) for name in files]
    named = [str(content[key]) for content in contents if content.get(key)]
    if named and key == "model" and ":" in named[-1]:
        raise ConfigError(f"model '{named[-1]}' is code that a file names; name it with --model.")
    return named[-1] if named else default


def read_literal(text: str) -> Any:
    """Read a number, truth value, list, tuple, dictionary or null from text, else keep the text.

    Nothing is ever run: `true`, `false`, `none`, `null` and `~` count as well in any case. Words in
    a list or dictionary need no quotes: what is no Python literal there is read as YAML.
    """
    stripped = text.strip()
    if stripped.lower() in _WORDS:
        return _WORDS[stripped.lower()]
    if _is_deep(stripped):
        return text  # parsers may break down rather than give up
    try:
        return ast.literal_eval(stripped)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _read_flow(stripped, text)


def _is_deep(text: str) -> bool:
    """Tell whether brackets nest, or signs follow one another, deeper than any setting needs."""
    depth = 0
    for sign in re.findall(r"[(\[{]|[)\]}]|[-+~]{50}", text):
        depth += -1 if sign in ")]}" else 1
        if depth > _DEEPEST or len(sign) > 1:
            return True
    return False


def _read_flow(stripped: str, text: str) -> Any:
    """Read `[a, b]` and `{a: b}`, else keep the text."""
    if stripped[:1] + stripped[-1:] not in ("[]", "{}"):
        return text
    try:
        return yaml.load(stripped, Loader=SettingsLoader)  # noqa: S506 - derives from SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


def read_options(argv: list[str]) -> dict[str, str]:
    """Read `--key=value` and `--key value` options, values as text.

    Raises:
        ConfigError: an option has no value, stands twice, or a word belongs to no option.
    """
    options: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise ConfigError(f"'{word}' belongs to no option; settings are written --key=value.")
        if not equals:
            following = next(words, None)
            if following is None or following.startswith("--"):
                raise ConfigError(f"option --{name} has no value; write --{name}=value.")
            value = following
        if name in options:
            raise ConfigError(f"option --{name} is given twice; keep one of them.")
        options[name] = value
    return options


def split_names(names: str | Sequence[str] | None) -> list[str]:
    """Split file names given as one text or several, parted by commas or spaces.

    A text that is the name of an existing file stays whole.
    """
    if not names:
        return []
    given = [names] if isinstance(names, str) else list(names)
    found: list[str] = []
    for name in map(str, given):
        found += [name] if Path(name).is_file() else re.split(r"[,\s]+", name.strip(", \t\n"))
    return [name for name in found if name]

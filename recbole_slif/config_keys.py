"""What keys exist, of which type, in which file: learned from the comments of the property files.

Every line of our property files reads `key: value  # (type) meaning`, with choices written
`(str: one|other)` and limits `(int: >= 1)`, `(float: > 0)` or `(float: 0 to 1)`. RecBole's files
follow nearly the same habit.
"""

from __future__ import annotations

import difflib
import math
import numbers
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from recbole_slif.config_yaml import read_literal, read_settings
from recbole_slif.errors import ConfigError

_LINE = re.compile(r"^(?P<key>\w+)\s*:.*?\s#\s*\((?P<type>[^)]*)\)")
_LIMITS = re.compile(r"^(?:(?P<sign>>=?) *(?P<low>[\d.]+)|(?P<from>[\d.]+) to (?P<to>[\d.]+))$")
_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "string": (str,),
    "int": (int,),
    "float": (float,),
    "bool": (bool,),
    "list": (list, tuple),
    "dict": (dict,),
}
command_options: list[str] = []
"""Options of the command that is running, offered beside the keys where one is misspelt."""
_PATHS = ("data_path", "checkpoint_dir", "record_dir", "feature_path", "data_cache_dir")
# Where and how a run is carried out, not what comes out of it.
NOT_DECISIVE = frozenset(
    {
        "checkpoint_dir",
        "config_files",
        "data_path",
        "data_cache",
        "data_cache_dir",
        "dataloaders_save_path",
        "dataset_save_path",
        "device",
        "encoding",
        "eval_block_users",
        "feature_path",
        "gpu_id",
        "group_offset",
        "ip",
        "local_rank",
        "log_wandb",
        "loss_decimal_place",
        "port",
        "record_dir",
        "save_dataloaders",
        "save_dataset",
        "save_last",
        "show_progress",
        "state",
        "use_gpu",
        "use_tuned",
        "wandb_project",
        "worker",
    }
)
# Keys that came after the first records, at the value that does what was done before them: as if
# it stood in those, and left out of the hash of a run's settings, so that they still count.
ADDED_LATER: Mapping[str, Any] = {
    "table_precision": "float32",
    "contrast_precision": "float32",
    "sge_search": "exact",
    "cl_items": None,
}
_LOOSE: Mapping[str, tuple[type, ...]] = {"gpu_id": (str, int, tuple)}
_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    list: "a list",
    dict: "a mapping",
}


@dataclass(frozen=True)
class Limits:
    """Smallest and largest number a key takes; `open` leaves the smallest itself out."""

    low: float
    high: float = math.inf
    open: bool = False

    def hold(self, value: Any) -> bool:
        """Say whether a number, or every number of a list, lies within."""
        if isinstance(value, (list, tuple)):
            return all(map(self.hold, value))
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return True
        return self.low <= value <= self.high and not (self.open and value == self.low)

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"{'more than' if self.open else 'at least'} {self.low:g}"
        return f"between {self.low:.12g} and {self.high:.12g}"


def parse_limits(text: str) -> Limits | None:
    """Read `>= 1`, `> 0` or `0 to 1`; anything else sets no limits."""
    match = _LIMITS.match(text.strip())
    if match is None:
        return None
    if match["sign"]:
        return Limits(float(match["low"]), open=match["sign"] == ">")
    return Limits(float(match["from"]), float(match["to"]))


@dataclass(frozen=True)
class Key:
    """One configuration key.

    Attributes:
        name: the key.
        types: accepted types, empty if any value is.
        choices: accepted words, empty if any is.
        nullable: null is accepted.
        limits: of numbers, None if any is accepted.
    """

    name: str
    types: tuple[type, ...]
    choices: tuple[str, ...]
    nullable: bool
    limits: Limits | None = None

    def convert(self, value: Any, source: str) -> Any:
        """Return `value` in the key's type.

        Args:
            value: what was given.
            source: where it was given, for the message.

        Raises:
            ConfigError: the value has another type or is not among the choices.
        """
        if value is None:
            if self.nullable or not self.types:
                return None
            if "none" not in self.choices:
                raise self._refuse(value, source)
            value = "none"  # how the command line reads the word
        if self.types:
            value = self._as_type(value, source)
        if self.choices and value not in self.choices:
            near = difflib.get_close_matches(str(value), self.choices, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ConfigError(
                f"{source}: {self.name} cannot be '{value}'; "
                f"it is one of {', '.join(self.choices)}.{hint}"
            )
        if self.name in _PATHS:
            value = os.path.expanduser(value)
        if self.limits is not None and not self.limits.hold(value):
            raise ConfigError(f"{source}: {self.name} must be {self.limits}, not {value}.")
        return value

    def _as_type(self, value: Any, source: str) -> Any:
        """Accept the key's types, and what stands for them: 5 or 5.0, numpy's, a tuple, a path."""
        value = _as_plain(value)
        if isinstance(value, tuple) and list in self.types:
            value = list(value)
        if isinstance(value, bool):
            if bool not in self.types:
                raise self._refuse(value, source)
            return value
        if isinstance(value, self.types):
            return value
        if isinstance(value, int) and float in self.types:
            return float(value)
        if isinstance(value, float) and int in self.types and value.is_integer():
            return int(value)
        raise self._refuse(value, source)

    def _refuse(self, value: Any, source: str) -> ConfigError:
        wanted = " or ".join(dict.fromkeys(_NAMES[t] for t in self.types if t in _NAMES))
        null = ", or null" if self.nullable else ""
        given = f"{value!r} ({type(value).__name__})" if value is not None else "null"
        return ConfigError(f"{source}: {self.name} must be {wanted}{null}, not {given}.")

    def from_text(self, text: str) -> Any:
        """Read a command line value: a key that only takes text keeps `007` as it is."""
        value = read_literal(text)
        if self.types == (str,) and not isinstance(value, str) and value is not None:
            return text
        return value


def _as_plain(value: Any) -> Any:
    """Return Python's own number for one of numpy's, and the text of a path."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, (bool, int)):
        return float(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def parse_type(comment: str) -> tuple[tuple[type, ...], tuple[str, ...], bool]:
    """Parse the bracket of a comment, such as `int`, `list or str`, `str: one|other`.

    Returns:
        Accepted types (empty if the words are not understood), choices, and whether null is named.
    """
    words, _, listed = comment.partition(":")
    worded = bool(listed) and parse_limits(listed) is None
    choices = tuple(word.strip() for word in listed.split("|")) if worded else ()
    types: list[type] = []
    nullable = False
    for part in re.split(r"\s+or\s+|,\s*", words.strip()):
        first = part.split(" ")[0]
        if first in ("None", "null", "optional"):
            nullable = True
        elif first in _TYPES:
            types += _TYPES[first]
        else:
            return (), choices, True
    return tuple(dict.fromkeys(types)), choices, nullable


def _type_of(value: Any) -> tuple[type, ...]:
    """Return the accepted types a default value speaks for."""
    if value is None:
        return ()
    return (list, tuple) if isinstance(value, (list, tuple)) else (type(value),)


@cache
def read_keys(path: Path, ours: bool) -> Mapping[str, Key]:
    """Read the keys of one property file.

    Args:
        path: the file.
        ours: whether null is accepted only where the default is null; RecBole takes it anywhere.
    """
    comments = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = _LINE.match(line)
        if match:
            comments[match["key"]] = match["type"]
    keys = {}
    for name, default in read_settings(path).items():
        comment = comments.get(name, "?")
        types, choices, nullable = parse_type(comment)
        if types:
            types = tuple(dict.fromkeys((*types, *_type_of(default))))
        elif ours:
            types = _type_of(default)
        nullable = nullable or default is None or not ours
        limits = parse_limits(comment.partition(":")[2])
        keys[name] = Key(name, _LOOSE.get(name, types), choices, nullable, limits)
    return keys


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return a hint `; did you mean 'x'?` for a mistyped name, empty if nothing is near."""
    folded = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=cutoff)
    return f"; did you mean '{folded[near[0]]}'?" if near else ""

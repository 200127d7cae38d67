"""What is searched: RecBole's `.hyper` files, read as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.config import SlifConfig, properties_dir
from recbole_slif.config_yaml import read_literal
from recbole_slif.errors import ConfigError

_RANGES = {"uniform": 2, "quniform": 3, "loguniform": 2}
_LARGEST_LOG = 700.0  # a little more, and the number itself is none
_SOURCE = "parameter file"
ALGORITHMS = ("exhaustive", "random", "bayes")


@dataclass(frozen=True)
class Parameter:
    """One line of a `.hyper` file.

    Attributes:
        name: configuration key.
        kind: `choice`, `uniform`, `quniform` or `loguniform` (bounds of the logarithm).
        values: the choices, or the numbers of the range.
    """

    name: str
    kind: str
    values: tuple[Any, ...]

    def space(self) -> Any:
        """Return hyperopt's expression; a choice that is a list goes as text, as RecBole's do."""
        from hyperopt import hp

        if self.kind != "choice":
            return getattr(hp, self.kind)(self.name, *self.values)
        return hp.choice(self.name, self.flat())

    def ends(self) -> tuple[float, float]:
        """Return the smallest and the largest number of a range; of `quniform`, that it draws."""
        low, high = self.values[:2]
        if self.kind == "loguniform":
            return math.exp(low), math.exp(high)
        if self.kind == "uniform":
            return low, high
        step = self.values[2]
        first, last = math.floor(low / step + 0.5) * step, math.ceil(high / step - 0.5) * step
        return first, max(first, last)

    def flat(self) -> list[Any]:
        """Return the choices as plain values, a list or dictionary as its text."""
        return [
            str(value) if isinstance(value, list | tuple | dict) else value for value in self.values
        ]


def read_space(path: Path | str) -> list[Parameter]:
    """Read a RecBole `.hyper` file: lines `name type values`; nothing in it is run.

    Raises:
        ConfigError: naming the file and the line that cannot be read.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"parameter file '{path}' cannot be read: {reason}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if text:
            found.append(_read_line(text, f"parameter file '{path}' line {number}"))
    names = [parameter.name for parameter in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice or not found:
        fault = f"names {', '.join(sorted(twice))} twice" if twice else "names no parameter"
        raise ConfigError(f"parameter file '{path}' {fault}")
    return found


def check_algorithm(algo: str, parameters: Sequence[Parameter]) -> None:
    """Check that an algorithm is known and can search these parameters.

    Raises:
        ConfigError: it is not, or it cannot.
    """
    if algo not in ALGORITHMS:
        raise ConfigError(f"--algo is one of {', '.join(ALGORITHMS)}, not '{algo}'")
    ranges = [entry.name for entry in parameters if entry.kind != "choice"]
    if algo == "exhaustive" and ranges:
        raise ConfigError(f"{', '.join(ranges)} have ranges; search with --algo=random or bayes")


def check_space(parameters: Sequence[Parameter], config: SlifConfig) -> None:
    """Check before the first trial that the model has each key and takes each choice and range.

    Raises:
        ConfigError: naming the key.
    """
    for parameter in parameters:
        if parameter.kind != "choice":
            _check_range(parameter, config)
            continue
        for value in parameter.values:
            config.converted(parameter.name, settle(value), _SOURCE)


def _check_range(parameter: Parameter, config: SlifConfig) -> None:
    name, (low, high) = parameter.name, parameter.ends()
    if parameter.kind == "quniform":
        drawn = [low, high, min(low + parameter.values[2], high)]
    else:  # a key that takes all but an end itself, as `more than 0` does, takes what is drawn
        drawn = [math.nextafter(low, high), math.nextafter(high, low)]
    try:
        for value in drawn:
            config.converted(name, value, _SOURCE)
    except ConfigError as error:
        for end in (low, high):  # of both faults the one of a round number
            config.converted(name, end, _SOURCE)
        raise ConfigError(
            f"{error} For whole numbers write `{name} quniform LOW,HIGH,1`."
        ) from None


def space_file(given: str | None, model: str) -> Path:
    """Return the file that was named, else the model's own in `properties/hyper`."""
    source = Path(given) if given else properties_dir() / "hyper" / f"{model}.hyper"
    if not given and not source.is_file():
        raise ConfigError(
            f"model '{model}' comes without a parameter file; write one of lines such as "
            "`learning_rate choice [0.01, 0.001]` and name it with --params_file=FILE"
        )
    return source


def _read_line(text: str, where: str) -> Parameter:
    parts = text.split(None, 2)
    if len(parts) < 3:
        raise ConfigError(f"{where}: expected 'name type values', found '{text}'")
    name, kind, values = parts
    if kind == "choice":
        choices = _read_choices(values)
        if not choices:
            raise ConfigError(f"{where}: choices of {name} are no list: {values}")
        return Parameter(name, kind, tuple(choices))
    if kind not in _RANGES:
        known = ", ".join(("choice", *_RANGES))
        raise ConfigError(f"{where}: type '{kind}' of {name} is none of {known}")
    try:
        numbers = tuple(float(part) for part in values.split(","))
    except ValueError:
        numbers = ()
    finite = all(map(math.isfinite, numbers))
    if len(numbers) != _RANGES[kind] or not finite or numbers[0] >= numbers[1]:
        raise ConfigError(f"{where}: {kind} of {name} needs {_RANGES[kind]} numbers, low first")
    if kind == "loguniform" and max(map(abs, numbers)) > _LARGEST_LOG:
        raise ConfigError(
            f"{where}: the bounds of {name} are natural logarithms, so they lie between "
            f"{-_LARGEST_LOG:g} and {_LARGEST_LOG:g}"
        )
    if kind == "quniform" and not numbers[2] > 0:
        raise ConfigError(f"{where}: the step of {name} must be above 0, not {numbers[2]:g}")
    return Parameter(name, kind, numbers)


def _read_choices(text: str) -> list[Any]:
    listed = read_literal(text)
    if not isinstance(listed, list | tuple):
        return []
    return [read_literal(entry) if isinstance(entry, str) else entry for entry in listed]


def settle(value: Any) -> Any:
    """Return a drawn value as the configuration takes it."""
    value = value.item() if isinstance(value, np.generic) else value
    value = read_literal(value) if isinstance(value, str) else value
    return list(value) if isinstance(value, tuple) else value

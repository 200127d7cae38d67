"""Bad input by the thousand: damaged files and mistyped settings, read or refused in a line."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from reliability.frame import Case, Setting
from reliability.fuzz.engine import Draw, FoundFault
from reliability.fuzz.records import Records
from reliability.fuzz.settings import Settings
from reliability.fuzz.tables import Tables


def kinds(folder: Path) -> dict[str, tuple[Callable[[Draw], None], int]]:
    """Return each kind of case with its weight; sound files are written below `folder`."""
    tables, settings, records = Tables(folder), Settings(folder), Records(folder)
    return {
        "atomic file, damaged": (tables.table, 5),
        "atomic file, planted": (tables.planted_table, 3),
        "header, planted": (tables.planted_header, 1),
        "features, damaged": (tables.features, 3),
        "features, planted": (tables.planted_features, 2),
        "data set, damaged": (tables.dataset, 3),
        "configuration file": (settings.yaml_file, 2),
        "value of a key": (settings.value, 2),
        "option of the command line": (settings.option, 2),
        "key, misspelt": (settings.planted_key, 2),
        "search file": (settings.hyper_file, 2),
        "experiment file, damaged": (settings.experiment_file, 2),
        "experiment file, any value": (settings.experiment_value, 2),
        "command line": (settings.command_line, 3),
        "checkpoint, damaged": (records.checkpoint, 3),
        "checkpoint, any header": (records.header, 1),
        "report": (records.report, 1),
        "lines of runs": (records.folder_lines, 2),
        "trials": (records.trials, 2),
        "per-user file": (records.per_user, 1),
    }


def cases(setting: Setting) -> Iterator[Case]:
    """Yield cases; a name says kind, seed and number, which make the case again."""
    found = kinds(setting.folder)
    names, weights = list(found), [weight for _, weight in found.values()]
    chosen = random.Random(setting.seed)  # noqa: S311 - no secret
    for number in range(setting.cases):
        name = chosen.choices(names, weights)[0]
        draw = random.Random(f"{setting.seed}-{number}")  # noqa: S311
        yield Case(f"{name} {setting.seed}-{number}", partial(found[name][0], draw))


__all__ = ["FoundFault", "cases", "kinds"]

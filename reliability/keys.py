"""Every key of every YAML file, misspelt by one letter, is refused with the right suggestion."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

from recbole_slif.config import SlifConfig, properties_dir
from recbole_slif.config_yaml import read_settings
from recbole_slif.errors import ConfigError
from recbole_slif.experiment.definition import read_definition
from recbole_slif.registry import MODELS
from reliability.frame import Case, Setting

ALPHABET = "abcdefghijklmnopqrstuvwxyz_"
_EXPERIMENT = ("title", "artefact", "statistics", "models", "seeds", "settings", "cells", "sweeps",
               "noise", "quick")  # fmt: skip
_INSIDE = {
    "cells": ("model", "label", "group", "series", "x", "settings", "noise", "needs"),
    "sweeps": ("key", "values", "labels", "models", "group", "quick"),
    "noise": ("kind", "levels", "models", "group", "quick"),
}


def misspellings(word: str, chosen: random.Random) -> list[str]:
    """Return a word with a letter left out, doubled, swapped, replaced and put in, once each."""
    at = chosen.randrange(len(word))
    letter = chosen.choice(ALPHABET)
    forms = [
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
        word[:at] + letter + word[at + 1 :],
        word[:at] + letter + word[at:],
    ]
    return list(dict.fromkeys(form for form in forms if form and form != word))


@cache
def config(model: str) -> SlifConfig:
    """Return a sound configuration, which knows the keys of a model."""
    return SlifConfig(model, "ml-100k", None, {"gpu_id": "", "state": "ERROR"})


def keys_of_files() -> list[tuple[str, str, str]]:
    """Return file, model and key of every line of our YAML files of settings."""
    base, found = properties_dir(), []
    for path in sorted(base.rglob("*.yaml")):
        name = path.relative_to(base)
        if name.parts[0] == "experiment":
            continue
        model = path.stem if name.parts[0] in ("model", "tuned") else "SLIFMR"
        found += [(name.as_posix(), model, key) for key in read_settings(path)]
    return found


def suggested(wrong: str, key: str, known: Sequence[str], refuse: Callable[[], object]) -> None:
    """Require that `refuse` refuses a misspelt key and suggests the one that was meant.

    Raises:
        AssertionError: it is accepted, or another key is suggested that is no nearer.
    """
    try:
        refuse()
    except ConfigError as error:
        text = str(error)
    else:
        raise AssertionError(f"'{wrong}' for '{key}' is accepted")
    if wrong not in text or f"did you mean '{key}'?" not in text:
        rival = next((name for name in known if f"did you mean '{name}'?" in text), None)
        if rival is None or not as_near(wrong, rival):
            raise AssertionError(f"'{wrong}' for '{key}': {text}")


def as_near(wrong: str, rival: str) -> bool:
    """Tell whether a misspelling is one letter from another key as well."""
    return any(wrong == form for form in _all_forms(rival))


@cache
def _all_forms(word: str) -> frozenset[str]:
    forms = {word[:at] + word[at + 1 :] for at in range(len(word))}
    forms |= {word[:at] + word[at : at + 2][::-1] + word[at + 2 :] for at in range(len(word) - 1)}
    for at in range(len(word) + 1):
        forms |= {word[:at] + letter + word[at:] for letter in ALPHABET}
        forms |= {word[:at] + letter + word[at + 1 :] for letter in ALPHABET}
    return frozenset(forms)


def misspelt_setting(model: str, key: str, wrong: str) -> None:
    """Give a misspelt key to a model, as a line of a configuration file would."""
    known = config(model).accepted_keys
    suggested(wrong, key, sorted(known), lambda: config(model).converted(wrong, 1, "file 'x'"))


def misspelt_entry(folder: Path, key: str, wrong: str, part: str | None) -> None:
    """Write an experiment file with a misspelt key and read it."""
    lines = ["title: t", "artefact: a", "models: [BPR]"]
    if part is None:
        lines.append(f"{wrong}: 1")
    else:
        lines.append(f"{part}: [{{{wrong}: 1}}]")
    path = folder / "mine.yaml"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    known = _EXPERIMENT if part is None else _INSIDE[part]
    suggested(wrong, key, known, lambda: read_definition(path))


def cases(setting: Setting) -> Iterator[Case]:
    """Yield each key of each file under each kind of misspelling that makes no other key."""
    chosen, given = random.Random(setting.seed), 0  # noqa: S311 - no secret
    for file, model, key in keys_of_files():
        if model not in MODELS:
            continue
        for wrong in misspellings(key, chosen):
            if wrong not in config(model).accepted_keys and given < setting.cases:
                given += 1
                run = partial(misspelt_setting, model, key, wrong)
                yield Case(f"{file}: {wrong} for {key}", run)
    parts: list[tuple[str | None, Sequence[str]]] = [(None, _EXPERIMENT), *_INSIDE.items()]
    for part, names in parts:
        for key in names:
            for wrong in misspellings(key, chosen):
                if len(key) > 1 and wrong not in names and given < setting.cases:
                    given += 1
                    entry = partial(misspelt_entry, setting.folder, key, wrong, part)
                    yield Case(f"experiment file, {part or 'top'}: {wrong} for {key}", entry)

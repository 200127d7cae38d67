"""Files that attack: built by code, read as a user would read them, each with a canary to find."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from reliability.frame import Case, Setting
from reliability.hostile import archives, checkpoints, features, records, settings
from reliability.hostile.arena import Attack, survive

ATTACKS: list[Attack] = [
    attack
    for part in (checkpoints, features, settings, records, archives)
    for attack in part.ATTACKS
]


def cases(setting: Setting) -> Iterator[Case]:
    """Yield a case for each attack; it fails where code runs or a file appears outside."""
    for attack in ATTACKS[: setting.cases]:
        yield Case(attack.name, partial(survive, attack))

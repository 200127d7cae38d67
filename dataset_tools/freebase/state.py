"""What a walk through the dump needs to go on after a kill: one JSON file, written atomically."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..writing import write_json
from .blocks import Place

_FILE = "state.json"


@dataclass
class State:
    """How far the walk is.

    Attributes:
        wanted: What it depends on: the dump, the linked entities, the options.
        hop: The pass under way, from 1.
        place: Where that pass goes on.
        lines: Lines before the place.
        records: Triples found in all passes.
        ends: Triples found by the end of each finished pass.
        relations: Their relations in order of number.
        counts: Rows of the dump by kind.
        faults: As `Faults.report` gives them.
    """

    wanted: dict[str, Any]
    hop: int = 1
    place: Place = field(default_factory=Place)
    lines: int = 0
    records: int = 0
    ends: list[int] = field(default_factory=list)
    relations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[dict[str, Any]] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write the state."""
        write_json(folder / _FILE, {**vars(self), "place": vars(self.place)})


def load_state(folder: Path, wanted: dict[str, Any]) -> State | None:
    """Return the state saved in a folder, or None where there is none that fits `wanted`."""
    try:
        content = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        if content["wanted"] != wanted:
            print(f"{folder}: was left by other options or another dump; beginning anew")
            return None
        state = State(**content)
        state.place = Place(**content["place"])
        state.counts = Counter(content["counts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return state

"""Faults of raw files: counted by kind, with the first line numbers of each, and reported.

A faulty line is left out and changes nothing else: not the lines beside it, nor their order.
"""

from __future__ import annotations

import argparse
import json
import sys
from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_slif.errors import DataError

from .writing import write_text

KEPT = 10


@dataclass
class _Kind:
    count: int = 0
    lines: list[int] = field(default_factory=list)


class Faults:
    """What was wrong in the files that a command read.

    Args:
        kept: Line numbers to remember for each file and kind, the lowest ones.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._found: dict[tuple[str, str], _Kind] = {}

    def add(self, kind: str, path: Path | str, line: int | None = None, count: int = 1) -> None:
        """Count a fault.

        Args:
            kind: What is wrong, in words that follow a number: `lines of broken JSON`.
            path: The file; its name alone is kept.
            line: Line number from 1, where there is one.
            count: How many faults of the kind are meant.
        """
        entry = self._found.setdefault((Path(path).name, kind), _Kind())
        entry.count += count
        if line is not None:
            insort(entry.lines, line)
            del entry.lines[self._kept :]

    @property
    def total(self) -> int:
        """Number of faults of all kinds."""
        return sum(entry.count for entry in self._found.values())

    def count(self, kind: str) -> int:
        """Return the number of faults of one kind in all files."""
        return sum(entry.count for (_, name), entry in self._found.items() if name == kind)

    def report(self) -> list[dict[str, Any]]:
        """Return one entry for each file and kind, in a fixed order, as JSON values."""
        return [
            {"file": name, "kind": kind, "count": entry.count, "lines": entry.lines}
            for (name, kind), entry in sorted(self._found.items())
        ]

    def take(self, report: Iterable[Mapping[str, Any]]) -> None:
        """Add what `report` gave, such as a killed run's."""
        for entry in report:
            for line in entry["lines"]:
                self.add(entry["kind"], entry["file"], line)
            more = entry["count"] - len(entry["lines"])
            if more:
                self.add(entry["kind"], entry["file"], count=more)

    def summary(self) -> list[str]:
        """Return one line of text for each file and kind."""
        return [_sentence(entry) for entry in self.report()]


def _sentence(entry: Mapping[str, Any]) -> str:
    kind = entry["kind"]
    if entry["count"] == 1:
        kind = kind.replace("lines ", "line ", 1)
    text = f"{entry['file']}: {entry['count']:,} {kind}"
    if not entry["lines"]:
        return text
    shown = ", ".join(str(line) for line in entry["lines"])
    more = ", ..." if entry["count"] > len(entry["lines"]) else ""
    return f"{text} (line {shown}{more})"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the two options about faults that the commands share."""
    parser.add_argument("--strict", action="store_true", help="a faulty line is an error")
    parser.add_argument("--report", type=Path, help="write counts and faults to this JSON file")


def conclude(counts: Mapping[str, Any], faults: Faults, options: argparse.Namespace) -> None:
    """Print the counts and faults of a command and write `--report`.

    Args:
        counts: What was read, left out and written, as JSON values.
        faults: What was wrong in the input.
        options: With `strict` and `report` of `add_options`.

    Raises:
        DataError: `--strict`, and there are faults.
    """
    for name, value in counts.items():
        print(f"  {name:<44} {_shown(value)}")
    for line in faults.summary():
        print(f"warning: {line}", file=sys.stderr)
    if options.report:
        content = {"counts": dict(counts), "faults": faults.report()}
        write_text(options.report, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    refuse(faults, options)


def refuse(faults: Faults, options: argparse.Namespace) -> None:
    """Stop a strict command at faults; called before its files are written.

    Raises:
        DataError: `--strict`, and there are faults.
    """
    if options.strict and faults.total:
        first = faults.summary()[0]
        raise DataError(
            f"{first}; {faults.total:,} faults in all: correct the input, or leave out --strict"
        )


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)

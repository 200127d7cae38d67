"""What the long checks gave: a table to read and a JSON file to keep."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.measure import machine
from recbole_slif.atomic_files import write_atomic
from recbole_slif.records import commit, plain, versions
from reliability.frame import Outcome

RESULTS = Path(__file__).parent / "results"
FAILURES_SHOWN = 10


def table(outcomes: Sequence[Outcome]) -> str:
    """Lay out the checks, then name each failed case with its error."""
    rows = [
        [
            found.check,
            f"{found.tried} of {found.wanted}",
            found.passed,
            found.failed,
            found.skipped,
            f"{found.seconds:.0f}",
            _state(found),
        ]
        for found in outcomes
    ]
    headers = ["check", "cases", "passed", "failed", "skipped", "seconds", ""]
    lines = [tabulate(rows, headers, tablefmt="simple", disable_numparse=True)]
    for found in outcomes:
        for failure in found.failures[:FAILURES_SHOWN]:
            lines.append(f"FAILED {found.check}: {failure['case']}\n       {failure['error']}")
        for reason, count in found.skips.items():
            lines.append(f"skipped {found.check}: {count} cases: {reason}")
    return "\n".join(lines)


def _state(found: Outcome) -> str:
    if found.failed:
        return "FAILED"
    if not found.in_time:
        return "time was up"
    if not found.passed:
        return "nothing tried"
    return "passed" if found.whole else "passed, in part"


def result(outcomes: Sequence[Outcome], seed: int, minutes: float) -> dict[str, Any]:
    """Return all that is kept of a series, as JSON values."""
    checks = [dataclasses.asdict(found) for found in outcomes]
    return plain(
        {
            "date": date.today().isoformat(),
            "commit": commit(),
            "machine": machine(),
            "versions": versions(),
            "seed": seed,
            "minutes": minutes,
            "checks": {entry.pop("check"): entry for entry in checks},
        }
    )


def write_result(path: Path, content: dict[str, Any]) -> None:
    """Write the JSON file."""
    text = json.dumps(content, indent=1, allow_nan=False)
    write_atomic(path, (text + "\n").encode())

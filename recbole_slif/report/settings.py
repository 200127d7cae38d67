"""What runs were made with: settings they share and settings that differ, versions, devices."""

from __future__ import annotations

import json
import platform
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import recbole_slif
from recbole_slif.report.entries import Experiment
from recbole_slif.report.tables import Entry, Table

# Where and how a run was kept, not what came out of it; the seeds stand in the page's head.
_ASIDE = frozenset({"checkpoint_dir", "record_dir", "seed", "model", "MODEL_TYPE"})


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _configs(experiment: Experiment) -> dict[str, dict[str, str]]:
    """Return cell -> key -> value of its first run."""
    return {
        cell.key: {
            key: _shown(value)
            for key, value in (cell.runs[0].line.get("config") or {}).items()
            if key not in _ASIDE
        }
        for cell in experiment.cells
        if cell.runs
    }


def shared_settings(experiment: Experiment) -> Table:
    """Return the settings that are the same in all runs."""
    found = list(_configs(experiment).values())
    first = found[0] if found else {}
    same = [key for key in first if all(one.get(key) == first[key] for one in found)]
    rows = tuple((Entry(key), Entry(first[key])) for key in sorted(same, key=str.lower))
    return Table("Settings of all runs", ("key", "value"), rows)


def own_settings(experiment: Experiment) -> Table:
    """Return what differs from cell to cell."""
    found = _configs(experiment)
    every = [key for one in found.values() for key in one]
    differing = [
        key for key in sorted(set(every)) if len({one.get(key) for one in found.values()}) > 1
    ]
    rows = []
    for cell in experiment.cells:
        own = found.get(cell.key)
        if own is not None:
            text = ", ".join(f"{key}={own[key]}" for key in differing if key in own)
            rows.append((Entry(cell.key), Entry(text or "-")))
    return Table("Settings that differ", ("cell", "settings"), tuple(rows))


def versions(experiment: Experiment) -> list[str]:
    """Return each set of versions, commit and device, with the number of its runs or counts."""
    runs = Counter(_made_with(run.line) for run in experiment.runs)
    counted = Counter(_made_with(one) for one in experiment.counts)
    found = [f"{count} runs: {text}" for text, count in runs.items()]
    return found + [f"{count} data sets counted: {text}" for text, count in counted.items()]


def _made_with(line: Mapping[str, Any]) -> str:
    libraries = (line.get("versions") or {}).items()
    parts = [", ".join(f"{name} {version}" for name, version in libraries) or "versions unknown"]
    parts.append(f"commit {line.get('commit') or 'unknown'}")
    device = ", ".join(f"{key} {value}" for key, value in (line.get("device") or {}).items())
    return "; ".join([*parts, device] if device else parts)


def own_versions() -> str:
    """Return what made the report itself, which may be another machine than that of the runs."""
    shown = [f"python {platform.python_version()}", f"recbole_slif {recbole_slif.__version__}"]
    for name in ("numpy", "scipy", "matplotlib"):
        try:
            shown.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return f"this report: {', '.join(shown)}"


def splits(experiment: Experiment) -> list[str]:
    """Describe the data that runs saw or that were counted, once for each split."""
    found: dict[str, None] = {}
    for one in experiment.counts:
        sizes = "/".join(map(str, one.get("split") or ["unknown"]))
        text = f"{one.get('dataset')}: split {one.get('fingerprint') or 'unknown'}"
        found[f"{text}, train/validation/test {sizes}"] = None
    for run in experiment.runs:
        counts = run.line.get("statistics") or {}
        parts = [f"split {run.line.get('fingerprint') or 'unknown'}"]
        if counts.get("split"):
            parts.append("train/validation/test " + "/".join(map(str, counts["split"])))
        parts += [f"{counts[key]} {key}" for key in ("users", "items") if key in counts]
        noise = run.line.get("noise")
        found[", ".join([*parts, *([f"noise {noise}"] if noise else [])])] = None
    return list(found)


def hours(experiment: Experiment) -> str:
    """Return the time of all trainings; one that serves several cells counts once."""
    seconds = {
        (run.line.get("settings_hash") or id(run), run.seed): float(run.line.get("seconds") or 0.0)
        for run in experiment.runs
    }
    total = round(sum(seconds.values()))
    clock = (
        f"{total // 3600} h {total % 3600 // 60} min" if total >= 3600 else f"{total / 60:.1f} min"
    )
    return f"{len(seconds)} trainings, {clock} together"


def command_line(words: Sequence[str]) -> str:
    """Return the command of words after the program's name, ready to be pasted."""
    return shlex.join(["recbole-slif", *words])

"""Checks the installation: versions, the fixes in force, the device, the embedded data.

Nothing here needs RecBole or PyTorch to be installed: what is missing is what it is for.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.resources
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import recbole_slif
from recbole_slif import compat
from recbole_slif.compat.libraries import installed

MISSING, OUTSIDE, PRESENT, ABSENT = "MISSING", "untested version", "ok", "not installed"

# distribution -> (first version tested, first version not tested); setup.py says the same
TESTED = {
    "numpy": ((1, 26), (2, 6)),
    "scipy": ((1, 12), (1, 19)),
    "torch": ((2, 5, 1), (2, 16)),
    "pandas": ((2, 2), (3, 2)),
    "hyperopt": ((0, 2, 7), (0, 4)),
}
NEEDED_BY_RECBOLE = (
    "colorlog",
    "colorama",
    "scikit-learn",
    "pyyaml",
    "tabulate",
    "tensorboard",
    "texttable",
    "tqdm",
)
OPTIONAL = {
    "sentence-transformers": "pip install 'recbole-slif[tools]' to encode text yourself",
    "matplotlib": "pip install 'recbole-slif[report]' for plots",
    "optuna": "pip install 'recbole-slif[search]' for searches and experiments that are shared",
    "faiss-cpu": "pip install 'recbole-slif[large]' for sge_search: approximate",
    "ray": "only for `hyper --backend=ray`: pip install -U 'ray[tune]'",
}
RECBOLE_VERSION = (1, 2, 1)
_TOUCHED = ("recbole.config", "recbole.data.dataset", "recbole.trainer")


def _text(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _row(name: str, state: str, found: str = "", fix: str = "") -> dict[str, str]:
    return {"name": name, "state": state, "version": found, "fix": fix}


def recbole_command() -> str:
    """Return the command that installs RecBole here; its pin of ray has no wheels from 3.12 on."""
    lone = "--no-deps " if sys.version_info >= (3, 12) else ""
    return f"pip install {lone}recbole=={_text(RECBOLE_VERSION)}"


def check_packages() -> list[dict[str, str]]:
    """Check the packages that every run needs.

    Returns:
        Rows with `name`, `state`, `version` and `fix`, the command to run if there is one.
    """
    rows = [_check_python(), _check_recbole()]
    for name, (first, end) in TESTED.items():
        found = installed(name)
        wanted = f"pip install '{name}>={_text(first)},<{_text(end)}'"
        if not found:
            rows.append(_row(name, MISSING, fix=wanted))
        else:
            inside = first <= found < end
            fix = "" if inside else wanted
            rows.append(_row(name, PRESENT if inside else OUTSIDE, _version(name), fix))
    for name in NEEDED_BY_RECBOLE:
        if installed(name):
            rows.append(_row(name, PRESENT, _version(name)))
        else:
            rows.append(_row(name, MISSING, fix=f"pip install {name}"))
    return rows


def _version(name: str) -> str:
    return importlib.metadata.version(name)


def _check_python() -> dict[str, str]:
    enough = sys.version_info >= (3, 10)
    fix = "" if enough else "use Python 3.10 or later"
    return _row("python", PRESENT if enough else MISSING, platform.python_version(), fix)


def _check_recbole() -> dict[str, str]:
    found = installed("recbole")
    if found == RECBOLE_VERSION:
        return _row("recbole", PRESENT, _version("recbole"))
    return _row("recbole", MISSING, _text(found), recbole_command())


def check_optional() -> list[dict[str, str]]:
    """List the packages that single commands need, and what for."""
    rows = []
    for name, use in OPTIONAL.items():
        there = bool(installed(name))
        rows.append(_row(name, PRESENT if there else ABSENT, _version(name) if there else "", use))
    return rows


def check_fixes() -> list[dict[str, str]]:
    """Load the parts of RecBole that are bent, if it is there, and list the fixes."""
    for module in _TOUCHED:
        try:
            importlib.import_module(module)
        except ImportError:
            break  # the packages' table says which one is missing
    return compat.report()


def check_device() -> dict[str, Any]:
    """Describe what models would run on."""
    device: dict[str, Any] = {"processors": os.cpu_count() or 1, "gpus": []}
    if installed("torch"):
        import torch

        device["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            count = torch.cuda.device_count()
            device["gpus"] = [torch.cuda.get_device_name(index) for index in range(count)]
    return device


def check_data() -> list[dict[str, str]]:
    """Look for the embedded data set and its text features."""
    spec = importlib.util.find_spec("recbole")
    places = list(spec.submodule_search_locations or []) if spec else []
    inter = [Path(place) / "dataset_example/ml-100k/ml-100k.inter" for place in places]
    assets = importlib.resources.files("recbole_slif") / "assets"
    features = assets.is_dir() and any(
        found.name.startswith("ml-100k.") and found.name.endswith(".npy")
        for found in assets.iterdir()
    )
    again = "pip install --force-reinstall --no-deps "
    return [
        _row("ml-100k", *_found(any(map(Path.is_file, inter)), recbole_command())),
        _row("ml-100k text features", *_found(features, f"{again}recbole-slif")),
    ]


def _found(there: bool, fix: str) -> tuple[str, str, str]:
    return (PRESENT, "", "") if there else (MISSING, "", fix)


def examine() -> dict[str, Any]:
    """Run all checks.

    Returns:
        `version`, `packages`, `optional`, `fixes`, `device`, `data`, and `complete`: whether
        nothing that is required is missing.
    """
    packages, data = check_packages(), check_data()
    return {
        "version": recbole_slif.__version__,
        "packages": packages,
        "optional": check_optional(),
        "fixes": check_fixes(),
        "device": check_device(),
        "data": data,
        "complete": all(row["state"] != MISSING for row in (*packages, *data)),
    }


def _lines(title: str, rows: Sequence[tuple[str, str, str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    body = [f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows]
    return ["", title, *body]


def as_text(found: dict[str, Any]) -> str:
    """Lay the result of `examine` out as tables."""

    def state(row: dict[str, str]) -> str:
        said = row["state"] if row["state"] != PRESENT else ""
        return " ".join(part for part in (row["version"], said) if part) or PRESENT

    lines = [f"recbole_slif {found['version']} on {platform.system()} {platform.machine()}"]
    for title, key in (("Required", "packages"), ("Optional", "optional"), ("Data", "data")):
        lines += _lines(title, [(row["name"], state(row), row["fix"]) for row in found[key]])
    fixes = [(row["name"], row["state"], row["fault"]) for row in found["fixes"]]
    lines += _lines("Fixes to RecBole 1.2.1 (waiting: made when its part is imported)", fixes)
    device = found["device"]
    named = ", ".join(device["gpus"]) or "none, models run on the CPU"
    threads = f"{device['processors']}, {device.get('threads', 0)} threads for PyTorch"
    lines += _lines("Device", [("GPU", named, ""), ("CPU", threads, "")])
    missing = [row for row in (*found["packages"], *found["data"]) if row["state"] == MISSING]
    lines += ["", "Ready." if found["complete"] else "To do:"]
    return "\n".join([*lines, *(f"  {row['name']}: {row['fix']}" for row in missing)])


class _Parser(argparse.ArgumentParser):
    """Complains in one line, as the other commands do, without what may not be installed."""

    def error(self, message: str) -> NoReturn:
        """Leave with the complaint and code 2."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the checks; `--json` for machines.

    Returns:
        0 if nothing required is missing, else 1.
    """
    parser = _Parser(prog="recbole-slif doctor", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(argv)
    found = examine()
    print(json.dumps(found, indent=2) if options.json else as_text(found))
    return 0 if found["complete"] else 1


if __name__ == "__main__":
    sys.exit(main())

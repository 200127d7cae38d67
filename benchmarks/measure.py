"""Clocks, memory and the description of the machine."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_PACKAGES = ("torch", "numpy", "scipy", "pandas", "recbole")
_RESULTS = Path(__file__).parent / "results"


Clock = Callable[[], float]


def clock_for(threads: int) -> Clock:
    """Return the CPU clock of the process for one thread, the wall clock for more.

    On one thread CPU seconds leave out what other programs of a busy machine take.
    """
    return process_time if threads == 1 else perf_counter


def seconds(work: Callable[[], Any], clock: Clock) -> float:
    """Run `work` once and return its seconds by `clock`."""
    start = clock()
    work()
    return clock() - start


@contextmanager
def threads_kept(count: int | None = None) -> Iterator[None]:
    """Give torch its number of threads back after the block; begin it with `count` if named."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def heading(command: str | None = None) -> dict[str, Any]:
    """Return what every result begins with: the date, its command if there is one, the machine."""
    named = {} if command is None else {"command": command}
    return {"date": date.today().isoformat(), **named, "machine": machine()}


def command_line(module: str, argv: Sequence[str] | None) -> str:
    """Return the command that a benchmark was started by; without words the process's own."""
    return " ".join(["python -m", module, *(argv or sys.argv[1:])])


def timed_heading(module: str, argv: Sequence[str] | None) -> dict[str, Any]:
    """Return `heading` of a benchmark timed on one thread, with the load and what was counted."""
    return {
        **heading(command_line(module, argv)),
        "load_average": os.getloadavg(),
        "clock": "CPU seconds of one thread",
    }


def write_result(result: Mapping[str, Any], path: Path | None, name: str = "") -> None:
    """Write a result as JSON to `path`, or to a dated file of this name in `results/`."""
    stem = "-".join(part for part in (date.today().isoformat(), name) if part)
    path = path or _RESULTS / f"{stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def medians(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each key over the samples that have it."""
    keys = dict.fromkeys(key for sample in samples for key in sample)
    return {
        key: statistics.median([sample[key] for sample in samples if key in sample]) for key in keys
    }


def _resident(field: str) -> int | None:
    """Read a size in bytes from the kernel's account of this process, None where it keeps none."""
    if not _STATUS.is_file():
        return None
    for line in _STATUS.read_text("ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return None


class PeakMemory:
    """Peak resident memory of a stretch of work, in GiB.

    Attributes:
        before: Resident when the stretch began, None where the system does not tell.
    """

    def __init__(self) -> None:
        gc.collect()
        try:
            _RESET.write_text("5", "ascii")
            self.before = _resident("VmRSS")
        except OSError:
            self.before = None

    def peaks(self) -> tuple[float, float] | None:
        """Return the whole process's peak since the start, and its rise above that start."""
        peak = _resident("VmHWM")
        if self.before is None or peak is None:
            return None
        return peak / 2**30, (peak - self.before) / 2**30


def machine() -> dict[str, Any]:
    """Describe processor, cores, system and library versions; nothing that names the machine."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

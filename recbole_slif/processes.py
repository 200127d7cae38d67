"""Processes that work side by side: who they are, whether they live, how they start and end."""

from __future__ import annotations

import abc
import contextlib
import hashlib
import multiprocessing
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

import psutil

from recbole_slif.errors import ConfigError, SlifError
from recbole_slif.interrupt import InterruptGuard, TrainingStoppedError, raise_terminated

# How often who works says so, and after how many silent seconds its work is given to others.
BEAT = 20.0
STALE_AFTER = 180.0
STOPPED = 130
MOST_WORKERS = 1024
_POLL = 0.5
_PATIENCE = 5.0


@dataclass(frozen=True)
class Mark:
    """Names a process so that others can tell whether it lives.

    Attributes:
        place: hash of the set of processes whose numbers mean the same.
        pid, started: the process's number and when it began, which no other process has both of.
    """

    place: str
    pid: int
    started: float

    @classmethod
    def own(cls) -> Mark:
        """Return the mark of this process."""
        process = psutil.Process()
        return cls(_place(), process.pid, process.create_time())

    def content(self) -> dict[str, Any]:
        """Return the mark as JSON values."""
        return asdict(self)


def ended(mark: object, place: str) -> bool:
    """Tell whether the process of a mark is known, from `place`, to have ended."""
    if not isinstance(mark, dict) or mark.get("place") != place:
        return False
    try:
        process = psutil.Process(int(mark["pid"]))
        same = process.create_time() == mark["started"]
        return process.status() == psutil.STATUS_ZOMBIE or not same
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, KeyError, ValueError, TypeError, OverflowError):
        return False


def _place() -> str:
    """Name, by a hash, the set of processes whose numbers mean the same as ours."""
    marks = [platform.node()]
    for path in ("/proc/sys/kernel/random/boot_id",):
        with contextlib.suppress(OSError):
            marks.append(Path(path).read_text(encoding="ascii"))
    with contextlib.suppress(OSError):
        marks.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16]


_Held = TypeVar("_Held", bound="Releasing")


class Releasing(abc.ABC):
    """What a process holds for a while: released at the end of a `with` block, however it ends."""

    @abc.abstractmethod
    def release(self) -> None:
        """Give it free."""

    def __enter__(self: _Held) -> _Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Pulse:
    """Does something every so many seconds, in a thread of its own, until stopped."""

    def __init__(self, every: float, action: Callable[[], None]) -> None:
        self._every = every
        self._action = action
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._done.wait(self._every):
            self._action()

    def stop(self) -> None:
        """End it; when this returns the action is not under way."""
        self._done.set()
        self._thread.join()


def leave_with(parent: int) -> Callable[[], None]:
    """Return what stops this process in order once its parent is gone."""

    def check() -> None:
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return check


def require_workers(count: int) -> None:
    """Check how many processes are asked for.

    Raises:
        ConfigError: none, or more than any machine runs at once.
    """
    if not 1 <= count <= MOST_WORKERS:
        raise ConfigError(f"--workers must be from 1 to {MOST_WORKERS}, not {count}")


def begin_worker(threads: int) -> None:
    """Prepare a worker: its threads, and a SIGTERM that ends it in order.

    Outside of training, where the guard takes the signal, its work is given free all the same.
    """
    import torch

    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, raise_terminated)


def run_processes(
    count: int,
    target: Callable[..., None],
    arguments: tuple[Any, ...],
    watch: Callable[[], None],
) -> list[int]:
    """Run a function in `count` new processes until all have ended.

    Args:
        count: how many.
        target: a function of a module; called with `arguments`, this process's number and the
            number of threads for each.
        arguments: what can be sent to a process.
        watch: called twice a second meanwhile.

    Returns:
        The exit codes that are not 0.

    Raises:
        TrainingStoppedError: Ctrl-C or SIGTERM, here or in one of them.
    """
    context = multiprocessing.get_context("spawn")
    whole = (*arguments, os.getpid(), _threads(count))
    processes: list[BaseProcess] = []
    try:
        with InterruptGuard() as guard:
            for at in range(count):
                process = context.Process(target=target, args=whole, name=f"worker {at + 1}")
                process.start()
                processes.append(process)
            while any(process.is_alive() for process in processes):
                time.sleep(_POLL)
                guard.check()
                watch()
    finally:
        _end(processes)
    codes = [process.exitcode or 0 for process in processes]
    if STOPPED in codes:
        raise TrainingStoppedError("stopped")
    return [code for code in codes if code]


def settle_broken(broken: Sequence[int], count: int, done: Callable[[], bool], again: str) -> None:
    """Say that some of `count` processes broke; the others may have done their work.

    Args:
        broken: what `run_processes` returned.
        count: how many there were.
        done: tells whether nothing is left to do; asked if one broke.
        again: how to go on.

    Raises:
        SlifError: something is left.
    """
    if not broken:
        return
    told = f"{len(broken)} of {count} workers ended with status {broken[0]}"
    if not done():
        raise SlifError(f"{told}; {again}")
    print(f"note: {told}; the others did their work", file=sys.stderr)


def _end(processes: Sequence[BaseProcess]) -> None:
    """Wait for processes that a terminal's Ctrl-C reached as well, stop those it did not reach.

    On SIGTERM each stops at its next batch and keeps its last epoch.
    """
    until = time.monotonic() + _PATIENCE
    for process in processes:
        process.join(max(until - time.monotonic(), 0.0))
    for process in processes:
        if process.is_alive():
            process.terminate()
    for process in processes:
        process.join()


def _threads(count: int) -> int:
    """Return the threads of each worker: as asked for by OMP_NUM_THREADS, else an equal share."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    given = int(asked) if asked.isdecimal() else 0
    return given or max(1, (os.cpu_count() or 1) // count)

"""A child process for each try, forked from this one, which has loaded torch and RecBole once.

The parent never trains: its children would lack the threads that a `backward` starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

LONGEST = 300.0  # seconds; a child that takes longer hangs
_CODE_OF_TRACEBACK = 99


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        status: its exit status, or minus the number of the signal that ended it.
        answer: what its action returned, None if it did not get so far.
        out, err: what it printed.
        seconds: wall time.
    """

    status: int
    answer: Any
    out: str
    err: str
    seconds: float

    def require_status(self, wanted: int = 0, what: str = "ended") -> None:
        """Require that the child ended so.

        Raises:
            AssertionError: it did not; the text has the end of what it said.
        """
        if self.status != wanted:
            raise AssertionError(f"{what} with {self.status}: {self.err[-300:]}")

    def last_line(self) -> str:
        """Return the last line on standard error, '' if there is none."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        return lines[-1] if lines else ""


class Child:
    """An action at work in a process of its own.

    Args:
        action: called in the child; its answer must be JSON values.
        folder: working folder of the child.
        notes: folder for what it prints and answers; must have room when the other has none.
    """

    def __init__(self, action: Callable[[], Any], folder: Path, notes: Path) -> None:
        self._notes = notes
        self._raw: int | None = None
        folder.mkdir(parents=True, exist_ok=True)
        notes.mkdir(parents=True, exist_ok=True)
        for name in ("out", "err", "answer"):
            (notes / name).unlink(missing_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        self._started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            self._work(action, folder)

    def _work(self, action: Callable[[], Any], folder: Path) -> None:
        code = _CODE_OF_TRACEBACK
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _redirect(self._notes)
            torch.set_num_threads(1)
            os.chdir(folder)
            answer = action()
            (self._notes / "answer").write_text(json.dumps(answer))
            code = answer["status"] if isinstance(answer, dict) and "status" in answer else 0
        except BaseException:  # the child must never come back as a second parent
            traceback.print_exc(file=sys.stderr)
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill_after(self, seconds: float) -> None:
        """Kill the child once it has run so long, if it has not ended by itself."""
        until = self._started + seconds
        while time.monotonic() < until and self._raw is None:
            time.sleep(0.005)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._raw = status if pid else None
        if self._raw is None:
            self.kill()

    def wait(self) -> Ended:
        """Wait for the end; a child that hangs is killed and counts as a failure.

        Raises:
            TimeoutError: it did not end by itself.
        """
        raw = self._status(self._started + LONGEST) if self._raw is None else self._raw
        seconds = time.monotonic() - self._started
        code = -os.WTERMSIG(raw) if os.WIFSIGNALED(raw) else os.WEXITSTATUS(raw)
        texts = {name: self._text(name) for name in ("out", "err", "answer")}
        answer = json.loads(texts["answer"]) if texts["answer"] else None
        return Ended(code, answer, texts["out"], texts["err"], seconds)

    def _status(self, until: float) -> int:
        pause = 0.002
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return status
            time.sleep(pause)
            pause = min(1.5 * pause, 0.05)
        self.kill()
        os.waitpid(self.pid, 0)
        raise TimeoutError(f"a child hung for {LONGEST:.0f} s: {self._text('err')[-500:]}")

    def _text(self, name: str) -> str:
        path = self._notes / name
        return path.read_text("utf-8", "replace") if path.is_file() else ""


def _redirect(notes: Path) -> None:
    """Send what is printed, by Python or by a library, to files."""
    for number, name in ((1, "out"), (2, "err")):
        handle = os.open(notes / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, closefd=False)


def run_child(action: Callable[[], Any], folder: Path, notes: Path) -> Ended:
    """Run an action in a child and wait for it."""
    return Child(action, folder, notes).wait()


@contextlib.contextmanager
def variables(changes: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the children that are started inside."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

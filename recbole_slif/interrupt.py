"""Ctrl-C and SIGTERM end a training at a batch boundary instead of in the middle of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from recbole_slif.errors import SlifError


class TrainingStoppedError(SlifError):
    """The user or the system asked a run to stop; its text says how to go on."""


class TerminatedError(KeyboardInterrupt):
    """SIGTERM came where nothing waits for the end of a batch."""


def name_of(stop: KeyboardInterrupt) -> str:
    """Return the name of the signal that raised this."""
    return "SIGTERM" if isinstance(stop, TerminatedError) else "SIGINT"


def raise_terminated(number: int, frame: FrameType | None) -> None:
    """Handle SIGTERM as Python handles Ctrl-C."""
    raise TerminatedError


@contextmanager
def sigterm_raised() -> Iterator[None]:
    """Let SIGTERM raise within the block, as Ctrl-C does, where the system would just end us.

    What is open is closed then, and a line says what happened. Outside the main thread Python
    allows no handlers; there nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class InterruptGuard:
    """Within `with`, the first signal is noted and the second one stops at once.

    Outside the main thread Python allows no handlers; there the guard does nothing.
    """

    signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> InterruptGuard:
        """Put the handlers in place."""
        self.received = None
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number

    def check(self) -> None:
        """Raise `TrainingStoppedError` if a signal has come."""
        if self.received is not None:
            name = signal.Signals(self.received).name
            raise TrainingStoppedError(f"stopped by {name}")

"""Runs a case in a process of its own, so that the main process neither trains nor is spoilt."""

from __future__ import annotations

import logging
import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

SECONDS = 600.0


class CaseFailed(AssertionError):  # noqa: N818 - said of a case
    """A case failed in its process; the text says where."""


def apart(run: Callable[[], object], seconds: float = SECONDS) -> None:
    """Run a function in a forked process.

    Raises:
        CaseFailed: it raised, died, or took longer than `seconds`.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(run, sender))
    process.start()
    sender.close()
    told = "it took too long"
    try:
        if receiver.poll(seconds):
            told = receiver.recv()
    except EOFError:
        process.join()
        told = f"its process ended with {process.exitcode}"
    finally:
        process.kill()
        process.join()
        receiver.close()
    if told:
        raise CaseFailed(told)


def _tell(run: Callable[[], object], sender: Connection) -> None:
    logging.disable(logging.WARNING)  # what was put right in the data, thousands of times
    try:
        run()
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        sender.send(f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})")
    else:
        sender.send("")

"""Progress bars of the tools: bytes of the file as it lies on disk, with the time that is left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Where stderr is a file, a line every half minute is enough.
_SECONDS_TERMINAL, _SECONDS_FILE = 0.2, 30.0
# What ends sooner needs no bar, and an error then stands on a line of its own.
_DELAY = 0.5


@contextmanager
def bar(total: int | None, name: str, unit: str = "B", start: int = 0) -> Iterator[Any]:
    """Show a bar on stderr while the block runs; `update(n)` moves it.

    Args:
        total: Size of the whole in `unit`; None where it is not known.
        name: What is going on.
        unit: `B` scales to KiB and MiB; others count plainly.
        start: What was done before, where a step goes on after a stop.
    """
    from tqdm import tqdm

    interval = _SECONDS_TERMINAL if sys.stderr.isatty() else _SECONDS_FILE
    with tqdm(
        total=total,
        initial=start,
        desc=name,
        unit=unit,
        unit_scale=unit == "B",
        unit_divisor=1024 if unit == "B" else 1000,
        mininterval=interval,
        delay=_DELAY,
        dynamic_ncols=True,
    ) as shown:
        yield shown

"""SLIF-MR and its baselines as a RecBole extension: knowledge graphs meet multimodal features.

Importing the package first makes RecBole 1.2.1 work on current numpy, pandas, scipy and torch
(`recbole_slif.compat`), so it must come before any import of `recbole`.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from recbole_slif import compat
from recbole_slif.allocator import keep_freed_memory, use_large_pages

if TYPE_CHECKING:
    from recbole_slif.quick_start import resume, run, run_many
    from recbole_slif.trained import open_trained

# Read when torch starts its threads. By default threads that wait keep a core busy: with one other
# process on two cores an epoch took 20 times longer. Threads that sleep at once are slow to wake:
# alone on two cores an epoch took half as long again. So they look around for some microseconds.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")
keep_freed_memory()
use_large_pages()
compat.apply()

__version__ = "0.1.0"
__all__ = ["__version__", "open_trained", "resume", "run", "run_many"]

# Loaded on demand: they bring RecBole and torch, which a command's --help does without.
_HOMES = {
    "open_trained": "recbole_slif.trained",
    "resume": "recbole_slif.quick_start",
    "run": "recbole_slif.quick_start",
    "run_many": "recbole_slif.quick_start",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

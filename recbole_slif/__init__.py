"""SLIF-MR and its baselines as a RecBole extension: knowledge graphs meet multimodal features.

Importing the package first makes RecBole 1.2.1 work on current numpy, pandas, scipy and torch
(`recbole_slif.compat`), so it must come before any import of `recbole`.
"""

import os

from recbole_slif import compat
from recbole_slif.allocator import keep_freed_memory, use_large_pages

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
__all__ = ["__version__"]

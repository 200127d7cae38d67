"""Keeps what a training step frees for the next step, where the C library would give it back.

A step allocates and frees tables of tens of megabytes. glibc returns blocks of that size to the
system at once, and each is cleared page by page when it is asked for again: on ml-100k a fifth of
SLIF-MR's processor time went there (`benchmarks/README.md`, "Freed memory").
"""

from __future__ import annotations

import ctypes
import os

# numbers of glibc's <malloc.h>
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3

LARGEST_KEPT = 256 << 20
"""Bytes of the largest block that is kept when freed; larger ones (whole files) go back at once."""
_NO_TRIM = (1 << 31) - 1
USERS_OWN = ("MALLOC_", "GLIBC_TUNABLES")
"""How the names of variables begin by which users set the allocator up themselves."""


def keep_freed_memory() -> bool:
    """Ask the allocator to keep freed blocks up to `LARGEST_KEPT` for the next allocation.

    Does nothing where another C library runs, or where the environment sets the allocator up
    itself (`MALLOC_...`, `GLIBC_TUNABLES`).

    Returns:
        Whether the setting is in force.
    """
    if any(name.startswith(USERS_OWN) for name in os.environ) or not _is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(_TRIM_THRESHOLD, _NO_TRIM))


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, OSError, ValueError):  # Windows, macOS, musl
        return False

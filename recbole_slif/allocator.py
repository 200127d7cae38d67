"""How memory of tensors is had: what a step frees is kept for the next, on large pages.

A step allocates and frees tables of tens of megabytes. glibc returns blocks of that size to the
system at once, and each is cleared page by page when it is asked for again: on ml-100k a fifth of
SLIF-MR's processor time went there (`benchmarks/README.md`, "Freed memory").

Propagation reads rows from all over a table. On pages of 4 KiB a processor cannot remember where
those of a table of hundreds of megabytes lie; on pages of 2 MiB a step of LightGCN at 10 million
interactions takes two thirds of the time (`docs/PERFORMANCE.md`, "Growth").
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


def use_large_pages() -> None:
    """Let torch ask Linux for pages of 2 MiB for tensors of 2 MiB and more.

    Torch looks at the variable when it first allocates, so this comes before the first tensor.
    `THP_MEM_ALLOC_ENABLE=0` leaves the pages as they are; so do systems that have no such pages.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, OSError, ValueError):  # Windows, macOS, musl
        return False

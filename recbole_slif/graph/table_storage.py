"""When the tables that sparse products read and write are stored half as wide."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

# No float16: even with its tables scaled to a largest entry of one, gradients of KGAT, KGIN and
# KGRec came out wrong. bfloat16 has float32's range and needs no scale.
_TYPES = {"float32": None, "bfloat16": torch.bfloat16}
_IN_FORCE: ContextVar[torch.dtype | None] = ContextVar("table_precision", default=None)


@contextmanager
def stored_tables(precision: str | None) -> Iterator[None]:
    """Keep tables in `precision` inside sparse products for the length of the block.

    The trainer enters it around an epoch, a model around its scoring, as torch's `autocast` is
    entered: what is multiplied then is chosen by the caller, not by each of the operators.

    Args:
        precision: A value of the key `table_precision`; None is float32.
    """
    token = _IN_FORCE.set(_TYPES[precision or "float32"])
    try:
        yield
    finally:
        _IN_FORCE.reset(token)


def storage_of(x: Tensor) -> torch.dtype | None:
    """Type to store the table `x` in, None where it stays as it is; only float32 is narrowed."""
    return _IN_FORCE.get() if x.dtype == torch.float32 else None

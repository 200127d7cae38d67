"""Which tensors are stored or multiplied half as wide, chosen by keys and in force in a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

# No float16: even with tables scaled to a largest entry of one, gradients of KGAT, KGIN and
# KGRec came out wrong. bfloat16 has float32's range and needs no scale.
_TYPES = {"float32": None, "bfloat16": torch.bfloat16}
_Choice = ContextVar[torch.dtype | None]
_TABLES: _Choice = ContextVar("table_precision", default=None)
_COMPARISONS: _Choice = ContextVar("contrast_precision", default=None)


@contextmanager
def stored_tables(precision: str | None) -> Iterator[None]:
    """Keep tables in `precision` inside sparse products for the length of the block.

    The trainer enters it around an epoch, a model around its scoring, as torch's `autocast` is
    entered: what is multiplied then is chosen by the caller, not by each of the operators.

    Args:
        precision: A value of the key `table_precision`; None is float32.
    """
    with _in_force(_TABLES, precision):
        yield


@contextmanager
def compared_rows(precision: str | None) -> Iterator[None]:
    """Multiply rows in `precision` where all are compared with all, for the length of the block.

    The trainer enters it around an epoch.

    Args:
        precision: A value of the key `contrast_precision`; None is float32.
    """
    with _in_force(_COMPARISONS, precision):
        yield


@contextmanager
def _in_force(choice: _Choice, precision: str | None) -> Iterator[None]:
    token = choice.set(_TYPES[precision or "float32"])
    try:
        yield
    finally:
        choice.reset(token)


def storage_of(x: Tensor) -> torch.dtype | None:
    """Type to store the table `x` in, None where it stays as it is; only float32 is narrowed."""
    return _TABLES.get() if x.dtype == torch.float32 else None


def comparison_of(x: Tensor) -> torch.dtype:
    """Type to multiply the rows of `x` in; only float32 is narrowed."""
    return (_COMPARISONS.get() or x.dtype) if x.dtype == torch.float32 else x.dtype

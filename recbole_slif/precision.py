"""Which tensors are stored or multiplied half as wide, chosen by keys and in force in a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

# No float16: even with tables scaled to a largest entry of one, gradients of KGAT, KGIN and
# KGRec came out wrong. bfloat16 has float32's range and needs no scale.
_TYPES = {"float32": None, "bfloat16": torch.bfloat16}
_Choice = ContextVar[torch.dtype | None]
_TABLES: _Choice = ContextVar("table_precision", default=None)
_COMPARISONS: _Choice = ContextVar("contrast_precision", default=None)


@contextmanager
def training_precision(config: Any) -> Iterator[None]:
    """Train as the keys of a configuration say, for the length of the block.

    The trainer enters it around an epoch, as torch's `autocast` is entered: what is multiplied then
    is chosen by the caller, not by each of the operators.

    Args:
        config: With `table_precision` and `contrast_precision`.
    """
    tables, comparisons = config["table_precision"], config["contrast_precision"]
    with stored_tables(tables), compared_rows(comparisons):
        yield


def stored_tables(precision: str | None) -> AbstractContextManager[None]:
    """Keep tables in `precision` inside sparse products for the length of the block.

    A model enters it around its scoring too.

    Args:
        precision: A value of the key `table_precision`; None is float32.
    """
    return _in_force(_TABLES, precision)


def compared_rows(precision: str | None) -> AbstractContextManager[None]:
    """Multiply rows in `precision` where all are compared with all, for the length of the block.

    Args:
        precision: A value of the key `contrast_precision`; None is float32.
    """
    return _in_force(_COMPARISONS, precision)


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

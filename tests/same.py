"""Comparison of whole trees of values, by type and to the bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.interaction import Interaction


def assert_same(first: Any, second: Any, where: str = "value") -> None:
    """Fail where two trees differ in type, order of keys, element type, or any bit."""
    assert type(first) is type(second), where
    for kind, compare in _COMPARE.items():
        if isinstance(first, kind):
            compare(first, second, where)
            return
    if is_dataclass(first):
        names = [part.name for part in fields(first)]
        _each([getattr(first, n) for n in names], [getattr(second, n) for n in names], where)
    else:
        assert first == second, where


def _arrays(first: np.ndarray, second: np.ndarray, where: str) -> None:
    assert first.dtype == second.dtype, where
    np.testing.assert_array_equal(first, second, err_msg=where)


def _mappings(first: dict, second: dict, where: str) -> None:
    assert list(first) == list(second), where
    for key in first:
        assert_same(first[key], second[key], f"{where}/{key}")


def _each(first: Any, second: Any, where: str) -> None:
    assert len(first) == len(second), where
    for at, pair in enumerate(zip(first, second, strict=True)):
        assert_same(*pair, f"{where}/{at}")


_COMPARE: dict[type, Callable[[Any, Any, str], None]] = {
    np.ndarray: _arrays,
    torch.Tensor: lambda a, b, where: _arrays(a.numpy(), b.numpy(), where),
    Interaction: lambda a, b, where: _mappings(a.interaction, b.interaction, where),
    dict: _mappings,
    list: _each,
    tuple: _each,
    pd.DataFrame: lambda a, b, where: pd.testing.assert_frame_equal(a, b),
}

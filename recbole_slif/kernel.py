"""The base of all hand-written operations: under mixed precision they compute in float32.

RecBole's `enable_amp` runs a model's loss under `torch.autocast`, which hands on the results of
linear layers in half precision. Sums over many edges or rows lose too much in it, and few of the
library's sparse kernels take it. So tables arrive in either type and are widened here; dense
layers keep what mixed precision gives them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_HALVES = (torch.float16, torch.bfloat16)


def is_mixed(x: Tensor) -> bool:
    """Tell whether mixed precision is on where `x` lies."""
    return torch.is_autocast_enabled(x.device.type)


def computed_in(x: Tensor) -> torch.dtype:
    """Return the type that a kernel computes a table in: its own, or float32 for a mixed half."""
    return torch.float32 if x.dtype in _HALVES and is_mixed(x) else x.dtype


class Kernel(Function):
    """An operation with a backward pass of its own; write `forward` and `backward` as usual."""

    @classmethod
    def apply(cls, *given: Any) -> Any:
        """Run the operation, under mixed precision on tables widened to float32 and without it."""
        first = next((part for part in given if isinstance(part, Tensor)), None)
        if first is None or not is_mixed(first):
            return super().apply(*given)
        wide = [part.to(computed_in(part)) if isinstance(part, Tensor) else part for part in given]
        with torch.autocast(first.device.type, enabled=False):
            return super().apply(*wide)

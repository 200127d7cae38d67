"""Large CPU buffers used again, because fresh pages cost more than what is written there."""

from __future__ import annotations

import weakref

import numpy as np
import torch
from torch import Tensor

# The C library reuses blocks below 32 MiB by itself and hands larger ones back to the system.
_SMALLEST_BYTES = 32 << 20
_KEPT = 4


class ScratchPool:
    """Lends memory for tensors; it comes back by itself when the last tensor over it is gone.

    A buffer is never lent twice at a time, so tensors saved for a backward pass are safe.
    """

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    def empty(self, rows: int, like: Tensor) -> Tensor:
        """Return an uninitialised tensor `[rows, d]` of the width, type and device of `like`."""
        shape = rows, like.shape[1]
        size = rows * like.shape[1] * like.element_size()
        if size < _SMALLEST_BYTES or like.device.type != "cpu":
            return like.new_empty(shape)
        memory = self._take(size)
        # The view is what the tensor holds on to: its end is the end of the loan.
        view = memory[:size]
        weakref.finalize(view, self._give_back, memory)
        return torch.from_numpy(view).view(like.dtype).view(shape)

    def _take(self, size: int) -> np.ndarray:
        fitting = [place for place, memory in enumerate(self._free) if memory.size >= size]
        if fitting:
            return self._free.pop(min(fitting, key=lambda place: self._free[place].size))
        # A little more than asked for: pruned graphs differ in size from epoch to epoch.
        return np.empty(size + size // 32, dtype=np.uint8)

    def _give_back(self, memory: np.ndarray) -> None:
        self._free.append(memory)
        if len(self._free) > _KEPT:
            smallest = min(range(len(self._free)), key=lambda place: self._free[place].size)
            del self._free[smallest]

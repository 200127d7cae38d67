"""All random generators a training draws from, as one tree that a checkpoint can hold."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


def capture() -> dict[str, Any]:
    """Return the state of Python's, numpy's and torch's global generators."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": {
            "kind": str(kind),
            "keys": np.asarray(keys),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore(state: Mapping[str, Any]) -> None:
    """Undo `capture`; generators of a GPU that is not there any more are left out."""
    random.setstate(state["python"])
    saved = state["numpy"]
    np.random.set_state(
        (saved["kind"], saved["keys"], saved["position"], saved["has_gauss"], saved["cached"])
    )
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        present = state["cuda"][: torch.cuda.device_count()]
        torch.cuda.set_rng_state_all([entry.cpu() for entry in present])


def _own_generators(loader: Any) -> Iterator[tuple[str, torch.Generator]]:
    """Yield the torch generators of a RecBole loader and of the loaders inside it."""
    for name in ("", "general_dataloader", "kg_dataloader"):
        part = getattr(loader, name, None) if name else loader
        generator = getattr(part, "generator", None)
        if isinstance(generator, torch.Generator):
            yield name or "loader", generator


def capture_loader(loader: Any) -> Any:
    """Return the state of a training loader: its own answer, or the generators found in it."""
    if hasattr(loader, "get_state"):
        return loader.get_state()
    state: dict[str, Any] = {
        name: generator.get_state() for name, generator in _own_generators(loader)
    }
    drawing = getattr(getattr(loader, "_sampler", None), "rng", None)
    if isinstance(drawing, np.random.Generator):
        state["negatives"] = drawing.bit_generator.state
    return state


def restore_loader(loader: Any, state: Any) -> None:
    """Undo `capture_loader`."""
    if hasattr(loader, "set_state"):
        loader.set_state(state)
        return
    for name, generator in _own_generators(loader):
        if name in state:
            generator.set_state(state[name].cpu())
    if "negatives" in state:
        loader._sampler.rng.bit_generator.state = state["negatives"]

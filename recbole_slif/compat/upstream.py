"""Faults of RecBole 1.2.1 itself that no library version cures."""

from __future__ import annotations

import ast
import copy
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from recbole_slif.errors import ConfigError


def read_literal(text: str) -> Any:
    """Return the Python literal in `text`.

    Raises:
        NameError: `text` is not a literal; RecBole then keeps the string as it is.
    """
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise NameError(f"'{text}' is not a literal") from error


def literals_only(module: ModuleType) -> None:
    """Shadow `eval` in a RecBole module that applies it to what users type."""
    module.eval = read_literal  # type: ignore[attr-defined]


class _PlainFiles:
    """Stands for a library in a module of RecBole's and reads files without unpickling."""

    def __init__(self, library: ModuleType, load: Callable[..., Any]) -> None:
        self._library, self.load = library, load

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)


def read_plain_files(module: ModuleType) -> None:
    """Let a model of RecBole's read matrices and weights, but no pickled objects."""
    import numpy as np
    import torch

    def load_array(path: Any, *args: Any, **options: Any) -> Any:
        return _plainly(path, lambda: np.load(path, allow_pickle=False))

    def load_weights(path: Any, *args: Any, **options: Any) -> Any:
        place = options.get("map_location")
        return _plainly(path, lambda: torch.load(path, map_location=place, weights_only=True))

    for name, library, load in (("np", np, load_array), ("torch", torch, load_weights)):
        if hasattr(module, name):
            setattr(module, name, _PlainFiles(library, load))


def _plainly(path: Any, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (OSError, ValueError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged or holds pickled objects"
        raise ConfigError(f"file '{path}' of this model was not opened: {reason}") from error


def name_teachers(module: ModuleType) -> None:
    """Let KD_DAGFM look its teacher up by name; it evaluates the text."""
    from torch import nn

    def teacher(text: str) -> Any:
        found = vars(module).get(text)
        if isinstance(found, type) and issubclass(found, nn.Module):
            return found
        raise ConfigError(f"teacher: '{text}' is no network of RecBole's KD_DAGFM")

    module.eval = teacher  # type: ignore[attr-defined]


def collect_anything(module: ModuleType) -> None:
    """Move tensors alone to the CPU: item counts and counters of the data have no `.cpu()`."""
    import torch

    per_run = ("rec.topk", "rec.meanrank", "rec.score", "rec.items", "data.label")

    def get_data_struct(self: Any) -> Any:
        held = self.data_struct._data_dict
        for key, value in held.items():
            if isinstance(value, torch.Tensor):
                held[key] = value.cpu()
        collected = copy.deepcopy(self.data_struct)
        for key in per_run:
            held.pop(key, None)
        return collected

    module.Collector.get_data_struct = get_data_struct


def count_every_pair(module: ModuleType) -> None:
    """Let Pop count each training pair once: neither drawn negatives nor one per batch."""
    import torch

    construct = module.Pop.__init__

    def __init__(self: Any, config: Any, dataset: Any) -> None:  # noqa: N807 - Pop's own
        construct(self, config, dataset)
        self.LABEL = config["LABEL_FIELD"]

    def calculate_loss(self: Any, interaction: Any) -> Any:
        items = interaction[self.ITEM_ID]
        if self.LABEL in interaction:
            items = items[interaction[self.LABEL] > 0]
        # adding at an index that repeats would count it once
        self.item_cnt.index_add_(0, items, torch.ones_like(items).unsqueeze(1))
        self.max_cnt = self.item_cnt.max(dim=0)[0]
        return torch.nn.Parameter(torch.zeros(1)).to(self.device)

    module.Pop.__init__ = __init__
    module.Pop.calculate_loss = calculate_loss


@contextmanager
def anomaly_unchanged(module: ModuleType) -> Iterator[None]:
    """Undo the process-wide anomaly detection that importing a module switches on."""
    import torch

    # A module that ran before we came has left the switch on already.
    before = torch.is_anomaly_enabled() and not hasattr(module, "SINE")
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(before)


def honour_use_gpu(module: ModuleType) -> None:
    """Let `use_gpu: False` choose the CPU, and leave the process's visible devices alone then."""
    choose = module.Config._init_device

    def _init_device(self: Any) -> None:
        settings = self.final_config_dict
        if settings.get("use_gpu", True):
            choose(self)
            return
        typed, visible = settings.get("gpu_id"), os.environ.get("CUDA_VISIBLE_DEVICES")
        settings["gpu_id"] = ""
        try:
            choose(self)
        finally:
            settings["gpu_id"] = str(typed)
            if visible is None:
                os.environ.pop("CUDA_VISIBLE_DEVICES", None)
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = visible

    module.Config._init_device = _init_device

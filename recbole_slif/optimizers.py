"""What is asked of optimizers, and Adam in one pass over memory."""

from __future__ import annotations

from typing import Any

import torch

from recbole_slif.errors import ConfigError

_FUSED_DTYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


def is_sparse(model: torch.nn.Module) -> bool:
    """Tell whether a table of the model has sparse gradients."""
    return any(getattr(module, "sparse", False) for module in model.modules())


def require_usable(config: Any, model: torch.nn.Module, scaled: bool) -> None:
    """Check that the model can be trained with the optimizer and the clipping that are asked for.

    Args:
        config: `learner` and `clip_grad_norm` are read.
        model: the model.
        scaled: the loss is scaled before its gradients are taken (`enable_scaler` on a GPU).

    Raises:
        ConfigError: it cannot.
    """
    if str(config["learner"]).lower() == "sparse_adam" and not is_sparse(model):
        raise ConfigError(
            f"learner: sparse_adam needs embeddings with sparse=True, and {type(model).__name__} "
            "has none; write adam"
        )
    if scaled and config["clip_grad_norm"]:
        raise ConfigError(
            "clip_grad_norm: RecBole clips gradients while enable_scaler has them scaled, by a "
            "factor of 65536 at first, so that nearly nothing is left; set one of the two"
        )


def fused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return a fused Adam in place of an Adam whose parameters allow it, else the optimizer."""
    group = optimizer.param_groups[0]
    fits = all(
        parameter.dtype in _FUSED_DTYPES and parameter.device.type in ("cpu", "cuda")
        for parameter in group["params"]
    )
    if type(optimizer) is not torch.optim.Adam or not fits:
        return optimizer
    options = {name: group[name] for name in ("lr", "weight_decay")}
    return torch.optim.Adam(group["params"], fused=True, **options)

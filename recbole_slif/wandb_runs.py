"""Weights & Biases: a run there for each run here, where RecBole would write all into the first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any


def is_open() -> bool:
    """Tell whether this process writes to a run already, such as that of a sweep's agent."""
    return getattr(sys.modules.get("wandb"), "run", None) is not None


def split_losses(logger: Any, name_of: Callable[[int], str]) -> None:
    """Log a loss of several parts as their sum and one curve for each; a tuple draws none.

    Args:
        logger: a trainer's, of RecBole's class.
        name_of: returns the name of the part at a place.
    """
    log = logger.log_metrics

    def log_parts(metrics: Mapping[str, Any], *rest: Any, **more: Any) -> None:
        parts = metrics.get("train_loss")
        if isinstance(parts, tuple):
            named = {f"loss_{name_of(at)}": part for at, part in enumerate(parts)}
            metrics = {**metrics, "train_loss": sum(parts), **named}
        log(metrics, *rest, **more)

    logger.log_metrics = log_parts


def finish(trainer: Any, title: str, succeeded: bool) -> None:
    """Name and close the run that a trainer has opened, if it has.

    Args:
        trainer: a trainer of RecBole's; its logger opens a run where `log_wandb` is set.
        title: the run's name there.
        succeeded: whether it counts as finished.
    """
    logger = getattr(trainer, "wandblogger", None)
    if getattr(logger, "log_wandb", False) and is_open():
        library = sys.modules["wandb"]
        library.run.name = title
        library.finish(exit_code=0 if succeeded else 1)

"""What RecBole's own models keep beside their parameters and change as they train.

RecBole saves none of it. The table was found by comparing the attributes of each of its models,
trained, with those of a fresh one that has taken the other's checkpoint; KGAT's from its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from recbole_slif.errors import CheckpointError

_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "DiffRec": ("Lt_history", "Lt_count"),
    "LDiffRec": ("update_count", "update_count_vae"),
    "LINE": ("random_list", "random_pr"),
    "MacridVAE": ("update",),
    "MultiVAE": ("update",),
    "NCL": ("user_centroids", "user_2cluster", "item_centroids", "item_2cluster"),
    "RaCT": ("update",),
    "KGAT": ("A_in",),
}


def _names(model: Any) -> list[str]:
    """Return the attributes of a model of RecBole's, or of one derived from it."""
    theirs = [each for each in type(model).__mro__ if each.__module__.startswith("recbole.model.")]
    return [name for each in theirs for name in _ATTRIBUTES.get(each.__name__, ())]


def capture(model: Any) -> dict[str, Any]:
    """Return the attributes, for a checkpoint that training goes on from."""
    return {name: getattr(model, name) for name in _names(model)}


def restore(model: Any, state: Mapping[str, Any], path: Any) -> None:
    """Undo `capture`.

    Raises:
        CheckpointError: the checkpoint at `path` lacks an attribute.
    """
    for name in _names(model):
        if name not in state:
            raise CheckpointError(
                f"checkpoint '{path}' does not hold '{name}' of {type(model).__name__}, which "
                "changes as it trains; start a new run"
            )
        value = state[name]
        setattr(model, name, value.to(model.device) if isinstance(value, Tensor) else value)

"""Negatives that RecBole's loader draws: whether it does, and models that must not get any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_slif.errors import ConfigError


def draws_negatives(settings: Any) -> bool:
    """Tell whether the loader draws negatives; `none` for distribution or number is no draw.

    Args:
        settings: a configuration with `train_neg_sample_args`.
    """
    wanted: Mapping[str, Any] = settings["train_neg_sample_args"] or {}
    drawn = wanted.get("distribution") not in (None, "None", "none")
    return drawn and wanted.get("sample_num") != "none"


def refuse_negatives(settings: Any, why: str) -> None:
    """Refuse the loader's negatives for a model that would take them for positives.

    Raises:
        ConfigError: they are asked for; the text says `why` they cannot be used.
    """
    if draws_negatives(settings):
        raise ConfigError(f"train_neg_sample_args: {why}; leave the key at null")

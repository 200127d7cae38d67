"""Limits of settings that several models share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recbole_slif.errors import ConfigError


def require_share(settings: Any, *keys: str) -> None:
    """Check that keys are shares below one.

    Raises:
        ConfigError: one lies outside [0, 1).
    """
    for key in keys:
        value = settings[key]
        if not 0.0 <= value < 1.0:
            raise ConfigError(f"{key} must be at least 0 and below 1, not {value}")


def require_layers(widths: Sequence[int]) -> None:
    """Check that the key `layers` names a width.

    Raises:
        ConfigError: it names none.
    """
    if not widths:
        raise ConfigError("layers must name the width of at least one layer")

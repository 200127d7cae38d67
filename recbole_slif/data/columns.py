"""Settings that name columns of the files: each must be one that was read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from recbole_slif.config_checks import COLUMN_MAPPINGS
from recbole_slif.data.protocol import option
from recbole_slif.errors import ConfigError

_LISTED = (
    "normalize_field",
    "numerical_features",
    "alias_of_user_id",
    "alias_of_item_id",
    "alias_of_entity_id",
    "alias_of_relation_id",
)


def check_columns(config: Any, columns: Collection[str]) -> None:
    """Check every setting that names columns, before RecBole stumbles over it or skips it.

    Args:
        config: the settings of a run.
        columns: names of the columns that were read.

    Raises:
        ConfigError: naming the key and the column.
    """
    for key, name in _named(config):
        if name not in columns:
            raise ConfigError(
                f"{key}: '{name}' is no column that was read; "
                f"there are {', '.join(columns)} (load_col reads more)"
            )


def _named(config: Any) -> Iterator[tuple[str, str]]:
    """Give key and column of all that the settings name."""
    for key in (*COLUMN_MAPPINGS, *_LISTED):
        given = option(config, key, None) or ()
        names = [given] if isinstance(given, str) else given
        yield from ((key, name) for name in names)
        if key == "preload_weight" and isinstance(given, Mapping):
            yield from ((key, name) for name in given.values())

"""Settings that name columns of the files: each must be one that was read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from recbole.utils import FeatureType

from recbole_slif.config_checks import COLUMN_MAPPINGS, check_interval
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


def check_columns(config: Any, columns: Mapping[str, FeatureType]) -> None:
    """Check every setting that names columns, before RecBole stumbles over it or skips it.

    Args:
        config: the settings of a run.
        columns: names and types of the columns that were read.

    Raises:
        ConfigError: naming the key and the column.
    """
    for key, name in _named(config):
        if name not in columns:
            raise ConfigError(
                f"{key}: '{name}' is no column that was read; "
                f"there are {', '.join(columns)} (load_col reads more)"
            )
    for name, kept in option(config, "val_interval", {}).items():
        _check_kept(f"val_interval: {name}", columns[name], kept)


def _check_kept(key: str, kind: FeatureType, kept: Any) -> None:
    """Check what a filter by values keeps: intervals of numbers, or a list of tokens."""
    if kind == FeatureType.FLOAT:
        check_interval(key, kept)
    elif kind != FeatureType.TOKEN:
        raise ConfigError(f"{key}: a column of sequences cannot be filtered; leave it out")
    elif not isinstance(kept, (list, tuple)) or not all(isinstance(each, str) for each in kept):
        raise ConfigError(f"{key}: list the tokens to keep, such as ['1', '2'], in place of {kept}")


def _named(config: Any) -> Iterator[tuple[str, str]]:
    """Give key and column of all that the settings name."""
    for key in (*COLUMN_MAPPINGS, *_LISTED):
        given = option(config, key, None) or ()
        names = [given] if isinstance(given, str) else given
        yield from ((key, name) for name in names)
        if key == "preload_weight" and isinstance(given, Mapping):
            yield from ((key, name) for name in given.values())


def column_hashes(dataset: Any) -> dict[str, str]:
    """Hash the columns that were read, but for triples and the ids of interactions.

    The ids are in the split's fingerprint and triples in a hash of the graph.

    Returns:
        File, such as `inter_feat`, and name of each column, parted by a blank -> its hash.
    """
    ids = (dataset.uid_field, dataset.iid_field)
    found = {}
    for file in dataset.feat_name_list:
        feat = getattr(dataset, file)
        for name in sorted(feat.interaction) if file != "kg_feat" else ():
            if file != "inter_feat" or name not in ids:
                found[f"{file} {name}"] = digest(feat[name].numpy())
    return found


def digest(*arrays: np.ndarray) -> str:
    """Hash arrays with their shapes; 16 hexadecimal digits."""
    found = hashlib.blake2b(digest_size=8)
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()

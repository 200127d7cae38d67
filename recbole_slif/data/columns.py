"""Settings that name columns of the files: each must be one that was read."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from recbole.utils import FeatureType

from recbole_slif.config_checks import COLUMN_MAPPINGS, check_interval, is_count, modes_of
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
_ALIASES = {
    "user_id": ("USER_ID_FIELD",),
    "item_id": ("ITEM_ID_FIELD",),
    "entity_id": ("HEAD_ENTITY_ID_FIELD", "TAIL_ENTITY_ID_FIELD"),
    "relation_id": ("RELATION_ID_FIELD",),
}
_NUMBERS = (FeatureType.FLOAT, FeatureType.FLOAT_SEQ)
_SEQUENCES = (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ)

Kinds = Mapping[str, FeatureType]
Files = Mapping[str, Collection[str]]


def check_columns(config: Any, columns: Kinds, files: Files) -> None:
    """Check every setting that names columns, before RecBole stumbles over it or skips it.

    Args:
        config: the settings of a run.
        columns: names and types of the columns that were read.
        files: suffix of each file that was read, such as `inter`, to its columns.

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
    _check_aliases(config, columns, files)
    _check_numbers(config, columns, files)
    for name in option(config, "seq_len", {}):
        if columns[name] not in _SEQUENCES:
            raise ConfigError(f"seq_len: '{name}' is no column of sequences; leave it out")
    _check_weights(config, columns, files)
    _check_unused(config, files)
    _check_labels(config, columns, files)


def check_times(config: Any, columns: Collection[str]) -> None:
    """Check that order TO finds the times as they were read.

    Args:
        config: the settings of a run.
        columns: of the interactions.

    Raises:
        ConfigError: they are not there, or another setting replaces them.
    """
    name = config["TIME_FIELD"]
    for key in ("threshold", "discretization"):
        if name in option(config, key, {}):
            raise ConfigError(f"{key}: it replaces '{name}', by which order TO of eval_args sorts")
    if name not in columns:
        raise ConfigError(
            f"eval_args: order TO needs the column '{name}' of the interactions; "
            "read it with load_col, or set TIME_FIELD to its name"
        )


def _check_aliases(config: Any, columns: Kinds, files: Files) -> None:
    """Check that a column has ids of one kind, and that those of additional files have some."""
    kinds = {config[key]: kind for kind, keys in _ALIASES.items() for key in keys}
    for kind in _ALIASES:
        for name in option(config, f"alias_of_{kind}", ()):
            if columns[name] in _NUMBERS:
                raise ConfigError(f"alias_of_{kind}: '{name}' holds numbers, which have no ids")
            if kinds.setdefault(name, kind) != kind:
                raise ConfigError(
                    f"alias_of_{kind}: '{name}' has the ids of {kinds[name]} already; "
                    "leave it out of one"
                )
    for suffix in option(config, "additional_feat_suffix", ()):
        for name in files.get(suffix, ()):
            if columns[name] not in _NUMBERS and name not in kinds:
                raise ConfigError(
                    f"additional_feat_suffix: the tokens of '{name}' in .{suffix} have no ids; "
                    "name it in alias_of_item_id or another alias, or leave it out of load_col"
                )


def _check_numbers(config: Any, columns: Kinds, files: Files) -> None:
    """Check what is done with numbers: normalization, buckets, labels by a threshold."""
    for key in ("normalize_field", "numerical_features"):
        for name in option(config, key, ()):
            if columns[name] not in _NUMBERS:
                raise ConfigError(f"{key}: '{name}' is a column of tokens; leave it out")
    for name, how in option(config, "discretization", {}).items():
        if name not in option(config, "numerical_features", ()):
            raise ConfigError(f"discretization: name '{name}' in numerical_features as well")
        parts = how if isinstance(how, Mapping) else {}
        method, bucket = parts.get("method"), parts.get("bucket")
        if method != "LD" and (method != "ED" or not is_count(bucket)):
            raise ConfigError(
                f"discretization: {name}: write {{method: ED, bucket: 5}} or {{method: LD}}, "
                f"not {how}"
            )
    limits = option(config, "threshold", {})
    for name, least in limits.items():
        fits = name in files["inter"] and columns[name] == FeatureType.FLOAT
        if len(limits) > 1 or not fits or not isinstance(least, (int, float)):
            raise ConfigError(
                f"threshold: name one column of numbers of the interactions and the least number "
                f"of a positive, such as {{rating: 3}}, not {dict(limits)}"
            )


def _check_weights(config: Any, columns: Kinds, files: Files) -> None:
    """Check that weights loaded before training stand beside ids, in one file."""
    for ids, weights in option(config, "preload_weight", {}).items():
        together = any(ids in names and weights in names for names in files.values())
        if not together or columns[ids] != FeatureType.TOKEN or columns[weights] not in _NUMBERS:
            raise ConfigError(
                f"preload_weight: {ids}: name a column of tokens and one of numbers beside it in "
                f"the same file, not '{weights}'"
            )


def _check_unused(config: Any, files: Files) -> None:
    fields = {config[key] for keys in _ALIASES.values() for key in keys}
    for suffix, names in option(config, "unused_col", {}).items():
        for name in names:
            if name not in files.get(suffix, ()):
                raise ConfigError(f"unused_col: no column '{name}' of .{suffix} was read")
            if name in fields:
                raise ConfigError(f"unused_col: '{name}' holds ids, which every model uses")


def _check_labels(config: Any, columns: Kinds, files: Files) -> None:
    """Check that labelled evaluation finds labels."""
    name, labelled = config["LABEL_FIELD"], "labeled" in modes_of(option(config, "eval_args", {}))
    there = name in files["inter"] and columns[name] == FeatureType.FLOAT
    if labelled and not there and not option(config, "threshold", {}):
        raise ConfigError(
            f"eval_args: mode labeled needs the column {name}:float of the interactions; read it "
            "with load_col, or make it of another with threshold"
        )


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

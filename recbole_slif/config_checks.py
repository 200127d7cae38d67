"""Checks of settings whose values have parts: metrics, split, negatives, intervals."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from recbole.evaluator import metric_types, smaller_metrics
from recbole.evaluator.register import metric_information
from recbole.utils import EvaluatorType

from recbole_slif.config_keys import nearest
from recbole_slif.config_yaml import split_names
from recbole_slif.errors import ConfigError
from recbole_slif.negatives import draws_negatives

_LISTED = {"rec.topk", "rec.items"}
_EVAL_KEYS = ("split", "group_by", "order", "mode")
_NEGATIVE_KEYS = ("distribution", "sample_num", "alpha", "dynamic", "candidate_num")
_HELD_OUT = ("valid_and_test", "valid_only", "test_only")
_MODE = re.compile(r"^(?:full|labeled|(?:uni|pop)[1-9][0-9]*)$")
_INTERVAL = re.compile(r"[\[(]([^,]*),([^,]*)[\])]")
COLUMN_MAPPINGS = ("val_interval", "threshold", "discretization", "seq_len", "preload_weight")
"""Mappings whose keys are names of columns."""
_DISTINCT = (
    ("USER_ID_FIELD", "ITEM_ID_FIELD"),
    ("ITEM_ID_FIELD", "ENTITY_ID_FIELD"),
    ("HEAD_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "TAIL_ENTITY_ID_FIELD"),
)
_READ_ANYWAY = ("inter", "user", "item", "kg", "link")
_PICKLES = ("save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path")
_INTERVALS = (
    "user_inter_num_interval",
    "item_inter_num_interval",
    "entity_kg_num_interval",
    "relation_kg_num_interval",
)


def check_settings(settings: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    """Check the values that RecBole would misread or stumble over much later.

    Args:
        settings: all keys.
        sources: where each was given.

    Raises:
        ConfigError: naming the key, the part that is wrong and what it may be.
    """
    check_mappings(settings)
    check_metrics(settings["metrics"], settings["valid_metric"], settings["topk"])
    check_eval_args(settings["eval_args"])
    if sources["valid_metric_bigger"] != "RecBole":
        check_direction(settings["valid_metric"], settings["valid_metric_bigger"])
    if settings.get("repeatable") and sources["repeatable"] != "RecBole":
        raise ConfigError(
            "repeatable: items of a user's earlier splits are never ranked here; leave it out."
        )
    if settings["train_neg_sample_args"] is not None:
        check_negatives(settings["train_neg_sample_args"])
    modes = sorted(set(modes_of(settings["eval_args"])))
    for phase_mode in modes:
        check_kind(settings["metrics"], phase_mode)
    check_effect(settings, modes)
    check_files(settings)
    check_fields(settings)
    for key in _INTERVALS:
        if settings.get(key) is not None:
            check_interval(key, settings[key])
    for field, kept in (settings.get("val_interval") or {}).items():
        if not isinstance(kept, (list, tuple)):  # a list is of tokens, see `data/columns.py`
            check_interval(f"val_interval: {field}", kept, " or, of tokens, list those to keep")


def check_mappings(settings: Mapping[str, Any]) -> None:
    """Check that what RecBole reads as a mapping is one.

    Raises:
        ConfigError: naming the key.
    """
    for key in (*COLUMN_MAPPINGS, "unload_col", "unused_col"):
        value = settings.get(key)
        if value and not isinstance(value, Mapping):
            raise ConfigError(f"{key} must be a mapping such as {{name: ...}}, not {value}.")


def check_fields(settings: Mapping[str, Any]) -> None:
    """Check names of columns against one another, and what is done with columns.

    Raises:
        ConfigError: naming the keys.
    """
    for keys in _DISTINCT:
        names = [settings[key] for key in keys]
        if len(set(names)) < len(names):
            raise ConfigError(f"{', '.join(keys)}: each needs a column of its own, not {names}.")
    if settings.get("rm_dup_inter") not in (None, "first", "last"):
        raise ConfigError(f"rm_dup_inter is first or last, not '{settings['rm_dup_inter']}'.")
    if settings.get("normalize_field") and settings.get("normalize_all"):
        raise ConfigError("normalize_field: normalize_all takes all columns; leave one out.")
    for name, length in (settings.get("seq_len") or {}).items():
        if not is_count(length):
            raise ConfigError(f"seq_len: {name}: a whole number from 1 on, not {length}.")


def is_count(number: Any) -> bool:
    """Tell whether it is a whole number from 1 on."""
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1


def check_effect(settings: Mapping[str, Any], modes: Sequence[str]) -> None:
    """Refuse settings that would do nothing: unread labels, transformations, pickles of data.

    Args:
        settings: all keys.
        modes: ways of evaluation.

    Raises:
        ConfigError: naming `threshold`, `transform` or a key that has RecBole pickle its data.
    """
    for key in _PICKLES:
        if settings.get(key):
            raise ConfigError(
                f"{key}: data are kept by data_cache, and no pickle of them is written or read; "
                "leave it out."
            )
    drawn = draws_negatives(settings)
    if settings.get("threshold") and drawn and "labeled" not in modes:
        column, least = next(iter(settings["threshold"].items()))
        raise ConfigError(
            "threshold: its labels serve eval_args mode labeled, or training without drawn "
            f"negatives; to keep some interactions only, write val_interval {{{column}: "
            f"'[{least},inf)'}}."
        )
    if settings.get("transform") is not None:
        raise ConfigError("transform: it acts on sequences, which no model reads here; leave null.")


def check_names(model: Any, dataset: Any, given: Sequence[tuple[str, str, Any]]) -> None:
    """Refuse a second name, and a model `module:Class` that configuration files alone have named.

    Args:
        model: the model's name or class.
        dataset: the data set's name.
        given: key, source and value of all that was given.

    Raises:
        ConfigError: two are named, or importing one would run code on the word of a file.
    """
    chosen = {"model": model, "dataset": dataset}
    for key, source, value in given:
        if key in chosen and value != chosen[key] and not source.startswith("file "):
            raise ConfigError(f"{source}: {key} '{value}' stands beside '{chosen[key]}'; name one.")
    sources = [source for key, source, value in given if (key, value) == ("model", model)]
    if ":" in str(model) and sources and all(source.startswith("file ") for source in sources):
        raise ConfigError(f"model '{model}' is code that a file names; name it with --model.")


def check_metrics(metrics: Any, valid_metric: str, topk: Any) -> None:
    """Check that the metrics exist and that the validation metric is among them.

    Raises:
        ConfigError: naming `metrics`, `valid_metric` or `topk`.
    """
    metrics = [metrics] if isinstance(metrics, str) else metrics
    ranks = topk if isinstance(topk, (list, tuple)) else [topk]
    if not ranks:
        raise ConfigError("topk: no length of lists is given; write one, such as [20].")
    for name in metrics:
        if str(name).lower() not in metric_types:
            near = nearest(str(name), metric_types)
            if "," in str(name):
                near = f"; write a list as [{', '.join(split_names(str(name)))}]."
            raise ConfigError(f"metrics: '{name}' is not a metric of RecBole{near or '.'}")
    name, at, length = valid_metric.partition("@")
    if name.lower() not in {str(metric).lower() for metric in metrics}:
        raise ConfigError(f"valid_metric: {name} is not among metrics {list(metrics)}; add it.")
    if not _LISTED.intersection(metric_information[name.lower()]):
        if at:
            raise ConfigError(f"valid_metric: {name} has no list length; write {name}.")
    elif length not in {str(rank) for rank in ranks}:
        fault = f"{length} is not among topk {list(ranks)}; add it, or"
        fault = fault if at else f"{name} needs the length of the list;"
        raise ConfigError(f"valid_metric: {fault} write {name}@{ranks[-1]}.")


def check_direction(valid_metric: str, bigger: bool) -> None:
    """Check that a direction which was given is the metric's; RecBole puts its own in silently.

    Raises:
        ConfigError: naming `valid_metric_bigger`.
    """
    name = valid_metric.partition("@")[0]
    if bigger == (name.lower() in smaller_metrics):
        better = "smaller" if bigger else "larger"
        raise ConfigError(
            f"valid_metric_bigger: {name} is the better the {better} it is, which is known without "
            "the key; leave it out."
        )


def check_kind(metrics: Any, mode: str) -> None:
    """Check that metrics of ranked lists and of labelled pairs go with the way of evaluation.

    Raises:
        ConfigError: naming the metric.
    """
    labelled = mode == "labeled"
    for name in [metrics] if isinstance(metrics, str) else metrics:
        if (metric_types[str(name).lower()] == EvaluatorType.VALUE) == labelled:
            continue
        if labelled:
            kinds = metric_types.items()
            values = sorted(metric for metric, kind in kinds if kind == EvaluatorType.VALUE)
            raise ConfigError(
                f"eval_args: mode labeled goes with the metrics {', '.join(values)}, not {name}."
            )
        raise ConfigError(
            f"metrics: {name} is of labelled pairs, not of ranked lists; leave it out, or write "
            f"eval_args mode labeled in place of {mode}."
        )


def check_files(settings: Mapping[str, Any]) -> None:
    """Check which files and columns are asked for, and what parts their cells.

    Raises:
        ConfigError: `unload_col` meets `load_col`, a file would be read twice, or a separator is
            none.
    """
    separator = settings.get("field_separator")
    if separator is not None and not _parts_cells(separator):
        raise ConfigError(
            f"field_separator must be one character, such as a tab or a comma, not {separator!r}."
        )
    if settings.get("seq_separator") == "":
        raise ConfigError("seq_separator must be at least one character; leave it out for a blank.")
    known = (*_READ_ANYWAY, *map(str, settings.get("additional_feat_suffix") or ()))
    for key in ("load_col", "unload_col", "unused_col"):
        for suffix in settings.get(key) or {}:
            if suffix not in known:
                near = nearest(str(suffix), known)
                raise ConfigError(
                    f"{key}: no file .{suffix} is read{near}; additional_feat_suffix names others."
                )
    for suffix in settings.get("unload_col") or {}:
        names = settings["load_col"].get(suffix)
        if names and names != "*":
            raise ConfigError(
                f"unload_col: load_col reads {', '.join(names)} of .{suffix} already, so leave "
                f"columns out there, or write '*' for .{suffix} in load_col."
            )
    for suffix in settings.get("additional_feat_suffix") or ():
        if suffix in _READ_ANYWAY:
            raise ConfigError(f"additional_feat_suffix: .{suffix} is read anyway; leave it out.")


def _parts_cells(separator: Any) -> bool:
    """Tell whether text can be parted by it: one character of ASCII that ends no line or name."""
    one = isinstance(separator, str) and len(separator) == 1 and separator.isascii()
    return one and separator not in "\r\n\0:"


def _check_parts(key: str, value: Any, known: Sequence[str]) -> None:
    for part in value:
        if part not in known:
            near = nearest(str(part), known)
            raise ConfigError(f"{key}: '{part}' is none of {', '.join(known)}{near or '.'}")


def check_eval_args(eval_args: Mapping[str, Any]) -> None:
    """Check `split`, `group_by`, `order` and `mode`.

    Raises:
        ConfigError: a part is not known or has a value that it cannot have.
    """
    _check_parts("eval_args", eval_args, _EVAL_KEYS)
    if "split" in eval_args:
        _check_split(eval_args["split"])
    group = eval_args.get("group_by")
    if group != "user" and str(group).lower() != "none":  # as RecBole reads it
        raise ConfigError(f"eval_args: group_by is user or none, not '{group}'.")
    if eval_args.get("order", "RO") not in ("RO", "TO"):
        raise ConfigError(f"eval_args: order is RO or TO, not '{eval_args['order']}'.")
    for phase_mode in modes_of(eval_args):
        if not _MODE.match(str(phase_mode)):
            raise ConfigError(
                f"eval_args: mode is full, uniN, popN (N negatives) or labeled, not '{phase_mode}'."
            )


def modes_of(eval_args: Mapping[str, Any]) -> list[Any]:
    """Return the ways of evaluation, such as `full`: one, or that of each phase."""
    mode = eval_args.get("mode", "full")
    return list(mode.values()) if isinstance(mode, Mapping) else [mode]


def _check_split(split: Any) -> None:
    if not isinstance(split, Mapping) or len(split) != 1 or not {"RS", "LS"} & set(split):
        raise ConfigError(
            f"eval_args: split is {{RS: [0.8, 0.1, 0.1]}} or {{LS: valid_and_test}}, not {split}."
        )
    shares, held_out = split.get("RS"), split.get("LS")
    if "LS" in split and held_out not in _HELD_OUT:
        raise ConfigError(f"eval_args: LS is one of {', '.join(_HELD_OUT)}, not '{held_out}'.")
    if "RS" in split and not _are_shares(shares):
        raise ConfigError(
            f"eval_args: RS is a list of three shares for train, valid, test, not {shares}."
        )


def _are_shares(shares: Any) -> bool:
    if not isinstance(shares, list) or len(shares) != 3:
        return False
    numbers = [
        share for share in shares if isinstance(share, (int, float)) and 0 <= share < math.inf
    ]
    return len(numbers) == 3 and shares[0] > 0


def check_negatives(wanted: Mapping[str, Any]) -> None:
    """Check the parts of `train_neg_sample_args`.

    Raises:
        ConfigError: a part is not known or has a value that it cannot have.
    """
    key = "train_neg_sample_args"
    _check_parts(key, wanted, _NEGATIVE_KEYS)
    distribution = wanted.get("distribution")
    if distribution not in ("uniform", "popularity", "none", "None", None):
        raise ConfigError(f"{key}: distribution is uniform or popularity, not '{distribution}'.")
    number = wanted.get("sample_num", 1)
    if number != "none" and not is_count(number):
        raise ConfigError(f"{key}: sample_num must be a whole number from 1 on, not {number}.")
    alpha = wanted.get("alpha", 1.0)
    if not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise ConfigError(f"{key}: alpha must be a number, not {alpha}.")
    candidates = wanted.get("candidate_num") or 0
    if not isinstance(candidates, int) or candidates < 0:
        raise ConfigError(f"{key}: candidate_num must be a whole number, not {candidates}.")
    if wanted.get("dynamic") and not candidates:
        raise ConfigError(f"{key}: dynamic negatives need a candidate_num of 1 or more.")


def check_interval(key: str, text: Any, otherwise: str = "") -> None:
    """Check intervals such as `[5,inf)` or `[1,3];[7,9]`, which RecBole skips when it cannot read.

    Args:
        key: named in the message.
        text: the intervals.
        otherwise: what else may be written.

    Raises:
        ConfigError: naming the key.
    """
    for part in str(text).split(";"):
        found = _INTERVAL.fullmatch(part.strip())
        try:
            holds = found is not None and float(found[1]) <= float(found[2])
        except ValueError:
            holds = False
        if not holds:
            raise ConfigError(
                f"{key}: '{part}' is no interval; write it like '[5,inf)'{otherwise}."
            )

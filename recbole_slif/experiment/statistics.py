"""Table I: what data sets hold, counted on the data as every model sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbole_slif.config import SlifConfig
from recbole_slif.data.loaders import read_data
from recbole_slif.records import commit, versions


def count(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts of one data set; items without link are no entities here.

    Args:
        found: its `statistics`.
    """
    others = found["entities"] - found["items"]
    names = ("dataset", "protocol", "users", "items", "interactions", "density")
    return {
        **{name: found[name] for name in names},
        "split": found["split"],
        "entities": others + found["linked_items"],
        "entities_without_items": others,
        "relations": found["relations"],
        "triples": found["triples"],
        "linked_items": found["linked_items"],
        "features": {name: part["items"] for name, part in found["features"].items()},
        "fingerprint": found["fingerprint"],
        "versions": versions(),
        "commit": commit(),
    }


def collect(
    datasets: Sequence[str],
    files: Sequence[str],
    settings: Mapping[str, Any],
    words: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Read data sets and count what they hold.

    Args:
        datasets: their names.
        files: YAML files.
        settings: keys that win over the files.
        words: key -> text of the command line, which wins over all.

    Raises:
        ConfigError: a key or value is not usable.
        DataError: a data set is not usable.
    """
    argv = [f"--{key}={text}" for key, text in words.items()]
    # which model asks does not matter: all see the same data
    configs = [SlifConfig("BPR", name, files, settings, argv) for name in datasets]
    return [count(read_data(config).statistics) for config in configs]

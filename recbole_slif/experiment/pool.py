"""Data that is read once and shared by all runs of a process that read the same."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from recbole.utils import init_seed

from recbole_slif.data.cache_key import reading_keys
from recbole_slif.data.loaders import DataBundle, SplitData, make_loaders, read_data
from recbole_slif.experiment.noise import Noise, add_noise
from recbole_slif.records import plain


def reading(config: Any) -> str:
    """Return the settings of a configuration that decide what is read, as one text."""
    settings = {key: plain(config[key]) for key in reading_keys() if key in config}
    for key in ("data_path", "feature_path"):
        settings[key] = str(config[key])  # whole: `plain` shortens paths
    if settings["split_seed"] is None:
        settings["split_seed"] = config["seed"]
    return json.dumps(settings, sort_keys=True)


def digest(data: SplitData) -> str:
    """Hash all that models learn from: split, triples and features."""
    text = hashlib.sha256(data.dataset.fingerprint().encode())
    graph = data.dataset.knowledge
    arrays = [graph.heads, graph.relations, graph.tails, graph.linked]
    for name, part in sorted(data.dataset.features.items()):
        text.update(name.encode())
        arrays += [part.matrix, part.presence]
    text.update(f"{graph.n_entities} {graph.n_relations}".encode())
    for array in arrays:
        text.update(np.ascontiguousarray(array).tobytes())
    return text.hexdigest()[:16]


def offers(statistics: Mapping[str, Any]) -> set[str]:
    """Return which of `features` and `knowledge` a data set has."""
    present = {"features": statistics["features"], "knowledge": statistics["linked_items"]}
    return {name for name, there in present.items() if there}


class DataPool:
    """Keeps the last data sets that were read.

    Only arrays are shared: loaders, samplers and their generators are made anew for each run, so
    a run is the same whether others came before it or not.
    """

    def __init__(self, capacity: int = 2) -> None:
        """Remember how many data sets, with and without noise, to keep."""
        self.capacity = capacity
        self._kept: OrderedDict[tuple[str, ...], SplitData] = OrderedDict()

    def data(self, config: Any, noise: Noise | None = None) -> SplitData:
        """Return the data of a configuration, read now or earlier; noise is drawn by its `seed`."""
        key: tuple[str, ...] = (reading(config),)
        if noise is not None and noise.level > 0:
            key = (*key, str(noise), str(config["seed"]))
        if key not in self._kept:
            if len(key) == 1:
                split_seed = config["split_seed"]
                seed = config["seed"] if split_seed is None else split_seed
                init_seed(seed, config["reproducibility"])
                self._kept[key] = read_data(config)
            else:
                clean = self.data(config)
                assert noise is not None  # noqa: S101 - only noise makes the key longer
                self._kept[key] = add_noise(clean, noise, int(config["seed"]))
        self._kept.move_to_end(key)
        while len(self._kept) > self.capacity:
            self._kept.popitem(last=False)
        return self._kept[key]

    def bundle(self, config: Any, noise: Noise | None = None) -> DataBundle:
        """Return data and fresh loaders for one run."""
        return make_loaders(config, self.data(config, noise))

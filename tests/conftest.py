"""Fixtures shared by all tests: tiny data sets and settings that point at them."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from recbole_slif.config import SlifConfig
from tests.toy import write_toy

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # the processes that tests start round as this one does

# Data sets read by the tests, and by the commands they start, are cached in a folder of theirs.
os.environ["RECBOLE_SLIF_CACHE"] = tempfile.mkdtemp(prefix="recbole_slif_cache_")
atexit.register(shutil.rmtree, os.environ["RECBOLE_SLIF_CACHE"], ignore_errors=True)


@pytest.fixture
def make_dataset(tmp_path):
    """Write a tiny data set below `tmp_path`; returns the folder of its files."""

    def make(**options) -> Path:
        folder = write_toy(tmp_path, **options)
        return folder / options.get("name", "toy")

    return make


@pytest.fixture
def make_config(tmp_path):
    """Settings for a model on the data set below `tmp_path`, on the CPU and without a log."""

    def make(model: str = "BPR", dataset: str = "toy", **overrides) -> SlifConfig:
        settings = {"data_path": str(tmp_path), "use_gpu": False, "seed": 7, **overrides}
        return SlifConfig(model, dataset, None, settings)

    return make

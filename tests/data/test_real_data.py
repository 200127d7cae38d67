"""Counts on real data; RECBOLE_SLIF_DATA names the folder that holds the data sets."""

import os
from pathlib import Path

import pytest

from recbole_slif.config import SlifConfig
from recbole_slif.data.loaders import prepare_data

FOLDER = os.environ.get("RECBOLE_SLIF_DATA", "")

EXPECTED = {
    "amazon-book": (70679, 24915, 652514, 193920, 0, 0),
    "alibaba-ifashion": (114737, 30040, 1380510, 400583, 279155, 51),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_public_data_sets_have_their_counts(name):
    if not FOLDER or not (Path(FOLDER) / name).is_dir():
        pytest.skip("RECBOLE_SLIF_DATA does not name a folder that holds this data set")
    bundle = prepare_data(SlifConfig("BPR", name, None, {"data_path": FOLDER, "use_gpu": False}))
    users, items, train, test, triples, relations = EXPECTED[name]
    stats = bundle.statistics
    assert (stats["users"], stats["items"]) == (users, items)
    assert stats["split"][0] + stats["split"][1] == train and stats["split"][2] == test
    assert (stats["triples"], stats["relations"]) == (triples, relations)
    assert stats["protocol"] == "benchmark" and not stats["notes"]


def test_posters_of_ml_100k_join_the_embedded_files():
    if not (Path(FOLDER) / "ml-100k" / "ml-100k.visual.npy").is_file():
        pytest.skip("RECBOLE_SLIF_DATA does not name a folder with ml-100k.visual.npy")
    config = SlifConfig("BPR", "ml-100k", None, {"data_path": FOLDER, "use_gpu": False})
    stats = prepare_data(config).statistics
    assert stats["features"] == {
        "text": {"dim": 384, "items": 1682},
        "visual": {"dim": 1280, "items": 1663},
    }
    assert stats["interactions"] == 100000

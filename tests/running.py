"""Settings of the small runs that the runtime tests make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_slif import factory
from recbole_slif.config import SlifConfig
from tests.toy import write_toy


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """Write the toy data below `folder` once; return settings of a run of seconds.

    A change to `...` leaves the key out.
    """
    data = folder / "data"
    if not data.exists():
        write_toy(data, n_users=20, n_items=18)
    chosen = {
        "data_path": str(data),
        "checkpoint_dir": str(folder / "saved"),
        "gpu_id": "",
        "epochs": 2,
        "train_batch_size": 32,
        "embedding_size": 8,
        "topk": [3, 5],
        "valid_metric": "Recall@5",
        "show_progress": False,
        "use_tuned": False,
    }
    chosen.update(changes)
    return {key: value for key, value in chosen.items() if value is not ...}


def build(folder: Path, model: Any = "BPR", **changes: Any) -> tuple[Any, Any, Any]:
    """Return configuration, model and data of a small run."""
    config = SlifConfig(model, "toy", overrides=settings(folder, **changes))
    bundle = factory.load_data(config)
    return config, factory.build_model(config, bundle), bundle

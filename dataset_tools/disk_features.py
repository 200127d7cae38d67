"""Features of a data set, left in their files: which row is whose, and which items have one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.data.features import choose_modalities, find_rows
from recbole_slif.data.locate import feature_files, feature_folders
from recbole_slif.data.protocol import option
from recbole_slif.data.validate import open_matrix

from .progress import bar

_PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class DiskFeatures:
    """One modality.

    Attributes:
        path: The `.npy` file.
        rows: `[n_items]` row of each item, -1 for none.
        observed: `[n_items]` bool, whether that row holds features.
    """

    path: Path
    rows: np.ndarray
    observed: np.ndarray

    @property
    def dim(self) -> int:
        """Numbers of a row."""
        return int(open_matrix(self.path).shape[1])

    @property
    def dtype(self) -> np.dtype:
        """Number type of the file."""
        return open_matrix(self.path).dtype

    def pieces(self, items: np.ndarray, what: str) -> Iterator[np.ndarray]:
        """Yield the features of items as `[m, dim]` float32, some rows at a time.

        Args:
            items: `[n]` ids.
            what: What is done with them, for the bar.
        """
        matrix = open_matrix(self.path)
        size = max(_PIECE_BYTES // (4 * self.dim), 1)
        with bar(4 * self.dim * len(items), what) as shown:
            for start in range(0, len(items), size):
                found = matrix[self.rows[items[start : start + size]]].astype(np.float32)
                yield found
                shown.update(found.nbytes)


def read_features(config: Any, items: np.ndarray, notes: Counter[str]) -> dict[str, DiskFeatures]:
    """Check the feature files of a data set.

    Args:
        config: Keys `data_path`, `dataset`, `feature_path`, `modalities` and `missing`.
        items: `[n_items]` tokens, [PAD] first.
        notes: Receives counts of what is put right, by file.

    Raises:
        DataError: A file is malformed or has no item of this data set.
        ConfigError: A key has a value that cannot be used.
    """
    name, folder = config["dataset"], config["data_path"]
    extra = option(config, "feature_path", None)
    found = feature_files(feature_folders(folder, name), name, extra)
    wanted, missing = option(config, "modalities", None), option(config, "missing", "mask")
    features = {}
    for modality, path in choose_modalities(found, wanted, name, Path(folder)).items():
        put_right: Counter[str] = Counter()
        rows, observed = shown_rows(path, items, missing, put_right)[1:]
        features[modality] = DiskFeatures(path, rows, observed)
        notes.update({f"{path.name}: {note}": count for note, count in put_right.items()})
    return features


def shown_rows(
    path: Path, items: np.ndarray, missing: str, notes: Counter[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `find_rows` does, with a bar of bytes."""
    with bar(open_matrix(path).nbytes, path.name) as shown:
        return find_rows(path, items, missing, notes, shown.update)

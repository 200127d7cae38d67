"""Sorting and counting by integer keys."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def group_by_key(keys: np.ndarray, n_keys: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort positions by an integer key, stably, in time linear in their number.

    Args:
        keys: `[n]` int32 in `0 .. n_keys - 1`.
        n_keys: Number of possible keys.

    Returns:
        `order` `[n]` int32 with `keys[order]` ascending, and `offsets` `[n_keys + 1]` int32 where
        each key's run begins.
    """
    count = len(keys)
    # One entry a row: turning rows into columns is a counting sort in compiled code.
    one_per_row = sp.csr_array(
        (np.empty(count, dtype=np.int8), keys, np.arange(count + 1, dtype=np.int32)),
        shape=(count, n_keys),
    )
    grouped = one_per_row.tocsc()
    return grouped.indices.astype(np.int32, copy=False), grouped.indptr.astype(np.int32, copy=False)


def count_distinct(
    relations: np.ndarray, nodes: np.ndarray, n_entities: int, n_relations: int
) -> np.ndarray:
    """Count the distinct nodes of each relation, `[n_relations]`.

    Args:
        relations: `[n_edges]` ids below `n_relations`.
        nodes: `[n_edges]` ids below `n_entities`, int64 as the products with them need it.
        n_entities: Number of node ids.
        n_relations: Number of relation ids.
    """
    keys = np.unique(relations * n_entities + nodes)
    return np.bincount(keys // max(n_entities, 1), minlength=n_relations)

"""The user-item graph with its degree normalisation, with or without item-item edges in it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike

from recbole_slif.errors import ConfigError
from recbole_slif.graph.item_item import normalise_by_degree
from recbole_slif.graph.sparse import SparseOperator

Norm = Literal["joint", "block"]


def bipartite_matrix(
    users: ArrayLike,
    items: ArrayLike,
    n_users: int,
    n_items: int,
    item_graph: sp.csr_array | None = None,
    norm: Norm = "joint",
    graph_weight: float = 1.0,
    self_loop: bool = False,
) -> sp.csr_array:
    """Normalised adjacency of users and items, Eq. (1), enhanced as Eq. 18's first row says.

    | symbol | here |
    |---|---|
    | R | one entry per distinct pair of `users` and `items` |
    | G^n | `graph_weight * item_graph`, in the lower right block |

    `joint` normalises the whole matrix `D^-1/2 A D^-1/2`: an item's degree is its number of users
    plus its row sum of G, a user's its number of items. `block` normalises the interactions alone
    and adds G untouched, so its outputs may grow with depth. G may be directed: degrees are row
    sums on both sides. Nodes of degree zero keep empty rows.

    Args:
        users: User ids `[n_pairs]`; pairs given more than once count once.
        items: Item ids `[n_pairs]`.
        n_users: Users come first: nodes 0 .. n_users-1.
        n_items: Items follow: nodes n_users .. n_users+n_items-1.
        item_graph: `[n_items, n_items]`, or None for the plain graph.
        norm: As above.
        graph_weight: Scale of `item_graph` before any normalisation.
        self_loop: Add the identity before normalising.

    Returns:
        `[n_users + n_items, n_users + n_items]`, float64.

    Raises:
        ConfigError: `norm` is not known.
        ValueError: an id or the graph's shape does not fit the numbers of users and items.
    """
    if norm not in ("joint", "block"):
        raise ConfigError(f"normalisation '{norm}' is not known: use joint or block")
    if item_graph is not None and item_graph.shape != (n_items, n_items):
        raise ValueError(f"the item graph is {item_graph.shape}, not {(n_items, n_items)}")
    correlation = None if item_graph is None else graph_weight * sp.csr_array(item_graph)
    inside = correlation if norm == "joint" else None
    adjacency = _adjacency(_interactions(users, items, n_users, n_items), inside)
    if self_loop:
        adjacency = adjacency + sp.eye_array(n_users + n_items, format="csr")
    adjacency = normalise_by_degree(sp.csr_array(adjacency))
    if norm == "block" and correlation is not None:
        empty = sp.csr_array((n_users, n_users))
        adjacency = adjacency + sp.block_diag([empty, correlation], format="csr")
    return sp.csr_array(adjacency)


def bipartite_operator(
    users: ArrayLike,
    items: ArrayLike,
    n_users: int,
    n_items: int,
    item_graph: sp.csr_array | None = None,
    norm: Norm = "joint",
    graph_weight: float = 1.0,
    self_loop: bool = False,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> SparseOperator:
    """`bipartite_matrix` as an operator on tables `[n_users + n_items, d]`; same arguments."""
    matrix = bipartite_matrix(
        users, items, n_users, n_items, item_graph, norm, graph_weight, self_loop
    )
    return SparseOperator.from_scipy(matrix, dtype, device)


def _interactions(users: ArrayLike, items: ArrayLike, n_users: int, n_items: int) -> sp.csr_array:
    """R `[n_users, n_items]` with ones at the distinct pairs."""
    places = (np.asarray(users), np.asarray(items))
    pairs = sp.csr_array((np.ones(places[0].size), places), shape=(n_users, n_items))
    pairs.sum_duplicates()
    pairs.data[:] = 1.0
    return pairs


def _adjacency(pairs: sp.csr_array, correlation: sp.csr_array | None) -> sp.csr_array:
    """Users then items: interactions off the diagonal, `correlation` among the items."""
    blocks = [[None, pairs], [sp.csr_array(pairs.T), correlation]]
    return sp.csr_array(sp.block_array(blocks, format="csr", dtype=np.float64))

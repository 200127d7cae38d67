"""What the pairwise models share: the three rows of a training triple and their ranking loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_slif.batch_parts import whole_batch
from recbole_slif.losses import bpr_loss
from recbole_slif.model.base import GraphRecommender


class TripleRows(NamedTuple):
    """Rows `[batch, d]` of the users, their items and the sampled items."""

    users: Tensor
    positives: Tensor
    negatives: Tensor


def triple_rows(
    model: GraphRecommender, interaction: Any, users: Tensor, items: Tensor
) -> TripleRows:
    """Look a batch up in a user table `[n_users, d]` and an item table `[n_items or more, d]`."""
    return TripleRows(
        F.embedding(interaction[model.USER_ID], users),
        F.embedding(interaction[model.ITEM_ID], items),
        F.embedding(interaction[model.NEG_ITEM_ID], items),
    )


def item_pairs(model: GraphRecommender, interaction: Any) -> Tensor:
    """Return the items of a batch, then the sampled ones, `[2 * batch]`."""
    return torch.cat([interaction[model.ITEM_ID], interaction[model.NEG_ITEM_ID]])


def batch_nodes(model: GraphRecommender, interaction: Any) -> Tensor:
    """Return the distinct nodes of a batch in a graph of users, then items; ascending."""
    return torch.unique(torch.cat(_triple_nodes(model, interaction)))


def rows_at(model: GraphRecommender, interaction: Any, nodes: Tensor, table: Tensor) -> TripleRows:
    """Look a batch up in the rows `table [len(nodes), d]` of the nodes that `batch_nodes` named."""
    places = (torch.searchsorted(nodes, ids) for ids in _triple_nodes(model, interaction))
    return TripleRows(*(F.embedding(place, table) for place in places))


def _triple_nodes(model: GraphRecommender, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return users, items and sampled items as nodes of a graph of users, then items."""
    items, sampled = interaction[model.ITEM_ID], interaction[model.NEG_ITEM_ID]
    return interaction[model.USER_ID], items + model.n_users, sampled + model.n_users


def penalty_rows(
    interaction: Any, rows: TripleRows, squared: bool, look_up: Callable[[Any], TripleRows]
) -> TripleRows:
    """Return the rows that a penalty takes: `rows`, or those of all processes' parts of the batch.

    A root of a sum is not the sum of its parts' roots, so a penalty that is not squared takes all.

    Args:
        interaction: the batch, or this process's part of it.
        rows: its rows.
        squared: whether the penalty is.
        look_up: returns the rows of another batch from the same tables.
    """
    whole = whole_batch(interaction)
    return rows if squared or whole is interaction else look_up(whole)


def ranking_loss(rows: TripleRows) -> Tensor:
    """Rank each user's item before the sampled one by their dot products; a scalar."""
    return bpr_loss(
        (rows.users * rows.positives).sum(dim=1), (rows.users * rows.negatives).sum(dim=1)
    )

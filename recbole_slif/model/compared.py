"""Which items of a batch the consistency losses of SLIF-MR compare with each other."""

from __future__ import annotations

import torch
from torch import Tensor


def compared_places(
    items: Tensor, positives: Tensor, scope: str, limit: int | None = None
) -> Tensor | None:
    """Find the items of Eq. (19) and (21) among those whose rows are at hand.

    Args:
        items: `[n]` distinct ids, ascending; all ids from [PAD] on where `scope` is `all`.
        positives: ids of the batch's positive items, doubles included.
        scope: `cl_scope`: `positives`, `batch` (every item at hand) or `all` (but [PAD]).
        limit: `cl_items`, the most that are compared. Work grows with their square; of more, so
            many are drawn from torch's CPU generator, and the losses' means are estimated.

    Returns:
        `[m]` places in `items`, ascending, or None for all of them.
    """
    place = None
    if scope == "all":
        place = torch.arange(1, len(items), device=items.device)
    elif scope == "positives":
        place = torch.searchsorted(items, torch.unique(positives))
    count = len(items) if place is None else len(place)
    if limit is None or count <= limit:
        return place
    drawn = torch.randperm(count)[:limit].sort().values.to(items.device)
    return drawn if place is None else place[drawn]

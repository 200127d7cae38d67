"""A process's part of a batch that several processes share.

Every process draws the same batch and takes its own rows of it. The trainer weighs the loss of a
part by its share of the rows and sums over the processes, so

- a mean over the rows of the part becomes the mean over the rows of the whole batch;
- a term found from the whole batch, or from the parameters alone, becomes that term again, since
  the shares add up to 1.

So a model whose loss is a mean over rows needs nothing, and one with a term that is no such mean (a
contrast among the batch's items, a root of a sum, a mean over some of the rows) takes the ids of
that term from `whole_batch(interaction)`.
"""

from __future__ import annotations

from typing import Any

from recbole.data.interaction import Interaction
from torch import Tensor


class BatchPart(Interaction):
    """The rows of a batch that one process takes.

    A process without rows (the last batch may have fewer than there are processes) takes the first
    row and counts for nothing, so that all of them do the same work in the same order.

    Attributes:
        whole: the batch of all processes.
        share: weight of this part's loss.
    """

    def __init__(self, whole: Interaction, rank: int, size: int) -> None:
        """Cut the rows of process `rank`, one of `size`, out of `whole`."""
        self.whole, self.rank, self.size = whole, rank, size
        rows, self.share = self._rows(len(whole))
        super().__init__({name: whole[name][rows] for name in whole})

    def _rows(self, count: int) -> tuple[slice, float]:
        """Return this process's rows among `count`, and their share of them."""
        start, stop = (count * place // self.size for place in (self.rank, self.rank + 1))
        if start == stop:
            return slice(0, 1), 0.0
        return slice(start, stop), (stop - start) / count

    def take(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Cut this process's rows out of tensors `[n, ...]`; its loss is weighed by these then."""
        rows, self.share = self._rows(len(tensors[0]))
        return tuple(tensor[rows] for tensor in tensors)


def whole_batch(interaction: Any) -> Any:
    """Return the batch that `interaction` is a part of; itself if there is one process."""
    return interaction.whole if isinstance(interaction, BatchPart) else interaction


def own_rows(interaction: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Return this process's rows of tensors `[n, ...]` that a model made of the whole batch.

    For what a model adds to a batch by drawing: draws must be the same in all processes, so they
    are made for the whole batch. The loss must then be a mean over these rows.
    """
    return interaction.take(*tensors) if isinstance(interaction, BatchPart) else tensors

"""What every model of the package shares: cached scoring, the epoch hooks and their state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import InputType
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from recbole_slif.phases import Phase
from recbole_slif.precision import stored_tables


class _Steps:
    """Counts the steps of all optimizers: fused ones write to parameters but raise no version."""

    taken = 0

    @classmethod
    def count(cls, *_: Any) -> None:
        cls.taken += 1


register_optimizer_step_post_hook(_Steps.count)


def xavier_table(rows: int, size: int) -> nn.Embedding:
    """Return an embedding table `[rows, size]`, Xavier-uniform as Section IV-A4 of SLIF-MR says."""
    table = nn.Embedding(rows, size)
    nn.init.xavier_uniform_(table.weight)
    return table


class GraphRecommender(AbstractRecommender):
    """Mixin before a RecBole base class for models that score by two tables, `user . item`.

    A subclass implements `forward`, which propagates once and returns both tables, and
    `calculate_loss`. Models that have a separate knowledge phase add `calculate_kg_loss`.
    `loss_names` are the names, for log and record, of the losses that these two return, in order.

    The trainer calls `pre_epoch` before an epoch's first batch and `post_epoch` after its last.
    Whatever those hooks make and evaluation needs (a correlation graph, attention weights) is
    handed out by `epoch_state`, so that a checkpoint can hold it.

    A model with further passes returns them from `phases_before` (run before `pre_epoch`) and
    `phases_after` (run before `post_epoch`); those that another optimizer steps name it in
    `own_optimizers`, whose state a checkpoint holds too.

    `shares_batches` says that several processes may share a batch of this class's losses: all
    terms are means over the batch's rows, or found by `batch_parts.whole_batch`, and what a step
    draws does not depend on the rows given.
    """

    input_type = InputType.PAIRWISE
    loss_names: ClassVar[tuple[str, ...]] = ()
    shares_batches: ClassVar[bool] = False
    USER_ID: str
    ITEM_ID: str
    NEG_ITEM_ID: str
    n_users: int
    n_items: int
    device: torch.device

    _table_cache: tuple[tuple[int, ...], Tensor, Tensor] | None = None

    def __init__(self, config: Any, dataset: Any) -> None:
        """Let RecBole's class read its fields; note how scoring is to store its tables."""
        super().__init__(config, dataset)
        self._table_precision = config["table_precision"]

    def forward(self) -> tuple[Tensor, Tensor]:
        """Propagate once; return the user table `[n_users, d]` and item table `[n_items, d]`."""
        raise NotImplementedError

    def pre_epoch(self, epoch: int) -> None:
        """Prepare epoch `epoch` (counted from 0) before its first batch: redraw, refresh."""

    def post_epoch(self, epoch: int) -> None:
        """Close epoch `epoch` after its last batch, before evaluation."""

    def phases_before(self, epoch: int) -> Sequence[Phase]:
        """Return the passes to make before `pre_epoch(epoch)`."""
        return ()

    def phases_after(self, epoch: int) -> Sequence[Phase]:
        """Return the passes to make after the interactions, before `post_epoch(epoch)`."""
        return ()

    def own_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the optimizers besides the trainer's, by the name that phases use."""
        return {}

    def main_parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters that the trainer's optimizer takes."""
        return self.parameters()

    def parameters_but(self, others: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        """Return the model's parameters without `others`, for `main_parameters`."""
        left_out = {id(parameter) for parameter in others}
        return [parameter for parameter in self.parameters() if id(parameter) not in left_out]

    def epoch_state(self) -> dict[str, Tensor]:
        """Return the tensors that must outlive a step: what scoring, or going on, depends on."""
        return {}

    def load_epoch_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `epoch_state` gave; the scores are then those of the saved model."""
        self.clear_tables()

    def clear_tables(self) -> None:
        """Forget the tables cached for evaluation."""
        self._table_cache = None

    @torch.no_grad()
    def score_tables(self) -> tuple[Tensor, Tensor]:
        """Return the evaluation tables `[n_users, d]`, `[n_items, d]`, propagated once.

        The cache is keyed by the steps that optimizers have taken, by the parameters' in-place
        version counters and by where their values lie, which `model.double()` and `.to()` change
        without a new version; so a training step can never be followed by stale scores.
        """
        parameters = list(self.parameters())
        places = (parameter.data_ptr() for parameter in parameters)
        versions = (_Steps.taken, *(parameter._version for parameter in parameters), *places)
        if self._table_cache is None or self._table_cache[0] != versions:
            was_training = self.training
            self.eval()
            with stored_tables(self._table_precision):
                users, items = self.forward()
            self.train(was_training)
            self._table_cache = (versions, users.detach(), items.detach())
        return self._table_cache[1], self._table_cache[2]

    def predict(self, interaction: Any) -> Tensor:
        """Score the given pairs; returns `[batch]`."""
        users, items = self.score_tables()
        return (users[interaction[self.USER_ID]] * items[interaction[self.ITEM_ID]]).sum(dim=1)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Score the given users against all items; returns `[batch * n_items]`."""
        users, items = self.score_tables()
        return (users[interaction[self.USER_ID]] @ items.T).view(-1)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load parameters as torch does and forget the cached tables."""
        self.clear_tables()
        return super().load_state_dict(*args, **kwargs)

    def training_pairs(self, dataset: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the users and items `[n_pairs]` of the training split the model was given."""
        return (
            dataset.inter_feat[self.USER_ID].numpy(),
            dataset.inter_feat[self.ITEM_ID].numpy(),
        )

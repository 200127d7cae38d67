"""Negative sampling: exact, without a Python loop over users, from a generator of its own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from recbole.sampler import KGSampler, Sampler

from recbole_slif.data.pairs import PairTable, SplitPairs
from recbole_slif.errors import ConfigError, DataError

_ROUNDS = 64


class _Draws:
    """Draws values that a row does not have, uniformly or by popularity."""

    rng: np.random.Generator
    distribution: str
    alpha: float

    def set_distribution(self, distribution: str) -> None:
        """Choose `uniform` or `popularity` (proportional to count ** alpha)."""
        if distribution not in ("uniform", "popularity"):
            raise ConfigError(
                f"train_neg_sample_args: distribution '{distribution}' is neither uniform nor "
                "popularity"
            )
        self.distribution = distribution

    def _popularity(self) -> np.ndarray:
        """Return `[n_values]` counts, 0 for [PAD]."""
        raise NotImplementedError

    @cached_property
    def _weights(self) -> tuple[np.ndarray, np.ndarray]:
        counts = self._popularity()
        with np.errstate(over="ignore"):
            weights = np.where(counts > 0, np.maximum(counts, 1).astype(float) ** self.alpha, 0.0)
        edges = np.cumsum(weights)
        if not 0.0 < edges[-1] < np.inf:
            raise ConfigError(
                f"train_neg_sample_args: alpha {self.alpha:g} leads beyond what numbers can hold"
            )
        return weights, edges

    def _draw(self, table: PairTable, rows: np.ndarray) -> np.ndarray:
        if self.distribution == "uniform":
            return table.draw_absent(rows, self.rng)
        weights, edges = self._weights
        # Rounding may carry a draw to the very end: the last value with weight takes it.
        last = int(np.flatnonzero(weights)[-1])
        values = np.zeros(len(rows), dtype=np.int64)
        left = np.arange(len(rows))
        for _ in range(_ROUNDS):
            drawn = self.rng.random(len(left)) * edges[-1]
            values[left] = np.minimum(np.searchsorted(edges, drawn, side="right"), last)
            left = left[table.has(rows[left], values[left])]
            if not len(left):
                return values
        for position in left:
            values[position] = self._draw_from_rest(table, int(rows[position]), weights)
        return values

    def _draw_from_rest(self, table: PairTable, row: int, weights: np.ndarray) -> int:
        """Draw for a row that has nearly everything popular, where rejection takes too long."""
        rest = weights.copy()
        rest[table.values[table.indptr[row] : table.indptr[row + 1]]] = 0.0
        if rest.sum() == 0.0:
            return int(table.draw_absent(np.array([row]), self.rng)[0])
        return int(self.rng.choice(len(rest), p=rest / rest.sum()))


class VectorisedSampler(_Draws, Sampler):
    """RecBole's `Sampler` on sorted arrays: train excludes train pairs, valid also its own, ...

    Args:
        pairs: The split.
        distribution: `uniform` or `popularity` (counted on train alone).
        alpha: Exponent of the popularity.
        seed: Of the draws; each phase has its own generator.

    Attributes:
        rng: Generator of this phase's draws; its state belongs in a checkpoint.
    """

    def __init__(
        self,
        pairs: SplitPairs,
        distribution: str = "uniform",
        alpha: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.pairs = pairs
        self.phases = list(SplitPairs.PHASES)
        self.phase = "train"
        self.alpha = alpha
        self.seed = seed
        self.rng = np.random.default_rng([seed, 0])
        self.user_num, self.item_num = pairs.table("train").n_rows, pairs.table("train").n_values
        self._used_ids: dict[str, np.ndarray] = {}
        self.set_distribution(distribution)

    def set_phase(self, phase: str) -> VectorisedSampler:
        """Return the sampler of a phase, with a generator of its own."""
        if phase not in self.phases:
            raise ConfigError(f"phase '{phase}' is none of {', '.join(self.phases)}")
        other = copy.copy(self)
        other.phase = phase
        other.rng = np.random.default_rng([self.seed, self.phases.index(phase)])
        return other

    def _popularity(self) -> np.ndarray:
        return np.bincount(self.pairs.table("train").values, minlength=self.item_num)

    @property
    def used_ids(self) -> np.ndarray:
        """`[n_users]` Python sets of used items, as RecBole keeps them; built when asked for."""
        if self.phase not in self._used_ids:
            self._used_ids[self.phase] = _as_sets(self.pairs.used(self.phase))
        return self._used_ids[self.phase]

    def sample_by_key_ids(self, key_ids: Sequence[int], num: int) -> torch.Tensor:
        """Draw `num` items for each user that it has not met.

        Args:
            key_ids: `[n]` user ids.
            num: Draws per user.

        Returns:
            `[num * n]` item ids; draw `k` of user `i` is at `k * n + i`.

        Raises:
            DataError: A user id is unknown, or a user has met every item.
        """
        users = np.tile(np.asarray(key_ids, dtype=np.int64), num)
        table = self.pairs.used(self.phase)
        if len(users) and (users.min() < 0 or users.max() >= self.user_num):
            raise DataError(f"user ids must be in 0..{self.user_num - 1} to draw negatives")
        if (table.counts[users] >= self.item_num - 1).any():
            raise DataError("a user has interacted with every item: no negatives are left to draw")
        return torch.from_numpy(self._draw(table, users))

    def sample_by_user_ids(
        self, user_ids: Sequence[int], item_ids: Sequence[int], num: int
    ) -> torch.Tensor:
        """Draw `num` unmet items for each user; `item_ids` is RecBole's and not looked at."""
        return self.sample_by_key_ids(user_ids, num)


class VectorisedKGSampler(_Draws, KGSampler):
    """RecBole's `KGSampler` on sorted arrays: tails that a head has by no relation.

    Args:
        dataset: Has `head_entities`, `tail_entities` and `entity_num`.
        distribution: `uniform` or `popularity`.
        alpha: Exponent of the popularity.
        seed: Of the draws.
    """

    def __init__(
        self, dataset: Any, distribution: str = "uniform", alpha: float = 1.0, seed: int = 0
    ) -> None:
        self.dataset = dataset
        self.alpha = alpha
        self.rng = np.random.default_rng([seed, 3])
        self.hid_list, self.tid_list = dataset.head_entities, dataset.tail_entities
        self.entity_num = dataset.entity_num
        self._table = PairTable(self.hid_list, self.tid_list, self.entity_num, self.entity_num)
        self.set_distribution(distribution)

    def _popularity(self) -> np.ndarray:
        ends = np.concatenate([self.hid_list, self.tid_list])
        return np.bincount(ends, minlength=self.entity_num)

    @property
    def used_ids(self) -> np.ndarray:
        """`[n_entities]` Python sets of the tails of each head."""
        return _as_sets(self._table)

    def sample_by_key_ids(self, key_ids: Sequence[int], num: int) -> torch.Tensor:
        """Draw `num` entities for each head that are no tail of it, ordered as for users."""
        heads = np.tile(np.asarray(key_ids, dtype=np.int64), num)
        if (self._table.counts[heads] >= self.entity_num - 1).any():
            raise DataError("an entity is related to every entity: no negative tails are left")
        return torch.from_numpy(self._draw(self._table, heads))

    def sample_by_entity_ids(self, head_entity_ids: Sequence[int], num: int = 1) -> torch.Tensor:
        """Draw `num` negative tails for each head."""
        return self.sample_by_key_ids(head_entity_ids, num)


def _as_sets(table: PairTable) -> np.ndarray:
    sets = np.empty(table.n_rows, dtype=object)
    sets[:] = [set(part.tolist()) for part in np.split(table.values, table.indptr[1:-1])]
    return sets

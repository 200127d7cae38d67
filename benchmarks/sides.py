"""The two sides of a comparison: a model with its optimizer, timed part by part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector
from torch import Tensor

from benchmarks.dataset import ArrayDataset, HeldOut, settings_of
from benchmarks.measure import Clock, seconds
from recbole_slif.evaluation import BlockedFullSortEvaluator
from recbole_slif.precision import training_precision
from recbole_slif.registry import MODELS
from tests.peers import recbole_class

METRICS = {"metrics": ["Recall", "NDCG"], "topk": [20], "eval_args": {"mode": "full"}}


@dataclass(frozen=True)
class Plan:
    """One line of the comparison.

    Attributes:
        label: Name in the tables.
        model: Class name, ours and RecBole's alike.
        ours: Whose model it is.
        against: Label of the RecBole line it is divided by.
        overrides: Settings that differ from the model's shipped defaults.
    """

    label: str
    model: str
    ours: bool
    against: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)


class Side:
    """A built model that can take a step, start an epoch and be evaluated."""

    def __init__(self, plan: Plan, dataset: ArrayDataset, batch_size: int, seed: int) -> None:
        """Build the model and its optimizer.

        Args:
            plan: Whose model and with which settings.
            dataset: The training split.
            batch_size: Interactions, and triples, in a step.
            seed: Seed of the parameters and the batches.
        """
        torch.manual_seed(seed)
        self.plan, self.dataset, self.batch_size = plan, dataset, batch_size
        self.settings = settings_of(plan.model, plan.ours, {**plan.overrides, **METRICS})
        self.model = model_class(plan)(self.settings, dataset)
        # the trainer of each side: ours asks for the fused kernel, RecBole's for nothing
        fused = True if plan.ours else None
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=fused)
        self._rng = np.random.default_rng(seed)
        self._epoch = 0

    def _batch(self) -> Interaction:
        chosen = self._rng.integers(0, self.dataset.inter_num, self.batch_size)
        negatives = self._rng.integers(1, self.dataset.item_num, self.batch_size)
        columns = {
            "user_id": self.dataset.users[chosen],
            "item_id": self.dataset.items[chosen],
            "neg_item_id": negatives,
        }
        return Interaction({name: torch.from_numpy(ids) for name, ids in columns.items()})

    def _triple_batch(self) -> Interaction:
        heads, relations, tails = self.dataset.triples
        chosen = self._rng.integers(0, len(heads), self.batch_size)
        negatives = self._rng.integers(1, self.dataset.entity_num, self.batch_size)
        columns = {
            "head_id": heads[chosen],
            "relation_id": relations[chosen],
            "tail_id": tails[chosen],
            "neg_tail_id": negatives,
        }
        return Interaction({name: torch.from_numpy(ids) for name, ids in columns.items()})

    def step(self, clock: Clock) -> dict[str, float]:
        """Take one step; return the seconds of its parts, and of a knowledge step if it has one."""
        self.model.train()
        with training_precision(self.settings):
            parts = self._optimise(self.model.calculate_loss, self._batch(), clock)
            if hasattr(self.model, "calculate_kg_loss"):
                found = self._optimise(self.model.calculate_kg_loss, self._triple_batch(), clock)
                parts["knowledge step"] = sum(found.values())
        return parts

    def _optimise(
        self, loss_of: Callable[[Any], Any], batch: Interaction, clock: Clock
    ) -> dict[str, float]:
        start = clock()
        self.optimizer.zero_grad()
        losses = loss_of(batch)
        loss = torch.stack(losses).sum() if isinstance(losses, tuple) else losses
        forward = clock()
        loss.backward()
        backward = clock()
        self.optimizer.step()
        end = clock()
        return {
            "forward": forward - start,
            "backward": backward - forward,
            "optimizer": end - backward,
        }

    def start_epoch(self, clock: Clock) -> float:
        """Do what happens once per epoch, in the second epoch or later; return its seconds."""
        if not self.plan.ours:
            update = getattr(self.model, "update_attentive_A", None)
            if update is None:
                return 0.0
            with torch.no_grad():
                return seconds(update, clock)
        self._epoch += 1
        self.model.train()

        def hooks() -> None:
            self.model.post_epoch(self._epoch - 1)
            self.model.pre_epoch(self._epoch)

        return seconds(hooks, clock)

    @torch.no_grad()
    def evaluate(self, held_out: HeldOut, users_at_once: int, clock: Clock) -> dict[str, float]:
        """Rank all items for the held-out users.

        Args:
            held_out: Whom to score.
            users_at_once: RecBole's batch; ours always takes its own block.
            clock: What counts the seconds.

        Returns:
            Seconds of the propagation, which happens once, and of ranking all those users.
        """
        self.model.eval()
        if self.plan.ours:
            self.model.clear_tables()
            propagation = seconds(self.model.score_tables, clock)
            ranked = _Propagated(*self.model.score_tables())
            evaluator = BlockedFullSortEvaluator(self.settings)
            ranking = seconds(lambda: evaluator.collect(ranked, held_out), clock)
            return {"propagation": propagation, "ranking": ranking}
        for name in ("restore_user_e", "restore_item_e", "restore_entity_e"):
            if hasattr(self.model, name):
                setattr(self.model, name, None)
        first = Interaction({"user_id": torch.ones(1, dtype=torch.int64)})
        propagation = seconds(lambda: self.model.full_sort_predict(first), clock)
        return {"propagation": propagation, "ranking": self._rank(held_out, users_at_once, clock)}

    def _rank(self, held_out: HeldOut, users_at_once: int, clock: Clock) -> float:
        """Score, mask and collect batch by batch as RecBole's trainer does; returns seconds."""
        users = held_out.uid_list
        collector = Collector(self.settings)
        begin = clock()
        for start in range(0, len(users), users_at_once):
            stop = min(start + users_at_once, len(users))
            rows, known = _flat(*held_out.history, start, stop)
            wanted_rows, wanted = _flat(*held_out.positives, start, stop)
            batch = Interaction({"user_id": users[start:stop]})
            scores = self.model.full_sort_predict(batch).view(-1, self.dataset.item_num)
            scores[:, 0] = -np.inf
            scores[(rows, known)] = -np.inf
            collector.eval_batch_collect(scores, batch, wanted_rows, wanted)
        return clock() - begin


class _Propagated:
    """A model whose tables are there already, so that ranking is timed alone."""

    def __init__(self, users: Tensor, items: Tensor) -> None:
        self.tables = users, items

    def eval(self) -> None:
        """Nothing to switch."""

    def score_tables(self) -> tuple[Tensor, Tensor]:
        """Return the tables."""
        return self.tables


def _flat(starts: np.ndarray, items: np.ndarray, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Cut rows `start .. stop` out of a CSR list; returns their row numbers and items."""
    rows = np.repeat(np.arange(stop - start), np.diff(starts[start : stop + 1]))
    return torch.from_numpy(rows), torch.from_numpy(items[starts[start] : starts[stop]])


def model_class(plan: Plan) -> type:
    """Return our class or RecBole's."""
    return MODELS[plan.model].load() if plan.ours else recbole_class(plan.model)

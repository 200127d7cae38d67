"""Full-sort evaluation in blocks: one propagation, one kept score matrix, RecBole's metrics.

RecBole's own loop builds a fresh score matrix, a dense matrix of positives and several index
tensors for each batch. Here scores go into one kept buffer (`scoring`), of as many items as can be
among the best (`longest_first`), known and held-out items are flat index lists cut from a CSR
layout, and only the top K leave the block. The metric classes are RecBole's, fed with the same data
structure, so the figures are the same to the last digit.
"""

from __future__ import annotations

import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.evaluator import Collector, Evaluator
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.register import metric_information
from torch import Tensor
from tqdm import tqdm

from recbole_slif.data.pairs import slice_rows
from recbole_slif.scoring import BlockScorer
from recbole_slif.top_items import Block, TopItems

BLOCK_USERS = 256


class SafeCollector(Collector):
    """RecBole's collector for any training loader, knowledge loaders included."""

    def data_collect(self, train_data: Any) -> None:
        """Take item and user counts from the training split behind `train_data`."""
        dataset = train_data._dataset
        sources: dict[str, Callable[[], Any]] = {
            "data.num_items": lambda: dataset.item_num,
            "data.num_users": lambda: dataset.user_num,
            "data.count_items": lambda: dataset.item_counter,
            "data.count_users": lambda: dataset.user_counter,
        }
        for name, read in sources.items():
            if self.register.need(name):
                self.data_struct.set(name, read())


def _rank_collector(config: Any) -> Collector | None:
    """Build RecBole's collector for the metrics that rank whole rows (GAUC), if any is asked."""
    names = [
        name for name in config["metrics"] if "rec.meanrank" in metric_information[name.lower()]
    ]
    if not names:
        return None
    keys = ("eval_args", "topk", "device")
    return SafeCollector({"metrics": names, **{key: config[key] for key in keys}})


@dataclass(frozen=True)
class ItemLists:
    """A list of items for each of n users.

    Attributes:
        indptr: `[n + 1]` int64, where each list begins.
        items: item ids, int64.
    """

    indptr: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, lists: Iterable[Tensor]) -> ItemLists:
        """Join lists of ids."""
        tensors = list(lists)
        indptr = np.cumsum([0, *(len(entry) for entry in tensors)], dtype=np.int64)
        joined = torch.cat(tensors) if tensors else torch.zeros(0, dtype=torch.int64)
        return cls(indptr, joined.to(torch.int64).numpy())

    def at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows among the positions `[b]` and items `[m]` of the lists there."""
        return slice_rows(self.indptr, self.items, positions)


@dataclass(frozen=True)
class EvalLists:
    """Who is evaluated, on what, without what.

    Attributes:
        users: evaluated users `[n]`, int64, in the loader's order.
        positives: each user's held-out items.
        known: each user's items that must not be recommended.
    """

    users: np.ndarray
    positives: ItemLists
    known: ItemLists


def eval_lists(loader: Any) -> EvalLists:
    """Read the evaluated users and their items from a full-sort loader, ours or RecBole's."""
    if hasattr(loader, "pairs"):
        users, indptr, items = loader.pairs.positives(loader.phase)
        rows, masked = loader.pairs.before(loader.phase).slice_rows(users)
        counts = np.bincount(rows, minlength=len(users))
        known = ItemLists(np.concatenate(([0], np.cumsum(counts))), masked)
        return EvalLists(users, ItemLists(indptr, items), known)
    users = loader.uid_list.numpy()
    positives = ItemLists.of(loader.uid2positive_item[users])
    return EvalLists(users, positives, ItemLists.of(loader.uid2history_item[users]))


def supports(loader: Any) -> bool:
    """Tell whether `loader` lists users for full-sort ranking (not samples, not sequences)."""
    return isinstance(loader, FullSortEvalDataLoader) and not loader.is_sequential


class BlockedFullSortEvaluator:
    """Evaluates any RecBole model on a full-sort loader and lets RecBole's metrics count.

    Args:
        config: RecBole configuration; `metrics`, `topk`, `metric_decimal_place` are read.
        collector: holder of the training data's counts (see `SafeCollector.data_collect`).
        block_users: users scored at a time; None for `BLOCK_USERS`.
        should_stop: asked before each block; what it raises ends the evaluation.
    """

    def __init__(
        self,
        config: Any,
        collector: SafeCollector | None = None,
        block_users: int | None = None,
        should_stop: Callable[[], None] | None = None,
    ) -> None:
        self.config = config
        self.collector = collector or SafeCollector(config)
        self.metrics = Evaluator(config)
        self.block_users = BLOCK_USERS if block_users is None else block_users
        self.should_stop = should_stop or (lambda: None)
        self._flags = torch.zeros(0, dtype=torch.bool)
        self._ranker = _rank_collector(config)
        self._latest: tuple[Any, DataStruct] | None = None
        self._lists: weakref.WeakKeyDictionary[Any, EvalLists] = weakref.WeakKeyDictionary()

    def evaluate(self, model: Any, loader: Any, show_progress: bool = False) -> OrderedDict:
        """Return RecBole's ordered dictionary of metrics for `model` on `loader`."""
        self._latest = loader, self.collect(model, loader, show_progress)
        return self.metrics.evaluate(self._latest[1])

    def per_user(self, model: Any, loader: Any) -> dict[str, np.ndarray]:
        """Return each top-K metric for every evaluated user.

        Returns:
            `user` (int64 ids, `[n]`) and, for each metric and K, `metric@K` (float64, `[n]`),
            not rounded; their means are the figures of `evaluate`.
        """
        return self._by_user(loader, self.collect(model, loader, False))

    def latest_per_user(self, loader: Any) -> dict[str, np.ndarray] | None:
        """Return what `per_user` would for the last evaluation, without scoring again.

        None if the last evaluation was not on `loader`.
        """
        if self._latest is None or self._latest[0] is not loader:
            return None
        return self._by_user(*self._latest)

    def _by_user(self, loader: Any, struct: DataStruct) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {"user": self.lists(loader).users}
        for name, metric in self.metrics.metric_class.items():
            if "rec.topk" not in metric.metric_need:
                continue
            hits, lengths = metric.used_info(struct)
            try:
                values = metric.metric_info(hits, lengths)
            except TypeError:
                values = metric.metric_info(hits)
            for k in self.config["topk"]:
                found[f"{name}@{k}"] = np.asarray(values[:, k - 1], dtype=np.float64)
        return found

    def lists(self, loader: Any) -> EvalLists:
        """Return the evaluated users and item lists of `loader`, read once."""
        if loader not in self._lists:
            self._lists[loader] = eval_lists(loader)
        return self._lists[loader]

    @torch.no_grad()
    def collect(self, model: Any, loader: Any, show_progress: bool = False) -> DataStruct:
        """Score all users of `loader`; return what RecBole's metric classes read."""
        model.eval()
        lists = self.lists(loader)
        positions = self._positions(len(lists.users))
        scorer = BlockScorer(model, loader._dataset, getattr(loader, "user_df", None))
        struct, need = self.collector.data_struct, self.collector.register.need
        width = max(self.config["topk"])
        top = TopItems(scorer, lists.users, lists.known.at, width, self.block_users)
        blocks = top.blocks(positions, whole=self._ranker is not None)
        parts = []
        for block in self._shown(blocks, show_progress):
            positives = lists.positives.at(block.positions)
            rows = None
            if self._ranker is not None:
                rows = top.rows(block)
                places = (torch.from_numpy(part).to(rows[0].device) for part in positives)
                self._ranker.eval_batch_collect(rows[0].contiguous(), None, *places)
            if need("rec.topk") or need("rec.items"):
                parts.append(self._found(top.top(block, rows)[0], positives, scorer.n_items))
        if parts:
            order = np.argsort(np.concatenate([block.positions for block in blocks]))
            items, hits = (torch.cat(each)[order] for each in zip(*parts, strict=True))
            if need("rec.items"):
                struct.set("rec.items", items)
            if need("rec.topk"):
                counts = torch.from_numpy(np.diff(lists.positives.indptr)[positions])
                columns = hits.long(), counts.to(hits.device).unsqueeze(1)
                struct.set("rec.topk", torch.cat(columns, dim=1))
        found = self.collector.get_data_struct()
        if self._ranker is not None:
            found.set("rec.meanrank", self._ranker.get_data_struct().get("rec.meanrank"))
        return found

    def _found(
        self, top: Tensor, positives: tuple[np.ndarray, np.ndarray], n_items: int
    ) -> tuple[Tensor, Tensor]:
        """A block's lists `[b, K]` and which of their items are held out, bool `[b, K]`."""
        cells = len(top) * n_items
        if self._flags.numel() < cells or self._flags.device != top.device:
            self._flags = torch.zeros(cells, dtype=torch.bool, device=top.device)
        rows, items = positives
        held_out = torch.from_numpy(rows * n_items + items).to(top.device)
        starts = torch.arange(len(top), device=top.device).unsqueeze(1) * n_items
        self._flags[held_out] = True
        hits = self._flags[top + starts]
        self._flags[held_out] = False
        return top, hits

    def _positions(self, n_users: int) -> np.ndarray:
        """Which of the evaluated users are ranked here, ascending."""
        return np.arange(n_users)

    def _shown(self, blocks: Sequence[Block], show_progress: bool) -> Iterator[Block]:
        leave = not sys.stderr.isatty()
        with tqdm(
            blocks, desc="Evaluate   ", ncols=100, disable=not show_progress, leave=leave
        ) as bar:
            for block in bar:
                self.should_stop()
                yield block

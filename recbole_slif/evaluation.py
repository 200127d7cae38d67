"""Full-sort evaluation in blocks: one propagation, one kept score matrix, RecBole's metrics.

RecBole's own loop builds a fresh score matrix, a dense matrix of positives and several index
tensors for each batch. Here scores go into one kept buffer (`scoring`), history and positives are
flat index lists cut from a CSR layout, and only the top K leave the block. The metric classes are
RecBole's, fed with the same data structure, so the figures are the same to the last digit.
"""

from __future__ import annotations

import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
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

from recbole_slif.ranking import exact_top_k
from recbole_slif.scoring import BlockScorer

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
class EvalLists:
    """Who is evaluated, on what, without what.

    Attributes:
        users: evaluated users `[n]`, int64, in the loader's order.
        positive_indptr, positive_items: CSR of each user's held-out items.
        history_indptr, history_items: CSR of each user's items that must not be recommended.
    """

    users: np.ndarray
    positive_indptr: np.ndarray
    positive_items: np.ndarray
    history_indptr: np.ndarray
    history_items: np.ndarray

    def flat(
        self, which: str, start: int, stop: int, strides: tuple[int, int], device: Any
    ) -> Tensor:
        """Flat places of `which` (positive or history) in a block of `[stop - start, n_items]`.

        Args:
            which: the list.
            start: first user's position.
            stop: position after the last one's.
            strides: how far apart in memory two users, and two items, are.
            device: where the places are wanted.
        """
        indptr = getattr(self, f"{which}_indptr")
        items = getattr(self, f"{which}_items")[indptr[start] : indptr[stop]]
        counts = np.diff(indptr[start : stop + 1])
        rows = np.repeat(np.arange(stop - start, dtype=np.int64) * strides[0], counts)
        return torch.from_numpy(rows + items * strides[1]).to(device)


def _csr(lists: Iterable[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    tensors = list(lists)
    indptr = np.zeros(len(tensors) + 1, dtype=np.int64)
    np.cumsum([len(entry) for entry in tensors], out=indptr[1:])
    joined = torch.cat(tensors) if tensors else torch.zeros(0, dtype=torch.int64)
    return indptr, joined.to(torch.int64).numpy()


def eval_lists(loader: Any) -> EvalLists:
    """Read the evaluated users and their items from a full-sort loader, ours or RecBole's."""
    if hasattr(loader, "pairs"):
        users, indptr, items = loader.pairs.positives(loader.phase)
        rows, masked = loader.pairs.before(loader.phase).slice_rows(users)
        counts = np.bincount(rows, minlength=len(users))
        history_indptr = np.concatenate(([0], np.cumsum(counts)))
        return EvalLists(users, indptr, items, history_indptr, masked)
    users = loader.uid_list.numpy()
    positive = _csr(loader.uid2positive_item[users])
    history = _csr(loader.uid2history_item[users])
    return EvalLists(users, *positive, *history)


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
        scorer = BlockScorer(model, loader._dataset, getattr(loader, "user_df", None))
        found: dict[str, list[Tensor]] = {}
        for start, stop in self._blocks(len(lists.users), show_progress):
            strides = scorer.strides(stop - start)
            known = lists.flat("history", start, stop, strides, "cpu")
            scores, maxima = scorer.without(known, lists.users[start:stop], start)
            width, device = scores.shape[1], scores.device
            positives = lists.flat("positive", start, stop, (width, 1), device)
            if self._ranker is not None:
                rows = torch.div(positives, width, rounding_mode="floor")
                whole = scores.contiguous()
                self._ranker.eval_batch_collect(whole, None, rows, positives - rows * width)
            counts = torch.from_numpy(np.diff(lists.positive_indptr[start : stop + 1]))
            for name, part in self._top(scores, maxima, positives, counts.to(device)).items():
                found.setdefault(name, []).append(part)
        for name, parts in found.items():
            self.collector.data_struct.set(name, torch.cat(parts))
        struct = self.collector.get_data_struct()
        if self._ranker is not None:
            struct.set("rec.meanrank", self._ranker.get_data_struct().get("rec.meanrank"))
        return struct

    def _top(
        self, scores: Tensor, maxima: Tensor | None, positives: Tensor, counts: Tensor
    ) -> dict[str, Tensor]:
        """A block's lists: the top K items and, beside the hits, the number of positives."""
        need = self.collector.register.need
        if not (need("rec.topk") or need("rec.items")):
            return {}
        rows, width = scores.shape
        top = exact_top_k(scores, max(self.config["topk"]), maxima)
        found = {"rec.items": top} if need("rec.items") else {}
        if not need("rec.topk"):
            return found
        if self._flags.numel() < scores.numel() or self._flags.device != scores.device:
            self._flags = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
        offsets = torch.arange(rows, device=scores.device).unsqueeze(1) * width
        self._flags[positives] = True
        hits = self._flags[top + offsets]
        self._flags[positives] = False
        return {**found, "rec.topk": torch.cat((hits.long(), counts.unsqueeze(1)), dim=1)}

    def _starts(self, n_users: int) -> range:
        return range(0, n_users, self.block_users)

    def _blocks(self, n_users: int, show_progress: bool) -> Iterator[tuple[int, int]]:
        starts = self._starts(n_users)
        leave = not sys.stderr.isatty()
        with tqdm(
            starts, desc="Evaluate   ", ncols=100, disable=not show_progress, leave=leave
        ) as bar:
            for start in bar:
                self.should_stop()
                yield start, min(start + self.block_users, n_users)

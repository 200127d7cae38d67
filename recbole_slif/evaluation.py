"""Full-sort evaluation in blocks: one propagation, one matrix product a block, RecBole's metrics.

RecBole's own loop builds a fresh score matrix, a dense matrix of positives and several index
tensors for each batch. Here scores go into one kept buffer, history and positives are flat index
lists cut from a CSR layout, and only the top K leave the block. On a CPU the buffer holds items by
users, which the matrix product writes faster, to the same bits. The metric classes are RecBole's,
fed with the same data structure, so the figures are the same to the last digit.
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
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector, Evaluator
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.register import metric_information
from torch import Tensor
from tqdm import tqdm

from recbole_slif.ranking import exact_top_k

BLOCK_USERS = 256
PREDICT_PAIRS = 65_536
ITEMS_BY_USERS = 64


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


class BlockScorer:
    """Scores users against all items in blocks, by tables where the model has them.

    Args:
        model: any RecBole recommender.
        dataset: the data set of the evaluation loader, for user and item columns.
        user_rows: RecBole's `Interaction` of the evaluated users, or None to build one.
    """

    def __init__(self, model: Any, dataset: Any, user_rows: Any | None = None) -> None:
        self.model = model
        self.dataset = dataset
        self.user_rows = user_rows
        self.n_items = int(dataset.item_num)
        self._tables: tuple[Tensor, Tensor] | None = None
        self._buffer = torch.zeros(0)
        if hasattr(model, "score_tables"):
            if hasattr(model, "clear_tables"):
                model.clear_tables()
            self._tables = model.score_tables()

    @property
    def device(self) -> torch.device:
        """Device the scores lie on."""
        if self._tables is not None:
            return self._tables[1].device
        return torch.device(getattr(self.model, "device", "cpu"))

    def scores(self, users: np.ndarray, start: int = 0) -> Tensor:
        """Raw scores `[len(users), n_items]`; `start` is their position among the user rows.

        On a CPU and for `ITEMS_BY_USERS` users or more they are a transposed view of
        `[n_items, len(users)]`: the same bits, sooner. Below 12 users the bits could differ.
        """
        if self._tables is None:
            return self._predicted(users, start)
        user_table, item_table = self._tables
        rows = torch.from_numpy(users).to(item_table.device)
        block = torch.nn.functional.embedding(rows, user_table)
        room = len(users) * len(item_table)
        if self._buffer.numel() < room or self._buffer.device != item_table.device:
            self._buffer = item_table.new_empty(room)
        out = self._buffer[:room]
        if item_table.device.type != "cpu" or len(users) < ITEMS_BY_USERS:
            return torch.mm(block, item_table.T, out=out.view(len(users), -1))
        return torch.mm(item_table, block.T, out=out.view(-1, len(users))).T

    def _predicted(self, users: np.ndarray, start: int) -> Tensor:
        if self.user_rows is None:
            ids = Interaction({self.dataset.uid_field: torch.from_numpy(users)})
            rows = self.dataset.join(ids)
        else:
            rows = self.user_rows[start : start + len(users)]
        try:
            scores = self.model.full_sort_predict(rows.to(self.device))
        except NotImplementedError:
            scores = self._pairwise(rows)
        return scores.view(-1, self.n_items)

    def _pairwise(self, rows: Interaction) -> Tensor:
        items = self.dataset.get_item_feature()
        pairs = rows.repeat_interleave(self.n_items)
        pairs.update(items.repeat(len(rows)))
        parts = []
        for start in range(0, len(pairs), PREDICT_PAIRS):
            part = pairs[start : start + PREDICT_PAIRS].to(self.device)
            parts.append(self.model.predict(part).reshape(-1))
        return torch.cat(parts)


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
            scores = scorer.scores(lists.users[start:stop], start)
            width, device = scores.shape[1], scores.device
            scores[:, 0] = -np.inf
            by_item = scores.stride(0) == 1 and scores.stride(1) == len(scores)
            strides = (1, len(scores)) if by_item else (width, 1)
            memory = (scores.T if by_item else scores).view(-1)
            memory[lists.flat("history", start, stop, strides, device)] = -np.inf
            positives = lists.flat("positive", start, stop, (width, 1), device)
            if self._ranker is not None:
                rows = torch.div(positives, width, rounding_mode="floor")
                whole = scores.contiguous()
                self._ranker.eval_batch_collect(whole, None, rows, positives - rows * width)
            counts = torch.from_numpy(np.diff(lists.positive_indptr[start : stop + 1]))
            for name, part in self._top(scores, positives, counts.to(device)).items():
                found.setdefault(name, []).append(part)
        for name, parts in found.items():
            self.collector.data_struct.set(name, torch.cat(parts))
        struct = self.collector.get_data_struct()
        if self._ranker is not None:
            struct.set("rec.meanrank", self._ranker.get_data_struct().get("rec.meanrank"))
        return struct

    def _top(self, scores: Tensor, positives: Tensor, counts: Tensor) -> dict[str, Tensor]:
        """A block's lists: the top K items and, beside the hits, the number of positives."""
        need = self.collector.register.need
        if not (need("rec.topk") or need("rec.items")):
            return {}
        rows, width = scores.shape
        top = exact_top_k(scores, max(self.config["topk"]))
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

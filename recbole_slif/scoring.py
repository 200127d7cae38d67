"""Scores of a block of users against all items, in one kept buffer.

A model that has score tables is scored by one matrix product. On a CPU it is written items by
users, which is faster, to the same bits, in tiles that stay in the processor's cache: there the
known items are left out and the maxima of groups are found (`ranking`) before the next tile.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_slif.ranking import GROUP

PREDICT_PAIRS = 65_536
ITEMS_BY_USERS = 64
TILE_CELLS = 1 << 18  # 1 MiB of scores


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

    def _by_items(self, n_users: int) -> bool:
        """Tell whether a block lies items by users; below 12 users the bits could differ."""
        return self._tables is not None and self.device.type == "cpu" and n_users >= ITEMS_BY_USERS

    def strides(self, n_users: int) -> tuple[int, int]:
        """Return how far apart two users, and two items, of a block lie in memory."""
        return (1, n_users) if self._by_items(n_users) else (self.n_items, 1)

    def scores(self, users: np.ndarray, start: int = 0) -> Tensor:
        """Raw scores `[len(users), n_items]`; `start` is their position among the user rows.

        On a CPU and for `ITEMS_BY_USERS` users or more they are a transposed view of
        `[n_items, len(users)]`.
        """
        if self._tables is None:
            return self._predicted(users, start)
        rows, items = self._rows(self._tables[0], users), self._tables[1]
        if self._by_items(len(users)):
            return torch.mm(items, rows.T, out=self._room(items, len(items), len(rows))).T
        return torch.mm(rows, items.T, out=self._room(items, len(rows), len(items)))

    def without(self, known: Tensor, users: np.ndarray, start: int) -> tuple[Tensor, Tensor | None]:
        """Scores with [PAD] and the known items at minus infinity.

        Args:
            known: places in memory of what is left out, by `strides`, int64 on the CPU.
            users: user ids.
            start: their position among the user rows.

        Returns:
            Scores `[len(users), n_items]` as `scores` lays them out, and the maxima of groups that
            `ranking.exact_top_k` takes, or None where they are not found on the way.
        """
        if self._tables is not None and self._by_items(len(users)):
            return self._tiled(known, self._rows(self._tables[0], users), self._tables[1])
        scores = self.scores(users, start)
        scores.view(-1)[known.to(scores.device)] = -torch.inf
        scores[:, 0] = -torch.inf
        return scores, None

    def _rows(self, user_table: Tensor, users: np.ndarray) -> Tensor:
        """The users' rows of their table."""
        ids = torch.from_numpy(users).to(user_table.device)
        return torch.nn.functional.embedding(ids, user_table)

    def _room(self, like: Tensor, *shape: int) -> Tensor:
        """Return a matrix of the type of `like` in the kept buffer, whatever it held before."""
        cells = math.prod(shape)
        if self._buffer.numel() < cells or self._buffer.device != like.device:
            self._buffer = like.new_empty(cells)
        return self._buffer[:cells].view(shape)

    def _tiled(self, known: Tensor, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        n_users, n_items = len(users), len(items)
        room = self._room(items, n_items + n_items // GROUP, n_users)
        scores, maxima = room[:n_items], room[n_items:]
        # A tile holds whole groups; one of few items is another product routine, to other bits.
        height = max(ITEMS_BY_USERS, TILE_CELLS // n_users // GROUP * GROUP)
        edges = [*range(0, max(1, n_items - ITEMS_BY_USERS), height), n_items]
        places, memory = np.sort(known.numpy()), scores.view(-1)
        parts = np.split(places, np.searchsorted(places, np.array(edges[1:-1]) * n_users))
        for first, last, part in zip(edges[:-1], edges[1:], parts, strict=True):
            tile = scores[first:last]
            torch.mm(items[first:last], users.T, out=tile)
            if first == 0:
                tile[0] = -torch.inf
            memory.index_fill_(0, torch.from_numpy(part), -torch.inf)
            whole = tile[: (last - first) // GROUP * GROUP].view(-1, GROUP, n_users)
            torch.amax(whole, dim=1, out=maxima[first // GROUP :][: len(whole)])
        return scores.T, maxima

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

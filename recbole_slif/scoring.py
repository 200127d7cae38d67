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


class TableScores:
    """Inner products of users' and items' rows, a block of users at a time.

    Args:
        users: `[n_users, d]`.
        items: `[n_items, d]`, [PAD] first.
    """

    def __init__(self, users: Tensor, items: Tensor) -> None:
        self.users, self.items = users, items
        self._buffer = torch.zeros(0)

    def _by_items(self, n_users: int) -> bool:
        """Tell whether a block lies items by users; below 12 users the bits could differ."""
        return self.items.device.type == "cpu" and n_users >= ITEMS_BY_USERS

    def scores(self, users: np.ndarray) -> Tensor:
        """Raw scores `[len(users), n_items]` of user ids.

        On a CPU and for `ITEMS_BY_USERS` users or more they are a transposed view of
        `[n_items, len(users)]`.
        """
        return self._product(self._rows(users), self.items)

    def without(
        self, rows: np.ndarray, known: np.ndarray, users: np.ndarray, n_first: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Scores with [PAD] and the known items at minus infinity.

        Args:
            rows: positions in `users` of what is left out, int64.
            known: the items left out, int64, below `n_first`.
            users: user ids.
            n_first: score so many items, from the first on; None for all.

        Returns:
            Scores `[len(users), n_first]` as `scores` lays them out, and the maxima of groups that
            `ranking.exact_top_k` takes, or None where they are not found on the way.
        """
        items = self.items[:n_first]
        if self._by_items(len(users)):
            return self._tiled(rows + known * len(users), self._rows(users), items)
        scores = self._product(self._rows(users), items)
        leave_out(scores, rows, known)
        return scores, None

    def _product(self, rows: Tensor, items: Tensor) -> Tensor:
        if self._by_items(len(rows)):
            return torch.mm(items, rows.T, out=self._room(len(items), len(rows))).T
        return torch.mm(rows, items.T, out=self._room(len(rows), len(items)))

    def _rows(self, users: np.ndarray) -> Tensor:
        """The users' rows of their table."""
        ids = torch.from_numpy(users).to(self.users.device)
        return torch.nn.functional.embedding(ids, self.users)

    def _room(self, *shape: int) -> Tensor:
        """Return a matrix of the items' type in the kept buffer, whatever it held before."""
        cells = math.prod(shape)
        if self._buffer.numel() < cells or self._buffer.device != self.items.device:
            self._buffer = self.items.new_empty(cells)
        return self._buffer[:cells].view(shape)

    def _tiled(self, places: np.ndarray, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        n_users, n_items = len(users), len(items)
        room = self._room(n_items + n_items // GROUP, n_users)
        scores, maxima = room[:n_items], room[n_items:]
        # A tile holds whole groups; one of few items is another product routine, to other bits.
        height = max(ITEMS_BY_USERS, TILE_CELLS // n_users // GROUP * GROUP)
        edges = [*range(0, max(1, n_items - ITEMS_BY_USERS), height), n_items]
        places, memory = np.sort(places), scores.view(-1)
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
        self.tables: TableScores | None = None
        if hasattr(model, "score_tables"):
            if hasattr(model, "clear_tables"):
                model.clear_tables()
            self.tables = TableScores(*model.score_tables())

    def scores(self, users: np.ndarray, start: int = 0) -> Tensor:
        """Raw scores `[len(users), n_items]`; `start` is their position among the user rows.

        Memory lies as `TableScores.scores` says.
        """
        if self.tables is not None:
            return self.tables.scores(users)
        if self.user_rows is None:
            ids = Interaction({self.dataset.uid_field: torch.from_numpy(users)})
            rows = self.dataset.join(ids)
        else:
            rows = self.user_rows[start : start + len(users)]
        device = torch.device(getattr(self.model, "device", "cpu"))
        try:
            scores = self.model.full_sort_predict(rows.to(device))
        except NotImplementedError:
            scores = self._pairwise(rows, device)
        return scores.view(-1, self.n_items)

    def without(
        self, rows: np.ndarray, known: np.ndarray, users: np.ndarray, start: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """Scores with [PAD] and the known items at minus infinity.

        Args:
            rows: see `TableScores.without`, as for what is returned.
            known: the items left out.
            users: user ids.
            start: their position among the user rows.
        """
        if self.tables is not None:
            return self.tables.without(rows, known, users)
        scores = self.scores(users, start)
        leave_out(scores, rows, known)
        return scores, None

    def _pairwise(self, rows: Interaction, device: torch.device) -> Tensor:
        items = self.dataset.get_item_feature()
        pairs = rows.repeat_interleave(self.n_items)
        pairs.update(items.repeat(len(rows)))
        parts = []
        for start in range(0, len(pairs), PREDICT_PAIRS):
            part = pairs[start : start + PREDICT_PAIRS].to(device)
            parts.append(self.model.predict(part).reshape(-1))
        return torch.cat(parts)


def leave_out(scores: Tensor, rows: np.ndarray, items: np.ndarray) -> None:
    """Put [PAD] and the items `[n]` of the rows `[n]` to minus infinity in `[b, n_items]`."""
    known = torch.from_numpy(rows * scores.shape[1] + items)
    scores.view(-1)[known.to(scores.device)] = -torch.inf
    scores[:, 0] = -torch.inf

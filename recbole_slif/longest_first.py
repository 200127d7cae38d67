"""Full ranking by inner products that looks only at items long enough to be among the best."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recbole_slif.ranking import GROUP, exact_top_k, largest, tied
from recbole_slif.scoring import ITEMS_BY_USERS, TableScores

FIRST_ITEMS = 1024
_FIRST_GROUPS = 5  # times the length of a list, so that groups of the first items are searched
_WORTH = 0.8  # share of the items looked at, above which all of them may as well be


class LongestFirst:
    r"""Ranks items in descending length of their rows and stops where none can come in.

    .. math::
        x_u \cdot y_i \le \|x_u\| \|y_i\| < s_u \quad \Rightarrow \quad i \notin top_K(u)

    (the LENGTH bound of LEMP: Teflioudi, Gemulla, Mykytiuk, SIGMOD 2015; Cauchy-Schwarz). The
    `K+1`-st best of the longest items bounds s_u from below. Trained tables give popular items
    long rows, so that few of the others are left; tables of equal lengths gain nothing.

    The lists are those of all scores, to the same bits: rows with equal scores among their first
    `K + 1` are ranked over all items in their own order. A margin covers what rounding may add to
    a product.

    | symbol | here |
    |---|---|
    | x_u, y_i | `tables.users`, `tables.items` |
    | s_u | `lowest` |
    """

    def __init__(self, tables: TableScores, k: int) -> None:
        """Sort the items of tables on a CPU; [PAD] stays first.

        Args:
            tables: scores of all items.
            k: length of the lists.
        """
        self.tables, self.k = tables, k
        lengths = torch.linalg.vector_norm(tables.items, dim=1).nan_to_num(nan=torch.inf)
        lengths[0] = torch.inf
        self._lengths, self.order = lengths.sort(descending=True, stable=True)
        place = torch.empty_like(self.order)
        place[self.order] = torch.arange(len(place))
        self.place = place.numpy()
        self.sorted = TableScores(tables.users, tables.items[self.order])
        self.n_first = _first_items(k)
        width = tables.items.shape[1]
        self._margin = 1.0 + 4.0 * (width + 4) * torch.finfo(tables.items.dtype).eps

    def depths(self, users: np.ndarray, rows: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Count for each user the items, longest first, that its list can hold, `[b]` int64.

        Args:
            users: user ids `[b]`.
            rows: positions in `users` of what is left out.
            known: the items left out.
        """
        scores, _ = self._sorted_scores(users, rows, known, self.n_first)
        lowest = self._at_least(scores)
        lengths = torch.linalg.vector_norm(self.tables.users[torch.from_numpy(users)], dim=1)
        least = torch.where(lowest > 0.0, lowest / (lengths * self._margin), 0.0)
        found = torch.searchsorted(-self._lengths, -least, right=True)
        return found.clamp_min(self.n_first).numpy()

    def _at_least(self, scores: Tensor) -> Tensor:
        """A lower bound `[b]` on the `K+1`-st best of scores: on different items each, by groups.

        Groups take items from far apart, so that few of the longest share one.
        """
        whole = scores.T[: self.n_first // GROUP * GROUP].reshape(GROUP, -1, len(scores))
        best = whole.amax(dim=0).T.contiguous().numpy()
        place = best.shape[1] - self.k - 1
        return torch.from_numpy(np.partition(best, place, axis=1)[:, place])

    def pays(self, depths: np.ndarray) -> bool:
        """Tell from some users' depths whether looking at few items pays."""
        return float(depths.mean()) <= _WORTH * len(self.place)

    def top(
        self, users: np.ndarray, rows: np.ndarray, known: np.ndarray, depth: int
    ) -> tuple[Tensor, Tensor]:
        """Return items and scores `[b, k]` of the users' lists, best first.

        Args:
            users: user ids `[b]`.
            rows: positions in `users` of what is left out.
            known: the items left out.
            depth: at least the users' `depths`.
        """
        scores, maxima = self._sorted_scores(users, rows, known, depth)
        columns, values = largest(scores, self.k + 1, maxima)
        items, best = self.order[columns[:, : self.k]], values[:, : self.k].contiguous()
        unsure = tied(values).numpy()
        if unsure.any():
            held = unsure[rows]
            places = (np.cumsum(unsure) - 1)[rows[held]]
            redone = self._among_all(users[unsure], places, known[held])
            items[unsure], best[unsure] = redone
        return items, best

    def _sorted_scores(
        self, users: np.ndarray, rows: np.ndarray, known: np.ndarray, depth: int
    ) -> tuple[Tensor, Tensor | None]:
        places = self.place[known]
        inside = places < depth
        return self.sorted.without(rows[inside], places[inside], users, depth)

    def _among_all(
        self, users: np.ndarray, rows: np.ndarray, known: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        # enough users for the bits of a whole block, the first ones again
        many = np.resize(users, max(len(users), ITEMS_BY_USERS))
        scores = self.tables.without(rows, known, many)[0][: len(users)].contiguous()
        items = exact_top_k(scores, self.k)
        return items, torch.gather(scores, 1, items)


def _first_items(k: int) -> int:
    """How many of the longest items bound the others: enough groups for a list of `k`."""
    return max(FIRST_ITEMS, _FIRST_GROUPS * GROUP * (k + 1))


def longest_first(tables: TableScores | None, k: int) -> LongestFirst | None:
    """Return the ranking of tables that it can serve: on a CPU, with many items for each place."""
    if tables is None or tables.items.device.type != "cpu":
        return None
    return LongestFirst(tables, k) if len(tables.items) >= 4 * _first_items(k) else None

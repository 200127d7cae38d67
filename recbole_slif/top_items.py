"""Top-K lists of many users, block by block, in the order in which that is least work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recbole_slif.longest_first import LongestFirst, longest_first
from recbole_slif.ranking import exact_top_k
from recbole_slif.scoring import BlockScorer

Known = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Takes positions of users `[b]`; returns rows among them and items `[n]` that are left out."""


@dataclass(frozen=True)
class Block:
    """Users that are ranked at a time.

    Attributes:
        positions: their positions among all users, `[b]`.
        depth: how many items are ranked, in descending length of their rows; None for all items.
    """

    positions: np.ndarray
    depth: int | None


class TopItems:
    """The K best items of each user, without [PAD] and the items it knows.

    Args:
        scorer: scores of the model.
        users: user ids `[n]`; those of the scorer's user rows, if it has some.
        known: what each of them is not to be given.
        k: length of the lists, at most the number of items.
        block_users: users at a time.
    """

    def __init__(
        self, scorer: BlockScorer, users: np.ndarray, known: Known, k: int, block_users: int
    ) -> None:
        self.scorer, self.users, self.known = scorer, users, known
        self.k, self.block_users = k, block_users
        self._longest_first: LongestFirst | None = None

    def blocks(self, positions: np.ndarray, whole: bool = False) -> list[Block]:
        """Cut ascending positions `[m]` into blocks.

        Where the model's tables let lists end early (`LongestFirst`), users whose lists end at
        similar depths share a block, the shallow ones first. That is tried on a sample.

        Args:
            positions: who is ranked.
            whole: rank all items, since the whole rows of scores are wanted too.
        """
        parts = self._cut(positions)
        depths = None if whole or len(parts) < 2 else self._depths(parts)
        if depths is None:
            return [Block(part, None) for part in parts]
        order = self._cut(np.argsort(depths, kind="stable"))
        return [Block(positions[part], int(depths[part[-1]])) for part in order]

    @torch.no_grad()
    def _depths(self, parts: list[np.ndarray]) -> np.ndarray | None:
        """How many items each list needs, `[m]`; None where all may as well be ranked."""
        self._longest_first = ranking = longest_first(self.scorer.tables, self.k)
        if ranking is None:
            return None
        sample = np.concatenate(parts)[:: len(parts)]
        if not ranking.pays(ranking.depths(self.users[sample], *self.known(sample))):
            return None
        found = [ranking.depths(self.users[part], *self.known(part)) for part in parts]
        return np.concatenate(found)

    @torch.no_grad()
    def rows(self, block: Block) -> tuple[Tensor, Tensor | None]:
        """Return the scores `[b, n_items]` of a whole block, see `BlockScorer.without`."""
        users, left_out = self.users[block.positions], self.known(block.positions)
        return self.scorer.without(*left_out, users, int(block.positions[0]))

    @torch.no_grad()
    def top(
        self, block: Block, rows: tuple[Tensor, Tensor | None] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return items and scores `[b, k]` of a block's users, best first.

        Args:
            block: who is ranked.
            rows: what `rows` gave for it, if it was asked.
        """
        if block.depth is not None and self._longest_first is not None:
            users, left_out = self.users[block.positions], self.known(block.positions)
            return self._longest_first.top(users, *left_out, block.depth)
        scores, maxima = rows or self.rows(block)
        items = exact_top_k(scores, self.k, maxima)
        return items, torch.gather(scores, 1, items)

    def lists(self, at_once: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield position, items `[k]` and scores `[k]`, on the CPU, of each user, in their order.

        Args:
            at_once: users whose lists are held at a time.
        """
        for start in range(0, len(self.users), at_once):
            positions = np.arange(start, min(start + at_once, len(self.users)))
            blocks = self.blocks(positions)
            found = [self.top(block) for block in blocks]
            order = np.argsort(np.concatenate([block.positions for block in blocks]))
            items, scores = (torch.cat(parts).cpu()[order] for parts in zip(*found, strict=True))
            yield from zip(positions.tolist(), items, scores, strict=True)

    def _cut(self, entries: np.ndarray) -> list[np.ndarray]:
        return [
            entries[start : start + self.block_users]
            for start in range(0, len(entries), self.block_users)
        ]

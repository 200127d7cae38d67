"""Random triples of a knowledge graph, and false tails for them, drawn by rejection."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from recbole_slif.errors import DataError

_ROUNDS = 8


class TripleSampler:
    """Draws triples of given heads, and entities that are no tail of a given head and relation.

    The draws come from torch's own CPU generator, whose state every checkpoint holds.
    """

    def __init__(
        self, heads: ArrayLike, relations: ArrayLike, tails: ArrayLike, n_entities: int
    ) -> None:
        """Index the known triples.

        Args:
            heads: `[n_triples]` entity ids.
            relations: `[n_triples]` relation ids.
            tails: `[n_triples]` entity ids.
            n_entities: number of entity ids, [PAD] 0 included.

        Raises:
            DataError: there are so many entities and relations that a triple does not fit a number.
        """
        columns = [torch.as_tensor(np.asarray(part), dtype=torch.int64) for part in (heads, tails)]
        relation = torch.as_tensor(np.asarray(relations), dtype=torch.int64)
        self.n_entities = n_entities
        self.n_relations = int(relation.max()) + 1 if len(relation) else 1
        if self.n_relations * n_entities**2 > torch.iinfo(torch.int64).max:
            raise DataError(
                f"{n_entities} entities with {self.n_relations} relations are too many to number "
                "their triples: leave out relations or entities that are rare."
            )
        self._known = torch.unique(self._key(columns[0], relation) * n_entities + columns[1])

    @property
    def heads(self) -> Tensor:
        """The distinct heads, ascending."""
        return torch.unique_consecutive(self._known // (self.n_relations * self.n_entities))

    def draw_triples(self, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Draw one triple for each head, uniformly from its distinct triples.

        Args:
            heads: `[n]` entity ids, each the head of a triple.

        Returns:
            Relations and tails, `[n]` each, on the device of `heads`.
        """
        width = self.n_relations * self.n_entities
        keys = heads.cpu().long() * width
        first, last = (torch.searchsorted(self._known, bound) for bound in (keys, keys + width))
        chosen = self._known[first + torch.randint(2**62, first.shape) % (last - first)] - keys
        relations = torch.div(chosen, self.n_entities, rounding_mode="floor")
        return relations.to(heads.device), (chosen % self.n_entities).to(heads.device)

    def is_known(self, heads: Tensor, relations: Tensor, tails: Tensor) -> Tensor:
        """Whether triples `[n]` (on the CPU) are in the graph, bool `[n]`."""
        return self._holds(self._key(heads, relations), relations, tails)

    def negative_tails(self, heads: Tensor, relations: Tensor) -> Tensor:
        """Draw a false tail for each head and relation.

        Args:
            heads: `[n]` entity ids.
            relations: `[n]` relation ids; one that no triple has accepts every entity.

        Returns:
            `[n]` entity ids from 1 on, on the device of `heads`; where a head is linked to every
            entity by the relation, any entity.
        """
        device = heads.device
        keys, relations = self._key(heads.cpu(), relations.cpu()), relations.cpu()
        drawn = self._draw(len(keys))
        open_places = torch.arange(len(keys))
        for _ in range(_ROUNDS):
            known = self._holds(keys[open_places], relations[open_places], drawn[open_places])
            open_places = open_places[known]
            if not len(open_places):
                return drawn.to(device)
            drawn[open_places] = self._draw(len(open_places))
        known = self._holds(keys[open_places], relations[open_places], drawn[open_places])
        for place in open_places[known].tolist():
            drawn[place] = self._draw_from_rest(int(keys[place]))
        return drawn.to(device)

    def _key(self, heads: Tensor, relations: Tensor) -> Tensor:
        return heads.long() * self.n_relations + relations.long()

    def _holds(self, keys: Tensor, relations: Tensor, tails: Tensor) -> Tensor:
        triples = keys * self.n_entities + tails.long()
        places = torch.searchsorted(self._known, triples)
        inside = (places < len(self._known)) & (relations < self.n_relations)
        found = torch.zeros_like(inside)
        found[inside] = self._known[places[inside]] == triples[inside]
        return found

    def _draw(self, count: int) -> Tensor:
        return torch.randint(1, max(self.n_entities, 2), (count,))

    def _draw_from_rest(self, key: int) -> int:
        """Draw from the list of all false tails of one (head, relation): few are left to hit."""
        bounds = torch.tensor([key * self.n_entities, (key + 1) * self.n_entities])
        first, last = torch.searchsorted(self._known, bounds).tolist()
        free = torch.ones(self.n_entities, dtype=torch.bool)
        free[self._known[first:last] - bounds[0]] = False
        free[0] = False
        rest = free.nonzero().squeeze(1)
        if not len(rest):
            return int(self._draw(1))
        return int(rest[torch.randint(len(rest), (1,))])


def draw_of_each(keys: np.ndarray, at_most: int | None) -> np.ndarray:
    """Draw entries of each key without repetition, from torch's CPU generator.

    Args:
        keys: `[n]` ids from 0 on.
        at_most: How many entries of a key are drawn; None for all, without a draw.

    Returns:
        The positions drawn, ascending.
    """
    if at_most is None:
        return np.arange(len(keys))
    shuffled = np.lexsort((torch.randperm(len(keys)).numpy(), keys))
    counts = np.bincount(keys)
    rank = np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(shuffled[rank < at_most])

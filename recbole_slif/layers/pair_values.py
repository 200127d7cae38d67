"""The relational mean where thinning sets values to 0: all pairs (relation, node) at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_slif.graph.sparse import SparseOperator


@dataclass(frozen=True, eq=False)
class ValuedPairs:
    """Two sparse products over all pairs; edges left out are entries of value 0.

    For devices on which a product costs less than laying out a smaller one. There are no blocks
    either: a kernel for each relation of each block would cost more than the memory traffic saved.

    Attributes:
        collect: `[n_pairs, n_entities]`, adds up each pair's tails.
        hand_out: `[n_entities, n_pairs]`, adds up each head's pairs.
        hand_back: `hand_out` transposed.
        edges: for the entries of `collect` and of `hand_back`, their edge; `n_edges` for entries
            that belong to a pair instead.
        heads: `[n_edges]` head of each edge.
        relations: `[n_pairs]` relation of each pair.
        inverse_degree: `[n_entities, 1]`.
        rows: entities whose means are wanted, None for all.
    """

    collect: SparseOperator
    hand_out: SparseOperator
    hand_back: SparseOperator
    edges: tuple[Tensor, Tensor]
    heads: Tensor
    relations: Tensor
    inverse_degree: Tensor
    rows: Tensor | None = None

    @classmethod
    def lay_out(
        cls,
        collect: tuple[SparseOperator, np.ndarray],
        hand_back: tuple[SparseOperator, np.ndarray],
        heads: np.ndarray,
        relations: np.ndarray,
    ) -> ValuedPairs:
        """Move the indices to where the operators lie.

        Args:
            collect: the operator and the edge of each entry, -1 where it belongs to a pair.
            hand_back: likewise.
            heads: `[n_edges]`.
            relations: `[n_pairs]`.
        """

        def there(ids: np.ndarray) -> Tensor:
            return torch.from_numpy(ids.astype(np.int32)).to(collect[0].device)

        edges = [there(np.where(ids < 0, len(heads), ids)) for _, ids in (collect, hand_back)]
        operator, heads_there = hand_back[0], there(heads)
        every = torch.ones(len(heads), dtype=operator.dtype, device=operator.device)
        return cls(
            collect[0],
            operator.transpose(),
            operator,
            (edges[0], edges[1]),
            heads_there,
            there(relations),
            _inverse_degree(every, heads_there, operator.shape[1]),
        )

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return self.collect.shape[0]

    def without(self, kept: Tensor) -> ValuedPairs:
        """Return all entities' means over the kept edges, `kept` `[n_edges]` bool on any device."""
        weights = kept.to(self.heads.device, non_blocking=True).to(self.collect.dtype)
        # what belongs to a pair reads the appended 1
        values = F.pad(weights, (0, 1), value=1.0)
        collect, hand_back = (
            operator.with_values(values.index_select(0, edges))
            for operator, edges in zip((self.collect, self.hand_back), self.edges, strict=True)
        )
        return replace(
            self,
            collect=collect,
            hand_out=hand_back.transpose(),
            hand_back=hand_back,
            inverse_degree=_inverse_degree(weights, self.heads, len(self.inverse_degree)),
            rows=None,
        )

    def at(self, rows: Tensor) -> ValuedPairs:
        """Return the means of some entities alone, `rows` `[n]` on any device."""
        return replace(self, rows=rows.to(self.heads.device))

    def means(self, x: Tensor, relation_rows: Tensor) -> Tensor:
        """Return the means `[n_entities, d]`, or `[len(rows), d]`, of `x` `[n_entities, d]`.

        Args:
            x: `[n_entities, d]`.
            relation_rows: `[n_relations, d]`.
        """
        pairs = (self.collect @ x) * F.embedding(self.relations, relation_rows)
        means = (self.hand_out @ pairs) * self.inverse_degree
        return means if self.rows is None else F.embedding(self.rows, means)


def _inverse_degree(weights: Tensor, heads: Tensor, n_entities: int) -> Tensor:
    """One over the kept edges of each head, `[n_entities, 1]`; 1 where there are none."""
    degree = weights.new_zeros(n_entities).index_add_(0, heads, weights)
    return degree.clamp_min_(1.0).reciprocal_().unsqueeze(1)

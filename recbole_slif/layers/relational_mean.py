"""Mean of tails seen through their relation, the knowledge aggregation of KGIN, KGRec and KRDN."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recbole_slif.graph.dropout import keep_entries
from recbole_slif.graph.sparse import SparseOperator


class _ScaleBlocks(torch.autograd.Function):
    """Multiply consecutive blocks of rows by one row each, without spreading those rows out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, bounds: list[int]) -> Tensor:
        ctx.save_for_backward(x, rows)
        ctx.bounds = bounds
        return _scaled(x, rows, bounds)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, rows = ctx.saved_tensors
        grad = gradients[0].contiguous()
        grad_rows = torch.zeros_like(rows)
        for index, (start, stop) in enumerate(pairwise(ctx.bounds)):
            if stop > start:
                grad_rows[index] = (x[start:stop] * grad[start:stop]).sum(dim=0)
        return _scaled(grad, rows, ctx.bounds), grad_rows, None


def _scaled(x: Tensor, rows: Tensor, bounds: list[int]) -> Tensor:
    result = torch.empty_like(x)
    for index, (start, stop) in enumerate(pairwise(bounds)):
        if stop > start:
            torch.mul(x[start:stop], rows[index], out=result[start:stop])
    return result


class RelationalMean:
    r"""Each entity becomes the mean of its tails, each multiplied by the row of its relation.

    .. math::
        y_h = \frac{1}{|N_h|} \sum_{(h, r, t) \in N_h} e_r \odot e_t

    (KGIN, Wang et al., WWW 2021, Section 3.2.2.) An entity without triples gives 0.

    The product distributes over sums, so no row per edge is ever made: where a relation has fewer
    distinct heads than tails, the tails of a (head, relation) are added up first and multiplied
    once; where it has fewer distinct tails, a (relation, tail) is multiplied once and then handed
    to all its heads. Either way a *pair* (relation, node) is multiplied once, between two sparse
    products whose entries together are the edges and the pairs. Measured forward and backward at
    1.37 million edges, 78 relations, d = 64 on one thread: 0.18 s, against 1.84 s for a row per
    edge with `index_add`, 0.34 s with (head, relation) and 0.37 s with (relation, tail) for all.
    """

    def __init__(
        self,
        heads: np.ndarray,
        relations: np.ndarray,
        tails: np.ndarray,
        n_entities: int,
        n_relations: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Choose each relation's side and lay out the two sparse products.

        Args:
            heads: `[n_edges]` entity ids.
            relations: `[n_edges]` ids in `0 .. n_relations - 1`, rows of the relation table.
            tails: `[n_edges]` entity ids.
            n_entities: number of entity ids.
            n_relations: number of rows of the relation table.
            device: where the operators live.
            dtype: type of the operators' values.
        """
        self.n_entities, self.n_relations = n_entities, n_relations
        self.device, self.dtype = device, dtype
        self.heads = np.asarray(heads)
        self.n_edges = len(self.heads)
        heads, relations, tails = (np.asarray(part, np.int64) for part in (heads, relations, tails))
        by_tail = _distinct(relations, tails, n_entities, n_relations) <= _distinct(
            relations, heads, n_entities, n_relations
        )
        multiplied_at_tail = by_tail[relations]
        node = np.where(multiplied_at_tail, tails, heads)
        keys, pair = np.unique(relations * n_entities + node, return_inverse=True)
        pair_relation, pair_node = np.divmod(keys, max(n_entities, 1))
        self.n_pairs = len(keys)
        counts = np.bincount(pair_relation, minlength=n_relations)
        self._bounds: list[int] = [0, *np.cumsum(counts).tolist()]
        at_tail, at_head = np.flatnonzero(multiplied_at_tail), np.flatnonzero(~multiplied_at_tail)
        tail_pairs = np.flatnonzero(by_tail[pair_relation])
        head_pairs = np.flatnonzero(~by_tail[pair_relation])
        # entries that belong to a pair and not to an edge carry the edge number -1
        self._collect = _layout(
            np.concatenate([tail_pairs, pair[at_head]]),
            np.concatenate([pair_node[tail_pairs], tails[at_head]]),
            np.concatenate([np.full(len(tail_pairs), -1), at_head]),
            (self.n_pairs, n_entities),
        )
        self._hand_out = _layout(
            np.concatenate([heads[at_tail], pair_node[head_pairs]]),
            np.concatenate([pair[at_tail], head_pairs]),
            np.concatenate([at_tail, np.full(len(head_pairs), -1)]),
            (n_entities, self.n_pairs),
        )
        self._operators = self._build(None)

    def without(self, kept: np.ndarray) -> RelationalMean:
        """Return the same layer on the kept edges only, means taken over those.

        Args:
            kept: `[n_edges]` bool, in the order the edges were given.
        """
        smaller = object.__new__(RelationalMean)
        smaller.__dict__.update(self.__dict__)
        smaller._operators = self._build(kept)
        return smaller

    def __call__(self, entities: Tensor, relation_rows: Tensor) -> Tensor:
        """Return the means `[n_entities, d]`.

        Args:
            entities: `[n_entities, d]`.
            relation_rows: `[n_relations, d]`.
        """
        collect, hand_out, inverse_degree = self._operators
        pairs = _ScaleBlocks.apply(collect @ entities, relation_rows, self._bounds)
        return (hand_out @ pairs) * inverse_degree

    def _build(self, kept: np.ndarray | None) -> tuple[SparseOperator, SparseOperator, Tensor]:
        heads = self.heads if kept is None else self.heads[kept]
        degree = np.maximum(np.bincount(heads, minlength=self.n_entities), 1)
        inverse = torch.from_numpy(1.0 / degree).to(self.device, self.dtype).unsqueeze(1)
        collect, hand_out = (
            self._operator(*layout, kept) for layout in (self._collect, self._hand_out)
        )
        return collect, hand_out, inverse

    def _operator(
        self, matrix: sp.csr_array, edges: np.ndarray, kept: np.ndarray | None
    ) -> SparseOperator:
        if kept is not None:
            # index -1 reads the appended True: what belongs to a pair is always kept
            matrix = keep_entries(matrix, np.append(kept, True)[edges])
        return SparseOperator.from_scipy(matrix, dtype=self.dtype, device=self.device)


def _layout(
    rows: np.ndarray, columns: np.ndarray, edges: np.ndarray, shape: tuple[int, int]
) -> tuple[sp.csr_array, np.ndarray]:
    """Sort entries into a CSR matrix of ones; return it with the edge number of each entry."""
    order = np.lexsort((columns, rows))
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    ones = np.ones(len(rows), dtype=np.float32)
    return sp.csr_array((ones, columns[order], starts), shape=shape), edges[order]


def _distinct(
    relations: np.ndarray, nodes: np.ndarray, n_entities: int, n_relations: int
) -> np.ndarray:
    """Count the distinct nodes of each relation, `[n_relations]`."""
    keys = np.unique(relations * n_entities + nodes)
    return np.bincount(keys // max(n_entities, 1), minlength=n_relations)

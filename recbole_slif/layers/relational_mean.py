"""Mean of tails seen through their relation, the knowledge aggregation of KGIN, KGRec and KRDN."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recbole_slif.graph.dropout import keep_entries
from recbole_slif.graph.grouping import count_distinct
from recbole_slif.graph.patterns import rebuilt_on
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers import pair_blocks
from recbole_slif.layers.pair_blocks import PairPlan, ones_at
from recbole_slif.layers.pair_values import ValuedPairs


class RelationalMean:
    r"""Each entity becomes the mean of its tails, each multiplied by the row of its relation.

    .. math::
        y_h = \frac{1}{|N_h|} \sum_{(h, r, t) \in N_h} e_r \odot e_t

    (KGIN, Wang et al., WWW 2021, Section 3.2.2.) An entity without triples gives 0.

    The product distributes over sums, so no row per edge is ever made: where a relation has fewer
    distinct heads than tails, the tails of a (head, relation) are added up first and multiplied
    once; where it has fewer distinct tails, a (relation, tail) is multiplied once and then handed
    to all its heads. Either way a *pair* (relation, node) is multiplied once, between two sparse
    products whose entries together are the edges and the pairs, and block by block while its row
    is in the cache. Measured forward and backward at 1.37 million edges, 238,500 pairs, d = 64 on
    one thread: 0.21 s, against 1.72 s for a row per edge with `index_add`; on a random half of the
    edges 0.11 s, against 0.86 s.
    """

    def __init__(
        self,
        heads: np.ndarray,
        relations: np.ndarray,
        tails: np.ndarray,
        n_entities: int,
        n_relations: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Choose each relation's side and lay out the two sparse products.

        Args:
            heads: `[n_edges]` entity ids.
            relations: `[n_edges]` ids in `0 .. n_relations - 1`, rows of the relation table.
            tails: `[n_edges]` entity ids.
            n_entities: number of entity ids.
            n_relations: number of rows of the relation table.
            device: where the operators live.
            dtype: type of the operators' values; None for torch's default.
        """
        self.n_entities, self.n_relations = n_entities, n_relations
        self.device, self.dtype = device, dtype or torch.get_default_dtype()
        self.n_edges = len(heads)
        heads, relations, tails = (np.asarray(part, np.int64) for part in (heads, relations, tails))
        self.heads = heads
        by_tail = count_distinct(relations, tails, n_entities, n_relations) <= count_distinct(
            relations, heads, n_entities, n_relations
        )
        multiplied_at_tail = by_tail[relations]
        node = np.where(multiplied_at_tail, tails, heads)
        keys, pair = np.unique(relations * n_entities + node, return_inverse=True)
        self._pair_relation, pair_node = np.divmod(keys, max(n_entities, 1))
        at_tail, at_head = np.flatnonzero(multiplied_at_tail), np.flatnonzero(~multiplied_at_tail)
        tail_pairs = np.flatnonzero(by_tail[self._pair_relation])
        head_pairs = np.flatnonzero(~by_tail[self._pair_relation])
        # entries that belong to a pair and not to an edge carry the edge number -1
        shape = (len(keys), n_entities)
        self._collect = ones_at(
            np.concatenate([tail_pairs, pair[at_head]]),
            np.concatenate([pair_node[tail_pairs], tails[at_head]]),
            np.concatenate([np.full(len(tail_pairs), -1), at_head]),
            shape,
        )
        self._hand_back = ones_at(
            np.concatenate([pair[at_tail], head_pairs]),
            np.concatenate([heads[at_tail], pair_node[head_pairs]]),
            np.concatenate([at_tail, np.full(len(head_pairs), -1)]),
            shape,
        )
        self._kept: np.ndarray | None = None
        self._plan: PairPlan | ValuedPairs
        if rebuilt_on(device):
            self._plan = self._build(None, None)
        else:
            # triples that come twice are two entries, each with a value of its own
            first, second = (
                (SparseOperator.from_scipy(matrix, self.dtype, device, as_laid_out=True), edges)
                for matrix, edges in (self._collect, self._hand_back)
            )
            self._plan = ValuedPairs.lay_out(first, second, heads, self._pair_relation)

    @property
    def n_pairs(self) -> int:
        """Number of pairs (relation, node) that are multiplied."""
        return self._plan.n_pairs

    def without(self, kept: np.ndarray | Tensor) -> RelationalMean:
        """Return the layer of all entities on the kept edges only, means taken over those.

        Args:
            kept: `[n_edges]` bool, in the order the edges were given.
        """
        if isinstance(self._plan, ValuedPairs):
            return self._planned(self._plan.without(torch.as_tensor(kept)))
        kept = np.asarray(kept)
        return self._planned(self._build(kept, None), kept)

    def at(self, rows: np.ndarray | Tensor) -> RelationalMean:
        """Return the same layer, which gives the means of some entities alone, `[len(rows), d]`.

        Args:
            rows: distinct entity ids, ascending.
        """
        if isinstance(self._plan, ValuedPairs):
            return self._planned(self._plan.at(torch.as_tensor(rows)))
        return self._planned(self._build(self._kept, np.asarray(rows)), self._kept)

    def _planned(
        self, plan: PairPlan | ValuedPairs, kept: np.ndarray | None = None
    ) -> RelationalMean:
        other = object.__new__(RelationalMean)
        other.__dict__.update(self.__dict__)
        other._plan, other._kept = plan, kept
        return other

    def __call__(self, entities: Tensor, relation_rows: Tensor) -> Tensor:
        """Return the means `[n_entities, d]`, or those of the rows that `at` chose.

        Args:
            entities: `[n_entities, d]`.
            relation_rows: `[n_relations, d]`.
        """
        return self._plan.means(entities.contiguous(), relation_rows)

    def _build(self, kept: np.ndarray | None, rows: np.ndarray | None) -> PairPlan:
        own_rows, n_rows = self.heads, self.n_entities
        if rows is not None:
            n_rows, places = len(rows), np.full(self.n_entities, -1)
            places[rows] = np.arange(n_rows)
            own_rows = places[self.heads]
            kept = own_rows >= 0 if kept is None else (own_rows >= 0) & kept
        own_rows = own_rows if kept is None else own_rows[kept]
        degree = np.maximum(np.bincount(own_rows, minlength=n_rows), 1)
        inverse = torch.from_numpy(1.0 / degree).to(self.device, self.dtype).unsqueeze(1)
        (collect, collect_edges), (hand_back, hand_edges) = self._collect, self._hand_back
        relations = self._pair_relation
        if kept is not None:
            # index -1 reads the appended True: what belongs to a pair is kept as long as the pair
            chosen = np.append(kept, True)
            collect = keep_entries(collect, chosen[collect_edges])
            hand_back = keep_entries(hand_back, chosen[hand_edges])
            alive = np.flatnonzero((np.diff(collect.indptr) > 0) & (np.diff(hand_back.indptr) > 0))
            collect, hand_back, relations = collect[alive], hand_back[alive], relations[alive]
        if rows is not None:
            parts = (hand_back.data, places[hand_back.indices], hand_back.indptr)
            hand_back = sp.csr_array(parts, shape=(hand_back.shape[0], n_rows))
        counts = np.bincount(relations, minlength=self.n_relations)
        return PairPlan(
            self._blocks(collect),
            self._blocks(hand_back),
            self._operator(hand_back.T),
            self._operator(collect.T),
            np.concatenate([[0], np.cumsum(counts)]),
            inverse,
        )

    def _blocks(self, matrix: sp.csr_array) -> list[SparseOperator]:
        starts = range(0, matrix.shape[0], pair_blocks.BLOCK_PAIRS)
        return [self._operator(matrix[start : start + pair_blocks.BLOCK_PAIRS]) for start in starts]

    def _operator(self, matrix: sp.sparray) -> SparseOperator:
        return SparseOperator.from_scipy(matrix, dtype=self.dtype, device=self.device)

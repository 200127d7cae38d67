"""Directed triples laid out for scores that a relation's matrix decides, Eq. (11)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from recbole_slif.graph.grouping import group_by_key
from recbole_slif.graph.incidence import Incidence

if TYPE_CHECKING:
    from recbole_slif.graph.knowledge import KnowledgeEdges


@dataclass(frozen=True, eq=False)
class RelationNodes:
    """Distinct pairs (relation, node), numbered by relation, then node. Index tensors are int32.

    Attributes:
        nodes: `[n_pairs]` node of each pair.
        counts: pairs of each relation, in the order of the group's relations.
        node_offsets: `[n_entities + 1]` first place of each node in `by_node`.
        by_node: `[n_pairs]` the pairs, grouped by node.
    """

    nodes: Tensor
    counts: tuple[int, ...]
    node_offsets: Tensor
    by_node: Tensor

    @classmethod
    def build(
        cls, nodes: np.ndarray, counts: np.ndarray, n_entities: int, device: torch.device
    ) -> RelationNodes:
        """Index pairs given in their order: nodes `[n_pairs]`, and how many each relation has."""
        by_node, offsets = group_by_key(nodes, n_entities)
        parts = (torch.from_numpy(part).to(device) for part in (nodes, offsets, by_node))
        node_rows, node_offsets, pairs = parts
        return cls(node_rows, tuple(counts.tolist()), node_offsets, pairs)

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return self.nodes.numel()


@dataclass(frozen=True, eq=False)
class EdgeGroup:
    """The edges of some relations, ordered by relation, then head.

    Attributes:
        relations: ids of the relations, ascending; each has an edge.
        heads: the pairs (relation, head).
        keys: the pairs (relation, tail), or None where the edges name their tails themselves.
        pattern: `heads` x `keys`, or `heads` x entities, an entry for each edge.
        edges_per_relation: number of edges of each relation.
    """

    relations: tuple[int, ...]
    heads: RelationNodes
    keys: RelationNodes | None
    pattern: Incidence
    edges_per_relation: tuple[int, ...]

    def cut(self, weights: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Cut the edges, with `weights [n_edges]` in their order, at the relations.

        Yields:
            For each relation the offsets of its pairs from 0, and the columns and weights of its
            edges.
        """
        pairs = pairwise(accumulate(self.heads.counts, initial=0))
        places = accumulate(self.edges_per_relation, initial=0)
        sizes = list(self.edges_per_relation)
        parts = zip(self.pattern.columns.split(sizes), weights.split(sizes), strict=True)
        for (start, stop), place, (columns, values) in zip(pairs, places, parts, strict=False):
            yield self.pattern.row_offsets[start : stop + 1] - place, columns, values


@dataclass(frozen=True, eq=False)
class ScoredEdges:
    """Directed edges in two groups, by the end at which a relation's matrix is applied to more.

    An edge's score is `(W_r x_t)^T tanh(W_r x_h + e_r)`. The hyperbolic tangent is due once per
    pair (r, h) in any case. Where a relation has fewer tails than heads (genres of many films),
    `W_r x_t` is found once per pair (r, t), a *key*; elsewhere `W_r` is *folded* into the pairs
    (r, h).
    At Amazon-Book's size that halves the products: 525,000 pairs (r, h) take one each, and only
    54,000 keys and 54,000 folded pairs the second.

    Attributes:
        folded: relations with at least as many tails as heads.
        keyed: the others.
        rank: `[n_edges]` place of each edge, in the order of `KnowledgeEdges`, among the folded
            ones followed by the keyed ones; int32.
        order: the inverse of `rank`.
    """

    folded: EdgeGroup
    keyed: EdgeGroup
    rank: Tensor
    order: Tensor

    @classmethod
    def build(cls, edges: KnowledgeEdges) -> ScoredEdges:
        """Lay the edges out; linear in their number."""
        device = edges.device
        tail_nodes, tail_counts, tail_of_edge = _tail_pairs(edges)
        head_counts = np.array(edges.pairs_per_relation)
        by_head_pair = edges.pair_order.cpu().numpy()
        relations = np.repeat(np.arange(edges.n_relations), head_counts)
        edge_relations = relations[edges.pair_of_edge.cpu().numpy()[by_head_pair]]
        with_keys = tail_counts < head_counts
        groups, places = [], []
        for keyed in (False, True):
            chosen = (with_keys == keyed) & (head_counts > 0)
            kept = np.flatnonzero(chosen[edge_relations])
            in_group = by_head_pair[kept]
            at_head = chosen[relations]
            rows = _renumbered(at_head, edges.pair_of_edge.cpu().numpy()[in_group])
            heads = edges.pair_heads.cpu().numpy()[at_head]
            pairs = RelationNodes.build(heads, head_counts[chosen], edges.n_entities, device)
            keys, columns, width = None, edges.tails.cpu().numpy()[in_group], edges.n_entities
            if keyed:
                at_tail = chosen[np.repeat(np.arange(edges.n_relations), tail_counts)]
                columns = _renumbered(at_tail, tail_of_edge[in_group])
                nodes, counts = tail_nodes[at_tail], tail_counts[chosen]
                keys = RelationNodes.build(nodes, counts, edges.n_entities, device)
                width = keys.n_pairs
            pattern = Incidence.build(rows, columns, (pairs.n_pairs, width), device)
            per_relation = np.bincount(edge_relations[kept], minlength=edges.n_relations)[chosen]
            names = tuple(np.flatnonzero(chosen).tolist())
            groups.append(EdgeGroup(names, pairs, keys, pattern, tuple(per_relation.tolist())))
            places.append(in_group)
        order = np.concatenate(places)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order), dtype=order.dtype)
        first, second = groups
        index = (torch.from_numpy(part).to(device) for part in (rank, order))
        return cls(first, second, *index)


def _tail_pairs(edges: KnowledgeEdges) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number the distinct (relation, tail) by relation, then tail.

    Returns:
        The tail of each pair, the pairs of each relation `[n_relations]`, the pair of each edge.
    """
    by_tail = edges.tail_order.cpu().numpy()
    relation = edges.relations.cpu().numpy()[by_tail]
    by_relation, _ = group_by_key(relation, edges.n_relations)
    order = by_tail[by_relation]
    relation, tail = relation[by_relation], edges.tails.cpu().numpy()[order]
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = (np.diff(tail) != 0) | (np.diff(relation) != 0)
    pair_of_edge = np.empty(len(order), dtype=np.int32)
    pair_of_edge[order] = np.cumsum(starts, dtype=np.int32) - 1
    counts = np.bincount(relation[starts], minlength=edges.n_relations)
    return tail[starts], counts, pair_of_edge


def _renumbered(kept: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Number the kept ones of all ids anew from 0; `ids` holds kept ones alone."""
    return (np.cumsum(kept, dtype=np.int32) - 1)[ids]

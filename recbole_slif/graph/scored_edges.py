"""Directed triples laid out for scores that a relation's matrix decides, Eq. (11)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

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
        heads, tails = _head_pairs(edges), _tail_pairs(edges)
        by_relation = edges.pair_order.cpu().numpy()
        relations = heads.relations[heads.of_edge[by_relation]]
        sizes = np.bincount(relations, minlength=edges.n_relations)
        with_keys = tails.counts < heads.counts
        placed = [by_relation[chosen[relations]] for chosen in (~with_keys, with_keys)]
        folded = _group(edges, np.where(with_keys, 0, sizes), placed[0], heads, None)
        keyed = _group(edges, np.where(with_keys, sizes, 0), placed[1], heads, tails)
        order = np.concatenate(placed)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order), dtype=order.dtype)
        index = (torch.from_numpy(part).to(edges.device) for part in (rank, order))
        return cls(folded, keyed, *index)


class _Pairs(NamedTuple):
    """Pairs (relation, node) of all relations: nodes, how many a relation has, each edge's pair."""

    nodes: np.ndarray
    counts: np.ndarray
    of_edge: np.ndarray

    @property
    def relations(self) -> np.ndarray:
        """Relation of each pair."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


def _group(
    edges: KnowledgeEdges,
    sizes: np.ndarray,
    placed: np.ndarray,
    heads: _Pairs,
    tails: _Pairs | None,
) -> EdgeGroup:
    """Lay some relations' edges out, with keys where pairs of tails are given.

    Args:
        edges: all edges.
        sizes: `[n_relations]` edges of each relation of the group, 0 for the others.
        placed: the group's edges by relation, then head.
        heads: pairs (relation, head).
        tails: pairs (relation, tail), or None.
    """
    chosen = sizes > 0
    head_nodes, rows = _nodes(edges, heads, chosen, placed)
    keys, columns, width = None, edges.tails.cpu().numpy()[placed], edges.n_entities
    if tails is not None:
        keys, columns = _nodes(edges, tails, chosen, placed)
        width = keys.n_pairs
    pattern = Incidence.build(rows, columns, (head_nodes.n_pairs, width), edges.device)
    names = tuple(np.flatnonzero(chosen).tolist())
    return EdgeGroup(names, head_nodes, keys, pattern, tuple(sizes[chosen].tolist()))


def _nodes(
    edges: KnowledgeEdges, pairs: _Pairs, chosen: np.ndarray, placed: np.ndarray
) -> tuple[RelationNodes, np.ndarray]:
    """Number the pairs of the chosen relations anew; those of the `placed` edges come with them."""
    kept = chosen[pairs.relations]
    numbers = np.cumsum(kept, dtype=np.int32) - 1
    nodes, counts = pairs.nodes[kept], pairs.counts[chosen]
    found = RelationNodes.build(nodes, counts, edges.n_entities, edges.device)
    return found, numbers[pairs.of_edge[placed]]


def _head_pairs(edges: KnowledgeEdges) -> _Pairs:
    """Return the distinct (relation, head), which the edges have numbered already."""
    counts = np.array(edges.pairs_per_relation)
    return _Pairs(edges.pair_heads.cpu().numpy(), counts, edges.pair_of_edge.cpu().numpy())


def _tail_pairs(edges: KnowledgeEdges) -> _Pairs:
    """Number the distinct (relation, tail) by relation, then tail."""
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
    return _Pairs(tail[starts], counts, pair_of_edge)

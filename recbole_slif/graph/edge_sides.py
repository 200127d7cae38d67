"""Directed triples grouped by (relation, node), at whichever end of a relation has fewer nodes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from recbole_slif.graph.grouping import count_distinct, group_by_key
from recbole_slif.graph.incidence import Incidence, index_tensor, places_before
from recbole_slif.graph.patterns import rebuilt_on


@dataclass(frozen=True, eq=False)
class EdgeSide:
    """The edges of the relations whose pairs (relation, node) stand at the same end.

    Attributes:
        at_head: whether a pair's node is the head of its edges, or their tail.
        entries: pairs x entities, an entry for each edge at its other end.
        node_pairs: entities x pairs, an entry for each pair at its node.
        nodes: `[n_pairs]` node of each pair.
        relations: `[n_pairs]` relation of each pair, ascending.
    """

    at_head: bool
    entries: Incidence
    node_pairs: Incidence
    nodes: Tensor
    relations: Tensor

    @property
    def n_edges(self) -> int:
        """Number of edges of this side."""
        return self.entries.columns.numel()


@dataclass(frozen=True, eq=False)
class SidedEdges:
    """Directed edges (h, r, t) for scores and messages that treat `r` entry by entry.

    Where a relation has fewer distinct heads than tails (genres of many films, seen from the genre)
    its pairs are (r, h), otherwise (r, t): a sixth of the pairs (h, r) at Amazon-Book's size. The
    edges are numbered side by side, those of pairs at heads first, and by pair within a side, so
    that each relation's edges follow each other. Index tensors are int32; no edge is lost or
    merged.

    Attributes:
        sides: the edges with pairs at heads, and those with pairs at tails.
        edge_heads: `[n_edges]` head of each edge.
        relations: `[n_edges]` relation of each edge.
        tails: `[n_edges]` tail of each edge.
        heads: `[n_edges]` heads, ascending.
        head_offsets: `[n_entities + 1]` first edge of each head, in the order of the heads.
        by_head: `[n_edges]` edges, in the order of the heads.
        head_rank: `[n_edges]` place of each edge in that order.
    """

    sides: tuple[EdgeSide, EdgeSide]
    edge_heads: Tensor
    relations: Tensor
    tails: Tensor
    heads: Tensor
    head_offsets: Tensor
    by_head: Tensor
    head_rank: Tensor

    @property
    def n_edges(self) -> int:
        """Number of directed edges."""
        return self.edge_heads.numel()

    @classmethod
    def build(
        cls,
        heads: np.ndarray,
        relations: np.ndarray,
        tails: np.ndarray,
        n_entities: int,
        n_relations: int,
        device: torch.device | str | None = None,
    ) -> SidedEdges:
        """Choose each relation's end and index the edges; linear in their number but for sorting.

        Args:
            heads: `[n_edges]` entity ids, any order.
            relations: `[n_edges]` ids in `0 .. n_relations - 1`.
            tails: `[n_edges]` entity ids.
            n_entities: number of entity ids.
            n_relations: number of relation ids.
            device: where the index tensors live.
        """
        columns = [np.asarray(part, np.int64) for part in (heads, relations, tails)]
        counts = (
            count_distinct(columns[1], columns[end], n_entities, n_relations) for end in (0, 2)
        )
        at_head = np.less(*counts)[columns[1]]
        parts, sides = [], []
        for head_side in (True, False):
            chosen = np.flatnonzero(at_head == head_side)
            nodes = columns[0 if head_side else 2][chosen]
            keys = columns[1][chosen] * n_entities + nodes
            order = np.argsort(keys, kind="stable")
            part = [column[chosen[order]] for column in columns]
            sides.append(_side(head_side, keys[order], part[2 if head_side else 0], n_entities))
            parts.append(part)
        edge_heads, edge_relations, edge_tails = map(np.concatenate, zip(*parts, strict=True))
        by_head, head_offsets = group_by_key(edge_heads.astype(np.int32), n_entities)
        rank = np.empty_like(by_head)
        rank[by_head] = np.arange(len(by_head))
        arrays = (edge_heads, edge_relations, edge_tails, edge_heads[by_head], head_offsets)
        index = [index_tensor(array, device) for array in (*arrays, by_head, rank)]
        first, second = (_moved(side, device) for side in sides)
        return cls((first, second), *index)

    def only(self, kept: Tensor) -> SidedEdges:
        """Return the edges where `kept` `[n_edges]` bool is true, in the same order.

        Pairs left without an edge stay, as rows without entries.
        """
        first, second = self.sides
        flags = kept.split([first.n_edges, second.n_edges])
        places = kept.nonzero().squeeze(1)
        kept_by_head = kept.index_select(0, self.by_head)
        head_places = kept_by_head.nonzero().squeeze(1)
        before = places_before(kept)
        by_head = before.index_select(0, self.by_head.index_select(0, head_places))
        rank = torch.empty_like(by_head)
        rank[by_head] = torch.arange(len(by_head), dtype=rank.dtype, device=rank.device)
        return SidedEdges(
            (
                replace(first, entries=first.entries.only(flags[0])),
                replace(second, entries=second.entries.only(flags[1])),
            ),
            self.edge_heads.index_select(0, places),
            self.relations.index_select(0, places),
            self.tails.index_select(0, places),
            self.heads.index_select(0, head_places),
            places_before(kept_by_head).index_select(0, self.head_offsets),
            by_head,
            rank,
        )


def _side(at_head: bool, keys: np.ndarray, others: np.ndarray, n_entities: int) -> EdgeSide:
    """Index edges sorted by their pair's key `[n]`; on the CPU."""
    pair_keys, pairs = np.unique(keys, return_inverse=True)
    relations, nodes = np.divmod(pair_keys, max(n_entities, 1))
    by_node, _ = group_by_key(nodes.astype(np.int32), n_entities)
    shape = (len(nodes), n_entities)
    return EdgeSide(
        at_head,
        Incidence.build(pairs, others, shape),
        Incidence.build(nodes[by_node], by_node, shape[::-1]),
        index_tensor(nodes, None),
        index_tensor(relations, None),
    )


def _moved(side: EdgeSide, device: torch.device | str | None) -> EdgeSide:
    def there(pattern: Incidence) -> Incidence:
        return Incidence(*(part.to(device) for part in vars(pattern).values()))

    return EdgeSide(
        side.at_head,
        there(side.entries),
        there(side.node_pairs),
        side.nodes.to(device),
        side.relations.to(device),
    )


class RelationDraws:
    """Keeps the share `1 - rate` of each relation's edges, rounded down but at least one.

    Each draw comes from torch's own CPU generator, whose state every checkpoint holds. On a CPU it
    is linear in the number of edges, where `draw_share` sorts them all; elsewhere one sort there
    serves all relations.
    """

    def __init__(
        self, relations: np.ndarray, rate: float, device: torch.device | str | None = None
    ) -> None:
        """Count what is kept of each relation.

        Args:
            relations: `[n_edges]` with each relation's edges next to each other, as `SidedEdges`
                has.
            rate: share to remove, `0 <= rate < 1`.
            device: where what is kept is wanted.
        """
        starts = np.flatnonzero(np.diff(relations, prepend=-1, append=-1))
        counts = np.maximum(1, (np.diff(starts) * (1.0 - rate) + 1e-9).astype(np.int64))
        self._n_edges, self._device = len(relations), device
        self._bounds, self._counts = list(pairwise(starts.tolist())), counts.tolist()
        self._partitions = rebuilt_on(device)
        if self._partitions:
            return
        runs = np.repeat(np.arange(len(counts)), np.diff(starts))
        ranks = np.arange(len(runs)) - starts[:-1][runs]
        self._runs = torch.from_numpy(runs).to(device)
        self._lowest = torch.from_numpy(np.flatnonzero(ranks < counts[runs])).to(device)

    def draw(self) -> Tensor:
        """Return the edges to keep, `[n_edges]` bool."""
        chances = torch.rand(self._n_edges)
        if self._partitions:
            return torch.from_numpy(self._lowest_of_each(chances.numpy()))
        chances = chances.to(self._device, non_blocking=True)
        # float64 holds a run's number and all bits of a chance: one sort serves all relations
        order = torch.argsort(self._runs + chances.double())
        chosen = order.index_select(0, self._lowest)
        return torch.zeros_like(chances, dtype=torch.bool).index_fill_(0, chosen, True)

    def _lowest_of_each(self, chances: np.ndarray) -> np.ndarray:
        """Mark each relation's lowest chances, `[n_edges]` bool."""
        kept = np.zeros(self._n_edges, dtype=bool)
        for (start, stop), count in zip(self._bounds, self._counts, strict=True):
            kept[start + np.argpartition(chances[start:stop], count - 1)[:count]] = True
        return kept

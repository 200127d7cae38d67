"""The knowledge graph as arrays, and its directed edges laid out for relational attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from recbole_slif.errors import DataError
from recbole_slif.graph.grouping import group_by_key
from recbole_slif.graph.scored_edges import ScoredEdges
from recbole_slif.graph.sparse import SparseOperator


@dataclass(frozen=True)
class KnowledgeGraph:
    """The base triples of a knowledge graph, without inverses.

    Attributes:
        heads: `[n_triples]` int64 entity ids; an item's entity id is its item id.
        relations: `[n_triples]` int64 in `1 .. n_relations - 1`; 0 is [PAD] and unused.
        tails: `[n_triples]` int64 entity ids.
        n_entities: Number of entity ids, item ids and [PAD] included.
        n_relations: Number of relation ids, [PAD] included.
        relation_tokens: `[n_relations]` names.
        entity_tokens: `[n_entities]` names.
        linked: `[n_items]` bool, whether the item is linked to an entity of the graph.
    """

    heads: np.ndarray
    relations: np.ndarray
    tails: np.ndarray
    n_entities: int
    n_relations: int
    relation_tokens: Sequence[str] | np.ndarray
    entity_tokens: Sequence[str] | np.ndarray
    linked: np.ndarray

    @property
    def n_triples(self) -> int:
        """Number of base triples."""
        return len(self.heads)


def with_inverse(kg: KnowledgeGraph) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Append to each triple (h, r, t) its inverse (t, r', h), so that tails gather from heads too.

    Args:
        kg: A knowledge graph with `n` base triples.

    Returns:
        `(heads, relations, tails, n_relations_total)`, each array `[2n]`: the base triples in
        their order, then the inverses in the same order. The inverse of relation `r` is
        `r + (n_relations - 1)`; the total counts the unused id 0.
    """
    shift = _inverse_shift(kg)
    heads = np.concatenate([kg.heads, kg.tails])
    relations = np.concatenate([kg.relations, kg.relations + shift])
    tails = np.concatenate([kg.tails, kg.heads])
    return heads, relations, tails, kg.n_relations + shift


def triples_at(kg: KnowledgeGraph, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return heads, relations and tails of `with_inverse` at `places`, each `[len(places)]`.

    Args:
        kg: A knowledge graph with `n` base triples.
        places: Rows in `[0, 2n)`; from `n` on they are inverses.
    """
    row, inverse = places % kg.n_triples, places >= kg.n_triples
    heads, tails = kg.heads[row], kg.tails[row]
    relations = kg.relations[row] + inverse * _inverse_shift(kg)
    return np.where(inverse, tails, heads), relations, np.where(inverse, heads, tails)


def _inverse_shift(kg: KnowledgeGraph) -> int:
    """What the number of a relation's inverse is higher by."""
    return max(kg.n_relations - 1, 0)


class HeadRuns(Protocol):
    """Edges in the order of their heads, as far as a softmax over heads needs them."""

    @property
    def heads(self) -> Tensor:
        """`[n_edges]` head of each edge, ascending, int32."""

    @property
    def head_offsets(self) -> Tensor:
        """`[n_entities + 1]` first edge of each head, int32."""


@dataclass(frozen=True, eq=False)
class KnowledgeEdges:
    """Directed triples sorted by (head, relation), with every index the attention layer needs.

    An edge (h, r, t) lets head `h` gather from tail `t`. A *pair* is a distinct (head, relation);
    pairs are numbered by relation, then head, so that one relation's pairs are contiguous rows.
    Index tensors are int32. Duplicate triples stay separate edges.

    Attributes:
        n_entities: Number of entity ids.
        n_relations: Number of relation ids, inverses and [PAD] included.
        heads: `[n_edges]` head of each edge, ascending.
        tails: `[n_edges]` tail of each edge.
        input_positions: `[n_edges]` place of each edge in the arrays given to `build`.
        log_prior: `[n_edges]` float32 added to the logits of attention, or None.
        head_offsets: `[n_entities + 1]` first edge of each head.
        pair_heads: `[n_pairs]` head of each pair.
        pairs_per_relation: Number of pairs of each relation, `n_relations` entries.
        pair_of_edge: `[n_edges]` pair of each edge.
        pair_offsets: `[n_pairs + 1]` first edge of each pair among the edges in pair order.
        pair_order: `[n_edges]` the edges in pair order.
        pair_tails: `[n_edges]` tails in pair order.
        tail_offsets: `[n_entities + 1]` first edge of each tail among the edges in tail order.
        tail_order: `[n_edges]` the edges in tail order.
        tail_heads: `[n_edges]` heads in tail order.
        tail_pairs: `[n_edges]` pairs in tail order.
        head_pair_offsets: `[n_entities + 1]` first pair of each head in `head_pairs`.
        head_pairs: `[n_pairs]` the pairs grouped by head.
    """

    n_entities: int
    n_relations: int
    heads: Tensor
    tails: Tensor
    input_positions: Tensor
    log_prior: Tensor | None
    head_offsets: Tensor
    pair_heads: Tensor
    pairs_per_relation: tuple[int, ...]
    pair_of_edge: Tensor
    pair_offsets: Tensor
    pair_order: Tensor
    pair_tails: Tensor
    tail_offsets: Tensor
    tail_order: Tensor
    tail_heads: Tensor
    tail_pairs: Tensor
    head_pair_offsets: Tensor
    head_pairs: Tensor

    @property
    def n_edges(self) -> int:
        """Number of directed edges."""
        return self.heads.numel()

    @property
    def n_pairs(self) -> int:
        """Number of distinct (head, relation) pairs."""
        return self.pair_heads.numel()

    @cached_property
    def pair_relations(self) -> Tensor:
        """`[n_pairs]` relation of each pair, int32, ascending."""
        counts = torch.tensor(self.pairs_per_relation, device=self.device)
        ids = torch.arange(self.n_relations, dtype=torch.int32, device=self.device)
        return ids.repeat_interleave(counts)

    @cached_property
    def relations(self) -> Tensor:
        """`[n_edges]` relation of each edge, int32."""
        return self.pair_relations.index_select(0, self.pair_of_edge)

    @cached_property
    def scored(self) -> ScoredEdges:
        """The edges laid out for scoring by matrices of relations; made at the first use."""
        return ScoredEdges.build(self)

    @property
    def device(self) -> torch.device:
        """Device of the index tensors."""
        return self.heads.device

    @classmethod
    def build(
        cls,
        heads: np.ndarray,
        relations: np.ndarray,
        tails: np.ndarray,
        n_entities: int,
        n_relations: int,
        device: torch.device | str | None = None,
        log_prior: np.ndarray | None = None,
    ) -> KnowledgeEdges:
        """Sort directed triples and index them; linear in their number.

        Args:
            heads: `[n_edges]` entity ids, any order.
            relations: `[n_edges]` relation ids.
            tails: `[n_edges]` entity ids.
            n_entities: Number of entity ids.
            n_relations: Number of relation ids, inverses included.
            device: Where the index tensors live; the CPU by default.
            log_prior: `[n_edges]` added to the logits of the edges, in the order given; or None.

        Returns:
            The indexed edges.

        Raises:
            DataError: If the arrays differ in length or an id is out of range.
        """
        columns = _checked_columns(heads, relations, tails, log_prior, n_entities, n_relations)
        by_relation, _ = group_by_key(columns[1], n_relations)
        by_head, head_offsets = group_by_key(columns[0][by_relation], n_entities)
        order = by_relation[by_head]
        head, relation, tail = (column[order] for column in columns)
        count = len(head)

        pair_order, _ = group_by_key(relation, n_relations)
        head_in_pairs, relation_in_pairs = head[pair_order], relation[pair_order]
        starts = np.ones(count, dtype=bool)
        starts[1:] = np.diff(head_in_pairs) != 0
        starts[1:] |= np.diff(relation_in_pairs) != 0
        firsts = np.flatnonzero(starts)
        pair_heads = head_in_pairs[firsts]
        pair_of_edge = np.empty(count, dtype=np.int32)
        pair_of_edge[pair_order] = np.cumsum(starts, dtype=np.int32) - 1

        tail_order, tail_offsets = group_by_key(tail, n_entities)
        head_pairs, head_pair_offsets = group_by_key(pair_heads, n_entities)
        per_relation = np.bincount(relation_in_pairs[firsts], minlength=n_relations)
        index = {
            "heads": head,
            "tails": tail,
            "input_positions": order,
            "head_offsets": head_offsets,
            "pair_heads": pair_heads,
            "pair_of_edge": pair_of_edge,
            "pair_offsets": np.append(firsts, count),
            "pair_order": pair_order,
            "pair_tails": tail[pair_order],
            "tail_offsets": tail_offsets,
            "tail_order": tail_order,
            "tail_heads": head[tail_order],
            "tail_pairs": pair_of_edge[tail_order],
            "head_pair_offsets": head_pair_offsets,
            "head_pairs": head_pairs,
        }
        return cls(
            n_entities=n_entities,
            n_relations=n_relations,
            pairs_per_relation=tuple(per_relation.tolist()),
            log_prior=None
            if log_prior is None
            else torch.from_numpy(log_prior[order].astype(np.float32)).to(device),
            **{
                name: torch.from_numpy(array.astype(np.int32, copy=False)).to(device)
                for name, array in index.items()
            },
        )

    def to(self, device: torch.device | str) -> KnowledgeEdges:
        """The same edges with their tensors on `device`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        moved: dict[str, Any] = {name: value.to(device) for name, value in tensors.items()}
        return replace(self, **moved)

    def operator(self, attention: Tensor) -> SparseOperator:
        """Freeze attention into a fixed propagation matrix, for weights refreshed once per epoch.

        Args:
            attention: `[n_edges]` weights in the order of the edges; taken without gradient.

        Returns:
            Operator `[n_entities, n_entities]` whose row `h` weighs the tails of `h`.
        """
        values = attention.detach()
        shape = (self.n_entities, self.n_entities)
        return SparseOperator.from_coo(
            self.heads.cpu().numpy(),
            self.tails.cpu().numpy(),
            values.cpu().numpy(),
            shape,
            dtype=values.dtype,
            device=self.device,
        )


def _checked_columns(
    heads: np.ndarray,
    relations: np.ndarray,
    tails: np.ndarray,
    log_prior: np.ndarray | None,
    n_entities: int,
    n_relations: int,
) -> list[np.ndarray]:
    """Return heads, relations and tails as int32, or say which of them does not fit."""
    if log_prior is not None and len(log_prior) != len(heads):
        raise DataError(f"{len(log_prior)} log priors for {len(heads)} triples: give one for each.")
    if not len(heads) == len(relations) == len(tails):
        raise DataError(
            f"{len(heads)} heads, {len(relations)} relations and {len(tails)} tails: "
            "a triple needs one of each."
        )
    columns = []
    for name, ids, bound in (
        ("head", heads, n_entities),
        ("relation", relations, n_relations),
        ("tail", tails, n_entities),
    ):
        if len(ids) and (ids.min() < 0 or ids.max() >= bound):
            bad = ids.min() if ids.min() < 0 else ids.max()
            raise DataError(f"{name} id {bad} of a triple is outside 0..{bound - 1}.")
        columns.append(np.asarray(ids).astype(np.int32, copy=False))
    return columns

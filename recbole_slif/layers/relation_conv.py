"""Relational attention and propagation over the knowledge graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_slif.graph.knowledge import KnowledgeEdges
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers.edge_attention import edge_logits, gather_from_tails, softmax_over_heads
from recbole_slif.layers.light_conv import Readout, readout_coefficients


class RelationalAttention(nn.Module):
    r"""Entities gather from the tails of their triples, weighted by relation-aware attention.

    ======================  ===========================================
    symbol                  name here
    ======================  ===========================================
    :math:`W_r`             `relation_projection[r]`, `[d, d]`
    :math:`\hat{x}_r`       `relation_embedding[r]`, `[d]`
    :math:`\alpha(h, r, t)` `attention`, `[n_edges]`
    :math:`L_k`             `n_layers`
    ======================  ===========================================

    The attention comes from the ego rows and serves all layers. There is no self term: a head
    without triples becomes 0 from the first layer on and keeps its ego row's share of the readout.
    """

    def __init__(self, n_relations: int, dim: int) -> None:
        """Create Xavier-uniform parameters.

        Args:
            n_relations: Number of relation ids, inverses, additional relations and [PAD] included.
            dim: Width `d` of the entity rows.
        """
        super().__init__()
        self.relation_projection = nn.Parameter(torch.empty(n_relations, dim, dim))
        self.relation_embedding = nn.Parameter(torch.empty(n_relations, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew; each relation's matrix is a `d x d` Xavier draw of its own."""
        for matrix in self.relation_projection:
            nn.init.xavier_uniform_(matrix)
        nn.init.xavier_uniform_(self.relation_embedding)

    def attention(self, entity_emb: Tensor, edges: KnowledgeEdges) -> Tensor:
        """Weigh every edge among the edges of its head: `edge_logits`, then `softmax_over_heads`.

        Args:
            entity_emb: `[n_entities, d]` ego rows.
            edges: The directed edges; their log prior, if any, is added to the logits.

        Returns:
            `[n_edges]`, summing to 1 over each head's edges; differentiable in all.

        Raises:
            ValueError: If the edges use more relations or entities than there are rows for.
        """
        self._check(entity_emb, edges)
        logits = edge_logits(entity_emb, self.relation_projection, self.relation_embedding, edges)
        return softmax_over_heads(logits, edges)

    def forward(
        self,
        entity_emb: Tensor,
        edges: KnowledgeEdges,
        n_layers: int,
        readout: Readout = "mean",
        attention: Tensor | SparseOperator | None = None,
    ) -> Tensor:
        """Propagate `n_layers` times and return the mean of the layers 0 .. L, Eq. (13).

        Args:
            entity_emb: `[n_entities, d]` ego rows.
            edges: The directed edges.
            n_layers: Number of layers.
            readout: How the layers combine instead of by their mean, see `readout_coefficients`.
            attention: None to learn it in this step; a tensor `[n_edges]` to use as it is (cheaper
                when detached); or `edges.operator(weights)`, built once per refresh, the cheapest.

        Returns:
            `[n_entities, d]`.
        """
        coefficients = readout_coefficients(readout, n_layers)
        if len(coefficients) == 1:  # no layer: nothing is gathered, so nothing weighs it
            return coefficients[0] * entity_emb
        if isinstance(attention, SparseOperator):
            return attention.polynomial(entity_emb, coefficients)
        if attention is None:
            attention = self.attention(entity_emb, edges)
        layer = entity_emb
        total = coefficients[0] * entity_emb
        for coefficient in coefficients[1:]:
            layer = gather_from_tails(attention, layer, edges)
            total = torch.add(total, layer, alpha=coefficient)
        return total

    def _check(self, entity_emb: Tensor, edges: KnowledgeEdges) -> None:
        known = self.relation_projection.shape[0]
        if edges.n_relations > known:
            raise ValueError(f"The edges use {edges.n_relations} relations, the layer has {known}.")
        if edges.n_entities != entity_emb.shape[0]:
            raise ValueError(
                f"The edges know {edges.n_entities} entities, the table has {entity_emb.shape[0]}."
            )

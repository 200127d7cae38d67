"""Graph attention whose score is a sum of two numbers per edge, one from either end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_slif.graph.knowledge import KnowledgeEdges
from recbole_slif.layers.edge_attention import gather_from_tails, softmax_over_heads
from recbole_slif.layers.messages import drop_out, unit_length

SLOPE = 0.01


def edge_sums(by_tail: Tensor, by_head: Tensor, edges: KnowledgeEdges) -> Tensor:
    """Add the tail's and the head's number on every edge; no row per edge is formed.

    Args:
        by_tail: `[n_nodes]`, what a node gives as the tail of an edge.
        by_head: `[n_nodes]`, what it gives as the head.
        edges: The directed edges.

    Returns:
        `[n_edges]`, differentiable in both.
    """
    return by_tail.index_select(0, edges.tails) + by_head.index_select(0, edges.heads)


class GraphAttention(nn.Module):
    r"""One layer of graph attention with one head.

    .. math::
        z = W x, \qquad
        \alpha_{ht} = softmax_h\big(LeakyReLU_{0.01}(a_l \cdot z_t + a_r \cdot z_h)\big), \qquad
        y_h = \sum_t g_{ht} \alpha_{ht} z_t + b

    ============== ============================================ =================
    symbol         meaning                                      code
    ============== ============================================ =================
    W, b           weights `[out_dim, in_dim]`, bias            `linear`, `bias`
    a_l, a_r       of the row that sends, and that receives     `sender`, `receiver`
    g              gate of each edge, 1 without gates           `gates`
    ============== ============================================ =================

    Gates multiply the weights after the softmax and the weights are not normalised again, so a
    closed gate removes an edge's share instead of giving it to the others. Nodes hear themselves
    through edges to themselves only.

    Source: Velickovic et al., "Graph Attention Networks", ICLR 2018, with KACL's slope and gates.
    """

    def __init__(
        self, in_dim: int, out_dim: int, dropout: float = 0.0, attention_dropout: float = 0.0
    ) -> None:
        """Create the parameters, Xavier-uniform; the bias is 0.

        Args:
            in_dim: Width of the rows given.
            out_dim: Width of the rows returned.
            dropout: Share of the entries of `x` dropped while training.
            attention_dropout: Share of the edges' weights dropped while training.
        """
        super().__init__()
        self.dropout, self.attention_dropout = dropout, attention_dropout
        self.linear = nn.Linear(in_dim, out_dim, bias=False)
        self.sender = nn.Parameter(torch.empty(1, out_dim))
        self.receiver = nn.Parameter(torch.empty(1, out_dim))
        self.bias = nn.Parameter(torch.zeros(out_dim))
        for matrix in (self.linear.weight, self.sender, self.receiver):
            nn.init.xavier_uniform_(matrix)

    def attention(self, rows: Tensor, edges: KnowledgeEdges) -> Tensor:
        """Weigh every edge among the edges of its head.

        Args:
            rows: `[n_nodes, out_dim]`, already multiplied by W.
            edges: The directed edges; a head gathers from its tails.

        Returns:
            `[n_edges]`, summing to 1 over each head's edges.
        """
        both = rows @ torch.cat([self.sender, self.receiver]).T
        logits = F.leaky_relu(edge_sums(both[:, 0], both[:, 1], edges), SLOPE)
        return softmax_over_heads(logits, edges)

    def forward(self, x: Tensor, edges: KnowledgeEdges, gates: Tensor | None = None) -> Tensor:
        """Gather once.

        Args:
            x: `[n_nodes, in_dim]`.
            edges: The directed edges.
            gates: `[n_edges]` factors of the weights, or None.

        Returns:
            `[n_nodes, out_dim]`; the bias alone at a head without edges.
        """
        rows = self.linear(drop_out(x, self.dropout, self.training))
        weights = self.attention(rows, edges)
        if gates is not None:
            weights = weights * gates
        weights = drop_out(weights, self.attention_dropout, self.training)
        return gather_from_tails(weights, rows, edges) + self.bias


class AttentionEncoder(nn.Module):
    r"""Layers of graph attention whose normalised inputs and outputs stand side by side.

    .. math::
        h^l = \sigma(GAT_l(h^{l-1})), \qquad
        y = [norm(h^0) \| norm(h^1) \| \dots \| norm(h^L)]

    with ELU as :math:`\sigma`, but for the last layer, which has none. A layer hears the rows of
    the one before as they are; only the output is normalised.

    Source: Wang et al., KACL, WSDM 2023.
    """

    def __init__(
        self, widths: Sequence[int], dropout: float = 0.0, attention_dropout: float = 0.0
    ) -> None:
        """Create a layer between every two neighbouring widths.

        Args:
            widths: Of the rows given and of each layer's.
            dropout: See `GraphAttention`.
            attention_dropout: See `GraphAttention`.
        """
        super().__init__()
        self.layers = nn.ModuleList(
            GraphAttention(*shape, dropout, attention_dropout) for shape in pairwise(widths)
        )

    def forward(self, x: Tensor, edges: KnowledgeEdges, gates: Tensor | None = None) -> Tensor:
        """Encode the rows `[n_nodes, d]`; returns `[n_nodes, sum of the widths]`.

        Args:
            x: The rows.
            edges: The directed edges, the same for all layers.
            gates: `[n_edges]`, the same for all layers, or None.
        """
        outputs = [unit_length(x)]
        for place, layer in enumerate(self.layers, start=1):
            x = layer(x, edges, gates)
            if place < len(self.layers):
                x = F.elu(x)
            outputs.append(unit_length(x))
        return torch.cat(outputs, dim=1)

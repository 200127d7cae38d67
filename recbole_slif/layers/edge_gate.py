"""Gates that learn which edges to keep, drawn from a relaxed coin for each edge."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_slif.graph.knowledge import KnowledgeEdges
from recbole_slif.kernel import computed_in
from recbole_slif.layers.gat import edge_sums


def concrete(logits: Tensor, temperature: float, margin: float = 1e-4) -> Tensor:
    r"""Draw numbers between 0 and 1 that are differentiable in their log odds.

    .. math::
        g = \sigma\big((\log \epsilon - \log(1 - \epsilon) + w) / T\big), \qquad
        \epsilon \sim U(margin, 1 - margin)

    The binary concrete distribution (Maddison et al.; Jang et al., ICLR 2017). The colder, the
    nearer to 0 and 1; the share of draws above one half is :math:`\sigma(w)`.

    Args:
        logits: w, `[n]`.
        temperature: T.
        margin: Keeps the logarithms finite.

    Returns:
        `[n]`; the noise comes from torch's CPU generator, whatever the device.
    """
    logits = logits.to(computed_in(logits))  # a half draws 256 different numbers
    uniform = torch.rand(logits.shape, dtype=logits.dtype)
    noise = torch.logit(margin + (1.0 - 2.0 * margin) * uniform)
    return torch.sigmoid((noise.to(logits.device) + logits) / temperature)


class EdgeGate(nn.Module):
    r"""Log odds of each edge from the rows at its ends, and gates drawn with them.

    .. math::
        w_{ht} = MLP_s(x_t) + MLP_t(x_h)

    Each network has one hidden layer as wide as the rows, ReLU, and one number out. It runs once
    per node; an edge adds up two numbers.

    Source: Wang et al., KACL, WSDM 2023.
    """

    def __init__(self, dim: int, temperature: float) -> None:
        """Create both networks.

        Args:
            dim: Width of the rows.
            temperature: See `concrete`.
        """
        super().__init__()
        self.temperature = temperature
        self.sender, self.receiver = (
            nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1)) for _ in range(2)
        )

    def logits(self, rows: Tensor, edges: KnowledgeEdges) -> Tensor:
        """Log odds `[n_edges]` from rows `[n_nodes, dim]`; a head's tails are its senders."""
        return edge_sums(self.sender(rows).squeeze(1), self.receiver(rows).squeeze(1), edges)

    def forward(self, rows: Tensor, edges: KnowledgeEdges) -> Tensor:
        """Draw gates `[n_edges]` anew, between 0 and 1, from rows `[n_nodes, dim]`."""
        return concrete(self.logits(rows, edges), self.temperature)

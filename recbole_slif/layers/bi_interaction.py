"""Non-linear aggregation of a node with its neighbourhood, as NGCF and KGAT do it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_slif.errors import ConfigError


class BiInteraction(nn.Module):
    r"""The two terms of a node `x` beside its gathered neighbours `n`.

    .. math::
        s = W_1 (x + n) + b_1, \qquad p = W_2 (x \odot n) + b_2

    NGCF (Wang et al., SIGIR 2019, Section 2.2) activates `s + p`; KGAT (Wang et al., KDD 2019,
    Section 3.2) activates each term by itself. `sum_transform` holds `W_1, b_1` and
    `product_transform` holds `W_2, b_2`.
    """

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        """Create the two affine maps `[n_inputs] -> [n_outputs]`."""
        super().__init__()
        self.sum_transform = nn.Linear(n_inputs, n_outputs)
        self.product_transform = nn.Linear(n_inputs, n_outputs)

    def forward(self, own: Tensor, neighbours: Tensor) -> tuple[Tensor, Tensor]:
        """Return `s` and `p`, `[n, n_outputs]` each, of rows `[n, n_inputs]`."""
        return self.sum_transform(own + neighbours), self.product_transform(own * neighbours)


class KnowledgeAggregator(nn.Module):
    r"""One layer of KGAT: a node `x` takes in what attention gathered for it, `n`.

    Wang et al., KDD 2019, Section 3.2, with the activation LeakyReLU of slope 0.01:

    - `gcn`: :math:`a(W (x + n))`
    - `graphsage`: :math:`a(W [x \| n])`
    - `bi`: :math:`a(W_1 (x + n)) + a(W_2 (x \odot n))`
    """

    def __init__(self, n_inputs: int, n_outputs: int, kind: str) -> None:
        """Create the affine maps of `kind`.

        Raises:
            ConfigError: `kind` is none of `bi`, `gcn`, `graphsage`.
        """
        super().__init__()
        self.kind = kind
        self.transform: nn.Module
        if kind == "bi":
            self.transform = BiInteraction(n_inputs, n_outputs)
        elif kind == "gcn":
            self.transform = nn.Linear(n_inputs, n_outputs)
        elif kind == "graphsage":
            self.transform = nn.Linear(2 * n_inputs, n_outputs)
        else:
            raise ConfigError(f"aggregator_type '{kind}' is not one of bi, gcn, graphsage")

    def forward(self, own: Tensor, neighbours: Tensor) -> Tensor:
        """Return `[n, n_outputs]` of rows `[n, n_inputs]`."""
        if self.kind == "bi":
            sums, products = self.transform(own, neighbours)
            return F.leaky_relu(sums) + F.leaky_relu(products)
        if self.kind == "gcn":
            return F.leaky_relu(self.transform(own + neighbours))
        return F.leaky_relu(self.transform(torch.cat([own, neighbours], dim=1)))

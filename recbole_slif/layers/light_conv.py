"""Light graph convolution: layers without weights, on one fixed graph or on learned mixtures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from recbole_slif.errors import ConfigError
from recbole_slif.graph.sparse import SparseOperator

Readout = Literal["mean", "mean_1L_plus_0", "sum", "last"]


def readout_coefficients(kind: Readout, n_layers: int) -> list[float]:
    """Weight of each layer's output, 0 .. n_layers, in the final representation, Eq. (8).

    Args:
        kind: `mean_1L_plus_0` is the equation: the mean of the layers 1 .. L plus the input;
            `mean` averages 0 .. L; `sum` adds them; `last` takes L alone.
        n_layers: Number of convolutions L; with 0 the input itself is the result.

    Raises:
        ConfigError: `kind` is not known or `n_layers` is negative.
    """
    if n_layers < 0:
        raise ConfigError(f"the number of layers must be at least 0, not {n_layers}")
    if kind == "mean":
        return [1.0 / (n_layers + 1)] * (n_layers + 1)
    if kind == "mean_1L_plus_0":
        return [1.0, *[1.0 / n_layers] * n_layers] if n_layers else [1.0]
    if kind == "sum":
        return [1.0] * (n_layers + 1)
    if kind == "last":
        return [*[0.0] * n_layers, 1.0]
    raise ConfigError(f"readout '{kind}' is not known: use mean, mean_1L_plus_0, sum or last")


def light_convolution(
    operator: SparseOperator,
    x0: Tensor,
    n_layers: int,
    readout: Readout = "mean_1L_plus_0",
    rows: Tensor | None = None,
) -> Tensor:
    """Propagate `n_layers` times over a normalised graph and read all layers out, Eq. (7).

    | symbol | here |
    |---|---|
    | 1 / (sqrt N_u sqrt N_i) | the operator's entries |
    | x^0 | `x0 [n_nodes, d]` |
    | L_b | `n_layers` |

    Args:
        operator: the normalised graph.
        x0: `[n_nodes, d]`.
        n_layers: number of convolutions.
        readout: see `readout_coefficients`.
        rows: distinct node ids, where only these rows are wanted, such as a batch's.

    Returns:
        `[n_nodes, d]`, or `[len(rows), d]`, differentiable in `x0`.
    """
    return operator.polynomial(x0, readout_coefficients(readout, n_layers), rows)


def modality_shares(weights: Tensor, presence: Tensor) -> Tensor:
    """Weights of the modalities for each item, sharing out 1 among those the item has.

    Args:
        weights: Weight of each modality `[n_modalities]`, positive, such as a softmax.
        presence: Bool `[n_items, n_modalities]`.

    Returns:
        `[n_items, n_modalities]`: rows sum to 1, or are 0 for items without any modality.
    """
    present = weights * presence.to(weights.dtype)
    total = present.sum(1, keepdim=True)
    return present / torch.where(total > 0, total, torch.ones_like(total))


def feature_convolution(
    operators: Sequence[SparseOperator],
    modality_weights: Tensor,
    presence: Tensor,
    x0: Tensor,
    n_layers: int,
    readout: Readout = "mean_1L_plus_0",
    correlation: SparseOperator | None = None,
    correlation_norm: Literal["row", "symmetric", "none"] = "row",
    mixture_weight: float = 1.0,
    share_out: bool = True,
) -> Tensor:
    """Convolve items over a learned mixture of modality graphs: Eq. (5) and Eq. (9).

    | symbol | here |
    |---|---|
    | S^m | `operators[m] [n_items, n_items]` |
    | alpha_m | `modality_weights[m]`, with `share_out` anew among the modalities an item has |
    | G^n | `correlation` |
    | x^0, L_m | `x0`, `n_layers` |

    The mixture is never formed: each graph multiplies the table and the products are weighted,
    which is how the weights get their gradient without a sparse matrix that carries one.

    Args:
        operators: One graph per modality.
        modality_weights: Weights `[n_modalities]`, such as the softmax of a parameter; positive
            if they are shared out.
        presence: Bool `[n_items, n_modalities]`. An item without any modality hears its
            neighbours in `correlation` only.
        x0: `[n_items, d]`.
        n_layers: Number of convolutions.
        readout: See `readout_coefficients`.
        correlation: `[n_items, n_items]` graph to add to the mixture, or None.
        correlation_norm: With `correlation`, `row` scales the sum's rows to sum 1, so depth does
            not grow values (empty rows stay empty); `symmetric` divides each entry by the roots
            of both its items' row sums, as Eq. (4) does; `none` leaves the sum as it is. Negative
            weights count by their size in a row's sum, so that no row's scale explodes.
        mixture_weight: Factor on the mixture before `correlation` is added.
        share_out: give the weight of a modality that an item lacks to those it has; False takes
            the weights as they are.

    Returns:
        `[n_items, d]`, differentiable in `x0` and `modality_weights`.

    Raises:
        ConfigError: `readout` or `correlation_norm` is not known.
    """
    if correlation_norm not in ("row", "symmetric", "none"):
        raise ConfigError(
            f"normalisation '{correlation_norm}' is not known: use row, symmetric or none"
        )
    coefficients = readout_coefficients(readout, n_layers)
    if share_out:
        shares = mixture_weight * modality_shares(modality_weights, presence)
    else:
        shares = mixture_weight * modality_weights * presence.to(modality_weights.dtype)
    before = after = None  # what scales the rows before and after each product
    if correlation is not None and correlation_norm != "none":
        after = _row_scale(operators, shares, correlation, correlation_norm == "symmetric")
        before = after if correlation_norm == "symmetric" else None
    layer, total = x0, coefficients[0] * x0
    for coefficient in coefficients[1:]:
        layer = _mix(operators, shares, layer if before is None else before * layer, correlation)
        if after is not None:
            layer = after * layer
        total = torch.add(total, layer, alpha=coefficient)
    return total


def _mix(
    operators: Sequence[SparseOperator],
    shares: Tensor,
    x: Tensor,
    correlation: SparseOperator | None,
) -> Tensor:
    """One application of the mixture to `x [n_items, d]`."""
    mixed = torch.zeros_like(x) if correlation is None else correlation @ x
    for place, operator in enumerate(operators):
        mixed = torch.addcmul(mixed, shares[:, place : place + 1], operator @ x)
    return mixed


def _row_scale(
    operators: Sequence[SparseOperator], shares: Tensor, correlation: SparseOperator, root: bool
) -> Tensor:
    """One over the row sums `[n_items, 1]` of mixture plus `correlation`, or over their `root`.

    Empty rows get 0. Weights count by their size, which for positive ones changes nothing.
    """
    sums = correlation.row_sums()
    for place, operator in enumerate(operators):
        sums = sums + shares[:, place].abs() * operator.row_sums()
    filled = sums > 0
    sums = torch.where(filled, sums, torch.ones_like(sums))
    return torch.where(filled, sums.rsqrt() if root else 1.0 / sums, 0.0).unsqueeze(1)

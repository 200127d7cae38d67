"""Losses as pure functions of tensors: ranking, contrast, uniformity and the norm penalty.

Contrast and uniformity compare all rows with all rows, by `layers.all_pairs`: value and gradient in
the same pass, and never an `n x n` matrix. With fewer than two rows to compare, a loss is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_slif.errors import ConfigError
from recbole_slif.layers.all_pairs import SAFE_EXPONENT, pair_sum, row_logsumexp

Reduction = Literal["mean", "sum"]
UniformityMode = Literal["uniformity", "literal"]


def bpr_loss(pos_scores: Tensor, neg_scores: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Bayesian personalised ranking, -ln sigmoid(y_ui - y_uj) over triples (u, i, j), Eq. (23).

    Args:
        pos_scores: y_ui, `[n]`.
        neg_scores: y_uj, `[n]`.
        reduction: "sum" as in the equation, or "mean" over the triples.

    Returns:
        A scalar.
    """
    return _reduce(F.softplus(neg_scores - pos_scores), reduction)


def info_nce(
    anchors: Tensor,
    targets: Tensor,
    temperature: float,
    exclude_positive: bool,
    negatives: Tensor | None = None,
    detach_targets: bool = True,
    reduction: Reduction = "mean",
    block: int | None = None,
) -> Tensor:
    """Contrast each anchor with its target against the others, by cosine similarity, Eq. (19).

    | symbol | here |
    |---|---|
    | x-bar_i, x-hat_i or x-tilde_i | `anchors[i]` |
    | sg(x_i) | `targets[i]`, detached by default |
    | tau | `temperature` |
    | I without i | `exclude_positive=True`: the positive is left out of the denominator |

    Args:
        anchors: `[n, d]`.
        targets: `[n, d]`, the positive of each anchor.
        temperature: Divides the similarities.
        exclude_positive: Leave the positive out of the denominator, as the equation does; the loss
            may then be negative.
        negatives: `[m, d]` candidates of the denominator; by default the targets of the others.
        detach_targets: Stop the gradient at targets and negatives.
        reduction: "sum" as in the equation, or "mean" over the anchors.
        block: Rows compared at a time, with as many others; chosen for the cache when None.

    Returns:
        A scalar. Rows of length 0 have similarity 0 to all and get no gradient.
    """
    others = len(targets) - 1 if negatives is None else len(negatives)
    if not len(anchors) or others < 1:
        return anchors.sum() * 0.0
    if detach_targets:
        targets = targets.detach()
        negatives = None if negatives is None else negatives.detach()
    queries = unit_rows(anchors) / temperature
    targets = unit_rows(targets)
    positive = (queries * targets).sum(1)
    bound = 1.0 / temperature
    if negatives is None:
        total = row_logsumexp(queries, targets, exclude_positive, block, bound)
    else:
        total = row_logsumexp(queries, unit_rows(negatives), False, block, bound)
        total = total if exclude_positive else torch.logaddexp(total, positive)
    return _reduce(total - positive, reduction)


def contrast_views(
    first: Tensor,
    second: Tensor,
    ids: Tensor,
    temperature: float,
    negatives: str | int = "all",
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Contrast two views of the same nodes, each node's rows against the other nodes' rows.

    .. math::
        -\log \frac{\exp(\cos(a_i, b_i) / \tau)}{\sum_j \exp(\cos(a_i, b_j) / \tau)}

    The InfoNCE of KGCL, DiffMM, DiffKG, KACL and others, in which the positive stands in the
    denominator too and both views learn. No `n x n` matrix is held.

    Args:
        first: View a, `[n, d]`; row 0 is [PAD] and never a negative.
        second: View b, `[n, d]`.
        ids: Rows `[m]` to contrast, at least 1; an id given twice counts twice.
        temperature: Divides the similarities.
        negatives: The nodes j: `all`, `batch` (the distinct `ids`), or how many to draw, without
            repetition and anew at each call, from torch's CPU generator.
        reduction: "mean" or "sum" over `ids`.

    Returns:
        A scalar.

    Raises:
        ConfigError: `negatives` is none of these.
    """
    queries = unit_rows(F.embedding(ids, first)) / temperature
    positive = (queries * unit_rows(F.embedding(ids, second))).sum(1)
    candidates = negative_rows(negatives, ids, len(second))
    rows = second[1:] if candidates is None else second.index_select(0, candidates)
    total = row_logsumexp(queries, unit_rows(rows), False, None, 1.0 / temperature)
    if candidates is not None and negatives != "batch":
        missing = ~torch.isin(ids, candidates)
        total = torch.where(missing, torch.logaddexp(total, positive), total)
    return _reduce(total - positive, reduction)


def negative_rows(negatives: str | int, ids: Tensor, n_rows: int) -> Tensor | None:
    """Choose the rows that a contrast compares with; None stands for all but row 0.

    Args:
        negatives: `all`, `batch` (the distinct `ids`), or how many rows to draw.
        ids: `[m]` the batch's rows.
        n_rows: Rows of the table, [PAD] included.

    Raises:
        ConfigError: `negatives` is none of these.
    """
    if negatives == "all":
        return None
    if negatives == "batch":
        return ids.unique()
    count = int(negatives) if str(negatives).isdecimal() else 0
    if count < 1:
        raise ConfigError(
            f"cl_negatives '{negatives}' is not known: use all, batch or a number from 1 on"
        )
    if count >= n_rows - 1:
        return None
    return (torch.randperm(n_rows - 1)[:count] + 1).to(ids.device)


def inter_modal_loss(
    views: Sequence[Tensor],
    unified: Tensor,
    masks: Tensor | Sequence[Tensor] | None,
    temperature: float,
    exclude_positive: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """Align every view with the unified rows, one contrast per view, Eq. (20).

    Args:
        views: Tensors `[n, d]`, one per branch.
        unified: `[n, d]`; gets no gradient.
        masks: Bool `[n, n_views]` or one bool `[n]` per view; an item that lacks a view is left
            out of that view's contrast, as anchor and as negative. None if nothing lacks.
        temperature: See `info_nce`.
        exclude_positive: See `info_nce`.
        reduction: See `info_nce`.

    Returns:
        A scalar.
    """
    total = unified.new_zeros(())
    for index, view in enumerate(views):
        anchors, targets = _present(masks, index, view, unified.detach())
        total = total + info_nce(
            anchors, targets, temperature, exclude_positive, reduction=reduction
        )
    return total


def uniformity(
    x: Tensor, t: float, mode: UniformityMode = "uniformity", block: int | None = None
) -> Tensor:
    """Spread of the rows on the unit sphere, Eq. (21).

    | symbol | here |
    |---|---|
    | f(x_i) | row i of `x` scaled to length 1 |
    | t | `t` |

    The equation's logarithm of each exponential cancels it, leaving t times the mean squared
    distance over all pairs: `literal`, found in closed form as 2t (1 - |mean f|^2); to minimise it
    attracts all rows. `uniformity` is what the text describes: the logarithm of the mean of
    exp(-t d^2) over distinct pairs, which spreads the rows.

    Args:
        x: `[n, d]`.
        t: Positive factor of the squared distances.
        mode: Which of the two.
        block: Rows compared at a time, with as many others; chosen for the cache when None.

    Returns:
        A scalar.

    Raises:
        ConfigError: If `mode` is not known.
    """
    if mode not in ("uniformity", "literal"):
        raise ConfigError(f"intra-modal mode '{mode}' is not known: use uniformity or literal")
    count = len(x)
    if count < 2:
        return x.sum() * 0.0
    rows = unit_rows(x)
    squares = (rows * rows).sum(1)
    if mode == "literal":
        return 2.0 * t * (squares.mean() - rows.mean(0).square().sum())
    pairs = math.log(count * (count - 1))
    if 2.0 * t > SAFE_EXPONENT:
        return _log_energy_by_rows(rows, squares, t, block) - pairs
    # exp(-t |a - b|^2) = exp(2t a . b - 2t), save for rows of length 0, whose part is a constant.
    energy = pair_sum(math.sqrt(2.0 * t) * rows, block, 2.0 * t)
    zeros = (squares == 0).sum().to(x.dtype)
    with_zeros = 2.0 * (count - zeros) * math.expm1(t) + (zeros - 1.0) * math.expm1(2.0 * t)
    energy = energy + zeros * with_zeros
    return energy.log() - 2.0 * t - pairs


def _log_energy_by_rows(rows: Tensor, squares: Tensor, t: float, block: int | None) -> Tensor:
    """Log of the summed exp(-t d^2) where factors are so large that single exponentials overflow.

    Args:
        rows: `[n, d]` of length 1 or 0.
        squares: `[n]` squared lengths.
        t: Factor of the squared distances.
        block: See `uniformity`.
    """
    # -t |a - b|^2 = (2t a, 1) . (b, -t |b|^2) - t |a|^2, so one more column carries the lengths.
    queries = torch.cat([2.0 * t * rows, torch.ones_like(squares).unsqueeze(1)], 1)
    candidates = torch.cat([rows, -t * squares.unsqueeze(1)], 1).detach()
    per_row = row_logsumexp(queries, candidates, True, block) - t * squares
    value = per_row.logsumexp(0)
    # Both sides of each pair move, and the sum is symmetric in them: twice the one-sided gradient.
    return 2.0 * value - value.detach()


def intra_modal_loss(
    views: Sequence[Tensor],
    masks: Tensor | Sequence[Tensor] | None,
    t: float,
    mode: UniformityMode = "uniformity",
) -> Tensor:
    """Sum the spread of every view over the items that have it, Eq. (22).

    Args:
        views: Tensors `[n, d]`, one per branch.
        masks: Bool `[n, n_views]` or one bool `[n]` per view; None if nothing lacks.
        t: See `uniformity`.
        mode: See `uniformity`.

    Returns:
        A scalar.
    """
    total = views[0].new_zeros(())
    for index, view in enumerate(views):
        (rows,) = _present(masks, index, view)
        total = total + uniformity(rows, t, mode)
    return total


def squared_norm(*tensors: Tensor, batch_size: int) -> Tensor:
    """Squared Euclidean norm of all entries per training pair, the |Theta|^2 of Eq. (24).

    Args:
        *tensors: The parameters' rows a batch uses, any shapes; at least one.
        batch_size: Number of training pairs the norm is shared among.

    Returns:
        A scalar.
    """
    return torch.stack([tensor.square().sum() for tensor in tensors]).sum() / batch_size


def unit_rows(x: Tensor, eps: float = 1e-12) -> Tensor:
    """Scale rows of `[n, d]` to length 1; a row shorter than `eps` gives 0 and gets no gradient."""
    norm = x.norm(dim=1, keepdim=True)
    return x * torch.where(norm > eps, 1.0 / norm.clamp_min(eps), torch.zeros_like(norm))


def _present(
    masks: Tensor | Sequence[Tensor] | None, index: int, *tables: Tensor
) -> tuple[Tensor, ...]:
    """Rows of the tables `[n, d]` whose item has view `index`."""
    if masks is None:
        return tables
    mask = masks[:, index] if isinstance(masks, Tensor) else masks[index]
    kept = mask.nonzero().squeeze(1)
    return tuple(table.index_select(0, kept) for table in tables)


def _reduce(values: Tensor, reduction: Reduction) -> Tensor:
    """Sum or average `[n]` terms; 0 terms give 0."""
    if reduction not in ("mean", "sum"):
        raise ConfigError(f"reduction '{reduction}' is not known: use mean or sum")
    total = values.sum()
    return total / max(1, values.numel()) if reduction == "mean" else total

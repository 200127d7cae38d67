"""User intents as mixtures of relations, and their independence (KGIN)."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_slif.errors import ConfigError

_SMALL = 1e-8


def intent_rows(relation_logits: Tensor, relation_rows: Tensor) -> Tensor:
    r"""Mix relations into intents, :math:`e_p = \sum_r softmax_r(w_{rp}) e_r`.

    KGIN, Wang et al., WWW 2021, Section 3.1.1.

    Args:
        relation_logits: `[n_intents, n_relations]`, the paper's `w`.
        relation_rows: `[n_relations, d]`.

    Returns:
        `[n_intents, d]`.
    """
    return torch.softmax(relation_logits, dim=1) @ relation_rows


def user_intents(users: Tensor, latent: Tensor, intents: Tensor) -> Tensor:
    r"""Weigh the intents for each user, :math:`\sum_p \beta(u, p) e_p`.

    The weights :math:`\beta(u, \cdot)` are a softmax of the user's products with one latent row
    per intent. KGIN, Wang et al., WWW 2021, Section 3.2.1.

    Args:
        users: `[n_users, d]`.
        latent: `[n_intents, d]`.
        intents: `[n_intents, d]`, from `intent_rows`.

    Returns:
        `[n_users, d]`.
    """
    return torch.softmax(users @ latent.T, dim=1) @ intents


def independence(relation_logits: Tensor, kind: str, temperature: float) -> Tensor:
    """Measure how much the intents say the same; 0 or least when they are independent.

    KGIN, Wang et al., WWW 2021, Section 3.1.2, on the relation logits as the authors' code does.

    Args:
        relation_logits: `[n_intents, n_relations]`.
        kind: `cosine`, squared cosine summed over pairs of intents; `distance`, distance
            correlation summed over pairs; `mi`, contrast of each intent with all of them.
        temperature: divides the similarities of `mi`.

    Returns:
        A scalar.

    Raises:
        ConfigError: `kind` is none of the three.
    """
    if kind == "mi":
        unit = F.normalize(relation_logits, dim=1)
        log_shares = torch.log_softmax(unit @ unit.T / temperature, dim=1)
        return -log_shares.diagonal().sum()
    if kind == "cosine":
        unit = F.normalize(relation_logits, dim=1)
        return torch.triu(unit @ unit.T, diagonal=1).square().sum()
    if kind == "distance":
        pairs = [_distance_correlation(a, b) for a, b in combinations(relation_logits, 2)]
        return torch.stack(pairs).sum() if pairs else relation_logits.new_zeros(())
    raise ConfigError(f"ind '{kind}' is not one of cosine, distance, mi")


def _distance_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Distance correlation of two vectors `[n]`, each entry taken as one observation."""
    a, b = _centred_distances(first), _centred_distances(second)
    shared, own_a, own_b = (_root((x * y).mean()) for x, y in ((a, b), (a, a), (b, b)))
    return shared / torch.sqrt(own_a * own_b + _SMALL)


def _centred_distances(vector: Tensor) -> Tensor:
    """Distances between the entries of `vector` `[n]`, double centred, `[n, n]`."""
    distances = _root((vector.unsqueeze(0) - vector.unsqueeze(1)).square())
    by_row = distances.mean(dim=0, keepdim=True)
    return distances - by_row - by_row.T + distances.mean()


def _root(squares: Tensor) -> Tensor:
    """Square root whose gradient stays finite at 0."""
    return torch.sqrt(squares.clamp_min(0.0) + _SMALL)

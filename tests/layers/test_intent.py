"""KGIN's intents and their independence against loops."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from recbole_slif.errors import ConfigError
from recbole_slif.layers.intent import independence, intent_rows, user_intents
from tests.oracle import baselines as oracle

RNG = np.random.default_rng(5)
LOGITS, RELATIONS = RNG.standard_normal((4, 6)), RNG.standard_normal((6, 3))
USERS, LATENT = RNG.standard_normal((7, 3)), RNG.standard_normal((4, 3))


def tensors(*arrays):
    return tuple(torch.from_numpy(array.copy()).requires_grad_() for array in arrays)


def test_intents_mix_relations():
    got = intent_rows(*tensors(LOGITS, RELATIONS)).detach().numpy()
    np.testing.assert_allclose(got, oracle.intent_rows(LOGITS, RELATIONS), atol=1e-12)


def test_users_mix_intents():
    intents = oracle.intent_rows(LOGITS, RELATIONS)
    got = user_intents(*tensors(USERS, LATENT, intents)).detach().numpy()
    np.testing.assert_allclose(got, oracle.user_intents(USERS, LATENT, intents), atol=1e-12)


def test_cosine_and_contrast():
    (logits,) = tensors(LOGITS)
    assert independence(logits, "cosine", 0.2).item() == pytest.approx(
        oracle.cosine_independence(LOGITS), abs=1e-12
    )
    assert independence(logits, "mi", 0.2).item() == pytest.approx(
        oracle.contrast_independence(LOGITS, 0.2), abs=1e-10
    )


def test_distance_is_the_sum_of_distance_correlations():
    (logits,) = tensors(LOGITS)
    pairs = [(a, b) for a in range(4) for b in range(a + 1, 4)]
    expected = sum(oracle.distance_correlation(LOGITS[a], LOGITS[b]) for a, b in pairs)
    # the guards under the roots shift it a little
    assert independence(logits, "distance", 0.2).item() == pytest.approx(expected, abs=1e-3)


def test_a_single_intent_is_independent():
    (one,) = tensors(LOGITS[:1])
    for kind in ("cosine", "distance", "mi"):
        assert independence(one, kind, 0.2).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("kind", ["cosine", "distance", "mi"])
def test_gradients(kind):
    assert gradcheck(lambda x: independence(x, kind, 0.2), tensors(LOGITS))
    same = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
    independence(same, kind, 0.2).backward()
    assert same.grad.isfinite().all(), "equal intents must not give infinite gradients"


def test_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match=r"ind 'x'.*cosine, distance, mi"):
        independence(torch.ones(2, 2), "x", 0.2)

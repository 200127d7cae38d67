"""`table_precision` and `contrast_precision` on every model: near float32, in force in time."""

import pytest
import torch

from recbole_slif import quick_start
from recbole_slif.errors import ConfigError
from recbole_slif.precision import compared_rows, stored_tables
from recbole_slif.registry import MODELS
from recbole_slif.stages import execute
from recbole_slif.testing import CHECKS, check_recommender
from tests.running import build, settings

KEYS = {"table_precision": stored_tables, "contrast_precision": compared_rows}
# Whose first step a key moves. BPR has no graph and KACL learns every weight, so that they multiply
# tables by no fixed sparse matrix; few compare all rows with all, KACL in a phase of its own.
MOVED = {
    "table_precision": set(MODELS) - {"BPR", "KACL"},
    "contrast_precision": {"SLIFMR", "TMFUN", "DiffMM", "KGCL", "DiffKG"},
}


def first_step(folder, model, key, precision):
    """Scores before training, and the loss and gradients of the first batch."""
    # of KRDN's pairs some would cross the gap, which decides all or nothing, by rounding alone
    apart = {"gamma": 0.3} if model == "KRDN" else {}
    _, built, bundle = build(folder, model, **{key: precision}, **apart)
    users, items = built.score_tables()
    built.train()
    batch = next(iter(bundle.train_data))
    torch.manual_seed(5)
    with KEYS[key](precision):
        built.pre_epoch(0)
        losses = built.calculate_loss(batch)
        loss = sum(losses) if isinstance(losses, tuple) else losses
        loss.backward()
    grads = [part.grad.flatten() for part in built.parameters() if part.grad is not None]
    return users @ items.T, loss.detach(), torch.cat(grads)


def distance(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("model", MODELS)
def test_scores_losses_and_gradients_stay_near_those_of_float32(tmp_path, model, key):
    wanted = first_step(tmp_path, model, key, "float32")
    found = first_step(tmp_path, model, key, "bfloat16")
    gaps = [distance(one, other) for one, other in zip(found, wanted, strict=True)]
    assert max(gaps) < 0.05, gaps
    assert (max(gaps) > 0) == (model in MOVED[key]), gaps


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("LightGCN", "table_precision"),
        ("SLIFMR", "table_precision"),
        ("SLIFMR", "contrast_precision"),
    ],
)
def test_training_uses_it_and_a_loaded_model_scores_the_same(tmp_path, model, key):
    check_recommender(
        model,
        overrides={key: "bfloat16"},
        skip=set(CHECKS) - {"saved_scores_are_identical", "same_seed_repeats"},
    )
    runs = {}
    for chosen in ("float32", "bfloat16"):
        config, _, _ = build(tmp_path, model, **{key: chosen})
        last = execute(config, verbose=False).folder / "last.pt"
        runs[chosen] = list(quick_start.files.load(last).state["losses"].values())
    first, second = runs.values()
    assert first != second
    assert second == pytest.approx(first, rel=0.02)


@pytest.mark.parametrize("key", KEYS)
def test_a_precision_that_is_none_is_refused(tmp_path, key):
    with pytest.raises(ConfigError, match=key):
        build(tmp_path, "LightGCN", **settings(tmp_path, **{key: "bfloat"}))

"""The key `table_precision` on every model: close to float32, in force where it should be."""

import pytest
import torch

from recbole_slif import quick_start
from recbole_slif.errors import ConfigError
from recbole_slif.graph.table_storage import stored_tables
from recbole_slif.registry import MODELS
from recbole_slif.stages import execute
from recbole_slif.testing import CHECKS, check_recommender
from tests.running import build, settings

# These multiply tables by no fixed sparse matrix: BPR has no graph, KACL learns every weight.
WITHOUT = ("BPR", "KACL")


def first_step(folder, model, precision):
    """Scores before training, and the loss and gradients of the first batch."""
    # of KRDN's pairs some would cross the gap, which decides all or nothing, by rounding alone
    apart = {"gamma": 0.3} if model == "KRDN" else {}
    _, built, bundle = build(folder, model, table_precision=precision, **apart)
    users, items = built.score_tables()
    built.train()
    batch = next(iter(bundle.train_data))
    torch.manual_seed(5)
    with stored_tables(precision):
        built.pre_epoch(0)
        losses = built.calculate_loss(batch)
        loss = sum(losses) if isinstance(losses, tuple) else losses
        loss.backward()
    grads = [part.grad.flatten() for part in built.parameters() if part.grad is not None]
    return users @ items.T, loss.detach(), torch.cat(grads)


def distance(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("model", MODELS)
def test_scores_losses_and_gradients_stay_near_those_of_float32(tmp_path, model):
    wanted = first_step(tmp_path, model, "float32")
    found = first_step(tmp_path, model, "bfloat16")
    gaps = [distance(one, other) for one, other in zip(found, wanted, strict=True)]
    assert max(gaps) < 0.05, gaps
    assert (max(gaps) > 0) == (model not in WITHOUT), gaps


@pytest.mark.parametrize("model", ["LightGCN", "SLIFMR"])
def test_training_uses_it_and_a_loaded_model_scores_the_same(tmp_path, model):
    check_recommender(
        model,
        overrides={"table_precision": "bfloat16"},
        skip=set(CHECKS) - {"saved_scores_are_identical", "same_seed_repeats"},
    )
    runs = {}
    for chosen in ("float32", "bfloat16"):
        config, _, _ = build(tmp_path, model, table_precision=chosen)
        last = execute(config, verbose=False).folder / "last.pt"
        runs[chosen] = list(quick_start.files.load(last).state["losses"].values())
    first, second = runs.values()
    assert first != second
    assert second == pytest.approx(first, rel=0.02)


def test_a_precision_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="table_precision"):
        build(tmp_path, "LightGCN", **settings(tmp_path, table_precision="bfloat"))

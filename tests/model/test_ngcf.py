"""NGCF beside RecBole's."""

import pytest
import torch

from recbole_slif.errors import ConfigError
from recbole_slif.model.general.ngcf import NGCF
from tests import model_checks as checks
from tests import peers

AS_RECBOLE = {"message_dropout": 0.0, "reg_rows": "propagated", "require_pow": False}
NAMES = {f"{side}_embedding.weight": f"{side}_embedding.weight" for side in ("user", "item")}
TRANSFORMS = {"sum_transform": "linear", "product_transform": "interActTransform"}


def names(n_layers):
    layers = {
        f"layers.{layer}.{ours}.{part}": f"GNNlayers.{layer}.{theirs}.{part}"
        for layer in range(n_layers)
        for ours, theirs in TRANSFORMS.items()
        for part in ("weight", "bias")
    }
    return NAMES | layers


@pytest.mark.parametrize("widths", [[8], [16, 8, 4]])
def test_agrees_with_recbole(tmp_path, widths):
    overrides = {**AS_RECBOLE, "hidden_size_list": widths, "reg_weight": 0.1}
    config, dataset = peers.toy_setting(tmp_path, "NGCF", overrides)
    model, peer = NGCF(config, dataset), peers.recbole_model("NGCF", config, dataset)
    peers.take_weights(model, peer, names(len(widths)))
    assert peers.score_gap(model, peer, dataset) < 1e-5
    gaps = peers.loss_gaps(model, peer, names(len(widths)), peers.pair_batch(dataset))
    assert max(gaps) < 2e-6


def test_node_dropout_thins_training_steps_only(tmp_path):
    config, dataset = peers.toy_setting(
        tmp_path, "NGCF", {"node_dropout": 0.5, "message_dropout": 0.0}
    )
    model, batch = NGCF(config, dataset), peers.pair_batch(dataset)
    model.train()
    assert len({model.calculate_loss(batch).item() for _ in range(4)}) > 1
    whole = model.adjacency.nnz
    assert all(0 < model._step_adjacency().nnz < whole for _ in range(5))
    model.eval()
    assert model._step_adjacency() is model.adjacency
    checks.check_evaluation_repeats(model, dataset)


def test_penalty_is_on_the_parameters_unless_asked(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "NGCF", {"message_dropout": 0.0})
    model, batch = NGCF(config, dataset), peers.pair_batch(dataset)
    model.reg_weight = 0.0
    plain = model.calculate_loss(batch)
    model.reg_weight = 1.0
    users, items = model.user_embedding.weight, model.item_embedding.weight
    rows = (users[batch["user_id"]], items[batch["item_id"]], items[batch["neg_item_id"]])
    expected = plain + sum((row**2).sum() for row in rows) / 2 / len(batch)
    torch.testing.assert_close(model.calculate_loss(batch), expected)


def test_wrong_settings_are_refused(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "NGCF")
    for key, value, message in (
        ("reg_rows", "all", "reg_rows 'all' is not one of ego, propagated"),
        ("node_dropout", 1.0, "node_dropout must be at least 0 and below 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            NGCF(peers.PeerSettings(config, **{key: value}), dataset)


def test_model_passes_the_common_checks(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "NGCF")
    model, batch = NGCF(config, dataset), peers.pair_batch(dataset)
    checks.check_every_parameter_learns(model, lambda: model.calculate_loss(batch))
    losses = checks.train_steps(model, batch, 30, rate=0.01)
    assert losses[-1] < 0.5 * losses[0]
    checks.check_evaluation_repeats(model, dataset)
    checks.check_saving(model, lambda: NGCF(config, dataset), dataset)

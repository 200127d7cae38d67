"""BPR beside RecBole's."""

import pytest
import torch

from recbole_slif.model.general.bpr import BPR
from tests import model_checks as checks
from tests import peers

NAMES = {f"{side}_embedding.weight": f"{side}_embedding.weight" for side in ("user", "item")}


@pytest.fixture
def setting(tmp_path):
    return peers.toy_setting(tmp_path, "BPR", {"embedding_size": 8})


def test_agrees_with_recbole(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "BPR", {"embedding_size": 8, "reg_weight": 0.0})
    model, peer = BPR(config, dataset), peers.recbole_model("BPR", config, dataset)
    peers.take_weights(model, peer, NAMES)
    assert peers.score_gap(model, peer, dataset) < 1e-5
    assert max(peers.loss_gaps(model, peer, NAMES, peers.pair_batch(dataset))) < 1e-6


def test_penalty_is_the_squared_rows_of_the_batch(setting):
    config, dataset = setting
    model, batch = BPR(config, dataset), peers.pair_batch(dataset)
    model.reg_weight = 0.0
    plain = model.calculate_loss(batch)
    model.reg_weight = 0.5
    users, items = model.user_embedding.weight, model.item_embedding.weight
    rows = (users[batch["user_id"]], items[batch["item_id"]], items[batch["neg_item_id"]])
    expected = plain + 0.5 * sum((row**2).sum() for row in rows) / 2 / len(batch)
    torch.testing.assert_close(model.calculate_loss(batch), expected)


def test_model_passes_the_common_checks(setting):
    config, dataset = setting
    model, batch = BPR(config, dataset), peers.pair_batch(dataset)
    checks.check_every_parameter_learns(model, lambda: model.calculate_loss(batch))
    losses = checks.train_steps(model, batch, 30)
    assert losses[-1] < 0.5 * losses[0]
    checks.check_evaluation_repeats(model, dataset)
    checks.check_saving(model, lambda: BPR(config, dataset), dataset)

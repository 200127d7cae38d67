"""LightGCN beside RecBole's."""

import pytest

from recbole_slif.model.general.lightgcn import LightGCN
from tests import model_checks as checks
from tests import peers

NAMES = {f"{side}_embedding.weight": f"{side}_embedding.weight" for side in ("user", "item")}


@pytest.mark.parametrize("n_layers", [0, 1, 3])
@pytest.mark.parametrize("require_pow", [True, False])
def test_agrees_with_recbole(tmp_path, n_layers, require_pow):
    overrides = {"n_layers": n_layers, "require_pow": require_pow, "reg_weight": 0.1}
    config, dataset = peers.toy_setting(tmp_path, "LightGCN", overrides)
    model, peer = LightGCN(config, dataset), peers.recbole_model("LightGCN", config, dataset)
    peers.take_weights(model, peer, NAMES)
    assert peers.score_gap(model, peer, dataset) < 1e-5
    assert max(peers.loss_gaps(model, peer, NAMES, peers.pair_batch(dataset))) < 1e-6


def test_predict_is_the_entry_of_the_full_sort(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "LightGCN")
    model, batch = LightGCN(config, dataset), peers.pair_batch(dataset)
    full = model.full_sort_predict(batch).view(len(batch), -1)
    picked = full.gather(1, batch["item_id"].unsqueeze(1)).squeeze(1)
    assert peers.largest_gap(model.predict(batch), picked) < 1e-6


def test_loaded_parameters_are_scored_even_where_they_take_the_tensors_place(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "LightGCN")
    model = LightGCN(config, dataset)
    states = [
        {name: value.clone() * factor for name, value in model.state_dict().items()}
        for factor in (1.0, 2.0)
    ]
    tables = []
    for state in states:
        model.load_state_dict(state, assign=True)
        tables.append(model.score_tables()[0])
    assert peers.largest_gap(2.0 * tables[0], tables[1]) < 1e-6


def test_model_passes_the_common_checks(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "LightGCN")
    model, batch = LightGCN(config, dataset), peers.pair_batch(dataset)
    checks.check_every_parameter_learns(model, lambda: model.calculate_loss(batch))
    losses = checks.train_steps(model, batch, 30)
    assert losses[-1] < 0.5 * losses[0]
    checks.check_evaluation_repeats(model, dataset)
    checks.check_saving(model, lambda: LightGCN(config, dataset), dataset)

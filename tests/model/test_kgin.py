"""KGIN beside RecBole's."""

import pytest
import torch

from recbole_slif.errors import ConfigError
from recbole_slif.layers.intent import independence
from recbole_slif.model.knowledge.kgin import KGIN
from tests import model_checks as checks
from tests import peers

AS_RECBOLE = {
    "node_dropout_rate": 0.0,
    "mess_dropout_rate": 0.0,
    "interaction_dropout_rate": 0.0,
    "require_pow": False,
    "inverse_relations": False,
    "intent_relations": "all",
    "reg_weight": 0.1,
}
NAMES = {
    "user_embedding.weight": "user_embedding.weight",
    "entity_embedding.weight": "entity_embedding.weight",
    "latent_embedding.weight": "latent_embedding.weight",
    "relation_embedding.weight": "gcn.relation_embedding.weight",
    "relation_logits": "gcn.disen_weight_att",
}


# RecBole's squared distances cancel in single precision, which its square roots then magnify: the
# distance correlation is compared at its default weight here, and in double precision below.
@pytest.mark.parametrize(("ind", "weight"), [("cosine", 0.1), ("distance", 1e-4), ("mi", 0.1)])
@pytest.mark.parametrize(("reverse", "hops"), [(False, 2), (True, 3)])
def test_agrees_with_recbole(tmp_path, ind, weight, reverse, hops):
    overrides = {**AS_RECBOLE, "ind": ind, "kg_reverse_r": reverse, "context_hops": hops}
    overrides["sim_regularity"] = weight
    config, dataset = peers.toy_setting(tmp_path, "KGIN", overrides)
    model = KGIN(config, dataset)
    with peers.stand_ins():
        peer = peers.recbole_model("KGIN", config, dataset)
        peers.take_weights(model, peer, NAMES)
        assert peers.score_gap(model, peer, dataset) < 1e-5
        gaps = peers.loss_gaps(model, peer, NAMES, peers.pair_batch(dataset))
    assert max(gaps) < 1e-6


@pytest.mark.parametrize("ind", ["cosine", "distance", "mi"])
def test_independence_agrees_with_recbole_in_double_precision(tmp_path, ind):
    config, dataset = peers.toy_setting(tmp_path, "KGIN", {**AS_RECBOLE, "ind": ind})
    with peers.stand_ins():
        peer = peers.recbole_model("KGIN", config, dataset)
    ours = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    values = independence(ours, ind, 0.2), peer.gcn.calculate_cor_loss(theirs)
    for value in values:
        value.backward()
    # RecBole ends in single precision even here
    assert abs(values[0].item() - values[1].item()) < 1e-6
    assert peers.largest_gap(ours.grad, theirs.grad) < 1e-6


def test_training_drops_edges_and_evaluation_never_does(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KGIN", {"mess_dropout_rate": 0.0})
    model, batch = KGIN(config, dataset), peers.pair_batch(dataset)
    model.train()
    assert len({model.calculate_loss(batch).item() for _ in range(4)}) > 1
    means, users = model._step_graphs()
    assert means is not model.entity_means and users.nnz < model.user_means.nnz
    model.eval()
    assert model._step_graphs() == (model.entity_means, model.user_means)
    checks.check_evaluation_repeats(model, dataset)


@pytest.mark.parametrize(("given", "used"), [(None, 0.5), (0.0, 0.0), (0.2, 0.2)])
def test_interactions_have_their_own_dropout_rate(tmp_path, given, used):
    config, dataset = peers.toy_setting(tmp_path, "KGIN", {"interaction_dropout_rate": given})
    model = KGIN(config, dataset)
    assert model.interaction_dropout_rate == used
    model.train()
    assert (model._step_graphs()[1] is model.user_means) == (used == 0.0)


def test_intents_mix_the_relations_of_the_graph_only(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KGIN")
    n_relations = 2 * (dataset.knowledge.n_relations - 1)
    assert KGIN(config, dataset).relation_logits.shape[1] == n_relations


def test_users_take_the_mean_of_their_items(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KGIN")
    model = KGIN(config, dataset)
    items = torch.randn(dataset.item_num, 4)
    got = model.user_means @ items
    users, bought = model.training_pairs(dataset)
    for user in range(1, dataset.user_num):
        torch.testing.assert_close(got[user], items[bought[users == user]].mean(dim=0))


def test_wrong_settings_are_refused(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KGIN")
    for key, value, message in (
        ("ind", "none", "ind 'none' is not one of cosine, distance, mi"),
        ("intent_relations", "x", "intent_relations 'x' is not one of knowledge, all"),
        ("node_dropout_rate", 1.0, "node_dropout_rate must be at least 0 and below 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            KGIN(peers.PeerSettings(config, **{key: value}), dataset)


def test_model_passes_the_common_checks(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KGIN")
    model, batch = KGIN(config, dataset), peers.pair_batch(dataset)
    checks.check_every_parameter_learns(model, lambda: model.calculate_loss(batch))
    losses = checks.train_steps(model, batch, 30)
    assert losses[-1] < 0.6 * losses[0]
    checks.check_evaluation_repeats(model, dataset)
    checks.check_saving(model, lambda: KGIN(config, dataset), dataset)

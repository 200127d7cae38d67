"""KRDN: its loss against loops, its steps, and what is deterministic."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recbole_slif.config import SlifConfig
from recbole_slif.errors import ConfigError
from recbole_slif.layers import denoised_routing
from recbole_slif.model.knowledge.krdn import KRDN
from recbole_slif.testing import CHECKS, check_recommender
from recbole_slif.testing import checks as common
from tests import model_checks as checks
from tests import peers
from tests.model.krdn_case import (
    SMALL,
    built,
    expected_losses,
    expected_towers,
    in_double_precision,
    learns,
    spread,
)
from tests.oracle import krdn as oracle
from tests.running import settings
from tests.test_trainer import check_resume

# ---- the formula -----------------------------------------------------------------------------


@pytest.mark.parametrize(("hops", "rounds"), [(1, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize("gap", [0.005, 0.3])
def test_towers_and_losses_agree_with_the_loops(tmp_path, hops, rounds, gap):
    model, dataset = built(tmp_path, context_hops=hops, max_iter=rounds, gamma=gap)
    spread(in_double_precision(model)).eval()
    samples = model._draw_samples()
    assert torch.equal(samples, model.structure_logits > 0) and 0.2 < samples.float().mean() < 0.8
    towers, agreed = model.propagate(model.pairs.whole, samples, False)
    wanted, taken = expected_towers(model, dataset, samples)
    assert torch.equal(model.pairs.whole.noted(taken * 0.0, agreed.float()), taken)
    assert bool((taken == 0).any()) == (gap < 0.1)
    for found, expected in zip(towers, wanted, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-10)
    model.bank = torch.rand(len(model.pairs), dtype=torch.float64)
    batch = peers.pair_batch(dataset)
    torch.manual_seed(5)
    losses = model.calculate_loss(batch)
    torch.manual_seed(5)
    negatives = model.pairs.draw_unseen(batch["user_id"], 7)
    weights = model.bank[model.pairs.places(batch["user_id"], batch["item_id"])].tolist()
    expected = expected_losses(model, wanted, batch, negatives, weights)
    for loss, value in zip(losses, expected, strict=True):
        assert abs(loss.item() - value) < 1e-10


def test_a_score_is_the_sum_of_the_cosines_in_both_towers(tmp_path):
    model, dataset = built(tmp_path)
    spread(in_double_precision(model)).eval()
    scores = checks.evaluated(model, dataset).view(-1, model.n_items)
    tables, _ = expected_towers(model, dataset, model._draw_samples())
    users, entities, cf_users, cf_items = tables
    for u in range(1, model.n_users):
        for i in range(model.n_items):
            near = oracle.dot(oracle.unit(users[u]), oracle.unit(entities[i]))
            cf_near = oracle.dot(oracle.unit(cf_users[u]), oracle.unit(cf_items[i]))
            assert abs(scores[u - 1, i].item() - near - cf_near) < 1e-10


def test_the_released_gap_leaves_no_pair_out_and_a_small_one_does(tmp_path, monkeypatch):
    kept = []

    def spy(first, second, gap, real=denoised_routing.agreement):
        kept.append(real(first, second, gap))
        return kept[-1]

    monkeypatch.setattr(denoised_routing, "agreement", spy)
    for gap, acts in ((0.3, False), (0.11, False), (0.005, True)):
        kept.clear()
        model, _ = built(tmp_path / str(gap), gamma=gap)
        spread(model).eval()
        model.score_tables()
        shares = torch.cat(kept)
        assert bool((shares == 0).any()) == acts and (shares == 1).any()


# ---- steps, data, settings -------------------------------------------------------------------


def test_training_thins_and_evaluation_never_does(tmp_path):
    model, dataset = built(tmp_path)
    model.train()
    thinned = model._step_interactions()
    assert thinned.edges.n_edges < model.pairs.whole.edges.n_edges
    sums = thinned.item_means.row_sums()
    torch.testing.assert_close(sums[sums > 0], torch.ones(int((sums > 0).sum())))
    model.eval()
    assert model._step_interactions() is model.pairs.whole
    checks.check_evaluation_repeats(model, dataset)


@pytest.mark.parametrize("hops", [1, 3])
def test_every_parameter_learns(tmp_path, hops):
    model, dataset = built(tmp_path, context_hops=hops)
    spread(model)
    torch.nn.init.constant_(model.structure_logits, 2.0)  # enough is left on the last hop
    learns(model, dataset)


def test_steps_lower_the_loss_and_saving_keeps_the_scores(tmp_path):
    model, dataset = built(tmp_path, margin=0.1, gamma=0.3)
    optimizer = torch.optim.Adam(model.main_parameters(), lr=0.05)
    batch, losses = peers.pair_batch(dataset), []
    model.train()
    for _ in range(30):
        optimizer.zero_grad()
        loss = sum(model.calculate_loss(batch))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.6 * losses[0]
    checks.check_saving(model, lambda: KRDN(model.settings, dataset), dataset)
    model.bank = torch.rand(len(model.pairs)).round()
    fresh = KRDN(model.settings, dataset)
    fresh.load_epoch_state(model.epoch_state())
    assert torch.equal(fresh.bank, model.bank) and fresh.bank is not model.bank


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_resume(tmp_path, "KRDN", n_negatives=9, structure_learning_rate=0.05)


def test_the_order_of_the_triples_changes_nothing(tmp_path):
    model, dataset = built(tmp_path)
    graph = dataset.knowledge
    order = np.random.default_rng(4).permutation(graph.n_triples)
    columns = {name: getattr(graph, name)[order] for name in ("heads", "relations", "tails")}
    dataset._knowledge = replace(graph, **columns)
    torch.manual_seed(1)
    twin = KRDN(model.settings, dataset)
    losses = []
    for one in (model, twin):
        torch.manual_seed(6)
        losses.append(sum(one.train().calculate_loss(peers.pair_batch(dataset))).item())
    assert losses[0] == losses[1]
    assert torch.equal(model.structure_logits, twin.structure_logits)
    assert torch.equal(checks.evaluated(model, dataset), checks.evaluated(twin, dataset))


def test_its_own_negatives_are_enough_to_overfit(monkeypatch):
    monkeypatch.setattr(common, "OVERFIT_RECALL_POSITIVES", common.OVERFIT_RECALL)
    check_recommender("KRDN", skip=set(CHECKS) - {"tiny_set_is_overfitted"})


def test_unlinked_items_hear_nothing_from_the_graph(tmp_path):
    model, dataset = built(tmp_path)
    model.eval()
    unlinked = np.flatnonzero(~dataset.knowledge.linked)[1:]
    towers, _ = model.propagate(model.pairs.whole, model._draw_samples(), False)
    rows = model.entity_embedding.weight
    assert len(unlinked) == 2
    for item in range(1, model.n_items):
        assert torch.equal(towers.entities[item], rows[item]) == (item in unlinked)
    assert all(table.isfinite().all() for table in towers)


def test_wrong_settings_are_refused(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KRDN", SMALL)
    assert config["train_neg_sample_args"]["distribution"] == "none"
    for key, value, message in (
        ("node_dropout_rate", 1.0, "node_dropout_rate must be at least 0 and below 1"),
        ("mess_dropout_rate", 1.0, "mess_dropout_rate must be at least 0 and below 1"),
        ("train_neg_sample_args", {"distribution": "uniform"}, "KRDN draws its own negatives"),
    ):
        with pytest.raises(ConfigError, match=message):
            KRDN(peers.PeerSettings(config, **{key: value}), dataset)
    for key, value in (
        ("structure_update", "down"),
        ("n_negatives", 0),
        ("context_hops", 0),
        ("max_iter", 0),
        ("gamma", 0.0),
        ("margin", 1.5),
    ):
        with pytest.raises(ConfigError, match=key):
            SlifConfig("KRDN", "toy", overrides=settings(tmp_path / "other", **{key: value}))

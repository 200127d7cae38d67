"""KRDN's structure estimate, its similarity bank and its negatives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recbole_slif.graph.dropout import draw_kept
from recbole_slif.layers import disarm
from recbole_slif.model.knowledge import thinned_pairs
from recbole_slif.model.knowledge.krdn import KRDN
from recbole_slif.model.knowledge.thinned_pairs import TrainingPairs
from tests import peers
from tests.model.krdn_case import (
    CALM,
    built,
    expected_losses,
    expected_towers,
    in_double_precision,
    learns,
    spread,
)

# ---- the structure ---------------------------------------------------------------------------


@pytest.mark.parametrize(("update", "sign"), [("descent", 1.0), ("ascent", -1.0)])
def test_the_structure_takes_one_step_by_the_estimate(tmp_path, monkeypatch, update, sign):
    overrides = {**CALM, "structure_update": update, "structure_learning_rate": 0.01}
    model, dataset = built(tmp_path, **overrides)
    spread(in_double_precision(model)).train()
    torch.manual_seed(7)
    masks = disarm.antithetic_masks(model.structure_logits)
    monkeypatch.setattr(disarm, "antithetic_masks", lambda logits: masks)
    before, batch = model.structure_logits.detach().clone(), peers.pair_batch(dataset)
    torch.manual_seed(5)
    losses = model.calculate_loss(batch)
    torch.manual_seed(5)
    negatives = model.pairs.draw_unseen(batch["user_id"], 7)
    places, values = model.pairs.places(batch["user_id"], batch["item_id"]), []
    for mask in masks:
        towers, taken = expected_towers(model, dataset, mask)
        weights = taken[places].tolist()
        values.append(sum(expected_losses(model, towers, batch, negatives, weights)))
    assert values[0] != values[1]
    moved = model.structure_logits.detach() - before
    estimate = 0.5 * (values[0] - values[1]) * (masks[0].double() - masks[1].double())
    # the first step of Adam is the step size against the sign of the gradient
    wanted = -0.01 * sign * estimate.sign()
    torch.testing.assert_close(moved, wanted, atol=1e-6, rtol=0)
    assert model.structure_logits.grad is None
    sum(losses).backward()
    assert model.structure_logits.grad is None, "backward does not reach the structure"


def test_the_structure_has_an_optimizer_of_its_own(tmp_path):
    model, _ = built(tmp_path)
    own = model.own_optimizers()["structure"].param_groups[0]
    assert [id(each) for each in own["params"]] == [id(model.structure_logits)]
    assert own["lr"] == 1e-4
    names = {name for name, _ in model.named_parameters()}
    main = {id(each) for each in model.main_parameters()}
    left = {name for name, value in model.named_parameters() if id(value) not in main}
    assert left == {"structure_logits"} and len(main) == len(names) - 1
    assert (model.structure_logits > 0).all(), "starts at a chance above one half"


@pytest.mark.parametrize("mode", ["evaluation", "no gradient"])
def test_nothing_is_learned_outside_training(tmp_path, mode):
    model, dataset = built(tmp_path)
    model.train(mode != "evaluation")
    before, bank = model.structure_logits.detach().clone(), model.bank.clone()
    with torch.set_grad_enabled(mode == "evaluation"):
        model.calculate_loss(peers.pair_batch(dataset))
    assert torch.equal(before, model.structure_logits) and torch.equal(bank, model.bank)


def test_level_edges_of_the_last_hop_count_only_between_items(tmp_path):
    model, dataset = built(tmp_path)
    assert len(model.cross_weights) == 2 and len(model.level_weights) == 1
    graph = dataset.knowledge
    dataset._knowledge = replace(graph, tails=np.append(graph.tails[:-1], graph.heads[0]))
    joined = KRDN(model.settings, dataset)
    assert joined.triples.joins_items == (graph.heads[-1] < model.n_items)
    dataset._knowledge = replace(
        graph,
        heads=np.append(graph.heads, 1),
        relations=np.append(graph.relations, 1),
        tails=np.append(graph.tails, 2),
    )
    joined = KRDN(model.settings, dataset)
    assert joined.triples.joins_items and len(joined.level_weights) == 2
    learns(joined, dataset)


# ---- bank and negatives ----------------------------------------------------------------------


def test_a_pair_weighs_what_its_attentions_last_agreed_on(tmp_path):
    model, dataset = built(tmp_path, **{**CALM, "gamma": 0.002})
    spread(in_double_precision(model)).train()
    batch, seen = peers.pair_batch(dataset), []

    def spy(towers, given, bank, real=model._losses):
        seen.append((bank.clone(), real(towers, given, bank)))
        return seen[-1][1]

    model._losses = spy
    propagate, samples = model.propagate, []

    def noting(interactions, kept, dropout):
        samples.append(kept)
        return propagate(interactions, kept, dropout)

    model.propagate = noting
    torch.manual_seed(5)
    model.calculate_loss(batch)
    torch.manual_seed(5)
    negatives = model.pairs.draw_unseen(batch["user_id"], 7)
    places = model.pairs.places(batch["user_id"], batch["item_id"])
    assert len(seen) == 3, "two passes teach the structure, one the network"
    for (bank, losses), kept in zip(seen, samples, strict=True):
        towers, taken = expected_towers(model, dataset, kept)
        assert torch.equal(bank, taken.double()) and 0 < taken.sum() < len(taken)
        wanted = expected_losses(model, towers, batch, negatives, taken[places].tolist())
        assert [loss.item() for loss in losses] == pytest.approx(wanted, abs=1e-10)
    assert torch.equal(model.bank, seen[-1][0])


@pytest.mark.parametrize("rebuilt", [False, True])
def test_a_pair_left_out_of_a_step_keeps_its_weight(tmp_path, monkeypatch, rebuilt):
    monkeypatch.setattr(thinned_pairs, "rebuilt_on", lambda device: rebuilt)
    model, dataset = built(tmp_path)
    torch.manual_seed(2)
    graph = model.pairs.thinned(0.5)
    torch.manual_seed(2)
    kept = torch.from_numpy(draw_kept(len(model.pairs), 0.5))
    before = 2.0 + torch.rand(len(model.pairs))
    after = graph.noted(before, torch.arange(1.0, graph.edges.n_edges + 1) * 0.01)
    assert torch.equal(after[~kept], before[~kept])
    assert (after[kept] < 1.0).all() and 0 < kept.sum() < len(kept)
    first, *_ = kept.nonzero().flatten().tolist()
    users, items = model.training_pairs(dataset)
    user, item = sorted(set(zip(users.tolist(), items.tolist(), strict=True)))[first]
    one = (graph.edges.heads == user) & (graph.edges.tails == item)
    assert graph.noted(torch.zeros(len(kept)), one.float()).nonzero().flatten().tolist() == [first]


def test_places_do_not_depend_on_the_order(tmp_path):
    model, dataset = built(tmp_path)
    users, items = (torch.from_numpy(part) for part in model.training_pairs(dataset))
    order = torch.randperm(len(users))
    places = model.pairs.places(users, items)
    assert torch.equal(model.pairs.places(users[order], items[order]), places[order])
    assert sorted(places.tolist()) == list(range(len(model.pairs)))


def test_negatives_are_unseen_items_all_of_them_and_repeat_with_the_seed(tmp_path):
    model, dataset = built(tmp_path)
    users, items = model.training_pairs(dataset)
    seen = set(zip(users.tolist(), items.tolist(), strict=True))
    everyone = torch.arange(1, model.n_users)
    torch.manual_seed(2)
    drawn = model.pairs.draw_unseen(everyone, 400)
    assert drawn.shape == (len(everyone), 400)
    for user, row in zip(everyone.tolist(), drawn.tolist(), strict=True):
        unseen = {i for i in range(1, model.n_items) if (user, i) not in seen}
        assert set(row) == unseen
        counts = np.bincount(row, minlength=model.n_items)[sorted(unseen)]
        assert counts.min() > 0.4 * 400 / len(unseen)
    torch.manual_seed(2)
    assert torch.equal(model.pairs.draw_unseen(everyone, 400), drawn)


def test_pairs_given_twice_count_once(tmp_path):
    model, dataset = built(tmp_path)
    users, items = (np.tile(part, 2) for part in model.training_pairs(dataset))
    twice = TrainingPairs(users, items, (model.n_users, model.n_items), model.device)
    assert len(twice) == len(model.pairs)
    assert twice.whole.edges.n_edges == model.pairs.whole.edges.n_edges
    gap = twice.whole.item_means.to_scipy() - model.pairs.whole.item_means.to_scipy()
    assert abs(gap).max() == 0.0

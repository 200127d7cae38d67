"""KRDN's structure estimate, its similarity bank and its negatives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recbole_slif.layers import disarm
from recbole_slif.model.knowledge.krdn import KRDN
from recbole_slif.model.knowledge.refined_graphs import TrainingPairs
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
from tests.oracle import krdn as oracle

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
    values = [
        sum(
            expected_losses(
                model, expected_towers(model, dataset, mask), batch, negatives, [1.0] * len(batch)
            )
        )
        for mask in masks
    ]
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


def test_a_visit_moves_the_weight_of_its_own_pair_whatever_the_order(tmp_path):
    model, dataset = built(tmp_path, **CALM, bank_decay=0.75)
    spread(model).train()
    users, items = (torch.from_numpy(part) for part in model.training_pairs(dataset))
    batch = {"user_id": users[:9], "item_id": items[:9]}
    model.bank = torch.rand(len(model.pairs))
    before = model.bank.clone()
    seen = {}

    def spy(towers, given, real=model._losses):
        seen["towers"] = towers
        return real(towers, given)

    model._losses = spy
    model.calculate_loss(batch)
    towers = [table.detach().numpy() for table in seen["towers"]]
    wanted = before.clone()
    keys = list(zip(*(part.tolist() for part in model.training_pairs(dataset)), strict=True))
    for u, i in keys[:9]:
        place = sorted(keys).index((u, i))
        near = oracle.dot(oracle.unit(towers[0][u]), oracle.unit(towers[1][i]))
        cf_near = oracle.dot(oracle.unit(towers[2][u]), oracle.unit(towers[3][i]))
        wanted[place] = 0.75 * before[place] + 0.25 * (1.0 + 0.5 * (near + cf_near)) / 2.0
    torch.testing.assert_close(model.bank, wanted, atol=1e-6, rtol=0)
    assert (model.bank != before).sum() == 9
    order = torch.randperm(len(users))
    places = model.pairs.places(users, items)
    assert torch.equal(model.pairs.places(users[order], items[order]), places[order])
    assert sorted(places.tolist()) == list(range(len(model.pairs)))


def test_a_decay_of_one_leaves_the_bank_alone(tmp_path):
    model, dataset = built(tmp_path, bank_decay=1.0)
    model.train().calculate_loss(peers.pair_batch(dataset))
    assert (model.bank == 1.0).all()


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

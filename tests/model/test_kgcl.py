"""KGCL against loops in double precision, its views, its pass over the triples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_slif.errors import ConfigError
from recbole_slif.layers.messages import drop_out
from recbole_slif.model.knowledge.kgcl import KGCL
from tests import model_checks as checks
from tests import peers
from tests.oracle import kgcl as oracle
from tests.test_trainer import check_resume

NO_DROPOUT = {"dropout": 0.0, "interaction_dropout": 0.0}


def build(tmp_path, overrides=None, **toy):
    config, dataset = peers.toy_setting(
        tmp_path, "KGCL", {"embedding_size": 6, **(overrides or {})}
    )
    torch.manual_seed(0)
    model = KGCL(config, dataset)
    model.train()
    return model, dataset


def weights(model):
    attention = model.attention
    tables = (model.item_embedding, model.entity_embedding, model.relation_embedding)
    return (
        attention.weight.detach(),
        attention.bias.detach(),
        *(t.weight.detach() for t in tables),
    )


def whole_triples(model, dataset):
    graph = dataset.knowledge
    triples = zip(graph.heads.tolist(), graph.relations.tolist(), graph.tails.tolist(), strict=True)
    return [triple for triple in triples if triple[0] < model.n_items]


def whole_pairs(model, dataset):
    return list(zip(*(part.tolist() for part in model.training_pairs(dataset)), strict=True))


def looped_tables(model, triples, pairs):
    items = oracle.item_rows(*weights(model), triples)
    users = model.user_embedding.weight.detach()
    return oracle.propagated(users, items, pairs, model.settings["n_layers"])


def close(found, expected, atol=1e-10):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype), atol=atol, rtol=0)


@pytest.mark.parametrize("n_layers", [0, 3])
def test_tables_agree_with_the_loops(tmp_path, double, n_layers):
    model, dataset = build(tmp_path, {**NO_DROPOUT, "n_layers": n_layers})
    torch.nn.init.normal_(model.attention.bias)
    expected = looped_tables(model, whole_triples(model, dataset), whole_pairs(model, dataset))
    for found, wanted in zip(model(), expected, strict=True):
        close(found, wanted)


@pytest.mark.parametrize("keep", ["item", "edge"])
def test_every_term_of_the_loss_agrees_with_the_loops(tmp_path, double, keep):
    chosen = {"ui_keep": keep, "cl_weight": 0.7, "reg_weight": 0.3, "view_ui_dropout": 0.4}
    model, dataset = build(tmp_path, {**NO_DROPOUT, **chosen})
    model.pre_epoch(0)
    batch = peers.pair_batch(dataset)
    ids = [batch[name].tolist() for name in ("user_id", "item_id", "neg_item_id")]
    found = model.calculate_loss(batch)
    triples, pairs = whole_triples(model, dataset), whole_pairs(model, dataset)
    users, items = looped_tables(model, triples, pairs)
    close(found[0], oracle.ranking(users, items, zip(*ids, strict=True)))

    state = model.epoch_state()
    both = []
    for view in range(2):
        kept = state["knowledge_kept"][view]
        arrays = (part[kept.numpy()].tolist() for part in model.views.triples)
        thinned = state["interactions_kept"][view].tolist()
        kept_pairs = [pair for pair, stays in zip(pairs, thinned, strict=True) if stays]
        both.append(looped_tables(model, list(zip(*arrays, strict=True)), kept_pairs))
    expected = 0.0
    for side in range(2):
        everyone = range(1, len(both[0][side]))
        expected += oracle.contrast(both[0][side], both[1][side], ids[side], 0.2, everyone)
    close(found[1], 0.7 * expected, atol=1e-9)

    ego_users, ego_items = (t.weight.detach() for t in (model.user_embedding, model.item_embedding))
    rows = [*(ego_users[u] for u in ids[0]), *(ego_items[i] for i in [*ids[1], *ids[2]])]
    close(found[2], 0.3 * oracle.half_norms(rows, len(ids[0])))


def test_means_are_the_sums_over_the_batch_size(tmp_path, double):
    model, dataset = build(tmp_path, NO_DROPOUT)
    batch = peers.pair_batch(dataset)
    sums = model.calculate_loss(batch)
    model.settings = peers.PeerSettings(model.settings, loss_reduction="mean")
    means = model.calculate_loss(batch)
    for total, mean in zip(sums[:2], means[:2], strict=True):
        torch.testing.assert_close(total / 24, mean)


@pytest.mark.parametrize("negatives", ["batch", 3])
def test_the_contrast_can_have_fewer_negatives(tmp_path, double, negatives):
    model, dataset = build(tmp_path, {**NO_DROPOUT, "cl_negatives": negatives})
    model.pre_epoch(0)
    batch = peers.pair_batch(dataset, size=4)
    fewer = model.contrast(batch)
    model.settings = peers.PeerSettings(model.settings, cl_negatives="all")
    assert fewer < model.contrast(batch)


def test_translation_agrees_with_the_loops(tmp_path, double):
    model, _ = build(tmp_path, {"translation_reg": 0.5})
    (phase,) = model.phases_before(0)
    assert phase.names == ("translation", "translation_penalty") and phase.optimizer == "main"
    (heads,) = list(phase.batches)
    assert sorted(heads.tolist()) == model.sampler.heads.tolist()
    torch.manual_seed(3)
    found = phase.loss(heads)
    torch.manual_seed(3)
    relations, tails = model.sampler.draw_triples(heads)
    false_tails = model.sampler.negative_tails(heads, relations)
    _, _, items, entities, table = weights(model)
    terms, penalty = 0.0, 0.0
    for h, r, t, f in zip(heads, relations, tails, false_tails, strict=True):
        rows = items[h], table[r], entities[t], entities[f]
        terms += oracle.transe(*rows) / len(heads)
        penalty += oracle.half_norms(rows, len(heads))
    close(found[0], terms)
    close(found[1], 0.5 * penalty)


def test_translation_follows_the_paper_if_asked(tmp_path):
    model, _ = build(tmp_path, {"translation": "transr"})
    plain, _ = build(tmp_path)
    heads = model.sampler.heads
    losses = []
    for each in (model, plain):
        torch.manual_seed(5)
        losses.append(sum(each.translation(heads)))
    torch.testing.assert_close(*losses, msg="matrices start as the identity, which is TransE")
    losses[0].backward()
    assert model.projections.grad.abs().sum() > 0
    off, _ = build(tmp_path, {"translation": "none"})
    assert off.phases_before(0) == ()


def test_views_follow_the_stability_of_the_items(tmp_path, double, monkeypatch):
    model, _ = build(tmp_path, {"view_ui_dropout": 0.3})
    used, draw = [], model.views.draw_interactions
    monkeypatch.setattr(model.views, "draw_interactions", lambda *at: (used.append(at), draw(*at)))
    torch.manual_seed(1)
    model.pre_epoch(0)
    assert model.training
    edges = [model.views.knowledge(kept) for kept in model.epoch_state()["knowledge_kept"]]
    model.eval()
    with torch.no_grad():
        rows = [model._item_rows(part).tolist() for part in edges]
    stability = [oracle.cosine(a, b) for a, b in zip(*rows, strict=True)]
    expected = oracle.chances(stability[1:], 0.7, 0.3, 0.95)
    close(used[0][0], [0.0, *expected])
    kept = model.epoch_state()["interactions_kept"]
    assert not kept.all() and kept.any()
    items = torch.from_numpy(model.views.pairs[1])
    for view in kept:
        assert all(len(view[items == item].unique()) == 1 for item in items.unique())
    model.pre_epoch(1)
    assert not torch.equal(kept, model.epoch_state()["interactions_kept"])


def test_views_stay_for_the_epoch_and_outlive_a_checkpoint(tmp_path):
    model, dataset = build(tmp_path, NO_DROPOUT)
    batch = peers.pair_batch(dataset)
    model.pre_epoch(0)
    expected = model.calculate_loss(batch)
    assert all(map(torch.equal, expected, model.calculate_loss(batch)))
    fresh, _ = build(tmp_path, NO_DROPOUT)
    fresh.load_state_dict(model.state_dict())
    assert not torch.equal(expected[1], fresh.calculate_loss(batch)[1]), "whole views differ"
    fresh.load_epoch_state(model.epoch_state())
    assert all(map(torch.equal, expected, fresh.calculate_loss(batch)))


def test_dropout_is_for_training_only(tmp_path):
    model, dataset = build(tmp_path)
    batch = peers.pair_batch(dataset)
    assert len({model.calculate_loss(batch)[0].item() for _ in range(4)}) > 1
    checks.check_evaluation_repeats(model, dataset)
    model.eval()
    whole = looped_tables(model, whole_triples(model, dataset), whole_pairs(model, dataset))
    for found, wanted in zip(model(), whole, strict=True):
        close(found, wanted, atol=1e-6)


@pytest.mark.parametrize("rate", ["dropout", "interaction_dropout"])
def test_each_dropout_acts_alone(tmp_path, rate):
    model, _ = build(tmp_path, {**NO_DROPOUT, rate: 0.5})
    first, second = model(), model()
    assert not torch.equal(first[1], second[1])


def test_items_without_triples_keep_their_own_rows(tmp_path):
    model, dataset = build(tmp_path, NO_DROPOUT)
    rows = model._item_rows(model.edges)
    alone = np.flatnonzero(~dataset.knowledge.linked)
    assert len(alone) == 3, "[PAD] and two items"
    assert torch.equal(rows[alone], model.item_embedding.weight[alone])
    rows[alone].sum().backward()
    assert not model.entity_embedding.weight.grad.any()


def test_wrong_settings_are_refused(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KGCL")
    for key in ("dropout", "interaction_dropout", "view_kg_dropout", "view_ui_dropout"):
        with pytest.raises(ConfigError, match=f"{key} must be at least 0 and below 1"):
            KGCL(peers.PeerSettings(config, **{key: 1.0}), dataset)
    with pytest.raises(ConfigError, match="cl_negatives 'some' is not known"):
        KGCL(peers.PeerSettings(config, cl_negatives="some"), dataset)
    for key in ("translation", "ui_keep", "loss_reduction"):
        with pytest.raises(ConfigError, match=f"{key} cannot be 'x'"):
            peers.toy_setting(tmp_path, "KGCL", {key: "x"})


def test_no_contrast_draws_no_views(tmp_path):
    model, dataset = build(tmp_path, {"cl_weight": 0.0})
    state = torch.get_rng_state()
    model.pre_epoch(0)
    assert torch.equal(state, torch.get_rng_state())
    assert model.calculate_loss(peers.pair_batch(dataset))[1] == 0.0


def test_both_views_learn(tmp_path):
    model, dataset = build(tmp_path, NO_DROPOUT)
    model.pre_epoch(0)
    contrast = model.contrast(peers.pair_batch(dataset))
    found = peers.gradients(model, contrast)
    dead = [name for name, grad in found.items() if not grad.any()]
    assert not dead


def test_model_passes_the_common_checks(tmp_path):
    model, dataset = build(tmp_path)
    batch = peers.pair_batch(dataset)
    heads = model.sampler.heads
    losses = lambda: sum(model.calculate_loss(batch)) + sum(model.translation(heads))  # noqa: E731
    checks.check_every_parameter_learns(model, losses)
    config = model.settings
    checks.check_saving(model, lambda: KGCL(config, dataset), dataset)


def test_the_penalty_is_on_ego_rows_only(tmp_path):
    model, dataset = build(tmp_path, {"reg_weight": 1.0})
    found = peers.gradients(model, model.calculate_loss(peers.pair_batch(dataset))[2])
    reached = {name for name, grad in found.items() if grad.any()}
    assert reached == {"user_embedding.weight", "item_embedding.weight"}


def test_scores_are_dot_products(tmp_path):
    model, dataset = build(tmp_path)
    users, items = model.score_tables()
    batch = peers.pair_batch(dataset)
    expected = (users[batch["user_id"]] * items[batch["item_id"]]).sum(1)
    assert torch.equal(model.predict(batch), expected)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = check_resume(tmp_path, "KGCL", view_ui_dropout=0.4, translation_batch_size=4)
    names = ["translation", "translation_penalty", "bpr", "contrast", "penalty"]
    assert list(whole.history[0]["loss"]) == names


def test_dropout_acts_on_rows_on_attention_and_on_the_sum(tmp_path, double):
    model, _ = build(tmp_path)
    items, entities = model.item_embedding.weight.detach(), model.entity_embedding.weight.detach()
    edges, rate = model.edges, 0.4
    torch.manual_seed(4)
    found = model._item_rows(edges)
    torch.manual_seed(4)
    rows_dropped, edges_dropped = (lambda x: drop_out(x, rate, True)), torch.nn.functional.dropout
    masks = [
        rows_dropped(torch.ones_like(items)),
        rows_dropped(torch.ones_like(entities)),
        edges_dropped(torch.ones(edges.n_edges), rate),
        rows_dropped(torch.ones_like(items)),
    ]
    items, entities = items * masks[0], entities * masks[1]
    relations = model.relation_embedding.weight
    weights = masks[2] * model.attention.attention(items, entities, relations, edges)
    expected = items.clone()
    for head, tail, weight in zip(edges.heads.tolist(), edges.tails.tolist(), weights, strict=True):
        expected[head] = expected[head] + weight * entities[tail]
    torch.testing.assert_close(found, masks[3] * expected, atol=1e-10, rtol=0)

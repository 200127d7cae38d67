"""Which parameters of SLIF-MR learn, are read and are penalised."""

import pytest
import torch

from tests.model.stub import batch, build, total


def test_an_epoch_refresh_leaves_the_relations_alone_and_a_step_does_not():
    for refresh, moved in (("epoch", False), ("step", True)):
        model = build(attn_refresh=refresh, reg_weight=0.1)
        for epoch in range(2):
            model.pre_epoch(epoch)
        total(model).backward()
        for parameter in model.knowledge_branch.parameters():
            has_gradient = parameter.grad is not None and bool(parameter.grad.any())
            assert has_gradient == moved, refresh


def test_the_translation_loss_trains_relations_that_the_ranking_does_not_reach():
    model = build(attn_refresh="epoch", kge_loss_weight=0.5)
    model.pre_epoch(0)
    parts = model.calculate_loss(batch())
    assert len(parts) == 5
    torch.stack(list(parts)).sum().backward()
    assert all(parameter.grad.any() for parameter in model.knowledge_branch.parameters())
    assert len(build().calculate_loss(batch())) == 4
    assert len(build(kge_loss_weight=0.5, ablation="kg").calculate_loss(batch())) == 4


def test_the_translation_loss_is_weighed_and_drawn_from_both_directions():
    losses = []
    for weight in (0.5, 1.0):
        model = build(kge_loss_weight=weight)
        model.pre_epoch(0)
        torch.manual_seed(5)
        losses.append(float(model.calculate_loss(batch())[4].detach()))
    assert losses[1] == pytest.approx(2 * losses[0])
    model.calculate_loss(batch())[4].backward()
    gradient = model.knowledge_branch.relational_attention.relation_embedding.grad
    base = model.self_loop.knowledge.n_relations
    inverse_end = 2 * base - 1
    assert gradient[1:base].any(dim=1).all()
    assert gradient[base:inverse_end].any(dim=1).all()
    assert not gradient[inverse_end:].any()  # the correlation relation has no triples


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ablation": "kg"},
        {"ablation": "mm"},
        {"ablation": "kg_mm"},
        {"feature_init": "project"},
        {"feature_init": "project", "ablation": "kg"},
    ],
)
def test_each_of_separate_tables_is_read_by_a_view(changes):
    model = build(separate_tables=True, reg_weight=0.0, **changes)
    model.pre_epoch(0)
    total(model).backward()
    tables = [model.entity_embedding.weight, *model.own_tables.values()]
    assert all(table.grad is not None and table.grad.any() for table in tables)


@pytest.mark.parametrize("refresh", ["step", "epoch"])
def test_without_layers_no_edge_is_weighed_nor_its_relation_penalised(monkeypatch, refresh):
    model = build(n_layers_knowledge=0, reg_weight=0.1, attn_refresh=refresh)
    monkeypatch.setattr(type(model.knowledge_branch.relational_attention), "attention", None)
    model.pre_epoch(0)
    total(model).backward()
    assert not [p for p in model.knowledge_branch.parameters() if p.grad is not None]


def test_relations_without_edges_are_not_penalised():
    model = build(reg_weight=1.0)
    model.pre_epoch(0)
    total(model).backward()
    gradient = model.knowledge_branch.relational_attention.relation_projection.grad
    correlation = model.self_loop.n_relations - 1
    assert not gradient[correlation].any()
    assert not gradient[0].any()
    assert gradient[1].any()
    model.zero_grad()
    model.pre_epoch(1)
    total(model).backward()
    gradient = model.knowledge_branch.relational_attention.relation_projection.grad
    assert gradient[correlation].any()

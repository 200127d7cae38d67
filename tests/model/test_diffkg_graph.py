"""DiffKG's denoiser, its pass, and the graph it rebuilds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_slif.model.knowledge.diffkg import DiffKG
from tests import model_checks as checks
from tests import peers
from tests.model.diffkg_case import (
    build,
    close,
    edges_of,
    keep_some,
    pairs_of,
    whole_graph,
)
from tests.oracle import diffkg as oracle
from tests.oracle import diffusion

# ---- the denoiser ----------------------------------------------------------------------------


def looped_rows(model, dataset, heads):
    width = model.generation.graph.n_entities
    rows = [[0.0] * width for _ in heads]
    for head, _, tail in whole_graph(dataset):
        for row, wanted in zip(rows, heads, strict=True):
            if head == wanted:
                row[tail] = 1.0
    return rows


def test_the_denoisers_loss_agrees_with_the_loops(tmp_path, double, monkeypatch):
    model, dataset = build(tmp_path, {"align_weight": 0.3})
    generation = model.generation
    generation.denoiser.eval()  # no dropout
    with torch.no_grad():
        for parameter in generation.denoiser.parameters():
            parameter.normal_(std=0.5)
    heads = generation.heads[[4, 0, 7, 11]]
    steps = torch.tensor([1, 0, 4, 2])
    noise = torch.randn(4, generation.graph.n_entities)
    hidden = generation.denoising.hidden
    monkeypatch.setattr(generation.diffusion, "draw_steps", lambda count: steps[:count])
    monkeypatch.setattr(generation.denoising, "hidden", lambda rows, t: hidden(rows, t, noise))
    found = model.denoising_loss(heads)

    _, signal = diffusion.schedule(5, 0.1, 1e-4, 0.02)
    state = {name: value.tolist() for name, value in generation.denoiser.state_dict().items()}
    users, entities = (
        table.weight.detach().tolist() for table in (model.user_embedding, model.entity_embedding)
    )
    of_items = oracle.collected(pairs_of(model, dataset), users, model.n_items)
    errors, gaps = 0.0, 0.0
    rows = looped_rows(model, dataset, heads.tolist())
    for x0, eps, t, head in zip(rows, noise.tolist(), steps.tolist(), heads.tolist(), strict=True):
        x_t = diffusion.noise(x0, t, eps, signal)
        x0_hat = diffusion.denoiser(x_t, t, state, 10, normalise=True)
        errors += diffusion.reconstruction(x0_hat, x0, t, signal) / 4
        gaps += oracle.alignment(x0_hat, of_items, entities[head]) / 4
    close(found[0], 0.7 * errors, atol=1e-8 * abs(errors))
    close(found[1], 0.3 * gaps, atol=1e-9 * gaps)


def test_the_denoiser_learns_alone_and_only_from_its_own_loss(tmp_path):
    model, dataset = build(tmp_path)
    (phase,) = model.phases_before(0)
    assert phase.names == ("denoising", "alignment") and phase.optimizer == "denoiser"
    (heads,) = list(phase.batches)
    assert sorted(heads.tolist()) == sorted({head for head, _, _ in whole_graph(dataset)})
    of_phase = peers.gradients(model, sum(phase.loss(heads)))
    of_batch = peers.gradients(model, sum(model.calculate_loss(peers.pair_batch(dataset))))
    for name in of_phase:
        inside = name.startswith("generation.denoiser.")
        assert bool(of_phase[name].any()) == inside, name
        assert bool(of_batch[name].any()) != inside, name


def test_each_optimizer_has_its_own_parameters(tmp_path):
    model, _ = build(tmp_path, {"learning_rate": 0.005})
    (adam,) = model.own_optimizers().values()
    own = {id(p) for group in adam.param_groups for p in group["params"]}
    main = {id(parameter) for parameter in model.main_parameters()}
    assert not own & main and own | main == {id(p) for p in model.parameters()}
    assert adam.param_groups[0]["lr"] == 0.005
    assert own == {id(parameter) for parameter in model.generation.denoiser.parameters()}


def test_the_denoiser_learns_the_graph(tmp_path):
    model, _ = build(tmp_path, {"denoiser_hidden": 64, "keep_rate": 1.0})
    found = [len(model.generation.predicted_edges())]
    (adam,) = model.own_optimizers().values()
    for _ in range(250):
        for heads in model.phases_before(0)[0].batches:
            adam.zero_grad()
            sum(model.denoising_loss(heads)).backward()
            adam.step()
    found.append(len(model.generation.predicted_edges()))
    assert found[1] >= len(model.generation.heads) > 2 * found[0]


def test_rows_can_be_limited(tmp_path):
    model, _ = build(tmp_path, {"denoiser_batch_size": 4, "denoise_batches": 3})
    batches = list(model.phases_before(0)[0].batches)
    assert [len(heads) for heads in batches] == [4, 4, 4]
    assert model.generation.heads.max() >= model.n_items
    items, _ = build(tmp_path, {"denoise_rows": "items"})
    assert items.generation.heads.tolist() == [
        head for head in model.generation.heads.tolist() if head < model.n_items
    ]
    items.pre_epoch(0)


# ---- the generated graph ---------------------------------------------------------------------


@pytest.mark.parametrize("rows", ["all", "items"])
def test_the_generated_graph_holds_what_is_predicted_and_exists(tmp_path, double, rows):
    chosen = {"keep_rate": 1.0, "denoise_rows": rows, "denoiser_batch_size": 3}
    model, dataset = build(tmp_path, chosen)
    generation = model.generation
    with torch.no_grad():
        for parameter in generation.denoiser.parameters():
            parameter.normal_(std=0.7)
        # favour what many heads have, or nothing exists by chance
        counts = np.bincount(generation.graph.tails, minlength=generation.graph.n_entities)
        generation.denoiser.output.bias += 0.5 * torch.from_numpy(counts)
    before = edges_of(generation.base)
    model.pre_epoch(0)
    betas, signal = diffusion.schedule(5, 0.1, 1e-4, 0.02)
    state = {name: value.tolist() for name, value in generation.denoiser.state_dict().items()}
    first, heads = {}, generation.heads.tolist()
    for head, x0 in zip(heads, looped_rows(model, dataset, heads), strict=True):
        final = diffusion.chain(x0, state, 10, betas, signal, normalise=True)
        first[head] = max(range(1, len(final)), key=final.__getitem__)
    expected = oracle.selected(first, whole_graph(dataset))
    assert 0 < len(expected) < 2 * len(heads)
    assert edges_of(generation.generated) == expected
    assert {(t, h) for h, _, t in expected} == {(h, t) for h, _, t in expected}
    assert edges_of(generation.base) == before


def predicting(model, places):
    """Let the denoiser predict the edges of these numbers."""
    model.generation.predicted_edges = lambda: np.array(places, dtype=np.int64)


def test_predicted_edges_are_kept_by_chance(tmp_path):
    model, _ = build(tmp_path, {"keep_rate": 0.3})
    places = np.arange(model.generation.graph.n_edges)
    predicting(model, places)
    counts, seen = [], np.zeros(len(places))
    for epoch in range(300):
        model.pre_epoch(epoch)
        kept = model.epoch_state()["generated"].numpy()
        counts.append(len(kept))
        seen[kept] += 1
    assert np.mean(counts) == pytest.approx(0.3 * len(places), rel=0.05)
    assert len(set(counts)) > 1 and np.abs(seen / 300 - 0.3).max() < 0.12


@pytest.mark.parametrize("choice", ["base", "keep"])
def test_an_empty_graph_gives_way_to_the_base_graph(tmp_path, choice):
    model, dataset = build(tmp_path, {"empty_graph": choice, "triples_per_head": 1})
    predicting(model, [])
    model.pre_epoch(0)
    generated, base = (edges_of(e) for e in (model.generation.generated, model.generation.base))
    assert base and generated == (base if choice == "base" else [])
    losses = model.calculate_loss(peers.pair_batch(dataset))
    assert all(bool(loss.isfinite()) for loss in losses)
    sum(losses).backward()


def test_an_edge_lost_by_chance_also_brings_the_base_graph(tmp_path):
    model, _ = build(tmp_path, {"keep_rate": 1e-9})
    predicting(model, [0, 1])
    model.pre_epoch(0)
    assert edges_of(model.generation.generated) == edges_of(model.generation.base)


def test_the_base_graph_is_drawn_once(tmp_path):
    model, _ = build(tmp_path, {"triples_per_head": 1})
    heads = model.generation.base.heads.tolist()
    assert len(set(heads)) == len(heads) < model.generation.graph.n_edges
    before = edges_of(model.generation.base)
    for epoch in range(3):
        model.pre_epoch(epoch)
        assert edges_of(model.generation.base) == before
    other, _ = build(tmp_path, {"triples_per_head": 0})
    assert other.generation.base.n_edges == other.generation.graph.n_edges


@pytest.mark.parametrize("pattern", [0, 1])
def test_both_graphs_are_in_the_checkpoint(tmp_path, pattern):
    model, dataset = build(tmp_path, {"cl_pattern": pattern, "triples_per_head": 1})
    model.pre_epoch(0)
    base = edges_of(model.generation.base)
    keep_some(model)
    fresh = DiffKG(model.settings, dataset)
    fresh.load_state_dict(model.state_dict())
    assert edges_of(fresh.generation.base) != base
    assert not torch.equal(checks.evaluated(fresh, dataset), checks.evaluated(model, dataset))
    fresh.load_epoch_state(model.epoch_state())
    for one in (model, fresh):
        assert edges_of(one.generation.base) == base
        assert edges_of(one.generation.generated) == base[::2]
    assert torch.equal(checks.evaluated(fresh, dataset), checks.evaluated(model, dataset))
    checks.check_saving(model, lambda: DiffKG(model.settings, dataset), dataset)


def test_a_rebuilt_graph_changes_the_scores(tmp_path):
    model, dataset = build(tmp_path)
    before = model.full_sort_predict(peers.all_users(dataset))
    predicting(model, [0, 1, 2])
    model.pre_epoch(0)
    assert not torch.equal(before, model.full_sort_predict(peers.all_users(dataset)))

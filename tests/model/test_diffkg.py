"""DiffKG: its encoder and losses against loops in double precision, its data and settings."""

from __future__ import annotations

import pytest
import torch

from recbole_slif.errors import ConfigError
from recbole_slif.model.knowledge.diffkg import DiffKG
from recbole_slif.model.knowledge.generation import relation_ranks
from tests import model_checks as checks
from tests import peers
from tests.model.diffkg_case import (
    SMALL,
    build,
    close,
    edges_of,
    keep_some,
    looped_tables,
)
from tests.oracle import kgcl
from tests.test_trainer import check_resume

# ---- encoder and losses ----------------------------------------------------------------------


@pytest.mark.parametrize(("hops", "n_layers", "residual"), [(0, 1, 0.5), (1, 2, 0.5), (2, 2, 0.0)])
@pytest.mark.parametrize("pattern", [0, 1])
def test_tables_agree_with_the_loops(tmp_path, double, hops, n_layers, residual, pattern):
    chosen = {"context_hops": hops, "n_layers": n_layers, "residual_weight": residual}
    model, dataset = build(tmp_path, {**chosen, "cl_pattern": pattern, "triples_per_head": 3})
    keep_some(model)
    generated, base = model.generation.generated, model.generation.base
    assert 0 < generated.n_edges < base.n_edges < model.generation.graph.n_edges
    expected = looped_tables(model, dataset, base if pattern else generated)
    for found, wanted in zip(model(), expected, strict=True):
        close(found, wanted)


@pytest.mark.parametrize("pattern", [0, 1])
def test_every_term_of_the_loss_agrees_with_the_loops(tmp_path, double, pattern):
    chosen = {"reg_weight": 0.3, "ssl_weight": 0.7, "tau": 0.4, "cl_pattern": pattern}
    model, dataset = build(tmp_path, chosen)
    keep_some(model)
    batch = peers.pair_batch(dataset)
    ids = [batch[name].tolist() for name in ("user_id", "item_id", "neg_item_id")]
    found = model.calculate_loss(batch)
    assert model.loss_names == ("bpr", "penalty", "contrast") and len(found) == 3
    views = [
        looped_tables(model, dataset, edges)
        for edges in (model.generation.generated, model.generation.base)
    ]
    main, other = views[::-1] if pattern else views
    close(found[0], kgcl.ranking(*main, zip(*ids, strict=True)) / 24)
    squares = sum(
        float(value) ** 2
        for name, parameter in model.named_parameters()
        if "denoiser" not in name
        for value in parameter.detach().flatten()
    )
    close(found[1], 0.3 * squares)
    contrast = sum(
        kgcl.contrast(main[side], other[side], ids[side], 0.4, range(1, len(main[side]))) / 24
        for side in range(2)
    )
    close(found[2], 0.7 * contrast)


@pytest.mark.parametrize("negatives", ["batch", 3])
def test_the_contrast_can_have_fewer_negatives(tmp_path, negatives):
    model, dataset = build(tmp_path, {"cl_negatives": negatives})
    keep_some(model)
    batch = peers.pair_batch(dataset, size=4)
    fewer = model.calculate_loss(batch)[2]
    model.settings = peers.PeerSettings(model.settings, cl_negatives="all")
    assert fewer < model.calculate_loss(batch)[2]


def test_a_contrast_that_weighs_nothing_is_not_computed(tmp_path, monkeypatch):
    model, dataset = build(tmp_path, {"ssl_weight": 0.0})
    encode, encoded = model.encode, []
    monkeypatch.setattr(model, "encode", lambda edges: encoded.append(edges) or encode(edges))
    assert model.calculate_loss(peers.pair_batch(dataset))[2].item() == 0.0
    assert encoded == [model.generation.generated]


def test_hops_are_dropped_out_while_training_only(tmp_path):
    model, dataset = build(tmp_path, {"mess_dropout_rate": 0.3})
    batch = peers.pair_batch(dataset)
    assert len({model.calculate_loss(batch)[0].item() for _ in range(3)}) == 3
    checks.check_evaluation_repeats(model, dataset)


def test_an_entity_without_edges_keeps_its_own_row(tmp_path, double):
    model, dataset = build(tmp_path, {"n_layers": 0}, unlinked=5)
    lonely = (~dataset.knowledge.linked).nonzero()[0].tolist()
    assert len(lonely) > 5 and not set(lonely) & set(model.generation.heads.tolist())
    own = model.entity_embedding.weight[lonely]
    expected = 0.5 * own + torch.nn.functional.normalize(own)
    torch.testing.assert_close(model()[1][lonely], expected)


# ---- data and settings -----------------------------------------------------------------------


def test_relations_are_ranked_by_name(tmp_path):
    graph = build(tmp_path)[1].knowledge
    names = list(graph.relation_tokens)
    ranks = relation_ranks(graph, 2 * graph.n_relations - 1).tolist()
    assert sorted(ranks[: graph.n_relations]) == [2 * k for k in range(graph.n_relations)]
    assert sorted(range(graph.n_relations), key=ranks.__getitem__) == sorted(
        range(graph.n_relations), key=names.__getitem__
    )
    assert ranks[graph.n_relations :] == [rank + 1 for rank in ranks[1 : graph.n_relations]]


def test_the_order_of_the_triples_does_not_matter(tmp_path):
    results = []
    for name in ("a", "b"):
        config, dataset = peers.toy_setting(tmp_path / name, "DiffKG", SMALL)
        path = tmp_path / name / "toy" / "toy.kg"
        header, *lines = path.read_text().splitlines()
        head, relation, tail = lines[0].split("\t")
        # a pair under two relations
        lines.append("\t".join((head, {"r0": "r1", "r1": "r0"}[relation], tail)))
        path.write_text("\n".join([header, *(lines[::-1] if name == "b" else lines)]) + "\n")
        dataset = type(dataset)(config).build()[0]
        torch.manual_seed(0)
        model = DiffKG(peers.PeerSettings(config, triples_per_head=1), dataset)
        loss = sum(model.denoising_loss(model.generation.heads)).item()
        model.pre_epoch(0)
        loss += sum(model.calculate_loss(peers.pair_batch(dataset))).item()
        results.append((loss, edges_of(model.generation.base), checks.evaluated(model, dataset)))
    assert results[0][:2] == results[1][:2]
    assert torch.equal(results[0][2], results[1][2])


def test_the_denoisers_pass_moves_the_denoiser_alone(tmp_path):
    model, _ = build(tmp_path)
    sum(model.denoising_loss(model.generation.heads)).backward()
    moved = {name for name, one in model.named_parameters() if one.grad is not None}
    assert moved == {
        f"generation.denoiser.{name}" for name in model.generation.denoiser.state_dict()
    }


REFUSED = [
    ("denoise_rows", "users", "denoise_rows 'users' is not one of all, items"),
    ("empty_graph", "none", "empty_graph 'none' is not one of base, keep"),
    ("cl_pattern", 2, "cl_pattern '2' is not one of 0, 1"),
    ("cl_negatives", "some", "cl_negatives 'some' is not known"),
    ("triples_per_head", -1, "triples_per_head must be at least 0, not -1"),
    ("denoise_batches", 0, "denoise_batches must be at least 1, not 0"),
    ("denoiser_hidden", 0, "denoiser_hidden must be at least 1, not 0"),
    ("denoiser_batch_size", 0, "denoiser_batch_size must be at least 1, not 0"),
    ("align_weight", 1.5, r"align_weight must lie in \[0, 1\], not 1.5"),
    ("keep_rate", 0.0, r"keep_rate must lie in \(0, 1\], not 0.0"),
    ("mess_dropout_rate", 1.0, "mess_dropout_rate must be at least 0 and below 1, not 1.0"),
    ("tau", 0.0, "tau must be above 0, not 0.0"),
    ("steps", 0, "steps must be at least 1, not 0"),
    ("noise_max", 20.0, "noise_scale"),
]


@pytest.mark.parametrize(("key", "value", "message"), REFUSED)
def test_wrong_settings_are_refused(tmp_path, key, value, message):
    config, dataset = peers.toy_setting(tmp_path, "DiffKG")
    with pytest.raises(ConfigError, match=message):
        DiffKG(peers.PeerSettings(config, **{key: value}), dataset)


def test_model_passes_the_common_checks(tmp_path):
    model, dataset = build(tmp_path, {"mess_dropout_rate": 0.1, "reg_weight": 1e-7})
    batch, heads = peers.pair_batch(dataset), model.generation.heads
    checks.check_every_parameter_learns(
        model, lambda: sum(model.calculate_loss(batch)), lambda: sum(model.denoising_loss(heads))
    )
    adam = torch.optim.Adam(model.main_parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        adam.zero_grad()
        loss = sum(model.calculate_loss(batch))
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = check_resume(tmp_path, "DiffKG", denoiser_hidden=8, triples_per_head=2)
    names = ["denoising", "alignment", "bpr", "penalty", "contrast"]
    assert list(whole.history[0]["loss"]) == names

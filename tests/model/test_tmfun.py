"""Our reconstruction of TMFUN against loops: fusion, contrast, and what lacks a modality."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_slif.errors import ConfigError
from recbole_slif.model.multimodal.tmfun import TMFUN
from recbole_slif.registry import MODELS
from tests import model_checks as checks
from tests import multimodal, peers
from tests.oracle import graphs
from tests.oracle import tmfun as oracle
from tests.oracle.multimodal import dot, matmul
from tests.toy import MODALITIES

PARTS = {"cl_weight": 0.7, "reg_weight": 0.3, "temperature": 0.4}


def built(folder, overrides=None, **toy):
    config, dataset = multimodal.setting(folder, "TMFUN", overrides, **toy)
    torch.manual_seed(0)
    return TMFUN(config, dataset), config, dataset


@pytest.mark.parametrize("extra", [{}, {"audio": 3}], ids=["two", "three"])
@pytest.mark.parametrize(("n_layers", "n_item_layers"), [(2, 1), (0, 0), (1, 2)])
def test_each_loss_and_the_scores_agree_with_loops(tmp_path, n_layers, n_item_layers, extra):
    given = {**PARTS, "n_layers": n_layers, "n_item_layers": n_item_layers}
    given |= {"knn_k": 4, "embedding_size": 5}
    toy = {"modalities": {**MODALITIES, **extra}, "missing": {**multimodal.MISSING, "audio": 4}}
    model, _, dataset = built(tmp_path, given, **toy)
    model, batch = multimodal.doubled(model), peers.pair_batch(dataset)
    rows = [multimodal.lists(t.weight) for t in (model.user_embedding, model.item_embedding)]
    item_graphs = [multimodal.dense(graph) for graph in model.item_graphs]
    features = multimodal.modality_lists(model)
    smoothed = [matmul(graph, table) for graph, table in zip(item_graphs, features, strict=True)]
    presence = model.projection.present.T.tolist()
    maps = [multimodal.lists(linear.weight) for linear in (model.query_map, model.key_map)]
    logits = multimodal.lists(model.modality_logits)
    users, items = oracle.tables(
        multimodal.dense(model.adjacency),
        item_graphs,
        logits,
        presence,
        *rows,
        smoothed,
        maps,
        n_layers,
        n_item_layers,
    )
    columns = [batch[name].tolist() for name in ("user_id", "item_id", "neg_item_id")]
    triples = list(zip(*columns, strict=True))
    wanted = [
        oracle.ranking(triples, users, items),
        0.7 * oracle.alignment(columns[1], smoothed, presence, 0.4),
        0.3 * oracle.penalty(triples, *rows),
    ]
    model.train()
    found = [part.item() for part in model.calculate_loss(batch)]
    assert found == pytest.approx(wanted, abs=1e-10)
    scores = torch.tensor([[dot(u, i) for i in items] for u in users], dtype=torch.float64)
    found_users, found_items = model.score_tables()
    torch.testing.assert_close(found_users @ found_items.T, scores, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("include_self", [True, False])
def test_the_item_graphs_agree_with_loops(tmp_path, include_self):
    model, _, dataset = built(tmp_path, {"knn_k": 4, "knn_include_self": include_self})
    for graph, features in zip(model.item_graphs, dataset.features.values(), strict=True):
        raw, there = features.matrix.astype(np.float64), features.presence
        wanted = graphs.knn(raw, 4, there, include_self=include_self)
        np.testing.assert_allclose(np.array(multimodal.dense(graph)), wanted, atol=1e-6)
        assert bool(wanted.diagonal().any()) == include_self


def test_an_item_without_any_modality_is_its_interactions_alone(tmp_path):
    model, _, _ = built(tmp_path)
    present = model.projection.present
    bare = ~present.any(dim=1)
    assert bare.sum() > 1
    users, items = model.forward()
    nodes = model.adjacency.polynomial(
        torch.cat([model.user_embedding.weight, model.item_embedding.weight]), [1 / 3] * 3
    )
    own = nodes[len(users) :]
    torch.testing.assert_close(items[bare], own[bare])
    assert not torch.isclose(items[~bare], own[~bare]).all(dim=1).any()
    loss = (items[bare] * torch.randn(int(bare.sum()), items.shape[1])).sum()
    found = peers.gradients(model, loss)
    assert {name for name, gradient in found.items() if gradient.any()} == {
        "user_embedding.weight",
        "item_embedding.weight",
    }
    assert all(gradient.isfinite().all() for gradient in found.values())


def test_an_items_only_modality_gets_all_the_attention(tmp_path):
    model, _, _ = built(tmp_path)
    rows = model.modality_rows()
    fused = model.early_fusion(model.item_embedding.weight, rows)
    present = model.projection.present
    for number, table in enumerate(rows):
        only = present[:, number] & (present.sum(dim=1) == 1)
        assert only.any()
        torch.testing.assert_close(fused[only], table[only])


def test_the_contrast_sees_only_items_that_have_both(tmp_path):
    model, _, _ = built(tmp_path)
    rows = model.modality_rows()
    both = model.projection.present.all(dim=1)
    everyone = torch.arange(1, len(both))
    having = both.nonzero().squeeze(1)
    found = [model.contrast(rows, ids).item() for ids in (everyone, having, having.repeat(3))]
    assert found[0] == found[1] == found[2] > 0.0
    assert model.contrast(rows, (~both).nonzero().squeeze(1)).item() == 0.0


def test_both_sides_of_the_contrast_learn(tmp_path):
    model, _, dataset = built(tmp_path, PARTS)
    model = multimodal.doubled(model)
    both = model.projection.present.all(dim=1).nonzero().squeeze(1)
    loss = model.contrast(model.modality_rows(), torch.arange(1, dataset.item_num))
    found = peers.gradients(model, loss)
    assert all(found[f"projection.maps.{number}.weight"].any() for number in range(2))
    first, second = (torch.nn.functional.normalize(rows[both]) for rows in model.modality_rows())
    logits = first @ second.T / PARTS["temperature"]
    ways = [(matrix.logsumexp(1) - matrix.diagonal()).mean() for matrix in (logits, logits.T)]
    wanted = peers.gradients(model, sum(ways) / 2.0)  # nothing is detached here
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-10, rtol=1e-8)


def test_the_order_of_the_modalities_means_nothing(tmp_path):
    found = []
    for order in permutations(("visual", "text")):
        config, dataset = multimodal.setting(tmp_path, "TMFUN", {"modalities": list(order)})
        torch.manual_seed(0)
        model = TMFUN(config, dataset)
        with torch.no_grad():
            for number, name in enumerate(order):
                model.projection.maps[number].weight.fill_(0.0)
                width = MODALITIES[name]
                model.projection.maps[number].weight[:width] = torch.eye(width)
            model.modality_logits.copy_(torch.tensor([len(name) / 5.0 for name in order]))
        found.append(torch.stack(model.calculate_loss(peers.pair_batch(dataset))))
    torch.testing.assert_close(*found)


def test_one_modality_leaves_nothing_to_weigh_and_no_contrast(tmp_path):
    model, config, dataset = built(tmp_path, {"modalities": ["text"]})
    names = {name for name, _ in model.named_parameters()}
    assert not {name for name in names if "map." in name or "logits" in name}
    batch = peers.pair_batch(dataset)
    assert model.calculate_loss(batch)[1].item() == 0.0
    checks.check_every_parameter_learns(model, lambda: sum(model.calculate_loss(batch)))
    checks.check_saving(model, lambda: TMFUN(config, dataset), dataset)


def test_the_order_of_feature_rows_means_nothing(tmp_path):
    results = []
    for shuffled in (False, True):
        folder = tmp_path / str(shuffled)
        config, dataset = multimodal.setting(folder, "TMFUN")
        if shuffled:
            multimodal.shuffle_feature_files(folder)
            dataset = type(dataset)(config).build()[0]
        torch.manual_seed(3)
        model = TMFUN(config, dataset)
        losses = torch.stack(model.calculate_loss(peers.pair_batch(dataset)))
        results.append((losses, checks.evaluated(model, dataset)))
    for found, wanted in zip(*results, strict=True):
        assert torch.equal(found, wanted)


def test_wrong_settings_are_refused(tmp_path):
    config, dataset = multimodal.setting(tmp_path, "TMFUN")
    for key, value, message in (
        ("temperature", 0.0, "temperature must be above 0, not 0.0"),
        ("knn_k", 0, "knn_k must be at least 1, not 0"),
        ("n_item_layers", -1, "number of layers must be at least 0"),
    ):
        settings = peers.PeerSettings(config, **{key: value})
        with pytest.raises(ConfigError, match=message):
            TMFUN(settings, dataset).forward()


def test_a_data_set_without_features_is_refused(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "TMFUN")
    with pytest.raises(ConfigError, match="learns from item features, but data set 'toy' has none"):
        TMFUN(config, dataset)


def test_model_passes_the_common_checks(tmp_path):
    model, config, dataset = built(tmp_path)
    batch = peers.pair_batch(dataset)
    checks.check_every_parameter_learns(model, lambda: sum(model.calculate_loss(batch)))
    checks.check_evaluation_repeats(model, dataset)
    checks.check_saving(model, lambda: TMFUN(config, dataset), dataset)


def test_it_is_called_a_reconstruction_wherever_it_is_named():
    root = Path(__file__).resolve().parents[2]
    texts = [TMFUN.__doc__, MODELS["TMFUN"].summary]
    texts.append((root / "properties/model/TMFUN.yaml").read_text("utf-8").splitlines()[0])
    readme = (root / "README.md").read_text("utf-8").splitlines()
    texts += [line for line in readme if line.startswith("| TMFUN")]
    assert len(texts) == 5
    assert all("reconstruction" in text.lower() for text in texts)

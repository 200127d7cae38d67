"""DiffMM against loops: both halves, the predicted graphs, what is masked and what is kept."""

import logging
from itertools import combinations

import numpy as np
import pytest
import torch

from recbole_slif.errors import ConfigError
from recbole_slif.layers.hidden_chain import HiddenChain
from recbole_slif.model.multimodal.diffmm import DiffMM
from tests import model_checks as checks
from tests import multimodal, peers
from tests.oracle import diffmm as oracle
from tests.oracle import diffusion
from tests.oracle.multimodal import dot
from tests.test_trainer import check_resume

SMALL = {"embedding_size": 5, "denoiser_hidden": 6, "denoiser_batch_size": 4}
SCHEDULE = diffusion.schedule(5, 0.1, 1e-4, 0.02)


def built(folder, overrides=None, **toy):
    given = {**SMALL, **(overrides or {})}
    config, dataset = multimodal.setting(folder, "DiffMM", given, **toy)
    torch.manual_seed(0)
    return DiffMM(config, dataset), config, dataset


def train_denoisers(model, epoch=0):
    """Step the denoisers as the trainer does."""
    model.train()
    for phase in model.phases_before(epoch):
        optimizer = model.own_optimizers()[phase.optimizer]
        for users in phase.batches:
            optimizer.zero_grad()
            phase.loss(users).backward()
            optimizer.step()
    model.zero_grad()


def feature_lists(model):
    layer, tables = model.projection, []
    for number, linear in enumerate(layer.maps):
        bias = None if linear.bias is None else multimodal.lists(linear.bias)
        weight, present = multimodal.lists(linear.weight), layer.present[:, number].tolist()
        tables.append(oracle.features(multimodal.lists(layer.raw(number)), weight, bias, present))
    return tables


def denoiser_state(model, number):
    denoiser = model.generation.denoisers[number]
    return {name: value.tolist() for name, value in denoiser.state_dict().items()}


def training_pairs(model, dataset):
    return list(zip(*(ids.tolist() for ids in model.training_pairs(dataset)), strict=True))


def training_rows(model):
    return model.generation.interactions.toarray().astype(float).tolist()


# ---- main half -------------------------------------------------------------------------------


@pytest.mark.parametrize("negatives", ["all", "batch"])
@pytest.mark.parametrize(
    ("cl_method", "trans", "n_layers", "names"),
    [
        (0, 0, 1, ["visual", "text"]),
        (1, 1, 2, ["visual", "text"]),
        (0, 1, 0, ["visual", "text", "audio"]),
        (0, 0, 1, ["text"]),
    ],
)
def test_all_losses_and_scores_agree_with_loops(
    tmp_path, cl_method, trans, n_layers, names, negatives
):
    given = {"cl_method": cl_method, "trans": trans, "n_layers": n_layers, "modalities": names}
    given |= {"graph_weight": 0.7, "residual_weight": 0.3, "reg_weight": 0.01, "ssl_weight": 0.4}
    given |= {"cl_negatives": negatives, "rebuild_k": 2, "tau": 0.6}
    toy = {"modalities": {"visual": 6, "text": 4, "audio": 3}}
    model, _, dataset = built(tmp_path, given, **toy)
    train_denoisers(model)
    model.pre_epoch(0)
    model, batch = multimodal.doubled(model), peers.pair_batch(dataset)
    users, items = (
        multimodal.lists(t.weight) for t in (model.user_embedding, model.item_embedding)
    )
    matrix, n = multimodal.dense(model.adjacency), len(users)
    expected = oracle.adjacency(training_pairs(model, dataset), n, len(items))
    np.testing.assert_allclose(matrix, expected, atol=1e-7)
    graphs = [multimodal.dense(graph) for graph in model.modality_graphs]
    tables, logits = feature_lists(model), model.modality_logits.tolist()
    found = oracle.main_rows(matrix, graphs, users, items, tables, logits, n_layers, 0.7, 0.3)
    views = [
        (oracle.view(matrix, graph, users, table, n_layers), has)
        for graph, table, has in zip(
            graphs, tables, model.projection.present.T.tolist(), strict=True
        )
    ]
    pairs = list(combinations(views, 2))
    if cl_method == 1 or len(names) == 1:
        pairs = [((found, [True] * len(items)), one) for one in views]
    columns = [batch[name].tolist() for name in ("user_id", "item_id", "neg_item_id")]
    expected = [
        oracle.bpr(list(zip(*columns, strict=True)), found[:n], found[n:]),
        0.01 * sum(dot(row, row) for row in [*users, *items]),
        0.4 * oracle.contrast(pairs, n, *columns[:2], 0.6, negatives),
    ]
    model.train()
    assert [part.item() for part in model.calculate_loss(batch)] == pytest.approx(
        expected, abs=1e-10
    )
    wanted = [[dot(u, i) for i in found[n:]] for u in found[:n]]
    tables = model.score_tables()
    torch.testing.assert_close(
        tables[0] @ tables[1].T, torch.tensor(wanted, dtype=torch.float64), atol=1e-10, rtol=1e-10
    )


def test_a_contrast_that_weighs_nothing_is_not_computed(tmp_path, monkeypatch):
    model, _, dataset = built(tmp_path, {"ssl_weight": 0.0})
    monkeypatch.setattr(model, "_contrast", None)
    assert model.calculate_loss(peers.pair_batch(dataset))[2].item() == 0.0


def test_items_without_a_modality_are_masked(tmp_path):
    model, _, dataset = built(tmp_path, {"trans": 1})
    train_denoisers(model)
    model.pre_epoch(0)
    for number, table in enumerate(model.feature_tables()):
        absent = ~model.projection.present[:, number]
        assert absent[0] and absent.sum() > 1
        assert not table[absent].any() and table[~absent].any(dim=1).all()
    model = multimodal.doubled(model)
    absent = (~model.projection.present.all(dim=1)).nonzero().squeeze(1)
    batch = peers.pair_batch(dataset)
    batch["item_id"] = absent[1:].repeat(24)[:24]
    users, views = batch["user_id"], []
    for start, graph in zip(model._starts(), model.modality_graphs, strict=True):
        first = graph @ start
        views.append(first + model.adjacency @ first)
    lists = [view.tolist()[: model.n_users] for view in views]
    everyone = range(1, model.n_users)
    expected = oracle.info_nce(*lists, users.tolist(), everyone, model.settings["tau"])
    weight = model.settings["ssl_weight"]
    assert model.calculate_loss(batch)[2].item() == pytest.approx(weight * expected, abs=1e-10)


def test_the_order_of_the_feature_files_changes_nothing(tmp_path):
    model, _, dataset = built(tmp_path)
    multimodal.shuffle_feature_files(tmp_path)
    other, _, _ = built(tmp_path)
    scores = []
    for one in (model, other):
        torch.manual_seed(4)
        train_denoisers(one)
        one.pre_epoch(0)
        scores.append(checks.evaluated(one, dataset))
    assert torch.equal(*scores)


def test_one_modality_is_contrasted_with_the_output(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        model, _, dataset = built(tmp_path, {"modalities": ["text"], "cl_method": 0})
    assert "cl_method is 1 here, not 0" in caplog.text
    assert model.contrast_main
    assert "modality_logits" not in dict(model.named_parameters())
    assert model.calculate_loss(peers.pair_batch(dataset))[2].item() > 0.0


# ---- denoisers -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1])
def test_the_denoising_loss_agrees_with_loops(tmp_path, number):
    model, _, _ = built(tmp_path, {"align_weight": 0.3})
    model = multimodal.doubled(model)
    denoiser = model.generation.denoisers[number]
    denoiser.dropout = 0.0
    users = torch.tensor([3, 1, 7])
    torch.manual_seed(11)
    found = model.denoising_loss(number, users)
    torch.manual_seed(11)
    steps = torch.randint(5, (3,))
    noises = torch.randn(3, model.n_items, dtype=torch.float64)
    rows = [training_rows(model)[user] for user in users]
    expected = oracle.denoising_loss(
        rows,
        steps.tolist(),
        noises.tolist(),
        denoiser_state(model, number),
        feature_lists(model)[number],
        multimodal.lists(model.item_embedding.weight),
        0.3,
        SCHEDULE,
    )
    assert found.item() == pytest.approx(expected, rel=1e-10)
    found.backward()
    moved = {name for name, value in model.named_parameters() if value.grad is not None}
    assert moved == {f"generation.denoisers.{number}.{name}" for name in denoiser.state_dict()}
    assert all(parameter.grad.any() for parameter in denoiser.parameters())


def test_each_denoiser_has_its_own_optimizer(tmp_path):
    model, config, dataset = built(tmp_path, {"denoiser_learning_rate": 0.5})
    names = ["denoiser_text", "denoiser_visual"]
    phases = model.phases_before(3)
    assert sorted(model.own_optimizers()) == sorted(phase.optimizer for phase in phases) == names
    main = {id(parameter) for parameter in model.main_parameters()}
    groups = [o.param_groups[0] for o in model.own_optimizers().values()]
    own = [{id(parameter) for parameter in group["params"]} for group in groups]
    assert not main & (own[0] | own[1]) and not own[0] & own[1]
    assert main | own[0] | own[1] == {id(parameter) for parameter in model.parameters()}
    assert {group["lr"] for group in groups} == {0.5}
    config = peers.PeerSettings(config, denoiser_learning_rate=None)
    rates = [o.param_groups[0]["lr"] for o in DiffMM(config, dataset).own_optimizers().values()]
    assert rates == [config["learning_rate"]] * 2
    seen = torch.cat(list(phases[0].batches)).sort().values
    active = sorted({user for user, _ in training_pairs(model, dataset)})
    assert seen.tolist() == active


def test_denoisers_learn_the_rows(tmp_path):
    given = {"denoiser_learning_rate": 0.01, "denoiser_hidden": 40, "align_weight": 0.0}
    model, _, _ = built(tmp_path, given)
    rows = model.generation.rows(model.generation.users)
    t = torch.ones(len(rows), dtype=torch.int64)

    def error():
        with torch.no_grad():
            return (model.generation.denoisers[0].eval()(rows, t) - rows).square().mean().item()

    before = error()
    for epoch in range(60):
        train_denoisers(model, epoch)
    assert error() < 0.5 * before


# ---- predicted graphs ------------------------------------------------------------------------


@pytest.mark.parametrize("observed", [True, False])
@pytest.mark.parametrize("k", [1, 3])
def test_the_graph_holds_the_best_items_of_the_chain(tmp_path, observed, k):
    given = {"rebuild_observed": observed, "rebuild_k": k, "keep_rate": 1.0}
    model, _, dataset = built(tmp_path, given)
    train_denoisers(model)
    model.pre_epoch(0)
    rows, n = training_rows(model), model.n_users
    for number, graph in enumerate(model.modality_graphs):
        state = denoiser_state(model, number)
        pairs = oracle.predicted(rows[1:], k, observed, state, SCHEDULE)
        pairs = [(place + 1, item) for place, item in pairs]
        assert len(pairs) == k * (n - 1)
        if not observed:
            assert not set(pairs) & set(training_pairs(model, dataset))
        expected = oracle.adjacency(pairs, n, model.n_items)
        np.testing.assert_allclose(multimodal.dense(graph), expected, atol=1e-6)


def test_a_share_of_the_graph_is_kept_and_scaled_up(tmp_path):
    model, _, _ = built(tmp_path, {"keep_rate": 0.25, "rebuild_k": 5})
    torch.manual_seed(3)
    model.pre_epoch(0)
    kept = [graph.to_scipy().tocoo() for graph in model.modality_graphs]
    torch.manual_seed(3)
    model.settings = model.generation.settings = peers.PeerSettings(model.settings, keep_rate=1.0)
    model.pre_epoch(0)
    for part, graph in zip(kept, model.modality_graphs, strict=True):
        whole = graph.to_scipy().toarray()
        assert 0.1 < part.nnz / graph.nnz < 0.4
        np.testing.assert_allclose(part.data, 4.0 * whole[part.row, part.col], rtol=1e-6)


def test_rows_are_made_for_a_block_of_users_at_a_time(tmp_path, monkeypatch):
    model, _, _ = built(tmp_path)
    sizes, denoise = [], HiddenChain.denoise

    def watched(chain, rows, n_steps):
        sizes.append(len(rows))
        return denoise(chain, rows, n_steps)

    monkeypatch.setattr(HiddenChain, "denoise", watched)
    small = model.generation.predicted_pairs(0)
    assert max(sizes) == 4 and sum(sizes) == model.n_users - 1
    model.generation.settings = peers.PeerSettings(model.settings, denoiser_batch_size=1000)
    for one, other in zip(small, model.generation.predicted_pairs(0), strict=True):
        np.testing.assert_array_equal(one, other)


def test_noise_before_the_chain_is_drawn_anew(tmp_path):
    model, _, _ = built(tmp_path, {"sampling_steps": 5, "noise_scale": 40.0})
    pairs = [tuple(model.generation.predicted_pairs(0)[1]) for _ in range(4)]
    assert len(set(pairs)) > 1
    model, _, _ = built(tmp_path)
    pairs = [tuple(model.generation.predicted_pairs(0)[1]) for _ in range(4)]
    assert len(set(pairs)) == 1


def test_scores_follow_the_graphs_which_checkpoints_hold(tmp_path):
    model, config, dataset = built(tmp_path, {"graph_weight": 2.0})
    first = checks.evaluated(model, dataset)
    model.pre_epoch(0)
    assert not torch.equal(first, model.full_sort_predict(peers.all_users(dataset)))
    fresh = DiffMM(config, dataset)
    fresh.load_state_dict(model.state_dict())
    assert not torch.equal(checks.evaluated(fresh, dataset), checks.evaluated(model, dataset))
    fresh.load_epoch_state(model.epoch_state())
    assert torch.equal(checks.evaluated(fresh, dataset), checks.evaluated(model, dataset))


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"denoiser_hidden": 6, "denoiser_batch_size": 4}
    check_resume(tmp_path, "DiffMM", epochs=3, done=1, **given)


# ---- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trans", 2, "trans '2' is not one of 0, 1"),
        ("cl_method", 3, "cl_method '3' is not one of 0, 1"),
        ("cl_negatives", "none", "cl_negatives 'none' is not known"),
        ("tau", 0.0, "tau must be above 0"),
        ("keep_rate", 0.0, r"keep_rate must lie in \(0, 1\]"),
        ("keep_rate", 1.5, r"keep_rate must lie in \(0, 1\]"),
        ("rebuild_k", 0, "rebuild_k must be at least 1"),
        ("denoiser_hidden", 0, "denoiser_hidden must be at least 1"),
        ("denoiser_batch_size", 0, "denoiser_batch_size must be at least 1"),
        ("sampling_steps", 6, "sampling_steps must lie in 0 .. 5"),
        ("steps", 0, "steps must be at least 1"),
        ("noise_min", 0.5, "noise_min"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, key, value, message):
    config, dataset = multimodal.setting(tmp_path, "DiffMM", SMALL)
    with pytest.raises(ConfigError, match=message):
        DiffMM(peers.PeerSettings(config, **{key: value}), dataset)


def test_a_data_set_without_features_is_refused(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "DiffMM")
    with pytest.raises(ConfigError, match="DiffMM"):
        DiffMM(config, dataset)


@pytest.mark.parametrize("names", [["text", "visual"], ["text"]])
def test_model_passes_the_common_checks(tmp_path, names):
    model, config, dataset = built(tmp_path, {"modalities": names})
    batch = peers.pair_batch(dataset)
    model.pre_epoch(0)

    def everything():
        own = [phase.loss(next(iter(phase.batches))) for phase in model.phases_before(0)]
        return torch.stack([*own, *model.calculate_loss(batch)]).sum()

    checks.check_every_parameter_learns(model, everything)
    checks.check_evaluation_repeats(model, dataset)
    checks.check_saving(model, lambda: DiffMM(config, dataset), dataset)

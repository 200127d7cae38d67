"""KGAT beside RecBole's."""

import pytest
import torch

from recbole_slif.errors import ConfigError
from recbole_slif.model.knowledge.kgat import KGAT
from tests import model_checks as checks
from tests import peers

AS_RECBOLE = {
    "mess_dropout": 0.0,
    "require_pow": False,
    "kg_loss_interactions": False,
    "inverse_relations": False,
    "reg_weight": 0.1,
}
LINEAR = {"gcn": {"": "W"}, "graphsage": {"": "W"}}
LINEAR["bi"] = {".sum_transform": "W1", ".product_transform": "W2"}


def as_matrices(flat):
    """RecBole multiplies rows from the left by flat matrices; ours apply to columns."""
    size = int(flat.shape[1] ** 0.5)
    return flat.view(-1, size, size).transpose(1, 2)


def names(kind, n_layers):
    found = {
        "user_embedding.weight": "user_embedding.weight",
        "entity_embedding.weight": "entity_embedding.weight",
        "relations.relation_embedding": "relation_embedding.weight",
        "relations.relation_projection": ("trans_w.weight", as_matrices),
    }
    for layer in range(n_layers):
        for ours, theirs in LINEAR[kind].items():
            for part in ("weight", "bias"):
                mine = f"aggregators.{layer}.transform{ours}.{part}"
                found[mine] = f"aggregator_layers.{layer}.{theirs}.{part}"
    return found


def pair_of_models(tmp_path, **overrides):
    config, dataset = peers.toy_setting(tmp_path, "KGAT", {**AS_RECBOLE, **overrides})
    settings = peers.PeerSettings(config, kg_embedding_size=config["embedding_size"])
    with peers.stand_ins():
        peer = peers.recbole_model("KGAT", settings, dataset)
    model = KGAT(config, dataset)
    table = names(config["aggregator_type"], len(config["layers"]))
    peers.take_weights(model, peer, table)
    return model, peer, table, dataset


@pytest.mark.parametrize("kind", ["bi", "gcn", "graphsage"])
@pytest.mark.parametrize("reverse", [False, True])
def test_agrees_with_recbole(tmp_path, kind, reverse):
    model, peer, table, dataset = pair_of_models(
        tmp_path, aggregator_type=kind, kg_reverse_r=reverse
    )
    batch, triples = peers.pair_batch(dataset), peers.triple_batch(dataset)
    assert peers.score_gap(model, peer, dataset) < 1e-5, "with the attention before the first epoch"
    assert max(peers.loss_gaps(model, peer, table, batch)) < 1e-6
    assert max(peers.loss_gaps(model, peer, table, triples, "calculate_kg_loss")) < 1e-6
    with torch.no_grad():
        peer.update_attentive_A()
    peer.restore_user_e = None
    before = checks.evaluated(model, dataset)
    model.post_epoch(0)
    assert not torch.equal(before, model.full_sort_predict(peers.all_users(dataset)))
    assert peers.score_gap(model, peer, dataset) < 1e-5, "with the refreshed attention"
    assert max(peers.loss_gaps(model, peer, table, batch)) < 1e-6


def test_attention_of_a_node_sums_to_one_and_carries_no_gradient(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KGAT")
    model = KGAT(config, dataset)
    model.post_epoch(0)
    attention = model.epoch_state()["attention"]
    assert not attention.requires_grad
    heads = model.edges.heads.long()
    sums = torch.zeros(model.edges.n_entities).index_add(0, heads, attention)
    occupied = torch.bincount(heads, minlength=len(sums)) > 0
    torch.testing.assert_close(sums[occupied], torch.ones(int(occupied.sum())))


def test_inverses_and_interactions_join_the_knowledge_batch(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KGAT")
    model, batch = KGAT(config, dataset), peers.triple_batch(dataset, size=6)
    nodes, relations = model._kg_batch(batch)
    graph = dataset.knowledge
    shift = dataset.user_num
    assert torch.equal(nodes[:6, 0], batch["head_id"] + shift)
    assert torch.equal(nodes[6:12, :2], nodes[:6, [1, 0]])
    assert torch.equal(relations[6:12], relations[:6] + graph.n_relations - 1)
    rest = nodes[12:]
    assert len(rest) and (relations[12:] == model.interaction_relation).all()
    pairs = set(zip(*(part.tolist() for part in model.training_pairs(dataset)), strict=True))
    half = len(rest) // 2
    assert all((u, i - shift) in pairs for u, i in rest[:half, :2].tolist())
    assert torch.equal(rest[half:, :2], rest[:half, [1, 0]])
    assert (rest[:half, 2] > shift).all() and (rest[:half, 2] < shift + dataset.item_num).all()
    assert (rest[half:, 2] > 0).all() and (rest[half:, 2] < shift).all()


def test_saved_attention_is_the_one_that_scores(tmp_path):
    """After training has moved the parameters, the attention in force is older than they are."""
    config, dataset = peers.toy_setting(tmp_path, "KGAT")
    model, batch = KGAT(config, dataset), peers.pair_batch(dataset)
    model.post_epoch(0)
    checks.train_steps(model, batch, 3)
    checks.check_saving(model, lambda: KGAT(config, dataset), dataset)
    state = model.state_dict()
    fresh = KGAT(config, dataset)
    fresh.load_state_dict(state)
    assert not torch.equal(checks.evaluated(fresh, dataset), checks.evaluated(model, dataset))


def test_a_model_without_layers_is_refused(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KGAT", {"layers": []})
    with pytest.raises(ConfigError, match="layers must name the width of at least one layer"):
        KGAT(config, dataset)


def test_model_passes_the_common_checks(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KGAT")
    model, batch = KGAT(config, dataset), peers.pair_batch(dataset)
    triples = peers.triple_batch(dataset)
    checks.check_every_parameter_learns(
        model,
        lambda: model.calculate_loss(batch),
        lambda: model.calculate_kg_loss(triples),
    )
    losses = checks.train_steps(model, batch, 30, rate=0.01)
    assert losses[-1] < 0.6 * losses[0]
    checks.check_evaluation_repeats(model, dataset)


def test_every_relation_is_trained(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KGAT")
    model, triples = KGAT(config, dataset), peers.triple_batch(dataset, size=200)
    found = peers.gradients(model, model.calculate_kg_loss(triples))
    rows = found["relations.relation_projection"].flatten(1).any(dim=1)
    assert rows[1:].all() and not rows[0], "all but [PAD]"

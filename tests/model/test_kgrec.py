"""KGRec's losses against loops on the draws it made, its graphs and its settings."""

import numpy as np
import pytest
import torch

from recbole_slif.errors import ConfigError
from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers.relational_mean import RelationalMean
from recbole_slif.model.knowledge import kgrec
from recbole_slif.model.knowledge.kgrec import KGRec
from tests import model_checks as checks
from tests import peers
from tests.oracle import kgrec as oracle

CALM = {"mess_dropout_rate": 0.0, "embedding_size": 8}


class Double(KGRec):
    """The model in double precision."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.double()
        ends = (self.edges.edge_heads, self.edges.relations, self.edges.tails)
        columns = [column.numpy() for column in ends]
        sizes = (self.n_knowledge_entities, self.relation_embedding.num_embeddings)
        self.triple_means = RelationalMean(*columns, *sizes, dtype=torch.float64)
        self.user_means = SparseOperator.from_scipy(self._interactions, dtype=torch.float64)


class Spy:
    """Calls through and remembers what was given and what came back."""

    def __init__(self, monkeypatch, place, name):
        self.call, self.calls = getattr(place, name), []
        monkeypatch.setattr(place, name, self)

    def __call__(self, *args, **kwargs):
        result = self.call(*args, **kwargs)
        self.calls.append((args, result))
        return result

    @property
    def last(self):
        return self.calls[-1]


def triples_of(edges):
    ends = (edges.edge_heads, edges.relations, edges.tails)
    return list(zip(*(column.tolist() for column in ends), strict=True))


def entries_of(matrix):
    matrix = matrix.tocoo()
    return list(zip(matrix.row.tolist(), matrix.col.tolist(), matrix.data.tolist(), strict=True))


def chosen(triples, places):
    return [triples[place] for place in places]


def parameters(model):
    table = model.node_embedding.weight.detach().numpy()
    users, entities = table[: model.n_users], table[model.n_users :]
    relations = model.relation_embedding.weight.detach().numpy()
    return users, entities, relations, model.attention.projection.detach().numpy()


def whole_tables(model):
    users, entities, relations, projection = parameters(model)
    triples, interactions = triples_of(model.edges), entries_of(model._interactions)
    found = oracle.propagate(
        users, entities, relations, projection, triples, interactions, 2, model.context_hops
    )
    return found[0], found[1][: model.n_items]


@pytest.mark.parametrize("hops", [1, 2])
def test_scores_agree_with_the_loops(tmp_path, hops):
    config, dataset = peers.toy_setting(tmp_path, "KGRec", {**CALM, "context_hops": hops})
    model = Double(config, dataset).eval()
    with torch.no_grad():
        for found, expected in zip(model.forward(), whole_tables(model), strict=True):
            np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("twice", [True, False])
def test_each_part_of_the_loss_agrees_with_the_loops(tmp_path, monkeypatch, seed, twice):
    settings = {"cl_positive_twice": twice, "cl_temperature": 0.3, "reg_weight": 0.1}
    settings |= {"mae_weight": 0.7, "cl_weight": 0.4, "mask_size": 4, "cl_drop": 0.4}
    config, dataset = peers.toy_setting(tmp_path, "KGRec", {**CALM, **settings})
    torch.manual_seed(seed)
    model, batch = Double(config, dataset).train(), peers.pair_batch(dataset)
    names = ("gumbel", "choose_masked", "drop_lowest", "draw_by_item", "partner_contrast")
    spies = {name: Spy(monkeypatch, kgrec.views, name) for name in names}
    kept, thinned = Spy(monkeypatch, model._draws, "draw"), Spy(monkeypatch, kgrec, "thin")
    found = model.calculate_loss(batch)

    users, entities, relations, projection = parameters(model)
    flags = kept.last[1]
    triples = chosen(triples_of(model.edges), np.flatnonzero(flags))
    assert 0 < len(triples) < model.edges.n_edges
    interactions = entries_of(thinned.last[1])
    counts = np.bincount([user for user, _, _ in entries_of(model._interactions)])
    for user, _, weight in interactions:
        assert weight == pytest.approx(1.0 / counts[user] / 0.5)

    scores = oracle.edge_scores(entities, relations, projection, triples, 2)
    rationale = oracle.rationale_scores(scores, triples)
    noisy = np.array(rationale) + spies["gumbel"].last[1].numpy()
    (given, size), masked = spies["choose_masked"].last
    np.testing.assert_allclose(given.numpy(), noisy, atol=1e-10)
    assert size == 4 and set(np.argsort(noisy)[-4:]) <= set(masked.tolist())
    left = chosen(triples, sorted(set(range(len(triples))) - set(masked.tolist())))
    tables = oracle.propagate(
        users, entities, relations, projection, left, interactions, 2, model.context_hops
    )
    pairs = list(zip(*(batch[name].tolist() for name in batch.interaction), strict=True))
    expected = oracle.ranking(*tables, pairs) + 0.1 * oracle.penalty(*tables, pairs)
    assert abs(found[0].item() - expected) < 1e-10
    expected = 0.7 * oracle.reconstruction(tables[1], relations, chosen(triples, masked.tolist()))
    assert abs(found[1].item() - expected) < 1e-10

    (matrix, means, share), drawn = spies["draw_by_item"].last
    assert entries_of(matrix) == interactions and share == 0.6
    expected = oracle.item_scores(rationale, triples, model.n_items)
    np.testing.assert_allclose(means, expected, atol=1e-10)
    drawn = entries_of(drawn)
    assert len(drawn) == round(0.6 * len(interactions))
    first = oracle.interaction_view(users, entities[: model.n_items], drawn, model.context_hops)
    lowest = set(np.argsort(noisy)[: int(0.4 * len(triples))])
    explained = chosen(triples, [place for place in range(len(triples)) if place not in lowest])
    second = oracle.triple_view(entities, relations, explained, model.context_hops)
    projected = [
        oracle.projected(rows[1:], *(p.detach().numpy() for p in projector.parameters()))
        for rows, projector in zip((first, second[: model.n_items]), model.projectors, strict=True)
    ]
    partners = spies["partner_contrast"].last[0][2].tolist()
    assert sorted(partners) == list(range(model.n_items - 1))
    expected = 0.4 * oracle.contrast(*projected, partners, 0.3, 2 if twice else 1)
    assert abs(found[2].item() - expected) < 1e-10


def test_nothing_learns_through_the_rationale_scores(tmp_path, monkeypatch):
    config, dataset = peers.toy_setting(tmp_path, "KGRec", CALM)
    model, batch = KGRec(config, dataset).train(), peers.pair_batch(dataset)
    spy = Spy(monkeypatch, kgrec.rationale, "rationale_scores")
    contrast = model.calculate_loss(batch)[2]
    assert not spy.last[1].requires_grad
    found = peers.gradients(model, contrast)
    assert not found["attention.projection"].any()
    assert found["relation_embedding.weight"].any() and found["projectors.0.0.weight"].any()


def test_hidden_triples_are_not_heard(tmp_path):
    """Entities whose every triple is hidden keep their own row, as those without triples do."""
    config, dataset = peers.toy_setting(tmp_path, "KGRec", CALM)
    model = KGRec(config, dataset).eval()
    everything = torch.arange(model.edges.n_edges)
    with torch.no_grad():
        _, entities = model._propagate(model.user_means, model.edges, everything)
    assert torch.equal(entities, model._ego_rows()[1])


def unlinked_items(dataset):
    linked = torch.from_numpy(dataset.knowledge.linked)
    return [item for item in range(1, dataset.item_num) if not linked[item]]


def test_items_without_a_link_keep_their_row_and_are_never_hidden(tmp_path, monkeypatch):
    config, dataset = peers.toy_setting(tmp_path, "KGRec", CALM)
    model, batch = KGRec(config, dataset), peers.pair_batch(dataset)
    lone = unlinked_items(dataset)
    assert lone
    items = model.eval().forward()[1]
    assert torch.equal(items[lone], model._ego_rows()[1][lone])
    spy = Spy(monkeypatch, kgrec.views, "draw_by_item")
    model.train()
    for _ in range(5):
        edges = model.edges.only(model._draw_graphs()[0])
        assert not set(lone) & {*edges.edge_heads.tolist(), *edges.tails.tolist()}
        model.calculate_loss(batch)
        means = spy.last[0][1]
        assert (means[lone] == 1.0).all() and (means != 1.0).any()


def test_every_relation_is_trained_unless_the_released_loop_is_asked_for(tmp_path):
    for skip in (False, True):
        settings = {**CALM, "skip_last_relation": skip, "cl_drop": 0.0}
        config, dataset = peers.toy_setting(tmp_path / str(skip), "KGRec", settings)
        model, batch = KGRec(config, dataset).train(), peers.pair_batch(dataset)
        assert model.relation_embedding.num_embeddings == 2 * (dataset.knowledge.n_relations - 1)
        rows = sum(
            peers.gradients(model, sum(model.calculate_loss(batch)))["relation_embedding.weight"]
            .abs()
            .sum(1)
            for _ in range(3)
        )
        assert (rows[:-1] > 0).all()
        assert bool(rows[-1] > 0) != skip
        kept = model._draw_graphs()[0]
        assert (kept & (model.edges.relations == len(rows) - 1)).any() != skip


def test_without_a_contrast_its_part_is_zero(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KGRec", {**CALM, "cl_weight": 0.0})
    model = KGRec(config, dataset).train()
    losses = model.calculate_loss(peers.pair_batch(dataset))
    assert losses[2] == 0.0 and all(loss > 0 for loss in losses[:2])


def test_the_triples_and_their_inverses_are_the_edges(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KGRec", CALM)
    graph = dataset.knowledge
    columns = (graph.heads.tolist(), graph.relations.tolist(), graph.tails.tolist())
    shift = graph.n_relations - 1
    expected = [(h, r - 1, t) for h, r, t in zip(*columns, strict=True)]
    expected += [(t, r - 1 + shift, h) for h, r, t in zip(*columns, strict=True)]
    assert sorted(triples_of(KGRec(config, dataset).edges)) == sorted(expected)


def test_order_of_the_triples_does_not_matter(tmp_path):
    tables = []
    for name in ("given", "shuffled"):
        config, dataset = peers.toy_setting(tmp_path / name, "KGRec", CALM)
        path = tmp_path / name / "toy" / "toy.kg"
        header, *lines = path.read_text("utf-8").splitlines()
        if name == "shuffled":
            lines = [lines[place] for place in np.random.default_rng(0).permutation(len(lines))]
            path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
            config, dataset = rebuilt(config)
        torch.manual_seed(0)
        model = KGRec(config, dataset).eval()
        spread_by_token(model, dataset)
        tokens = dataset.field2id_token
        users = np.argsort(tokens["user_id"])
        items = np.argsort(tokens["item_id"])
        scores = model.score_tables()[0] @ model.score_tables()[1].T
        tables.append(scores[users][:, items])
    torch.testing.assert_close(tables[0], tables[1])


def rebuilt(config):
    from recbole_slif.data.dataset import MultimodalKGDataset

    return config, MultimodalKGDataset(config).build()[0]


@torch.no_grad()
def spread_by_token(model, dataset):
    """Give each token the same row whatever its id."""

    def row(token, width):
        rng = np.random.default_rng(list(str(token).encode()))
        return torch.from_numpy(rng.standard_normal(width)).float()

    knowledge, width = dataset.knowledge, model.node_embedding.embedding_dim
    for user, token in enumerate(dataset.field2id_token["user_id"]):
        model.node_embedding.weight[user] = row(token, width)
    items = dataset.field2id_token["item_id"]
    for entity in range(knowledge.n_entities):
        token = items[entity] if entity < len(items) else knowledge.entity_tokens[entity]
        model.node_embedding.weight[model.n_users + entity] = row(token, width)
    for relation in range(1, knowledge.n_relations):
        token = knowledge.relation_tokens[relation]
        model.relation_embedding.weight[relation - 1] = row(token, width)
        inverse = relation + knowledge.n_relations - 2
        model.relation_embedding.weight[inverse] = row(f"inverse {token}", width)


def test_wrong_settings_are_refused(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KGRec")
    for key, value, message in (
        ("node_dropout_rate", 1.0, "node_dropout_rate must be at least 0 and below 1"),
        ("mess_dropout_rate", -0.1, "mess_dropout_rate must be at least 0 and below 1"),
        ("cl_drop", 1.0, "cl_drop must be at least 0 and below 1, not 1.0"),
        ("n_heads", 3, "n_heads must divide embedding_size 64, not be 3"),
        ("n_heads", 0, "n_heads must divide"),
    ):
        with pytest.raises(ConfigError, match=message):
            KGRec(peers.PeerSettings(config, **{key: value}), dataset)


def test_model_passes_the_common_checks(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KGRec")
    model, batch = KGRec(config, dataset), peers.pair_batch(dataset)

    class Summed:
        def __getattr__(self, name):
            return getattr(model, name)

        def calculate_loss(self, interaction):
            return sum(model.calculate_loss(interaction))

    checks.check_every_parameter_learns(model, lambda: sum(model.calculate_loss(batch)))
    losses = checks.train_steps(Summed(), batch, 40)
    assert losses[-1] < 0.6 * losses[0]
    checks.check_evaluation_repeats(model, dataset)
    checks.check_saving(model, lambda: KGRec(config, dataset), dataset)

"""KGCL's triples: how many an item gathers along, which, and where they are kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from recbole_slif.errors import ConfigError
from recbole_slif.model.knowledge.kgcl import KGCL
from tests import peers
from tests.model.test_kgcl import NO_DROPOUT, build, whole_triples


def edges_of(model):
    parts = model.edges.heads, model.edges.relations, model.edges.tails
    return list(zip(*(part.tolist() for part in parts), strict=True))


def test_an_item_gathers_along_so_many_of_its_triples_drawn_once(tmp_path):
    model, dataset = build(tmp_path, {"triples_per_item": 1})
    whole = whole_triples(model, dataset)
    draws = set()
    for seed in range(6):
        torch.manual_seed(seed)
        found = edges_of(KGCL(model.settings, dataset))
        assert set(found) <= set(whole)
        assert sorted(head for head, *_ in found) == sorted({head for head, *_ in whole})
        draws.add(tuple(found))
    assert len(draws) > 1
    assert len(model.sampler._known) == len(set(whole))


def test_what_was_drawn_is_part_of_the_checkpoint(tmp_path):
    model, dataset = build(tmp_path, {"triples_per_item": 1})
    model.pre_epoch(0)
    others = []
    for seed in range(3):
        torch.manual_seed(seed)
        other = KGCL(model.settings, dataset)
        others.append(edges_of(other) != edges_of(model))
        other.load_state_dict(model.state_dict())
        other.load_epoch_state(model.epoch_state())
        assert edges_of(other) == edges_of(model)
        for mine, theirs in zip(model.views.graphs(), other.views.graphs(), strict=True):
            assert torch.equal(mine[0].tails, theirs[0].tails)
        assert torch.equal(model.score_tables()[1], other.score_tables()[1])
    assert any(others)


def test_a_graph_that_no_item_heads_is_refused(tmp_path):
    config, dataset = peers.toy_setting(tmp_path, "KGCL")
    graph = dataset.knowledge
    turned = replace(graph, heads=graph.tails, tails=graph.heads)
    kept = turned.heads >= dataset.item_num
    columns = {name: getattr(turned, name)[kept] for name in ("heads", "relations", "tails")}
    dataset._knowledge = replace(turned, **columns)
    with pytest.raises(ConfigError, match=r"no item heads a triple .* set inverse_relations"):
        KGCL(config, dataset)
    KGCL(peers.PeerSettings(config, inverse_relations=True), dataset)


@pytest.mark.parametrize("inverse", [False, True])
def test_items_gather_along_inverse_triples_only_if_asked(tmp_path, inverse):
    config, dataset = peers.toy_setting(tmp_path, "KGCL", {"inverse_relations": inverse})
    path = tmp_path / "toy" / "toy.kg"
    path.write_text(path.read_text().rstrip() + "\nx0\tr0\te1\n")
    dataset = type(dataset)(config).build()[0]
    tokens = dataset.field2token_id["entity_id"]
    relation = list(dataset.knowledge.relation_tokens).index("r0")
    edges = KGCL(config, dataset).edges
    edges = zip(edges.heads.tolist(), edges.relations.tolist(), edges.tails.tolist(), strict=True)
    wanted = (tokens["e1"], relation + dataset.knowledge.n_relations - 1, tokens["x0"])
    assert (wanted in set(edges)) == inverse


def rows_by_token(model, dataset):
    """Copy rows so that they depend on tokens alone, whatever the ids."""
    fields = (
        (model.user_embedding, dataset.field2id_token["user_id"]),
        (model.item_embedding, dataset.field2id_token["item_id"]),
        (model.entity_embedding, dataset.field2id_token["entity_id"]),
        (model.relation_embedding, dataset.knowledge.relation_tokens),
    )
    with torch.no_grad():
        for table, tokens in fields:
            for place, token in enumerate(list(tokens)[: len(table.weight)]):
                seed = sum(ord(letter) * 31**at for at, letter in enumerate(str(token)))
                generator = torch.Generator().manual_seed(seed)
                table.weight[place] = torch.randn(6, generator=generator)


@pytest.mark.parametrize("limit", [None, 1])
def test_the_order_of_the_knowledge_file_changes_nothing(tmp_path, double, limit):
    scores = []
    for flip in (False, True):
        folder = tmp_path / str(flip)
        folder.mkdir()
        overrides = {"embedding_size": 6, **NO_DROPOUT, "triples_per_item": limit}
        config, dataset = peers.toy_setting(folder, "KGCL", overrides)
        if flip:
            path = folder / "toy" / "toy.kg"
            header, *lines = path.read_text().splitlines()
            path.write_text("\n".join([header, *lines[::-1]]) + "\n")
            dataset = type(dataset)(config).build()[0]
        torch.manual_seed(0)
        model = KGCL(config, dataset)
        rows_by_token(model, dataset)
        users, items = model()
        order = [dataset.field2token_id["item_id"][f"i{n}"] for n in range(15)]
        rows = [dataset.field2token_id["user_id"][f"u{n}"] for n in range(12)]
        scores.append(users[rows] @ items[order].T)
    torch.testing.assert_close(*scores, atol=1e-12, rtol=0)

"""The data set class: ids, links, faults between files, and equal data for all models."""

import numpy as np
import pytest
from recbole.utils import ModelType

from recbole_slif.data.dataset import MultimodalKGDataset
from recbole_slif.errors import ConfigError, DataError
from recbole_slif.registry import MODELS
from tests.toy import edit_lines, write_table


def load(make_config, model="BPR", **overrides):
    return MultimodalKGDataset(make_config(model, **overrides))


def pairs_by_token(dataset):
    feat = dataset.inter_feat
    users = dataset.id2token(dataset.uid_field, np.asarray(feat[dataset.uid_field]))
    items = dataset.id2token(dataset.iid_field, np.asarray(feat[dataset.iid_field]))
    return set(zip(users.tolist(), items.tolist(), strict=True))


def triples_by_token(dataset):
    kg = dataset.knowledge
    names = (kg.entity_tokens[kg.heads], kg.relation_tokens[kg.relations])
    rows = zip(*names, kg.entity_tokens[kg.tails], strict=True)
    return {tuple(map(str, row)) for row in rows}


def noted(dataset, words):
    return sum(count for note, count in dataset.notes.items() if words in note)


def test_counts_and_ids(make_dataset, make_config):
    folder = make_dataset()
    dataset = load(make_config)
    lines = (folder / "toy.inter").read_text().splitlines()[1:]
    assert pairs_by_token(dataset) == {tuple(line.split("\t")) for line in lines}
    stats = dataset.statistics()
    assert (stats["users"], stats["items"]) == (12, 15)
    assert stats["entities"] == 15 + 8 and stats["linked_items"] == 13
    assert stats["features"]["visual"] == {"dim": 6, "items": 13}
    assert not stats["notes"]
    triples = (folder / "toy.kg").read_text().splitlines()[1:]
    assert triples_by_token(dataset) == {tuple(line.split("\t")) for line in triples}


def test_item_ids_are_entity_ids(make_dataset, make_config):
    make_dataset()
    dataset = load(make_config)
    kg = dataset.knowledge
    items = dataset.field2id_token[dataset.iid_field]
    for item in range(1, dataset.item_num):
        if kg.linked[item]:
            assert kg.entity_tokens[item] == f"e{items[item][1:]}"
        else:
            assert kg.entity_tokens[item] == items[item]
    assert (~kg.linked).sum() == 1 + 2
    used = np.unique(np.concatenate([kg.heads, kg.tails]))
    assert not np.isin(np.flatnonzero(~kg.linked), used).any()
    assert kg.relations.min() >= 1 and kg.relations.max() < kg.n_relations


@pytest.mark.parametrize("file", ["inter", "kg", "link", "item"])
def test_order_of_lines_changes_nothing(make_dataset, make_config, file):
    folder = make_dataset()
    before = load(make_config)
    parts = before.build()
    rng = np.random.default_rng(1)
    edit_lines(folder / f"toy.{file}", lambda lines: [lines[0], *rng.permutation(lines[1:])])
    after = load(make_config)
    again = after.build()
    assert after.fingerprint() == before.fingerprint()
    for old, new in zip(parts, again, strict=True):
        for name in ("user_id", "item_id"):
            assert (old.inter_feat[name] == new.inter_feat[name]).all()
    for name in ("heads", "relations", "tails", "linked", "entity_tokens"):
        np.testing.assert_array_equal(
            getattr(before.knowledge, name), getattr(after.knowledge, name)
        )


def test_order_of_feature_rows_changes_nothing(make_dataset, make_config):
    folder = make_dataset()
    before = load(make_config).features["visual"]
    path = folder / "toy.visual.npy"
    matrix, ids = np.load(path), path.with_suffix(".ids").read_text().split()
    order = np.random.default_rng(2).permutation(len(ids))
    np.save(path, matrix[order])
    path.with_suffix(".ids").write_text("\n".join(np.array(ids)[order]) + "\n")
    after = load(make_config).features["visual"]
    np.testing.assert_array_equal(before.matrix, after.matrix)
    np.testing.assert_array_equal(before.presence, after.presence)


@pytest.mark.parametrize("benchmark", [False, True])
def test_every_model_sees_the_same_data(make_dataset, make_config, benchmark):
    make_dataset(benchmark=benchmark)
    seen = set()
    for model in [*MODELS, "NeuMF", "CKE"]:
        dataset = load(make_config, model)
        parts = dataset.build()
        stats = dataset.statistics()
        seen.add((dataset.fingerprint(), tuple(map(len, parts)), str(stats)))
        assert stats["interactions"] == 85
    assert len(seen) == 1


def test_model_type_has_no_say(make_dataset, make_config):
    make_dataset()
    prints = set()
    for kind in (ModelType.GENERAL, ModelType.KNOWLEDGE, ModelType.CONTEXT):
        config = make_config("BPR")
        config["MODEL_TYPE"] = kind
        dataset = MultimodalKGDataset(config)
        dataset.build()
        prints.add(dataset.fingerprint())
    assert len(prints) == 1


def test_unlinked_items_can_be_dropped_for_all_models(make_dataset, make_config):
    make_dataset()
    kept, dropped = load(make_config), load(make_config, unlinked_items="drop")
    assert dropped.item_num == kept.item_num - 2
    assert pairs_by_token(dropped) == {
        (user, item) for user, item in pairs_by_token(kept) if item not in ("i13", "i14")
    }
    assert noted(dropped, "unlinked items dropped") == len(kept) - len(dropped)
    assert dropped.knowledge.linked[1:].all()
    with pytest.raises(ConfigError):
        load(make_config, unlinked_items="maybe")


def test_repeated_interactions_count_once(make_dataset, make_config):
    folder = make_dataset()
    plain = pairs_by_token(load(make_config))
    edit_lines(folder / "toy.inter", lambda lines: [*lines, *lines[1:6]])
    dataset = load(make_config)
    assert pairs_by_token(dataset) == plain and len(dataset) == len(plain)
    assert noted(dataset, "repeated interactions") == 5


def test_rm_dup_inter_chooses_by_time_not_by_line(make_dataset, make_config):
    folder = make_dataset()
    header = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    rows = [("u0", "i0", 5, 30), ("u0", "i0", 1, 10), ("u0", "i1", 2, 20), ("u1", "i0", 3, 1)]
    columns = {"inter": ["user_id", "item_id", "rating", "timestamp"]}
    for keep, rating in (("first", 1.0), ("last", 5.0)):
        for order in (rows, rows[::-1]):
            write_table(folder / "toy.inter", header, order)
            dataset = load(make_config, rm_dup_inter=keep, load_col=columns, modalities=[])
            assert dataset.inter_feat["rating"].tolist()[0] == rating


def test_one_entity_of_two_items_gives_both_its_triples(make_dataset, make_config):
    folder = make_dataset()
    edit_lines(folder / "toy.link", lambda lines: [*lines, "i13\te0"])
    dataset = load(make_config)
    kg = dataset.knowledge
    first, second = (dataset.token2id("item_id", name) for name in ("i0", "i13"))
    assert kg.linked[[first, second]].all()

    def of(item):
        rows = kg.heads == item
        return set(zip(kg.relations[rows].tolist(), kg.tails[rows].tolist(), strict=True))

    assert of(first) == of(second) and of(first)
    assert noted(dataset, "shared by several items") == 1
    assert dataset.entity_num == 1 + 15 + 8
    assert dataset.token2id("entity_id", "e0") == first


def test_a_shared_entity_is_a_tail_for_all_its_items(make_dataset, make_config):
    folder = make_dataset()
    edit_lines(folder / "toy.link", lambda lines: [*lines, "i13\tx2", "i14\tx2"])
    dataset = load(make_config)
    kg = dataset.knowledge
    first, second = (dataset.token2id("item_id", name) for name in ("i13", "i14"))

    def into(item):
        rows = kg.tails == item
        return set(zip(kg.heads[rows].tolist(), kg.relations[rows].tolist(), strict=True))

    assert into(first) == into(second) and into(first)


def test_item_with_two_entities_has_the_triples_of_both(make_dataset, make_config):
    folder = make_dataset()
    before = load(make_config)
    edit_lines(folder / "toy.link", lambda lines: [*lines, "i0\tx1", "i0\tx1"])
    dataset = load(make_config)
    kg, item = dataset.knowledge, dataset.token2id("item_id", "i0")
    old = {t for t in triples_by_token(before) if {"e0", "x1"} & {t[0], t[2]}}
    assert ((kg.heads == item) | (kg.tails == item)).sum() == len(old)
    assert noted(dataset, "several entities") == 1 and noted(dataset, "repeated link") == 1
    assert dataset.entity_num == before.entity_num - 1


def test_strange_links_are_counted_and_harmless(make_dataset, make_config):
    folder = make_dataset()
    before = load(make_config)
    edit_lines(folder / "toy.link", lambda lines: [*lines, "i14\tnowhere", "stranger\tx3"])
    dataset = load(make_config)
    assert not dataset.knowledge.linked[dataset.token2id("item_id", "i14")]
    assert noted(dataset, "outside the graph") == 1
    assert noted(dataset, "without interactions") == 1
    assert triples_by_token(dataset) == triples_by_token(before)
    assert dataset.entity_num == before.entity_num


def test_repeated_triples_and_self_loops_are_dropped(make_dataset, make_config):
    folder = make_dataset()
    before = triples_by_token(load(make_config))
    extra = ["x0\tr0\tx0", "e1\tr1\te1"]
    edit_lines(folder / "toy.kg", lambda lines: [*lines, *lines[1:4], *extra])
    dataset = load(make_config)
    assert triples_by_token(dataset) == before
    assert noted(dataset, "repeated triples") == 3 and noted(dataset, "to itself") == 2
    assert noted(dataset, "linking made") == 0


def test_triple_between_two_entities_of_one_item_is_dropped(make_dataset, make_config):
    folder = make_dataset()
    edit_lines(folder / "toy.kg", lambda lines: [*lines, "e0\tr0\te1", "e1\tr0\te0"])
    edit_lines(folder / "toy.link", lambda lines: [*lines, "i0\te1"])
    dataset = load(make_config)
    kg, item = dataset.knowledge, dataset.token2id("item_id", "i0")
    assert not (kg.heads == kg.tails)[kg.heads == item].any()
    # Both triples become (i0, r0, i0): one is dropped as equal, the other as a self-loop.
    assert noted(dataset, "made self-loops") == 1


@pytest.mark.parametrize("how", ["absent", "header only"])
def test_without_triples_the_graph_is_empty(make_dataset, make_config, how):
    folder = make_dataset(knowledge=how != "absent")
    if how == "header only":
        edit_lines(folder / "toy.kg", lambda lines: lines[:1])
    dataset = load(make_config)
    kg = dataset.knowledge
    assert kg.n_triples == 0 and not kg.linked.any() and kg.n_entities == dataset.item_num
    train = dataset.build()[0]
    assert train.kg_graph("coo").nnz == 0
    assert train.ckg_graph("csr").nnz == 2 * len(train)
    with pytest.raises(DataError, match="no training interactions"):
        load(make_config, unlinked_items="drop")


@pytest.mark.parametrize("gone", ["toy.kg", "toy.link", "toy.inter"])
def test_lone_or_missing_files_are_named(make_dataset, make_config, gone):
    (make_dataset() / gone).unlink()
    with pytest.raises(DataError, match=rf"{gone}.*DATASETS\.md"):
        load(make_config)


@pytest.mark.parametrize("file", ["inter", "kg", "link"])
def test_truncated_line_names_file_and_line(make_dataset, make_config, file):
    folder = make_dataset()
    edit_lines(folder / f"toy.{file}", lambda lines: [*lines[:3], lines[3].split("\t")[0]])
    with pytest.raises(DataError, match=rf"toy\.{file}: line 4:"):
        load(make_config)


def test_only_items_with_interactions_are_items(make_dataset, make_config):
    folder = make_dataset()
    edit_lines(folder / "toy.item", lambda lines: [*lines, "i99\tUnseen\t2000\tA"])
    columns = {"inter": ["user_id", "item_id"], "item": "*"}
    dataset = load(make_config, load_col=columns)
    assert dataset.item_num == 16 and len(dataset.item_feat) == 16
    train = dataset.build()[0]
    assert train.get_item_feature()["genre"].shape[0] == 16


def test_reverse_relations_follow_recbole(make_dataset, make_config):
    make_dataset()
    plain, both = load(make_config), load(make_config, kg_reverse_r=True)
    assert both.knowledge.n_triples == plain.knowledge.n_triples
    assert len(both.kg_feat) == 2 * len(plain.kg_feat)
    base = plain.knowledge.n_relations
    assert both.relation_num == 2 * (base - 1) + 2 and plain.relation_num == base + 1
    reverse = both.kg_feat["relation_id"].to_numpy()[len(plain.kg_feat) :]
    np.testing.assert_array_equal(reverse, both.knowledge.relations + base - 1)


def test_recbole_filters_still_work(make_dataset, make_config):
    make_dataset()
    dataset = load(make_config, user_inter_num_interval="[7,inf)")
    counts = np.bincount(dataset.inter_feat["user_id"])[1:]
    assert counts.min() >= 7 and dataset.user_num < 13


def test_values_are_filtered_by_intervals_or_lists_of_tokens(make_dataset, make_config):
    folder = make_dataset()
    header = ["user_id:token", "item_id:token", "rating:float", "tags:token_seq"]
    rows = [(f"u{at % 3}", f"i{at}", at, "a b") for at in range(9)]
    write_table(folder / "toy.inter", header, rows)
    columns = {"inter": ["user_id", "item_id", "rating", "tags"]}

    def kept(**filters):
        return len(load(make_config, load_col=columns, modalities=[], val_interval=filters))

    assert kept(rating="[3,5];(7,1e9]") == 4
    assert kept(user_id=["u1", "u2"], rating=[0, 4]) == 3
    for filters in ({"user_id": [1]}, {"user_id": "[1,2]"}, {"tags": ["a"]}, {"rating": ["a"]}):
        with pytest.raises(ConfigError, match=f"val_interval: {next(iter(filters))}: "):
            kept(**filters)


def test_ml_100k_comes_with_recbole(make_config):
    dataset = load(make_config, dataset="ml-100k")
    train, valid, test = dataset.build()
    stats = dataset.statistics()
    assert (stats["users"], stats["items"], stats["interactions"]) == (943, 1682, 100000)
    assert (stats["triples"], stats["linked_items"], stats["relations"]) == (91631, 1598, 24)
    assert stats["features"]["text"] == {"dim": 384, "items": 1682}
    assert not stats["notes"]
    assert len(train) + len(valid) + len(test) == 100000

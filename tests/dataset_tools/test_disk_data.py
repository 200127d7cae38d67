"""A data set read on disk is the one that training reads: ids, split, graph, counts, notes."""

import random

import numpy as np
import pytest

from dataset_tools.disk_data import fits, read_on_disk
from recbole_slif.data.loaders import read_data
from recbole_slif.data.tables import read_pieces
from recbole_slif.errors import DataError
from tests.toy import write_table


def small_pieces(monkeypatch):
    """Have a few hundred rows go through as many pieces as many millions do."""
    for name, size in (("_SORTED", 30), ("_MERGED", 20), ("_LEAST_PIECE", 3), ("CHUNK", 7)):
        monkeypatch.setattr(f"dataset_tools.number_file.{name}", size)
    for name, size in (("_MERGED_BYTES", 90), ("_LEAST_PIECE", 7), ("_STEP", 3), ("PIECE", 5)):
        monkeypatch.setattr(f"dataset_tools.token_order.{name}", size)
    monkeypatch.setattr("dataset_tools.disk_features._PIECE_BYTES", 40)
    monkeypatch.setattr(read_pieces, "__defaults__", (*read_pieces.__defaults__[:-1], 200))


def write_messy(folder, seed, parts=(), graph=True, features=True):
    """Repeated and foreign lines, shared and doubly linked entities, loops, rows of NaN."""
    rng = random.Random(seed)  # noqa: S311
    folder.mkdir(parents=True, exist_ok=True)
    users = [f"u{n}" for n in range(25)] + ["é", "Z"]
    items = [f"i{n}" for n in range(18)] + ["\u00fc1"]

    def pairs(count):
        return [(rng.choice(users), rng.choice(items)) for _ in range(count)]

    head = ["user_id:token", "item_id:token"]
    for part, count in zip(parts or ("",), (170, 40, 40), strict=False):
        name = ".".join(word for word in ("toy", part, "inter") if word)
        write_table(folder / name, head, pairs(count))
    if graph:
        entities = [f"e{n}" for n in range(14)] + ["i3", "item=i2", "\u00df"]
        relations = ["r1", "r2", "r10", "looped"]
        triples = [
            (rng.choice(entities[:9]), rng.choice(relations[:3]), rng.choice(entities))
            for _ in range(130)
        ]
        triples += [("alone", "looped", "alone")] * 2
        head = ["head_id:token", "relation_id:token", "tail_id:token"]
        write_table(folder / "toy.kg", head, triples)
        links = [(rng.choice(items), rng.choice(entities)) for _ in range(16)]
        links += [
            ("i1", "alone"),
            ("nobody", "e1"),
            ("i2", "absent"),
            ("nobody", "absent"),
            links[0],
        ]
        write_table(folder / "toy.link", ["item_id:token", "entity_id:token"], links)
    if features:
        rows = np.random.default_rng(seed).random((9, 4)).astype(np.float32)
        rows[2], rows[3] = np.nan, 0
        np.save(folder / "toy.text.npy", rows.astype(np.float64))
        names = [*rng.sample(items, 8), "other"]
        rng.shuffle(names)
        (folder / "toy.text.ids").write_text("\n".join(names) + "\n")
        np.save(folder / "toy.visual.npy", rows[:, :3].astype(np.float16)[4:])
        (folder / "toy.visual.ids").write_text("\n".join(rng.sample(items, 5)) + "\n")
    return folder


def same(found, expected):
    dataset = expected.dataset
    assert found.statistics == expected.statistics
    assert list(found.statistics["notes"]) == list(expected.statistics["notes"])
    tokens = dataset.field2id_token
    assert ["[PAD]", *found.users.texts(np.arange(len(found.users)))] == (
        tokens[dataset.uid_field].tolist()
    )
    assert found.items.tolist() == tokens[dataset.iid_field].tolist()
    for part, other in zip(found.parts, expected.parts, strict=True):
        rows, feat = part.read(0, len(part)), other.inter_feat
        assert rows[:, 0].tolist() == feat[dataset.uid_field].tolist()
        assert rows[:, 1].tolist() == feat[dataset.iid_field].tolist()
    graph, other = found.graph, dataset.knowledge
    rows = graph.triples.read(0, len(graph.triples))
    for column, name in enumerate(("heads", "relations", "tails")):
        assert rows[:, column].tolist() == getattr(other, name).tolist()
    assert graph.n_entities == other.n_entities
    assert graph.linked.tolist() == other.linked.tolist()
    assert ["[PAD]", *graph.relations] == list(other.relation_tokens)
    names = graph.entities.texts(graph.others) if len(graph.others) else []
    assert names == list(other.entity_tokens[len(found.items) :])
    assert list(found.features) == list(dataset.features)
    for name, part in found.features.items():
        whole = dataset.features[name]
        observed = whole.presence if whole.observed is None else whole.observed
        assert part.observed.tolist() == observed.tolist()
        there = np.flatnonzero(observed)
        assert np.array_equal(np.concatenate(list(part.pieces(there, "x"))), whole.matrix[there])


CASES = {
    "ratio": {},
    "pooled": {"parts": ("train", "valid", "test"), "set": {"protocol": "ratio_811"}},
    "public": {"parts": ("train", "valid", "test")},
    "drawn": {"parts": ("train", "", "test")},
    "none drawn": {"parts": ("train", "", "test"), "set": {"valid_ratio": 0.0}},
    "more drawn": {
        "parts": ("train", "", "test"),
        "set": {"valid_ratio": 0.4, "valid_min_interactions": 2, "split_seed": 3},
    },
    "no graph": {"graph": False},
    "no features": {"features": False, "set": {"seed": 1}},
    "filled": {"set": {"missing": "mean", "modalities": ["text"]}},
}


def written(tmp_path, seed, case):
    options = dict(CASES[case])
    settings = options.pop("set", {})
    folder = write_messy(tmp_path / "toy", seed, **options)
    if "" in options.get("parts", ()):
        (folder / "toy.inter").unlink()
    return settings


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(4))
def test_what_is_read_on_disk_is_what_training_reads(
    tmp_path, make_config, monkeypatch, case, seed
):
    if seed:
        small_pieces(monkeypatch)
    config = make_config(**written(tmp_path, seed, case))
    assert fits(config)
    (tmp_path / "scratch").mkdir()
    same(read_on_disk(config, tmp_path / "scratch"), read_data(config))


def test_the_order_of_lines_changes_nothing(tmp_path, make_config, monkeypatch):
    small_pieces(monkeypatch)
    config = make_config(**written(tmp_path, 5, "drawn"))
    found = []
    for turn in range(2):
        scratch = tmp_path / str(turn)
        scratch.mkdir()
        data = read_on_disk(config, scratch)
        found.append((data.statistics, data.graph.triples.path.read_bytes()))
        for path in (tmp_path / "toy").glob("toy.*"):
            if path.suffix in (".inter", ".kg", ".link"):
                head, *lines = path.read_text().splitlines()
                path.write_text("\n".join([head, *reversed(lines)]) + "\n")
    assert found[0] == found[1]


FILTERS = [
    {"load_col": {"inter": ["user_id", "item_id"], "item": ["item_id"]}},
    {"load_col": {"inter": ["user_id", "item_id", "by"]}},
    {"user_inter_num_interval": "[2,inf)"},
    {"entity_kg_num_interval": "[2,inf)"},
    {"val_interval": {"rating": "[3,inf)"}},
    {"unlinked_items": "drop"},
    {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO"}},
    {"alias_of_item_id": ["item_list"]},
]


@pytest.mark.parametrize("settings", FILTERS)
def test_settings_that_filter_are_left_to_the_reader_of_training(tmp_path, make_config, settings):
    write_messy(tmp_path / "toy", 1)
    assert not fits(make_config(**settings))


def spoil(folder, case):
    if case == "a user of all items":
        rows = [("u1", f"i{n}") for n in range(18)] + [("u1", "\u00fc1"), ("u2", "i1")]
        write_table(folder / "toy.inter", ["user_id:token", "item_id:token"], rows)
    elif case == "no link file":
        (folder / "toy.link").unlink()
    elif case == "no interactions":
        write_table(folder / "toy.inter", ["user_id:token", "item_id:token"], [])
    elif case == "a short triple":
        (folder / "toy.kg").write_text((folder / "toy.kg").read_text() + "e1\tr1\n")
    elif case == "other columns":
        (folder / "toy.inter").unlink()
        write_table(folder / "toy.train.inter", ["user_id:token", "item_id:token"], [("a", "b")])
        write_table(folder / "toy.test.inter", ["item_id:token", "user_id:token"], [("b", "a")])
    elif case == "an empty train file":
        (folder / "toy.inter").unlink()
        write_table(folder / "toy.train.inter", ["user_id:token", "item_id:token"], [])
        write_table(folder / "toy.test.inter", ["user_id:token", "item_id:token"], [("a", "b")])
    else:
        np.save(folder / "toy.text.npy", np.ones(3))


@pytest.mark.parametrize(
    "case",
    [
        "a user of all items",
        "no link file",
        "no interactions",
        "a short triple",
        "other columns",
        "an empty train file",
        "a matrix of one dimension",
    ],
)
def test_what_training_refuses_is_refused_in_the_same_words(tmp_path, make_config, case):
    spoil(write_messy(tmp_path / "toy", 2), case)
    config = make_config()
    (tmp_path / "scratch").mkdir()
    errors = []
    for read in (read_data, lambda config: read_on_disk(config, tmp_path / "scratch")):
        with pytest.raises(DataError) as error:
            read(config)
        errors.append(str(error.value))
    assert errors[0] == errors[1]

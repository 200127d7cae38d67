"""`describe`: Table I's counts, spreads that can be counted by hand, plots."""

import json
import os

import numpy as np
import pytest

from dataset_tools.__main__ import main
from dataset_tools.describe import exceeding, gini
from tests.toy import write_table


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    pairs = [("u1", f"i{n}") for n in range(1, 6)] + [("u2", "i1"), ("u2", "i6"), ("u3", "i1")]
    write_table(folder / "toy.inter", ["user_id:token", "item_id:token"], pairs)
    triples = [("e1", "r", "a"), ("e2", "r", "a"), ("e2", "s", "b")]
    write_table(folder / "toy.kg", ["head_id:token", "relation_id:token", "tail_id:token"], triples)
    links = [("i1", "e1"), ("i2", "e2")]
    write_table(folder / "toy.link", ["item_id:token", "entity_id:token"], links)
    np.save(folder / "toy.text.npy", np.ones((3, 2), np.float32))
    (folder / "toy.text.ids").write_text("i1\ni2\ni3\n")
    return tmp_path


def described(folder, *words):
    base = ["describe", "--dataset", "toy", "--data-path", str(folder), "--set", "use_gpu=False"]
    return main([*base, *words])


def test_counts_are_those_of_the_data(data, capsys):
    assert described(data, "--out", str(data / "out")) == 0
    found = json.loads((data / "out" / "toy.describe.json").read_text())
    counts = found["counts"]
    assert [counts[name] for name in ("users", "items", "interactions")] == [3, 6, 8]
    assert [counts[name] for name in ("entities", "relations", "triples")] == [4, 2, 3]
    assert counts["entities_without_items"] == 2
    assert found["coverage"] == {"knowledge": 2 / 6, "text": 3 / 6}
    users = found["spread"]["interactions per user"]
    assert (users["least"], users["median"], users["most"]) == (1, 2, 5)
    assert users["mean"] == pytest.approx(8 / 3)
    linked = found["spread"]["triples per linked item"]
    assert (linked["least"], linked["mean"], linked["most"]) == (1, 1.5, 2)
    entities = found["spread"]["triples per entity"]
    assert (entities["least"], entities["mean"], entities["most"]) == (1, 1.5, 2)
    assert entities["gini"] == pytest.approx(1 / 6)
    assert found["spread"]["interactions per user"]["gini"] == pytest.approx(1 / 3)
    shown = capsys.readouterr().out
    for text in ("interactions per item", "share of items with text", "50.0%", "33.3%"):
        assert text in shown


def test_tails_count_as_entities_of_their_triples(data):
    lines = (data / "toy" / "toy.kg").read_text() + "c\tr\ta\n"
    (data / "toy" / "toy.kg").write_text(lines)
    assert described(data, "--out", str(data / "out")) == 0
    found = json.loads((data / "out" / "toy.describe.json").read_text())
    assert found["spread"]["triples per entity"]["most"] == 3


@pytest.mark.parametrize("key", ["use_gpu=False", "user_inter_num_interval=[1,99]"])
def test_a_graph_that_no_item_is_linked_to_has_no_spread_of_linked_items(data, key):
    write_table(data / "toy" / "toy.link", ["item_id:token", "entity_id:token"], [("i1", "e9")])
    words = ["--out", str(data / "out"), "--set", "use_gpu=False", key]
    assert described(data, *words) == 0
    found = json.loads((data / "out" / "toy.describe.json").read_text())
    assert found["coverage"]["knowledge"] == 0 and "triples per entity" in found["spread"]
    assert "triples per linked item" not in found["spread"]


def test_plots_are_drawn_and_repeat_to_the_byte(data):
    pytest.importorskip("matplotlib")
    for out in ("a", "b"):
        assert described(data, "--out", str(data / out), "--plots") == 0
    names = sorted(os.listdir(data / "a"))
    assert names == [
        "toy.coverage.pdf",
        "toy.coverage.png",
        "toy.degrees.pdf",
        "toy.degrees.png",
        "toy.describe.json",
    ]
    for name in names:
        assert (data / "a" / name).read_bytes() == (data / "b" / name).read_bytes()
    assert (data / "a" / "toy.degrees.png").read_bytes().startswith(b"\x89PNG")


def test_several_data_sets_stand_side_by_side(data, capsys):
    base = ["describe", "--dataset", "toy", "ml-100k", "--data-path", str(data)]
    assert main([*base, "--set", "use_gpu=False"]) == 0
    head = capsys.readouterr().out.splitlines()[0].split()
    assert head == ["toy", "ml-100k"]


def test_mistakes_are_one_line(data, capsys):
    assert described(data, "--plots") == 2
    assert "--plots needs --out" in capsys.readouterr().err
    assert main(["describe", "--dataset", "absent", "--data-path", str(data)]) == 2
    assert "'absent' is not known" in capsys.readouterr().err


def test_gini_and_tails():
    assert gini(np.array([3, 3, 3])) == pytest.approx(0)
    assert gini(np.array([0, 8, 0, 0])) == pytest.approx(0.75)
    assert gini(np.zeros(3, dtype=int)) == 0
    places, share = exceeding([0, 1, 1, 4])
    assert places.tolist() == [1, 4] and share.tolist() == [0.75, 0.25]

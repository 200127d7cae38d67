import csv
import json
from pathlib import Path

import numpy as np
import pytest

from recbole_slif import quick_start
from recbole_slif.checkpoint import load_model
from recbole_slif.errors import ConfigError, DataError
from recbole_slif.recommend import main, recommend
from recbole_slif.trained import item_titles
from tests.running import settings


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recommend")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        changes = settings(folder, learning_rate=0.05, epochs=3)
        return quick_start.run("BPR", "toy", overrides=changes).folder


def by_loop(folder, exclude, k):
    """Rank by Python sorting, for every user."""
    _, model, bundle = load_model(folder)
    users, items = (table.numpy() for table in model.score_tables())
    dataset = bundle.dataset
    wanted = {}
    for user in range(1, dataset.user_num):
        seen = set()
        for name in exclude:
            feat = getattr(bundle, f"{name}_data")._dataset.inter_feat
            seen |= {
                int(i) for u, i in zip(feat["user_id"], feat["item_id"], strict=True) if u == user
            }
        rest = [item for item in range(1, dataset.item_num) if item not in seen]
        rest.sort(key=lambda item: -float(np.dot(users[user], items[item])))
        token = dataset.id2token("user_id", user)
        wanted[token] = [dataset.id2token("item_id", item) for item in rest[:k]]
    return wanted


@pytest.mark.parametrize("exclude", [("train", "valid"), (), ("train", "valid", "test")])
def test_lists_are_the_best_unseen_items(trained, exclude):
    found = recommend(trained, k=6, exclude=exclude)
    lists = {}
    for entry in found:
        assert entry.rank == len(lists.setdefault(entry.user, [])) + 1
        lists[entry.user].append(entry.item)
        assert entry.title == f"Title {entry.item[1:]}"
    assert lists == {user: items for user, items in by_loop(trained, exclude, 6).items() if items}


def test_one_text_is_one_user_and_one_split(trained):
    assert recommend(trained, "u7", k=2) == recommend(trained, ["u7"], k=2)
    lists = [recommend(trained, ["u7"], exclude=exclude) for exclude in ("train", ["train"])]
    assert lists[0] == lists[1]
    with pytest.raises(DataError, match="user '7' is not in"):
        recommend(trained, [7])


def test_users_come_in_the_order_asked(trained):
    found = recommend(trained, ["u7", "u2"], k=2)
    assert [entry.user for entry in found] == ["u7", "u7", "u2", "u2"]


def test_a_user_named_twice_has_one_list(trained, tmp_path):
    once = recommend(trained, ["u7", "u2"], k=2)
    assert recommend(trained, ["u7", "u2", "u7"], k=2) == once
    out = tmp_path / "a.jsonl"
    assert main([f"--checkpoint={trained}", "--users=u1,u1", "--topk=3", f"--output={out}"]) == 0
    (shown,) = map(json.loads, out.read_text().splitlines())
    assert shown["user"] == "u1" and len(shown["items"]) == 3


def test_more_places_than_items(trained):
    lists = by_loop(trained, ("train", "valid"), 1000)
    assert len(recommend(trained, ["u7"], k=1000)) == len(lists["u7"])


def test_unknown_users_and_settings_are_named(trained):
    with pytest.raises(
        DataError, match=r"user 'u77' .and 1 more. is not in data set 'toy'; did you"
    ):
        recommend(trained, ["u7", "u77", "zz"])
    with pytest.raises(DataError, match=r"user '\[PAD\]' is not in data set 'toy'$"):
        recommend(trained, ["[PAD]"])
    with pytest.raises(ConfigError, match="exclude 'tset'"):
        recommend(trained, ["u7"], exclude=("tset",))
    with pytest.raises(ConfigError, match="topk is 0"):
        recommend(trained, ["u7"], k=0)


def test_command_writes_each_format(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "users.txt").write_text("u3\n\nu1\n")
    base = [f"--checkpoint={trained}", "--topk=3"]
    assert main([*base, "--users_file=users.txt", "--output=a.csv"]) == 0
    with Path("a.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["user"] for row in rows] == ["u3"] * 3 + ["u1"] * 3
    assert [row["rank"] for row in rows] == ["1", "2", "3"] * 2
    line = ["--users=u3, u1", "--exclude=train, valid", "--output=b.jsonl"]
    assert main([*base, *line]) == 0
    lists = [json.loads(line) for line in Path("b.jsonl").read_text().splitlines()]
    assert [entry["user"] for entry in lists] == ["u3", "u1"]
    assert [row["item"] for row in rows] == [i["item"] for e in lists for i in e["items"]]
    capsys.readouterr()
    assert main([*base, "--users=u3"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "user\trank\titem\tscore\ttitle"
    assert len(shown) == 4


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["--users=u1", "--output=a.xls"], "--output ends in"),
        ([], "name the users"),
        (["--users=u1", "--users_file=x"], "name the users"),
        (["--users_file=gone"], "users file 'gone'"),
        (["--users_file=empty"], "--users_file names no user"),
        (["--users=,"], "--users names no user"),
        (["--users=nobody"], "user 'nobody'"),
        (["--users=u1", "--tokp=3"], "tokp"),
    ],
)
def test_mistakes_are_one_line(trained, tmp_path, monkeypatch, capsys, argv, wanted):
    monkeypatch.chdir(tmp_path)
    Path("empty").write_text("\n")
    assert main([f"--checkpoint={trained}", *argv]) == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith("error: ")
    assert wanted in shown


class Folder:
    """Looks like a data set whose item file has the given header."""

    dataset_name = "x"
    iid_field = "item_id"

    def __init__(self, path, **config):
        self.dataset_path, self.config = str(path), config


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("item_id:token\tmovie_title:token_seq", {"1": "A B", "2": "C"}),
        ("item_id:token\tbook_name:token", {"1": "A B", "2": "C"}),
        ("item_id:token\tyear:float", {}),
        ("other:token\ttitle:token", {}),
    ],
)
def test_titles(tmp_path, header, wanted):
    (tmp_path / "x.item").write_text(f"{header}\n1\tA B\n2\tC\nshort\n", encoding="utf-8")
    assert item_titles(Folder(tmp_path)) == wanted


def test_titles_beside_a_long_cell(tmp_path):
    text = f"item_id:token\ttitle:token\tabout:token_seq\n1\tA\t{'word ' * 30_000}\n2\tB\tshort\n"
    (tmp_path / "x.item").write_text(text)
    assert item_titles(Folder(tmp_path)) == {"1": "A", "2": "B"}


def test_titles_are_parted_as_the_data_set_is(tmp_path):
    text = 'item_id:token,title:token\r\né1,"Café" bar\r\né2,Ö\r\n'
    (tmp_path / "x.item").write_bytes(text.encode("latin-1"))
    folder = Folder(tmp_path, field_separator=",", encoding="latin-1")
    assert item_titles(folder) == {"é1": '"Café" bar', "é2": "Ö"}
    assert item_titles(folder, "title") == item_titles(folder)


def test_titles_behind_a_byte_order_mark(tmp_path):
    (tmp_path / "x.item").write_text("item_id:token\tname:token\n1\tA\n", encoding="utf-8-sig")
    assert item_titles(Folder(tmp_path)) == {"1": "A"}


def test_no_item_file(tmp_path):
    assert item_titles(Folder(tmp_path)) == {}

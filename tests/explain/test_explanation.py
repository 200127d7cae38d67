"""Explanations of trained models: the right items, numbers and words, in every format."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_slif import quick_start
from recbole_slif.checkpoint import load_model
from recbole_slif.errors import ConfigError, DataError
from recbole_slif.explain.cli import main
from recbole_slif.explain.explanation import Amounts, explain
from recbole_slif.explain.text import Writer
from recbole_slif.recommend import recommend
from recbole_slif.registry import MODELS
from tests.running import settings
from tests.toy import edit_lines, write_toy


def train(folder, model, **changes):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        chosen = settings(folder, **{"learning_rate": 0.05, **changes})
        return quick_start.run(model, "toy", overrides=chosen, verbose=False).folder


@pytest.fixture(scope="module")
def slif(tmp_path_factory):
    return train(tmp_path_factory.mktemp("slif"), "SLIFMR", sge_start=0)


@pytest.fixture(scope="module")
def bpr(tmp_path_factory):
    return train(tmp_path_factory.mktemp("bpr"), "BPR")


def truth(folder):
    """User -> training items, item -> facts, by the files' own tokens."""
    _, _, bundle = load_model(folder)
    dataset, feat = bundle.dataset, bundle.train_data._dataset.inter_feat
    history = {}
    for user, item in zip(feat["user_id"].tolist(), feat["item_id"].tolist(), strict=True):
        token = dataset.id2token("user_id", user)
        history.setdefault(token, set()).add(dataset.id2token("item_id", item))
    facts = {}
    for line in (Path(dataset.dataset_path) / "toy.kg").read_text().splitlines()[1:]:
        head, relation, tail = line.split("\t")
        for end, other, leads in ((head, tail, True), (tail, head, False)):
            if end.startswith("e"):
                facts.setdefault(f"i{end[1:]}", set()).add((relation, leads, other))
    return history, facts


def test_lists_scores_and_history_are_the_models(slif):
    found = explain(slif, ["u7", "u2"], amounts=Amounts(topk=4))
    wanted = recommend(slif, ["u7", "u2"], k=4)
    history, _ = truth(slif)
    assert [user.user for user in found.users] == ["u7", "u2"]
    shown = [
        (user.user, item.rank, item.item.token, item.score, item.item.title)
        for user in found.users
        for item in user.items
    ]
    assert shown == [(one.user, one.rank, one.item, one.score, one.title) for one in wanted]
    for user in found.users:
        assert {item.token for item in user.history} == history[user.user]
        assert all(item.title == f"Title {item.token[1:]}" for item in user.history)


def test_a_user_named_twice_is_explained_once(bpr):
    assert [user.user for user in explain(bpr, ["u7", "u2", "u7"]).users] == ["u7", "u2"]


def test_parts_of_the_score_add_up(slif):
    found = explain(slif, amounts=Amounts(topk=20))
    items = [item for user in found.users for item in user.items]
    assert len(items) > 100
    for item in items:
        assert sum(view.part for view in item.views) == pytest.approx(item.score, abs=1e-5)
        weights = [view.weight for view in item.views if view.present]
        assert sum(weights) == pytest.approx(1.0, abs=1e-6)
    missing = {item.item.token for item in items if not item.views[2].present}
    assert missing == {"i16", "i17"}, "the toy's items without a link"
    assert all(
        view.weight is None and view.part == 0.0
        for item in items
        for view in item.views
        if not view.present
    )


def test_shared_facts_are_those_of_the_files(slif):
    history, facts = truth(slif)
    found = explain(slif, amounts=Amounts(topk=20, facts=100))
    seen = 0
    for user in found.users:
        for item in user.items:
            mine = facts.get(item.item.token, set())
            wanted = {
                fact: {other for other in history[user.user] if fact in facts.get(other, ())}
                for fact in mine
            }
            shown = {
                (relation.name, relation.from_item, fact.entity.token): {
                    one.token for one in fact.history
                }
                for fact in item.facts
                for relation in fact.relations
            }
            assert shown == {fact: others for fact, others in wanted.items() if others}
            assert item.n_facts == len(item.facts)
            seen += len(shown)
            rare = [fact.n_items for fact in item.facts]
            assert rare == sorted(rare)
    assert seen > 50


def test_given_items_have_the_rank_of_the_whole_list(slif):
    whole = {one.item: one for one in recommend(slif, ["u3"], k=100)}
    history, _ = truth(slif)
    met = sorted(history["u3"])[0]
    last = max(whole.values(), key=lambda one: one.rank)
    (user,) = explain(slif, ["u3"], [last.item, met]).users
    assert [item.item.token for item in user.items] == [last.item, met]
    assert user.items[0].rank == last.rank
    assert user.items[0].score == pytest.approx(last.score, abs=1e-6)
    assert user.items[1].rank is None and user.items[1].met == "train"
    _, model, bundle = load_model(slif)
    users, items = model.score_tables()
    row = bundle.dataset.token2id("user_id", "u3"), bundle.dataset.token2id("item_id", met)
    assert user.items[1].score == pytest.approx(float(users[row[0]] @ items[row[1]]), abs=1e-6)


@pytest.mark.parametrize("k", [1, 5, 10, 100])
def test_items_of_one_score_have_the_ranks_of_their_list(tmp_path, k):
    folder = train(tmp_path, "Pop", embedding_size=...)
    (listed,) = explain(folder, ["u3"], amounts=Amounts(topk=k)).users
    whole = recommend(folder, ["u3"], k=100)
    assert len({one.score for one in whole}) < len(whole), "equal scores"
    (given,) = explain(folder, ["u3"], [one.item for one in whole], amounts=Amounts(k)).users
    ranks = {item.item.token: item.rank for item in given.items}
    assert sorted(ranks.values()) == list(range(1, len(whole) + 1))
    assert {item.item.token: item.rank for item in listed.items}.items() <= ranks.items()
    by_rank = sorted(given.items, key=lambda item: item.rank)
    scores = [item.score for item in by_rank]
    assert scores == sorted(scores, reverse=True)


def test_amounts_cut_what_is_shown_not_what_is_counted(slif):
    full, cut, none = (
        [item for user in explain(slif, amounts=amounts).users for item in user.items]
        for amounts in (Amounts(5, 100, 3), Amounts(5, 1, 2), Amounts(5, 0, 0))
    )
    assert any(item.n_facts > 1 for item in full)
    for whole, part in zip(full, cut, strict=True):
        assert part.n_facts == whole.n_facts == len(whole.facts)
        assert part.facts == whole.facts[:1]
        assert "correlation graph" in whole.graphs
        for name, found in whole.graphs.items():
            assert part.graphs[name] == found[:2]
    assert not any(item.facts or any(item.graphs.values()) for item in none)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_explained(tmp_path, name):
    folder = train(tmp_path, name, epochs=1, topk=[3], valid_metric="Recall@3")
    found = explain(folder, ["u1"], amounts=Amounts(topk=3))
    (user,) = found.users
    assert [item.rank for item in user.items] == [1, 2, 3]
    assert all(np.isfinite(item.score) for item in user.items)
    assert bool(user.items[0].views) == (name == "SLIFMR")
    unread = any("does not read the knowledge graph" in note for note in found.notes)
    assert unread == (not MODELS[name].needs_knowledge and name != "SLIFMR")
    assert Writer().write(found)


def test_recboles_own_models_are_explained(tmp_path):
    folder = train(tmp_path, "Pop", embedding_size=...)
    (user,) = explain(folder, ["u1"], amounts=Amounts(topk=2)).users
    scores = [item.score for item in user.items]
    assert len(scores) == 2 and scores == sorted(scores, reverse=True)


def test_users_without_training_items(tmp_path):
    data = write_toy(tmp_path / "data", n_users=20, n_items=18, benchmark=True)
    edit_lines(data / "toy" / "toy.test.inter", lambda lines: [*lines, "new\ti3"])
    folder = train(tmp_path, "BPR")
    with pytest.raises(DataError, match="user 'new' has no training items"):
        explain(folder, ["u1", "new"])
    found = explain(folder)
    assert "new" not in [user.user for user in found.users] and len(found.users) == 20
    assert "1 users without training items" in " ".join(found.notes)


def test_data_without_a_graph(tmp_path):
    write_toy(tmp_path / "data", n_users=20, n_items=18, knowledge=False)
    found = explain(train(tmp_path, "BPR"), ["u1"])
    assert "shared facts: data set 'toy' has no triples" in found.notes
    assert not any(item.facts for item in found.users[0].items)


# ---- the command -----------------------------------------------------------------------------


@pytest.fixture
def shown(capsys):
    def run(*words):
        assert main(list(words)) == 0
        return capsys.readouterr().out

    return run


def test_text_holds_the_numbers_and_fits_the_width(slif, shown):
    text = shown(f"--checkpoint={slif}", "--user=u3", "--topk=4", "--facts=50")
    (user,) = explain(slif, ["u3"], amounts=Amounts(4, 50)).users
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert f"user u3, {len(user.history)} training items" in lines
    for item in user.items:
        place = next(
            at for at, line in enumerate(lines) if f"{item.item.title} ({item.item.token})" in line
            and f"score {item.score:.4f}" in line
        )  # fmt: skip
        rows = [line.split() for line in lines[place : place + 8]]
        for view in item.views:
            row = next(row for row in rows if row[:1] == [view.view])
            wanted = [f"{view.weight:.3f}", f"{view.part:+.4f}"] if view.present else ["missing"]
            assert row[1 : 1 + len(wanted)] == wanted
        joined = " ".join(text.split())
        for fact in item.facts:
            assert f"{fact.entity.token}, joined to {fact.n_items} items" in joined
    assert "nearest in the correlation graph" in text and "nearest in the feature graph" in text
    assert "\033" not in text


def test_colours_change_nothing_but_the_looks(slif):
    found = explain(slif, ["u3"])
    plain, coloured = Writer(90).write(found), Writer(90, colour=True).write(found)
    assert coloured != plain and re.sub(r"\033\[\d+m", "", coloured) == plain


@pytest.mark.parametrize(("terminal", "environment"), [(True, {}), (True, {"NO_COLOR": "1"})])
def test_colours_are_for_terminals(slif, shown, monkeypatch, terminal, environment):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert ("\033" in shown(f"--checkpoint={slif}", "--user=u3")) == (not environment)


def test_json_is_the_whole_explanation(slif, shown):
    content = json.loads(shown(f"--checkpoint={slif}", "--user=u3", "--format=json"))
    found = explain(slif, ["u3"])
    assert content["model"] == "SLIFMR" and list(content["modality_weights"]) == ["text", "visual"]
    item, wanted = content["users"][0]["items"][1], found.users[0].items[1]
    assert item["score"] == wanted.score and item["item"]["token"] == wanted.item.token
    assert item["views"][0]["weight"] == wanted.views[0].weight
    neighbours = item["graphs"]["correlation graph"]
    first = wanted.graphs["correlation graph"][0]
    assert neighbours[0] == {
        "item": {"token": first.item.token, "title": first.item.title},
        "weight": first.weight,
    }
    assert len(item["facts"]) == len(wanted.facts)


def test_csv_has_a_line_for_each_user_and_item(slif, bpr, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [f"--checkpoint={slif}", "--users=all", "--topk=3", "--output_file=why.csv"]
    assert main(words) == 0
    with Path("why.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 60
    for row in rows:
        parts = [row[f"{name} part"] for name in ("interaction", "feature", "knowledge")]
        assert sum(float(part or 0) for part in parts) == pytest.approx(
            float(row["score"]), abs=1e-5
        )
    assert main([f"--checkpoint={bpr}", "--user=u1", "--output=b.csv"]) == 0
    header = next(csv.reader(io.StringIO(Path("b.csv").read_text())))
    assert header == ["user", "rank", "item", "title", "score", "met", "shared facts"]


def test_markdown_has_a_table_and_escapes(slif, tmp_path, shown):
    text = shown(f"--checkpoint={slif}", "--user=u3", "--topk=2", "--format=markdown")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4 and {row.count("|") for row in rows} == {7}
    assert text.count("### ") == 2


def test_mistakes_are_one_line(slif, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torn.pt").write_bytes(b"no checkpoint")
    base = f"--checkpoint={slif}"
    for argv, wanted in (
        ([base, "--user=u33x"], "user 'u33x' is not in data set 'toy'"),
        ([base, "--user=u3", "--item=i177"], "item 'i177' is not in data set 'toy'; did you mean"),
        ([base, "--user=u3", "--item=[PAD]"], "item '[PAD]' is not in"),
        ([base], "name the users"),
        ([base, "--user=u3", "--users=u4"], "--user does not go with --users"),
        ([base, "--user=u3", "--topk=0"], "topk is 0"),
        ([base, "--user=u3", "--facts=-1"], "facts is -1"),
        ([base, "--user=u3", "--output=x.xls"], "--output ends in none of .json, .md"),
        ([base, "--user=u3", "--title_column=nam"], "no column 'nam' for titles; there are"),
        ([base, "--user=u3", "--exclude=tset"], "exclude 'tset'"),
        (["--checkpoint=torn.pt", "--user=u3"], "checkpoint 'torn.pt' holds pickled objects"),
        (["--checkpoint=gone", "--user=u3"], "does not exist"),
        ([base, "--user=u3", "--split_seed=5"], "does not fit: data"),
    ):
        assert main(argv) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: ") and wanted in lines[0], argv


def test_titles_from_a_named_column(slif):
    (user,) = explain(slif, ["u3"], amounts=Amounts(topk=1), title_column="year").users
    assert user.items[0].item.title == str(1990 + int(user.items[0].item.token[1:]))


def test_numbers_of_amounts_are_checked():
    for bad in (Amounts(facts=-1), Amounts(neighbours=-2)):
        with pytest.raises(ConfigError, match="must be 0 or more"):
            bad.check()


def test_the_model_is_not_changed_by_looking(slif):
    _, model, bundle = load_model(slif)
    before = [table.clone() for table in model.score_tables()]
    from recbole_slif.explain.views import look_inside

    look_inside(model, bundle.dataset)
    assert all(map(torch.equal, before, model.score_tables()))

"""`yelp_kg`: nested attributes that are Python text, old and new layouts, faults, order."""

import json
import random

import pytest

from dataset_tools.__main__ import main
from recbole_slif.data.tables import read_table
from tests.toy import write_table

BUSINESSES = [
    {
        "business_id": "b10",
        "city": "Mesa",
        "state": "AZ",
        "stars": 4.5,
        "categories": "Food, , Coffee & Tea , Food",
        "attributes": {
            "BikeParking": "True",
            "WiFi": "u'free'",
            "NoiseLevel": "None",
            "Alcohol": "'full_bar'",
            "BusinessParking": "{'garage': False, 'lot': True, u'valet': None}",
            "RestaurantsPriceRange2": "2",
        },
    },
    {
        "business_id": "b9",
        "city": "Mesa",
        "state": "NV",
        "stars": 4.4,
        "categories": ["Food", "Bars"],
        "attributes": {"Ambience": {"casual": True}, "Days": "['mon', 'tue']", "WiFi": "no"},
    },
    {"business_id": "b1", "city": "", "categories": None, "attributes": None, "stars": "x"},
    {"business_id": "b2", "attributes": ["Take-out: true", "Price Range: 2", 5], "city": 7},
]


def business_file(tmp_path, lines):
    path = tmp_path / "business.json"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def graph(tmp_path, lines, *more):
    words = ["yelp_kg", str(business_file(tmp_path, lines)), "--name", "y"]
    assert main([*words, "--out", str(tmp_path / "out"), *more]) == 0
    frame = read_table(tmp_path / "out" / "y.kg", required=["head_id"]).frame
    return [tuple(row) for row in frame.itertuples(index=False)]


def test_facts_become_triples(tmp_path, capsys):
    found = graph(tmp_path, map(json.dumps, BUSINESSES))
    facts = {(head, *tail.split("=")) for head, _, tail in found}
    a = "attributes::"
    assert facts == {
        ("item=b10", f"{a}BikeParking", "True"),
        ("item=b10", f"{a}WiFi", "free"),
        ("item=b10", f"{a}Alcohol", "full_bar"),
        ("item=b10", f"{a}BusinessParking::garage", "False"),
        ("item=b10", f"{a}BusinessParking::lot", "True"),
        ("item=b10", f"{a}RestaurantsPriceRange2", "2"),
        ("item=b10", "categories", "Food"),
        ("item=b10", "categories", "Coffee & Tea"),
        ("item=b10", "city", "Mesa, AZ"),
        ("item=b9", "categories", "Food"),
        ("item=b9", "categories", "Bars"),
        ("item=b9", "city", "Mesa, NV"),
        ("item=b9", f"{a}Ambience::casual", "True"),
        ("item=b9", f"{a}Days", "mon"),
        ("item=b9", f"{a}Days", "tue"),
        ("item=b9", f"{a}WiFi", "no"),
        ("item=b2", f"{a}Take-out", "true"),
        ("item=b2", f"{a}Price Range", "2"),
        ("item=b2", "city", "7"),
    }
    assert all(tail.startswith(f"{relation}=") for _, relation, tail in found)
    links = (tmp_path / "out" / "y.link").read_text().splitlines()
    assert links == [
        "item_id:token\tentity_id:token",
        *(f"{b}\titem={b}" for b in ("b2", "b9", "b10")),
    ]
    counts = " ".join(capsys.readouterr().out.split())
    assert "items 4" in counts and "linked items 3" in counts and "triples 19" in counts


def test_parts_and_limits(tmp_path, capsys):
    lines = list(map(json.dumps, BUSINESSES))
    found = graph(tmp_path, lines, "--parts", "stars", "state")
    assert [(h, t) for h, _, t in found] == [
        ("item=b9", "stars=4.5"),
        ("item=b9", "state=NV"),
        ("item=b10", "stars=4.5"),
        ("item=b10", "state=AZ"),
    ]
    assert {t for _, _, t in graph(tmp_path, lines, "--min-items", "2")} == {"categories=Food"}
    found = graph(tmp_path, lines, "--only-true")
    assert not [t for _, _, t in found if t.endswith("=False")]
    capsys.readouterr()
    found = graph(tmp_path, lines, "--min-relation", "3")
    assert {r for _, r, _ in found} == {"categories", "city"}
    assert "relations of fewer triples than --min-relation" in capsys.readouterr().out


def test_items_of_the_data_set_alone(tmp_path, capsys):
    write_table(
        tmp_path / "x.inter", ["user_id:token", "item_id:token"], [("u", "b9"), ("u", "b0")]
    )
    found = graph(tmp_path, map(json.dumps, BUSINESSES), "--items", str(tmp_path / "x.inter"))
    assert {h for h, _, _ in found} == {"item=b9"}
    counts = " ".join(capsys.readouterr().out.split())
    assert "businesses that the data set does not have 3" in counts
    assert "items of the data set that the file lacks 1" in counts


HOSTILE = "__import__('os').system('touch {}')"


def test_faults_are_counted_and_nothing_is_run(tmp_path, capsys):
    mark = tmp_path / "was_run"
    code = HOSTILE.format(mark)
    lines = [json.dumps(business) for business in BUSINESSES]
    clean = graph(tmp_path, lines)
    odd = [
        "{broken",
        json.dumps({"business_id": "z", "attributes": {"A": "{" + code + ": 1}"}}),
        json.dumps({"business_id": "z2", "attributes": {"A": "(" * 5000}}),
        json.dumps({"business_id": None}),
        json.dumps({**BUSINESSES[1], "city": "Zuma"}),
        json.dumps({"business_id": "d", "attributes": {"A": "{'a':" * 60 + "1" + "}" * 60}}),
    ]
    mixed = [*lines, *odd]
    capsys.readouterr()
    found = graph(tmp_path, mixed)
    assert not mark.exists()
    assert [row for row in found if row[0] not in ("item=z", "item=z2", "item=d")] == clean
    err = capsys.readouterr().err
    assert "1 line of broken JSON (line 5)" in err
    assert "2 attributes that are no Python literal (taken as text) (line 6, 7)" in err
    assert "1 line without an item id ('business_id') (line 8)" in err
    assert "1 line of a business that already has a line (line 9)" in err
    shuffled = random.Random(4).sample(mixed, len(mixed))  # noqa: S311
    assert graph(tmp_path, shuffled) == found


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--min-items", "0"], "--min-items"),
        (["--min-items", "99"], "no triple is left"),
        # Of the four categories' triples two are left, those of the value that two items have.
        (["--min-items", "2", "--min-relation", "3"], "no triple is left"),
    ],
)
def test_mistakes_are_one_line(tmp_path, more, words, capsys):
    path = business_file(tmp_path, map(json.dumps, BUSINESSES))
    assert main(["yelp_kg", str(path), "--name", "y", "--out", str(tmp_path), *more]) == 2
    assert words in capsys.readouterr().err

"""`attributes`: a table of products becomes a graph, links and texts."""

import json
import random

import pytest

from dataset_tools.__main__ import main
from dataset_tools.attributes import plain_text
from dataset_tools.tokens import read_tokens
from recbole_slif.data.tables import read_table

HEAD = "sku,brand,tags,price,title,about"
LINES = [
    'p1,Acme,red|big,10,Lamp,"<p>A &quot;nice&quot; <b>lamp</b>, really</p>"',
    "p2,Acme,red,20,Chair,Sits  well",
    'p10,"Bolt, Inc",big|big| ,30,Desk,a < b &amp;lt;br&amp;gt; c',
    "p3,,,40,Sofa,",
]
WORDS = ["--item-column", "sku", "--texts", "title", "about", "--lists", "tags"]
WORDS += ["--numbers", "price", "--ranges", "2"]


def turned(tmp_path, lines, *words, out="out"):
    raw, report = tmp_path / "products.csv", tmp_path / "report.json"
    raw.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    )
    words = ["attributes", str(raw), *WORDS, "--name", "toy", "--out", str(tmp_path / out), *words]
    code = main([*words, "--report", str(report)])
    found = json.loads(report.read_text()) if report.exists() else None
    return code, {path.name: path.read_text() for path in sorted((tmp_path / out).glob("*"))}, found


def test_columns_become_relations_and_values_entities(tmp_path):
    code, files, report = turned(tmp_path, [HEAD, *LINES])
    assert code == 0 and list(files) == ["toy.item", "toy.kg", "toy.link"]
    assert files["toy.kg"].splitlines()[1:] == [
        "item=p1\tbrand\tbrand=Acme",
        "item=p1\tprice\tprice=10..25",
        "item=p1\ttags\ttags=big",
        "item=p1\ttags\ttags=red",
        "item=p2\tbrand\tbrand=Acme",
        "item=p2\tprice\tprice=10..25",
        "item=p2\ttags\ttags=red",
        "item=p3\tprice\tprice=25..40",
        "item=p10\tbrand\tbrand=Bolt, Inc",
        "item=p10\tprice\tprice=25..40",
        "item=p10\ttags\ttags=big",
    ]
    assert files["toy.link"].splitlines()[-1] == "p10\titem=p10"
    assert report["counts"]["triples"] == 11 and report["counts"]["relations"] == 3
    texts = read_table(tmp_path / "out" / "toy.item").frame
    assert texts["about"].tolist()[0] == 'A "nice" lamp , really'
    assert texts["title"].tolist() == ["Lamp", "Chair", "Sofa", "Desk"]


def test_a_column_called_item_leads_to_no_item_of_the_data_set(tmp_path):
    _, files, _ = turned(tmp_path, [f"{HEAD},item,_item", "1,,,,x,y,2,", "2,,,,x,y,,1"])
    rows = ["__item=1\titem\titem=2", "__item=2\t_item\t_item=1"]
    assert files["toy.kg"].splitlines()[1:] == rows
    assert files["toy.link"].splitlines()[1:] == ["1\t__item=1", "2\t__item=2"]


def test_item_ids_are_those_that_interactions_writes(tmp_path):
    item = "A  1\N{NO-BREAK SPACE}b"
    (tmp_path / "x.ids").write_text(f"{item}\n")
    lines = [HEAD, f" {item} ,Acme,,,x,y", '"p\t9",Acme,,,x,y']
    _, files, report = turned(tmp_path, lines, "--items", str(tmp_path / "x.ids"))
    assert files["toy.link"].splitlines()[1:] == [f"{item}\titem={item}"]
    (fault,) = report["faults"]
    assert fault["kind"].startswith("lines without an item id") and fault["lines"] == [3]


def test_columns_without_a_name_are_no_relations(tmp_path):
    lines = [f",{HEAD},", *(f"{at},{line}," for at, line in enumerate(LINES))]
    good = turned(tmp_path, [HEAD, *LINES])[1]
    code, files, report = turned(tmp_path, lines)
    assert code == 0 and files == good
    assert report["counts"]["columns without a name left out"] == 2


@pytest.mark.parametrize("words", [[], ["--columns", "tags", "price", "brand"]])
@pytest.mark.parametrize("heads", [("brand", "brand"), ("brand:token", "brand:float")])
def test_two_columns_of_a_name_are_refused(tmp_path, capsys, heads, words):
    head = HEAD.replace("brand", heads[0]) + f",{heads[1]}"
    lines = [head, *(f"{line},x" for line in LINES)]
    assert turned(tmp_path, lines, *words)[:2] == (2, {})
    assert "line 1: 2 columns 'brand'; rename" in capsys.readouterr().err


def test_a_number_on_an_edge_belongs_to_the_upper_range(tmp_path):
    lines = [f"p{price},,,{price},x,y" for price in (10, 20, 30)]
    _, files, _ = turned(tmp_path, [HEAD, *lines])
    assert [line.split("\t")[2] for line in files["toy.kg"].splitlines()[1:]] == [
        "price=10..20",
        "price=20..30",
        "price=20..30",
    ]


def test_ranges_of_large_close_numbers_have_names_of_their_own(tmp_path):
    lines = [f"p{n},,,{1234560 + n},x,y" for n in (1, 2, 3)]
    _, files, _ = turned(tmp_path, [HEAD, *lines])
    assert [line.split("\t")[2] for line in files["toy.kg"].splitlines()[1:]] == [
        "price=1234561..1234562",
        "price=1234562..1234563",
        "price=1234562..1234563",
    ]


def test_html_goes_and_comparisons_stay():
    assert plain_text("<a href='x'>one</a><br/>two &amp; 3 < 4\tfive") == "one two & 3 < 4 five"
    assert plain_text("a &lt;br&gt; b<!-- no -->") == "a b"


def test_rare_values_and_foreign_items_are_left_out_and_counted(tmp_path):
    (tmp_path / "x.ids").write_text("p1\np2\np99\n")
    words = ["--items", str(tmp_path / "x.ids"), "--min-items", "2", "--columns", "brand", "tags"]
    words += ["price"]
    _, files, report = turned(tmp_path, [HEAD, *LINES], *words)
    assert {line.split("\t")[2] for line in files["toy.kg"].splitlines()[1:]} == {
        "brand=Acme",
        "tags=red",
    }
    assert report["counts"]["items of the table that the data set does not have"] == 2
    assert report["counts"]["items of the data set that the table lacks"] == 1
    assert report["counts"]["values of fewer items than --min-items left out"] == 3


def test_shuffled_lines_give_the_same_files_even_with_an_item_twice(tmp_path):
    lines = [*LINES, "p1,Other,red,10,Lamp,x"]
    before = turned(tmp_path, [HEAD, *lines])[1]
    for seed in range(4):
        random.Random(seed).shuffle(lines)  # noqa: S311
        assert turned(tmp_path, [HEAD, *lines])[1] == before


def test_faulty_lines_leave_the_others(tmp_path, capsys):
    good = turned(tmp_path, [HEAD, *LINES])[1]
    bad = [HEAD, *LINES[:2], "p5,x", ",a,b,1,t,u", b"p6,\xff,b,1,t,u", 'p7,"open,b,1,t,u']
    code, files, report = turned(tmp_path, [*bad, *LINES[2:]])
    assert code == 0 and files == good
    assert sorted(line for entry in report["faults"] for line in entry["lines"]) == [4, 5, 6, 7]
    lines = [HEAD, "p8,Acme,red,cheap,t,u", *LINES, "p0,Acme,red,dear,t,u"]
    (fault,) = turned(tmp_path, lines)[2]["faults"]
    assert fault["kind"].endswith("no number (price)") and fault["lines"] == [2, 7]
    twice = turned(tmp_path, [*lines, lines[1]])[2]["faults"]
    assert [entry["lines"] for entry in twice] == [[2, 7], [8]]
    assert turned(tmp_path, lines, "--strict", out="strict")[:2] == (2, {})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--columns", "colour"], "'tags' is not among"),
        (["--columns", "colour", "tags", "price"], "no column 'colour'"),
        (["--ranges", "1"], "--ranges must be"),
        (["--min-items", "9"], "no triple is left"),
        (["--separator", "tab"], "no column 'sku'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, words, said):
    assert turned(tmp_path, [HEAD, *LINES], *words)[0] == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_quotes_are_part_of_tokens(tmp_path):
    from dataset_tools.faults import Faults

    path, faults = tmp_path / "t.inter", Faults()
    lines = ["user_id:token\titem_id:token", 'u1\t"Heroes"', 'u1\t"Weird" Al', '"u2\tonly']
    path.write_text("\n".join(lines) + "\n")
    wanted = {'"Heroes"', '"Weird" Al', "only"}
    assert read_tokens([path], "item_id", faults) == wanted and faults.report() == []
    assert set(read_table(path).frame["item_id"]) == wanted, "what training reads"


def test_tokens_come_from_any_file(tmp_path):
    path = tmp_path / "t.item"
    path.write_text("item_id:token\ttitle:token_seq\n a \tx\nb\n\ty\nc\tz\n")
    from dataset_tools.faults import Faults

    faults = Faults()
    assert read_tokens([path], "item_id", faults) == {"a", "c"}
    assert faults.report()[0]["lines"] == [3]


@pytest.mark.parametrize("text", ['[{"sku": "p1"}]', '{"sku": "p1", "colour": "red"}'])
def test_json_is_called_by_its_name(tmp_path, capsys, text):
    assert turned(tmp_path, [text])[0] == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "line 1: this is JSON, not a header of columns" in said
    assert "p1" not in said

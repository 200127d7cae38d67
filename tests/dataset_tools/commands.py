"""A miniature call of every command that reads raw lines or a data set, for tests of them all."""

from __future__ import annotations

import json
import random
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tests.dataset_tools.test_freebase import toy_dump
from tests.dataset_tools.test_text import LetterCounter
from tests.toy import write_table, write_toy

N = 12


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        words: Of the command, with paths below the folder of the input as `{in}`.
        files: Text files that it reads, each with its number of head lines.
        bad: Of the first of them, faulty lines that leave all else as it is.
        make: Writes the input into a folder.
    """

    words: str
    files: Sequence[tuple[str, int]]
    bad: Sequence[bytes]
    make: Callable[[Path, random.Random], None]


def stand_ins(monkeypatch) -> None:
    """Install networks that need no weights, as letter-counter and mean-colour."""
    text, pictures = types.ModuleType("letter_counter"), types.ModuleType("mean_colour")
    text.load_model = lambda device=None: LetterCounter()
    pictures.load_backbone = lambda weights, device: MeanColour()
    for package in (text, pictures):
        monkeypatch.setitem(sys.modules, package.__name__, package)


class MeanColour:
    """A stand-in for a network: the mean of each colour."""

    def prepare(self, picture):
        """Return a picture as numbers."""
        return torch.from_numpy(np.asarray(picture, dtype=np.float32).copy())

    def encode(self, batch):
        """Return a vector of each picture."""
        return batch.mean(dim=(1, 2)).numpy()


def _lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _interactions(folder: Path, rng: random.Random) -> None:
    rows = [(user, item) for user in range(N) for item in rng.sample(range(9), 5)]
    lines = [f"u{user},i{item},{item % 5},{user * item}" for user, item in rows]
    _lines(folder / "raw", ["who,what,stars,at", *lines])


def _reviews(folder: Path, rng: random.Random) -> None:
    rows = [(user, item) for user in range(N) for item in rng.sample(range(9), 5)]
    names = ("reviewerID", "asin", "overall", "unixReviewTime")
    cells = [dict(zip(names, (f"u{u}", f"i{i}", 4, u * i), strict=True)) for u, i in rows]
    _lines(folder / "raw", [json.dumps(entry) for entry in cells])


def _links(folder: Path, rng: random.Random) -> None:
    _lines(folder / "raw", [f"i{n % 9}\tm.0{rng.randrange(6)}" for n in range(30)])


def _dump(folder: Path, rng: random.Random) -> None:
    (folder / "raw").write_text("".join(toy_dump(rng.randrange(9), 600)))
    rows = [(f"i{n}", f"m.0{n:x}") for n in range(9)]
    write_table(folder / "toy.link", ["item_id:token", "entity_id:token"], rows)


def _businesses(folder: Path, rng: random.Random) -> None:
    lines = [
        {
            "business_id": f"b{n}",
            "name": f"Place {n}",
            "city": f"C{rng.randrange(3)}",
            "stars": 3.5,
            "categories": f"Food, K{n % 4}",
            "attributes": {"WiFi": "u'no'", "Lot": "{'x': True}"},
        }
        for n in range(N)
    ]
    _lines(folder / "raw", [json.dumps(line) for line in lines])


def _products(folder: Path, rng: random.Random) -> None:
    lines = [f"p{n},A{n % 3},{rng.randrange(90)},Thing <b>{n}</b> &amp; co" for n in range(N)]
    _lines(folder / "raw", ["sku,brand,price,title", *lines])


def _item_file(folder: Path, rng: random.Random) -> None:
    rows = [(f"p{n}", f"Thing <i>{n}</i>", rng.randrange(1900, 2000)) for n in range(N)]
    write_table(folder / "raw", ["item_id:token", "title:token_seq", "year:float"], rows)


def _photos(folder: Path, rng: random.Random) -> None:
    from PIL import Image

    (folder / "photos").mkdir()
    for n in range(N):
        colour = (rng.randrange(256), n, 200 - n)
        Image.new("RGB", (5, 5), colour).save(folder / "photos" / f"f{n}.png")
    index = [{"photo_id": f"f{n}", "business_id": f"b{n % 7}"} for n in range(N)]
    _lines(folder / "raw", [json.dumps(entry) for entry in index])


def _vectors(folder: Path, rng: random.Random) -> None:
    cells = [f"p{n}\t{' '.join(str(round(rng.random(), 3)) for _ in range(4))}" for n in range(N)]
    _lines(folder / "toy.itememb", ["iid:token\temb:float_seq", *cells])


def _mmrec(folder: Path, rng: random.Random) -> None:
    rows = [
        (user, item, label % 3)
        for user in range(N)
        for label, item in enumerate(range(user % 4, 9))
    ]
    write_table(folder / "toy.inter", ["userID", "itemID", "x_label"], rows)
    for name, field, size in (("u", "userID", N), ("i", "itemID", 9)):
        mapping = [(f"{name}{rng.randrange(9)}{n}", n) for n in range(size)]
        write_table(folder / f"{name}_id_mapping.csv", ["old", field], mapping)
    np.save(folder / "text_feat.npy", np.arange(36, dtype=np.float32).reshape(9, 4))


def _data_set(folder: Path, rng: random.Random) -> None:
    write_toy(folder, benchmark=True)


_DATA = "--dataset toy --data-path {in} --set use_gpu=False"
_DATA_FILES = [(f"toy/toy.{end}", 1) for end in ("train.inter", "test.inter", "kg", "link")]
_ENCODING = b"\xff\xfe,\xff,1,2"
CALLS = {
    "interactions": Call(
        "interactions {in}/raw --format csv --columns who what stars at --core 3 --split ratio "
        "--name toy",
        [("raw", 1)],
        [b"u1,i1,5", b'u1,"i1,5,5', b"u1,i1,five,5", b",i1,5,5", _ENCODING, b"u1,i\0,4,4"],
        _interactions,
    ),
    "interactions of Amazon": Call(
        "interactions {in}/raw --format amazon-json --core 3 --split ratio --name toy",
        [("raw", 0)],
        [b"{broken", b"[1, 2]", b'{"reviewerID": "u1"}', _ENCODING],
        _reviews,
    ),
    "link": Call(
        "link {in}/raw --several-items first --name toy",
        [("raw", 0)],
        [b"i1", b"i1\tm.1\tm.2", b"\tm.1", b"\xff\tm.1"],
        _links,
    ),
    "freebase": Call(
        "freebase --dump {in}/raw --link {in}/toy.link --min-entity 2 --min-relation 2 --name toy",
        [("raw", 0), ("toy.link", 1)],
        [b"no triple", b"<a>\t<b>\t.", b"\xff\t\xff"],
        _dump,
    ),
    "yelp_kg": Call(
        "yelp_kg {in}/raw --name toy",
        [("raw", 0)],
        [b"{broken", b'{"business_id": null}', b"\xff", b'{"business_id": "b1", "city": "Z"}'],
        _businesses,
    ),
    "attributes": Call(
        "attributes {in}/raw --item-column sku --texts title --numbers price --name toy",
        [("raw", 1)],
        [b"p1,A1", b'p1,"A1,2,x', b",A1,3,x", b"p1,\xff,2,x", b"p1,Z,1,x"],
        _products,
    ),
    "text": Call(
        "text --item-file {in}/raw --encoder letter-counter --name toy",
        [("raw", 1)],
        [b"p1\tx", b"\tx\t3", b"p1\t\xff\t3", b"p1\tZ\t3"],
        _item_file,
    ),
    "text of JSON": Call(
        "text --raw {in}/raw --format yelp --encoder letter-counter --name toy",
        [("raw", 0)],
        [b"{broken", b'{"business_id": []}', b"\xff", b'{"business_id": "b1", "name": "Z"}'],
        _businesses,
    ),
    "images": Call(
        "images --folder {in}/photos --index {in}/raw --backbone mean-colour --name toy",
        [("raw", 0)],
        [b"{broken", b'{"photo_id": "f1"}', b'{"business_id": "b1"}', b"\xff"],
        _photos,
    ),
    "convert from RecBole": Call(
        "convert {in} --from recbole --to ours --name toy",
        [("toy.itememb", 1)],
        [b"x\t1 2", b"x\t1 2 3 nan", b"x", b"x\t1 2 3 four", b"x\t\xff 1 1 1", b"p1\t9 9 9 9"],
        _vectors,
    ),
    "convert from MMRec": Call(
        "convert {in} --from mmrec --to ours --original-ids --name toy",
        [("toy.inter", 1), ("u_id_mapping.csv", 1), ("i_id_mapping.csv", 1)],
        [b"1\t2", b"x\t1\t0", b"1\t2\t7", b"\xff\t1\t1"],
        _mmrec,
    ),
    "convert to MMRec": Call(
        "convert {in}/toy --from ours --to mmrec --name toy", _DATA_FILES[:2], [], _data_set
    ),
    "convert to RecBole": Call(
        "convert {in}/toy --from ours --to recbole --name toy", [], [], _data_set
    ),
    "align": Call(f"align {_DATA}", _DATA_FILES, [], _data_set),
    "describe": Call(f"describe {_DATA}", _DATA_FILES, [], _data_set),
    "noise": Call(
        f"noise {_DATA} --kinds inter kg modality --levels 0.2", _DATA_FILES, [], _data_set
    ),
}


class Bar:
    """Stands in for tqdm's bar.

    Args:
        total: Size of the whole.
        desc: What is going on.
        unit: `B` or another.
        initial: What was done before.
    """

    def __init__(self, total, desc, unit, initial=0, **_):
        self.total, self.desc, self.unit, self.n = total, desc, unit, initial

    def __enter__(self):
        """Return itself."""
        return self

    def __exit__(self, *_):
        """Do nothing."""

    def update(self, size):
        """Move it."""
        self.n += size


def bars_of(monkeypatch) -> list[Bar]:
    """Return a list that receives each bar from now on."""
    shown: list[Bar] = []

    def made(**words):
        shown.append(Bar(**words))
        return shown[-1]

    monkeypatch.setattr("tqdm.tqdm", made)
    return shown


def words_of(call: Call, folder: Path, out: Path) -> list[str]:
    """Return the words of a call on an input."""
    words = [word.replace("{in}", str(folder)) for word in call.words.split()]
    return [*words, "--out", str(out)]


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }

"""Writes miniatures of the raw formats: what `build` starts from, and the tests around it."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np

NS = "http://rdf.freebase.com/ns/"
USERS, ITEMS = 24, 16


def asin(number: int) -> str:
    return f"B{number:09d}"


def _shuffled(lines: list[str], seed: int | None) -> list[str]:
    if seed is None:
        return lines
    return random.Random(seed).sample(lines, len(lines))  # noqa: S311


def _pack(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def pairs() -> list[tuple[int, int]]:
    rng = random.Random(1)  # noqa: S311
    return [(user, item) for user in range(USERS) for item in rng.sample(range(ITEMS), 7)]


def write_amazon(raw: Path, seed: int | None = None) -> Path:
    """Reviews, metadata, KB4Rec links, a Freebase dump and image vectors; `seed` shuffles."""
    reviews = [
        json.dumps(
            {"reviewerID": f"A{user}", "asin": asin(item), "overall": 4.0, "unixReviewTime": 9}
        )
        for user, item in pairs()
    ]
    _pack(raw / "reviews_Books.json.gz", _shuffled([*reviews, "{broken"], seed))
    meta = [
        repr({"asin": asin(n), "title": f"Book &amp; {n}", "categories": [["Books", f"c{n % 3}"]]})
        for n in range(ITEMS)
    ]
    _pack(raw / "meta_Books.json.gz", _shuffled(meta, seed))
    links = [f"{asin(n)}\tm.0{n:x}" for n in range(ITEMS - 2)]
    _pack(raw / "Linkage" / "ab2fb.txt", _shuffled(links, seed))
    dump = [f"<{NS}m.0{n:x}>\t<{NS}book.book.genre>\t<{NS}m.0z{n % 4}>\t." for n in range(ITEMS)]
    dump += [f"<{NS}m.0z{n}>\t<{NS}genre.parent>\t<{NS}m.0zz>\t." for n in range(4)]
    dump += [f'<{NS}m.0{n:x}>\t<{NS}type.object.name>\t"Book {n}"@en\t.' for n in range(ITEMS)]
    _pack(raw / "freebase-rdf-latest.gz", _shuffled([*dump, "no triple"], seed))
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(ITEMS, 4096)).astype("<f4")
    order = range(ITEMS) if seed is None else reversed(range(ITEMS))
    records = b"".join(asin(n).encode() + vectors[n].tobytes() for n in order)
    (raw / "image_features_Books.b").write_bytes(records)
    return raw


def write_yelp(raw: Path) -> Path:
    """Reviews, businesses, photos with their index."""
    from PIL import Image

    reviews = [
        json.dumps(
            {"user_id": f"u{user}", "business_id": f"b{item}", "stars": 5, "date": "2018-03-04"}
        )
        for user, item in pairs()
    ]
    _pack(raw / "yelp_academic_dataset_review.json", reviews)
    businesses = [
        json.dumps(
            {
                "business_id": f"b{n}",
                "name": f"Place {n}",
                "city": f"City {n % 2}",
                "state": "AZ",
                "stars": 3.5,
                "categories": f"Food, Kind {n % 3}",
                "attributes": {"BusinessParking": "{'lot': True}", "WiFi": f"u'{n % 2}'"},
            }
        )
        for n in range(ITEMS)
    ]
    _pack(raw / "yelp_academic_dataset_business.json", businesses)
    (raw / "photos").mkdir()
    for n in range(ITEMS):
        Image.new("RGB", (6, 6), (n * 9, 200 - n, 7)).save(raw / "photos" / f"p{n}.jpg")
    index = [json.dumps({"photo_id": f"p{n}", "business_id": f"b{n}"}) for n in range(ITEMS)]
    _pack(raw / "photos.json", index)
    return raw


def write_kgat(folder: Path) -> Path:
    """A release in KGAT's form."""
    folder.mkdir(parents=True)
    train = [[item for owner, item in pairs() if owner == user][:5] for user in range(USERS)]
    test = [[item for owner, item in pairs() if owner == user][5:] for user in range(USERS)]
    for name, rows in (("train.txt", train), ("test.txt", test)):
        lines = [f"{user} {' '.join(map(str, items))}\n" for user, items in enumerate(rows)]
        (folder / name).write_text("".join(lines))
    triples = [f"{n} 0 {ITEMS + n % 4}\n" for n in range(ITEMS)]
    (folder / "kg_final.txt").write_text("".join(triples))
    lists = {
        "item_list.txt": ["org_id remap_id freebase_id"]
        + [f"{asin(n)} {n} m.0{n:x}" for n in range(ITEMS)],
        "user_list.txt": ["org_id remap_id", *(f"A{n} {n}" for n in range(USERS))],
        "entity_list.txt": ["org_id remap_id"]
        + [f"m.0{n:x} {n}" for n in range(ITEMS)]
        + [f"m.0z{n} {ITEMS + n}" for n in range(4)],
        "relation_list.txt": ["org_id remap_id", f"{NS}book.book.genre 0"],
    }
    for name, lines in lists.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return folder

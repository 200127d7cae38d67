"""Writes raw files as large as you like and measures the `dataset_tools` commands on them.

`python -m benchmarks.raw_files interactions 10000000` writes a dump of ten million reviews into a
temporary folder, runs the command in a process of its own and prints a line of the table in
docs/DATASETS.md: command, size, peak resident memory in MiB, seconds by the clock and of processor.
`--keep FOLDER` writes there and removes nothing, `--output FILE` adds the figures to a JSON file.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

_CHUNK = 100_000
_TEXT = "It kept me reading all night; the second part is slower, but the end makes up for it. " * 2
_COLOURS = ("red", "blue", "green", "black", "white", "brown")


def _chunks(count: int) -> Iterator[int]:
    for start in range(0, count, _CHUNK):
        yield min(_CHUNK, count - start)


def review_lines(generator: np.random.Generator, count: int, total: int) -> list[str]:
    """Return lines like Amazon's of 2014, of a dump whose users lie below `total`.

    There are a few busy users and items and very many rare ones, some reviews twice, some broken.
    """
    users = (total * generator.random(count) ** 1.6).astype(np.int64)
    items = (total // 5 * generator.random(count) ** 3).astype(np.int64)
    ratings = generator.integers(1, 6, count)
    days = generator.integers(12_000, 16_000, count)
    cut = generator.integers(40, len(_TEXT), count)
    found = [
        f'{{"reviewerID": "A{user:013d}", "asin": "{item:010d}", "overall": {rating}.0, '
        f'"reviewText": "{_TEXT[:end]}", "unixReviewTime": {day * 86_400}}}\n'
        for user, item, rating, day, end in zip(users, items, ratings, days, cut, strict=True)
    ]
    found[0] = found[0][: len(found[0]) // 2] + "\n"
    found[1] = found[2]
    return found


def write_reviews(folder: Path, count: int, a_user: int = 1) -> list[str]:
    """Write a packed dump with so many reviews a user at least; return the command's words."""
    generator, path = np.random.default_rng(1), folder / "reviews.json.gz"
    with gzip.open(path, "wt", compresslevel=1, encoding="utf-8") as file:
        for size in _chunks(count):
            file.writelines(review_lines(generator, size, count // a_user))
    return ["interactions", str(path), "--format", "amazon-json", "--split", "ratio", "--core"]


def write_release(folder: Path, count: int) -> list[str]:
    """Write a release with so many triples and half as many interactions."""
    generator = np.random.default_rng(2)
    n_items, n_users = max(count // 100, 10), max(count // 40, 10)
    for part, share in (("train", 8), ("test", 2)):
        with (folder / f"{part}.txt").open("w") as file:
            per_user = max(count * share // 20 // n_users, 1)
            for user in range(n_users):
                items = generator.integers(0, n_items, per_user)
                file.write(f"{user} {' '.join(map(str, items.tolist()))}\n")
    with (folder / "kg_final.txt").open("w") as file:
        for size in _chunks(count):
            rows = generator.integers(0, [n_items, 40, n_items * 5], (size, 3)).tolist()
            file.writelines(f"{head} {relation} {tail}\n" for head, relation, tail in rows)
    return ["release", str(folder)]


def write_named_release(folder: Path, count: int) -> list[str]:
    """Write such a release with lists of names, one for each of its ids, shuffled."""
    words = write_release(folder, count)
    generator, n_items = np.random.default_rng(11), max(count // 100, 10)
    lists = {"user": max(count // 40, 10), "item": n_items, "entity": n_items * 5, "relation": 40}
    for what, size in lists.items():
        with (folder / f"{what}_list.txt").open("w") as file:
            file.write("org_id remap_id\n")
            numbers = generator.permutation(size).tolist()
            file.writelines(f"{what}.of.{number * 7919:x} {number}\n" for number in numbers)
    return [*words, "--original-ids"]


def write_links(folder: Path, count: int) -> list[str]:
    """Write so many lines of item and entity."""
    generator, path = np.random.default_rng(3), folder / "links.txt"
    with path.open("w") as file:
        for size in _chunks(count):
            rows = generator.integers(0, count, (size, 2)).tolist()
            file.writelines(f"B{item:09d}\tm.0{entity:x}\n" for item, entity in rows)
    return ["link", str(path)]


def write_products(folder: Path, count: int) -> list[str]:
    """Write a table of so many products."""
    generator, path = np.random.default_rng(4), folder / "products.csv"
    with path.open("w") as file:
        file.write("product,brand,colour,tags,price,title\n")
        for start, size in enumerate(_chunks(count)):
            numbers = generator.integers(0, [max(count // 50, 2), 6, 900, 900, 9000], (size, 5))
            file.writelines(
                f"P{start * _CHUNK + n:09d},brand {b},{_COLOURS[c]},t{s}|t{t},{p / 100},Thing {n}\n"
                for n, (b, c, s, t, p) in enumerate(numbers.tolist())
            )
    words = ["attributes", str(path), "--item-column", "product", "--lists", "tags"]
    return [*words, "--numbers", "price", "--texts", "title"]


def write_businesses(folder: Path, count: int) -> list[str]:
    """Write so many of Yelp's businesses."""
    generator, path = np.random.default_rng(5), folder / "business.json"
    with path.open("w") as file:
        for start, size in enumerate(_chunks(count)):
            rows = generator.integers(0, [1200, 30, 1300, 1300, 2], (size, 5)).tolist()
            file.writelines(
                f'{{"business_id": "b{start * _CHUNK + n}", "name": "Place {n}", "city": "C{c}", '
                f'"state": "S{s}", "categories": "K{k}, K{q}", "attributes": {{"WiFi": "u\'{w}\'", '
                f"\"BusinessParking\": \"{{'lot': True, 'street': {w == 1}}}\"}}}}\n"
                for n, (c, s, k, q, w) in enumerate(rows)
            )
    return ["yelp_kg", str(path)]


def write_metadata(folder: Path, count: int) -> list[str]:
    """Write the metadata of so many items."""
    generator, path = np.random.default_rng(6), folder / "meta.json"
    with path.open("w") as file:
        for start, size in enumerate(_chunks(count)):
            cuts = generator.integers(40, len(_TEXT), size).tolist()
            file.writelines(
                f'{{"asin": "B{start * _CHUNK + n:09d}", "title": "Book {n}", '
                f'"description": "{_TEXT} {_TEXT[:cut]}"}}\n'
                for n, cut in enumerate(cuts)
            )
    return ["text", "--raw", str(path), "--format", "amazon", "--encoder", "benchmarks.stand_ins"]


def write_pictures(folder: Path, count: int) -> list[str]:
    """Write so many small pictures, two of an item."""
    from PIL import Image

    generator, place = np.random.default_rng(7), folder / "pictures"
    for number in range(count):
        path = place / f"{number // 2 % 100:02d}" / f"{number // 2}_{number % 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    items = "".join(f"{number}\n" for number in range(-(-count // 2)))
    (folder / "items.ids").write_text(items)
    words = ["images", "--folder", str(place), "--items", str(folder / "items.ids")]
    return [*words, "--backbone", "benchmarks.stand_ins"]


def write_vectors(folder: Path, count: int) -> list[str]:
    """Write Amazon's file of vectors with so many items."""
    generator, path = np.random.default_rng(8), folder / "vectors.b"
    with path.open("wb") as file:
        for number in range(count):
            vector = generator.random(4096, dtype=np.float32)
            file.write(f"B{number:09d}".encode() + vector.tobytes())
    return ["images", "--amazon", str(path)]


def write_dataset(folder: Path, count: int) -> list[str]:
    """Write a data set of so many interactions, twice as many triples, and vectors."""
    from benchmarks.files import write_files
    from benchmarks.generate import Sizes, synthetic_data

    items = max(count // 30, 100)
    sizes = Sizes(
        n_users=max(count // 12, 100),
        n_items=items,
        n_pairs=count,
        n_entities=3 * items,
        n_triples=2 * count,
    )
    write_files(synthetic_data(sizes), folder, "big")
    return ["--data-path", str(folder), "--dataset", "big"]


def _named(write: Callable[[Path, int], list[str]], *more: str) -> Callable[[Path, int], list[str]]:
    """Add the words of a data set's name and output."""

    def words(folder: Path, count: int) -> list[str]:
        return [*write(folder, count), *more, "--name", "big", "--out", str(folder / "out")]

    return words


def _reading(command: str, *more: str) -> Callable[[Path, int], list[str]]:
    """Have a command read a generated data set."""

    def words(folder: Path, count: int) -> list[str]:
        return [command, *write_dataset(folder, count), *more, "--out", str(folder / "out")]

    return words


def write_mmrec(folder: Path, count: int) -> None:
    """Write an MMRec folder with so many interactions."""
    generator, n_items = np.random.default_rng(9), max(count // 30, 10)
    with (folder / "big.inter").open("w") as file:
        file.write("userID\titemID\tx_label\n")
        for size in _chunks(count):
            rows = generator.integers(0, [max(count // 12, 10), n_items, 3], (size, 3)).tolist()
            file.writelines(f"{user}\t{item}\t{label}\n" for user, item, label in rows)
    np.save(folder / "text_feat.npy", generator.random((n_items, 64), dtype=np.float32))


def write_embeddings(folder: Path, count: int) -> None:
    """Write RecBole's file of vectors with so many items."""
    generator = np.random.default_rng(10)
    with (folder / "big.itememb").open("w") as file:
        file.write("iid:token\titem_emb:float_seq\n")
        for start, size in enumerate(_chunks(count)):
            rows = generator.integers(0, 9999, (size, 16)).tolist()
            file.writelines(
                f"i{start * _CHUNK + n}\t{' '.join(map(str, row))}\n" for n, row in enumerate(rows)
            )


def _converting(
    source: str, target: str, write: Callable[[Path, int], object]
) -> Callable[[Path, int], list[str]]:
    """Have `convert` read generated files."""

    def words(folder: Path, count: int) -> list[str]:
        write(folder, count)
        place = folder / "big" if source == "ours" else folder
        sides = ["--from", source, "--to", target, "--name", "big"]
        return ["convert", str(place), *sides, "--out", str(folder / "out")]

    return words


CASES: dict[str, tuple[str, Callable[[Path, int], list[str]]]] = {
    "interactions": ("reviews", _named(write_reviews, "1")),
    "interactions-core": ("reviews", _named(partial(write_reviews, a_user=10), "10")),
    "release": ("triples", _named(write_release)),
    "release-named": ("triples", _named(write_named_release)),
    "link": ("lines", _named(write_links)),
    "attributes": ("rows", _named(write_products)),
    "yelp_kg": ("businesses", _named(write_businesses)),
    "text": ("items", _named(write_metadata)),
    "images": ("pictures", _named(write_pictures)),
    "images-amazon": ("items", _named(write_vectors)),
    "align": ("interactions", _reading("align")),
    "describe": ("interactions", _reading("describe")),
    "noise": ("interactions", _reading("noise", "--kinds", "inter", "kg", "--levels", "0.1")),
    "noise-modality": (
        "interactions",
        _reading("noise", "--kinds", "modality", "--levels", "0.1"),
    ),
    "convert": ("interactions", _converting("ours", "mmrec", write_dataset)),
    "convert-mmrec": ("interactions", _converting("mmrec", "ours", write_mmrec)),
    "convert-recbole": ("items", _converting("recbole", "ours", write_embeddings)),
}


def measured(words: list[str]) -> dict[str, float]:
    """Run a command; return its peak resident memory, seconds by the clock and of processor.

    Raises:
        RuntimeError: It failed.
    """
    start = time.perf_counter()
    command = [sys.executable, "-m", "dataset_tools", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}")
    return {
        "peak_mib": round(usage.ru_maxrss / 1024),
        "seconds": round(time.perf_counter() - start),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime),
    }


def measure(case: str, count: int, folder: Path) -> dict[str, Any]:
    """Write the files, run the command and return what was measured.

    The files are written by a process of their own: what a process has held counts for those that
    it starts.
    """
    writer = [sys.executable, "-m", "benchmarks.raw_files", case, str(count), "--write"]
    run = subprocess.run([*writer, str(folder)], check=True, stdout=subprocess.PIPE, text=True)
    words = json.loads(run.stdout)
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = round(sum(path.stat().st_size for path in files) / 1e6)
    return {"case": case, "count": count, "input_mb": size, **measured(words)}


def line(found: Mapping[str, Any]) -> str:
    """Return a line of the table."""
    case, count = found["case"], found["count"]
    return (
        f"| `{case} {count}` | {count:,} {CASES[case][0]}, {found['input_mb']:,} MB | "
        f"{found['peak_mib']:,} | {found['seconds']:,} | {found['processor_seconds']:,} |"
    )


def add_result(found: Mapping[str, Any], path: Path) -> None:
    """Add what was measured to a JSON file, in place of an earlier figure of the same case."""
    # Here, since what this process holds would count for the command that it starts.
    from benchmarks.measure import heading

    rows = json.loads(path.read_text())["rows"] if path.is_file() else []
    rows = [row for row in rows if (row["case"], row["count"]) != (found["case"], found["count"])]
    rows = sorted([*rows, dict(found)], key=lambda row: (row["case"], row["count"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**heading("python -m benchmarks.raw_files CASE COUNT"), "rows": rows}
    path.write_text(json.dumps(content, indent=2) + "\n")


def main() -> int:
    """Measure the case that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("count", type=int)
    parser.add_argument("--keep", type=Path, help="write here and remove nothing")
    parser.add_argument("--write", type=Path, help="write the files here and run nothing")
    parser.add_argument("--output", type=Path, help="JSON file that takes the figures")
    options = parser.parse_args()
    if options.write:
        options.write.mkdir(parents=True, exist_ok=True)
        print(json.dumps(CASES[options.case][1](options.write, options.count)))
        return 0
    with ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = measure(options.case, options.count, folder)
    print(line(found))
    if options.output:
        add_result(found, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())

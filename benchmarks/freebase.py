"""Speed and memory of the Freebase filter on a generated dump: `python -m benchmarks.freebase`.

Writes a gzipped dump in the manner of Freebase's (subjects in order, twelve rows each, half of them
between entities, the rest literals and types), then times in one process, one after the other: the
bare decompressor, the whole command for one hop, and on the first 300 MB other ways to find the
rows. Rates are MB of N-triples a second, by the clock and by processor time.
"""

from __future__ import annotations

import argparse
import io
import re
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from isal import igzip, isal_zlib

from dataset_tools.__main__ import main as tools
from dataset_tools.freebase import ids
from dataset_tools.freebase.blocks import read_dump
from dataset_tools.freebase.scan import Frontier, scan_block

NS = b"http://rdf.freebase.com/ns/"
LETTERS = np.frombuffer(b"0123456789bcdfghjklmnpqrstvwxyz_", dtype=np.uint8)
SAMPLE = 300 << 20


def mids(numbers: np.ndarray) -> np.ndarray:
    """Spell `[n]` numbers as ids, `m.0` and six letters."""
    spread = (numbers.astype(np.uint64) * np.uint64(0x9E3779B1)) & np.uint64((1 << 30) - 1)
    places = np.arange(25, -1, -5, dtype=np.uint64)
    letters = LETTERS[((spread[:, None] >> places) & np.uint64(31)).astype(np.intp)]
    return np.char.add(b"m.0", np.ascontiguousarray(letters).view("S6").ravel())


def rows(first: int, size: int, seed: int) -> bytes:
    """Return `size` lines whose subjects begin at number `first`."""
    rng = np.random.default_rng(seed)
    heads = mids(first + np.arange(size) // 12)
    tails = mids(rng.integers(0, 40_000_000, size))
    kind = rng.random(size)
    relation = np.char.add(b"some.type.property_", rng.integers(0, 3000, size).astype("S4"))
    word = rng.choice([b"a river of the old town", b"Krieg und Frieden", b"story"], size)
    tag = rng.choice([b"@en", b"@de", b"@pt-br"], size)
    literal = np.char.add(np.char.add(b'"', word), np.char.add(b'"', tag))
    resource_ = np.char.add(np.char.add(b"<" + NS, tails), b">")
    typed = b"<" + NS + b"common.topic.some_type_of_entity>"
    cells = np.where(kind < 0.5, resource_, np.where(kind < 0.85, literal, typed))
    lines = zip(heads.tolist(), relation.tolist(), cells.tolist(), strict=True)
    return b"".join(b"<%s%s>\t<%s%s>\t%s\t.\n" % (NS, h, NS, r, c) for h, r, c in lines)


def blocks(triples: int) -> Iterator[bytes]:
    """Yield a dump in blocks of lines."""
    size = 120_000
    for number, start in enumerate(range(0, triples, size)):
        yield rows(start // 12, min(size, triples - start), number)


def timed(name: str, megabytes: float, work: Callable[[], object]) -> None:
    """Run and print the rates of one way."""
    clock, processor = time.perf_counter(), time.process_time()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        work()
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    print(f"{name:<44} {megabytes / clock:7.0f} {megabytes / processor:7.0f}", flush=True)


def bare(path: Path) -> None:
    """Decompress and look at nothing."""
    engine = isal_zlib.decompressobj(31)
    with path.open("rb") as file:
        while data := file.read(256 << 10):
            while data:
                engine.decompress(data, 1 << 20)
                data = engine.unconsumed_tail
    assert engine.eof  # noqa: S101 - a benchmark of a broken file says nothing


def write_link(path: Path, count: int) -> list[bytes]:
    """Link items to subjects spread over the dump."""
    wanted = mids(np.arange(count) * 13)
    text = "".join(f"i{n}\t{word.decode()}\n" for n, word in enumerate(wanted.tolist()))
    path.write_text(f"item_id:token\tentity_id:token\n{text}")
    return wanted.tolist()


def loop(data: bytes, wanted: set[bytes]) -> int:
    """Split each line."""
    found = 0
    for line in data.split(b"\n"):
        cells = line.split(b"\t")
        found += len(cells) == 4 and (cells[0] in wanted or cells[2] in wanted)
    return found


def pattern(data: bytes, wanted: set[bytes]) -> int:
    """Search with a compiled pattern for rows between entities, then look them up."""
    rule = re.compile(rb"^(<%s[mg]\.[^>\t]*>)\t<[^\t]*>\t(<%s[mg]\.[^>\t]*>)\t\.$" % (NS, NS), re.M)
    return sum(m[1] in wanted or m[2] in wanted for m in rule.finditer(data))


def table(data: bytes, wanted: set[bytes]) -> int:
    """Parse with polars, then join."""
    import polars as pl

    frame = pl.read_csv(
        io.BytesIO(data), separator="\t", has_header=False, quote_char=None, columns=[0, 1, 2]
    )
    names = pl.Series([word.decode() for word in wanted])
    head, _, tail = (pl.col(name).is_in(names.implode()) for name in frame.columns)
    return frame.filter(head | tail).height


def scanned(data: bytes, keys: np.ndarray) -> int:
    """Search as the command does, in blocks."""
    frontier, found, place = Frontier(keys), 0, 0
    while place < len(data):
        end = data.rfind(b"\n", place, place + (4 << 20)) + 1
        text = np.frombuffer(data[place:end] + bytes(64), dtype=np.uint8)
        found += len(scan_block(text, end - place, frontier, True, "en").heads)
        place = end
    return found


def other_ways(path: Path, wanted: list[bytes]) -> None:
    """Time other ways on the same lines in memory."""
    parts, size = [], 0
    for block in read_dump(path):
        parts.append(block.text[: block.size].tobytes())
        size += block.size
        if size > SAMPLE:
            break
    data = b"".join(parts)
    names = {b"<" + NS + word + b">" for word in wanted}
    keys, _ = ids.keys_of(word.decode() for word in wanted)
    counts = []
    for name, work in (
        ("lines split in Python", lambda: counts.append(loop(data, names))),
        ("compiled pattern", lambda: counts.append(pattern(data, names))),
        ("polars table, filtered", lambda: counts.append(table(data, names))),
        ("numpy over blocks (as the command)", lambda: counts.append(scanned(data, keys))),
    ):
        try:
            timed(f"in memory: {name}", len(data) / 1e6, work)
        except ImportError:
            print(f"in memory: {name:<33} not installed")
    print("rows found", *counts)


def piped(triples: int, folder: Path, link: Path) -> None:
    """Stream a dump that is never on disk and print the largest memory."""
    pipe = folder / "pipe.nt"
    import os

    os.mkfifo(pipe)
    drawn = [rows(number * 10_000, 120_000, number) for number in range(24)]

    def feed() -> None:
        with pipe.open("wb") as file:
            for number in range(triples // 120_000):
                file.write(drawn[number % len(drawn)])

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    size = sum(map(len, drawn)) / len(drawn) * (triples // 120_000) / 1e6
    words = ["freebase", "--dump", str(pipe), "--link", str(link), "--out", str(folder / "p")]
    words += ["--hops", "1", "--min-entity", "1", "--min-relation", "1"]
    timed(f"{triples:,} triples through a pipe", size, lambda: tools(words))
    print(f"largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def main() -> int:
    """Write the dump, run everything, remove it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triples", type=int, default=20_000_000, help="in the dump on disk")
    parser.add_argument("--linked", type=int, default=25_000, help="entities to look for")
    parser.add_argument("--piped", type=int, default=0, help="triples to stream through a pipe")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        link = folder / "b.link"
        wanted = write_link(link, options.linked)
        if options.piped:
            piped(options.piped, folder, link)
            return 0
        dump, size = folder / "dump.gz", 0
        with igzip.open(dump, "wb", compresslevel=3) as file:
            for block in blocks(options.triples):
                file.write(block)
                size += len(block)
        packed = dump.stat().st_size
        print(f"{options.triples:,} triples, {size / 1e6:,.0f} MB, packed {packed / 1e6:,.0f} MB")
        print(f"{'':<44} {'MB/s':>7} {'MB/cpu':>7}")
        words = ["freebase", "--dump", str(dump), "--link", str(link), "--out", str(folder / "o")]
        words += ["--hops", "1", "--min-entity", "1", "--min-relation", "1"]
        for _ in range(2):
            timed("bare decompressor (isal)", size / 1e6, lambda: bare(dump))
            timed("freebase --hops 1", size / 1e6, lambda: tools(words))
        other_ways(dump, wanted)
        print(f"largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

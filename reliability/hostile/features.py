"""Attacks by data sets: matrices that hold pickles or lie about their size, tokens that mislead."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recbole_slif.data import cache
from recbole_slif.data.tables import read_table
from recbole_slif.data.validate import open_matrix, read_ids
from reliability.hostile.arena import Arena, Attack, called, refused, require, turned_away

ESCAPE = "\x1b]0;owned\x07\x1b[2J"


def _npy(content: Callable[[Arena], bytes]) -> Callable[[Arena], None]:
    """Attack by the bytes of a feature file, read by itself and by a run."""

    def run(arena: Arena) -> None:
        path = arena.data() / "toy.visual.npy"
        path.write_bytes(content(arena))
        refused(lambda: open_matrix(path), "toy.visual.npy")
        turned_away(arena.words("FREEDOM"), "toy.visual.npy")

    return run


def _objects(arena: Arena) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([[arena.bomb]], dtype=object), allow_pickle=True)
    return stream.getvalue()


def _zipped(arena: Arena) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("visual.npy", _objects(arena))
        archive.writestr("../canary", b"written")
    return stream.getvalue()


def _header(text: str, length: int | None = None) -> bytes:
    body = text.encode("latin-1")
    size = len(body) if length is None else length
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", size) + body


def _described(shape: str, kind: str = "'<f4'") -> Callable[[Arena], bytes]:
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n"
    return lambda arena: _header(text) + bytes(64)


def _code_in_header(arena: Arena) -> bytes:
    return _header(f"{{'descr': {arena.call}, 'fortran_order': False, 'shape': (1, 1), }}\n")


def _linked_device(arena: Arena) -> None:
    folder = arena.data()
    for name in ("toy.visual.npy", "toy.train.inter", "toy.kg"):
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")
    turned_away(arena.words("FREEDOM"))
    refused(lambda: open_matrix(folder / "toy.visual.npy"), "toy.visual.npy")


def _own_embedding(arena: Arena) -> None:
    """RecBole's LDiffRec unpickles a file of the data folder."""
    folder = arena.data()
    np.save(folder / "item_emb.npy", np.array([arena.bomb], dtype=object), allow_pickle=True)
    words = [word for word in arena.words("LDiffRec") if not word.startswith("--embedding")]
    turned_away([*words, "--n_cate=2"], "item_emb.npy")


def _escapes_in_tokens(arena: Arena) -> None:
    """A token that would retitle and clear a terminal reaches messages as plain letters."""
    folder = arena.data()
    path = folder / "toy.visual.ids"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([ESCAPE, ESCAPE, *lines[2:]]) + "\n", "utf-8")
    turned_away(arena.words("FREEDOM"), "toy.visual.ids", r"\x1b]0;owned")


def _escapes_in_header(arena: Arena) -> None:
    path = arena.data() / "toy.train.inter"
    path.write_text(f"user_id:token\titem_id:{ESCAPE}\nu\ti\n", "utf-8")
    turned_away(arena.words(), "toy.train.inter", "line 1", r"\x1b]0;owned")


def _escapes_in_lists(arena: Arena) -> None:
    """Titles reach a terminal, through `recommend` and `explain`, without their escape codes."""
    folder = arena.data()
    items = [f"i{number}\t{ESCAPE}Title {number}" for number in range(14)]
    (folder / "toy.item").write_text("\n".join(["item_id:token\ttitle:token_seq", *items]), "utf-8")
    code, _, told = called(arena.words())
    require(code == 0, told[-300:])
    saved = next(path for path in Path("saved").iterdir() if path.name != "runs")
    for command in (["recommend", "--users=u1"], ["explain", "--user=u1"]):
        code, shown, told = called([*command, f"--checkpoint={saved}", "--topk=3"])
        require(code == 0 and "Title" in shown, told[-300:])
        require("\x1b" not in shown, f"{command[0]} prints escape codes")


def _ids(arena: Arena) -> None:
    path = arena.data() / "toy.visual.ids"
    path.write_bytes(pickle.dumps([arena.bomb]))
    refused(lambda: read_ids(path, 11), "toy.visual.ids")
    turned_away(arena.words("FREEDOM"), "toy.visual.ids")


def _tokens_climb(arena: Arena) -> None:
    """Tokens that look like paths and code are tokens."""
    path = arena.folder / "odd.inter"
    odd = ["../../canary", str(arena.canary), f"{arena.call}", "$(touch x)", "=1+1", "%n%s"]
    rows = [f"u\t{token}" for token in odd]
    path.write_text("\n".join(["user_id:token\titem_id:token", *rows]) + "\n", "utf-8")
    found = read_table(path).frame["item_id"].tolist()
    require(found == odd, f"tokens changed: {found}")


def _long_line(arena: Arena) -> None:
    path = arena.data() / "toy.train.inter"
    path.write_bytes(b"user_id:token\titem_id:token\n" + b"\t" * 5_000_000)
    turned_away(arena.words(), "toy.train.inter", "line 2")


def _cached(write: Callable[[Arena], dict[str, np.ndarray]]) -> Callable[[Arena], None]:
    """Attack by an entry of the data cache; it counts as damaged."""

    def run(arena: Arena) -> None:
        path = arena.folder / "toy-key.npz"
        np.savez(path, allow_pickle=True, **write(arena))
        try:
            cache.load_entry(path, "key")
        except cache.DamagedError:
            return
        raise AssertionError("the entry was used")

    return run


def _cached_tree(arena: Arena) -> dict[str, np.ndarray]:
    """Return an entry with a right checksum and a tree that names what there is not."""
    header = {"name": cache._NAME, "key": "key", "tree": {"kind": "enum", "of": "os", "is": "x"}}
    texts = {"header": json.dumps(header), "checksum": cache._checksum(header, {})}
    return {name: np.frombuffer(text.encode(), np.uint8) for name, text in texts.items()}


ATTACKS = [
    Attack("matrix: pickled objects", _npy(_objects)),
    Attack("matrix: a bare pickle", _npy(lambda arena: pickle.dumps(arena.bomb))),
    Attack("matrix: an archive in its place", _npy(_zipped)),
    Attack("matrix: code in the header", _npy(_code_in_header)),
    Attack("matrix: a header of 4 GiB", _npy(lambda arena: _header("{", 0xFFFFFFFF))),
    Attack("matrix: 10^15 rows", _npy(_described("(1000000000000000, 8)"))),
    Attack("matrix: a negative size", _npy(_described("(-4, 4)"))),
    Attack("matrix: a header nested too deep", _npy(lambda a: _header("(" * 9000))),
    Attack("matrix: fields that hold objects", _npy(_described("(1, 1)", "[('a', '|O')]"))),
    Attack("files: links to a device", _linked_device),
    Attack("files: a pickle for tokens", _ids),
    Attack("files: a line of five million cells", _long_line),
    Attack("matrix that LDiffRec reads", _own_embedding),
    Attack(
        "data cache: pickled objects",
        _cached(lambda arena: {"header": np.array([arena.bomb], dtype=object)}),
    ),
    Attack("data cache: a tree of anything", _cached(_cached_tree)),
    Attack("tokens: escape codes in a message", _escapes_in_tokens),
    Attack("tokens: escape codes in a header", _escapes_in_header),
    Attack("tokens: escape codes in lists", _escapes_in_lists),
    Attack("tokens: paths, code and formulas", _tokens_climb),
]

"""Fuzzing of data sets: atomic files, matrices and the tokens of their rows."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.config import SlifConfig
from recbole_slif.data.dataset import MultimodalKGDataset
from recbole_slif.data.features import load_features
from recbole_slif.data.tables import read_table
from recbole_slif.testing.toy import write_toy
from reliability.fuzz.engine import Draw, FoundFault, damaged, judge

FILES = ("train.inter", "valid.inter", "test.inter", "kg", "link", "item", "visual.npy",
         "visual.ids", "text.npy", "text.ids")  # fmt: skip
REQUIRED = {
    "inter": ("user_id", "item_id"),
    "kg": ("head_id", "relation_id", "tail_id"),
    "link": ("item_id", "entity_id"),
    "item": ("item_id",),
}


class Tables:
    """A sound data set, of which each case damages a file."""

    def __init__(self, folder: Path) -> None:
        write_toy(folder / "sound", "toy")
        self.sound = folder / "sound" / "toy"
        rows = [f"i{item}\tTitle {item}\t{1990 + item}\tA B" for item in range(14)]
        header = "item_id:token\ttitle:token_seq\tyear:float\tgenre:token_seq"
        (self.sound / "toy.item").write_text("\n".join([header, *rows]) + "\n", "utf-8")
        self.folder = folder / "data" / "toy"
        settings: dict[str, Any] = {"data_path": str(folder / "data"), "gpu_id": "",
                                    "protocol": "benchmark", "state": "ERROR"}  # fmt: skip
        settings["load_col"] = {"inter": ["user_id", "item_id"], "item": "*"}
        self._restore()
        self.config = SlifConfig("BPR", "toy", overrides=settings)

    def _restore(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.sound, self.folder)

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / f"toy.{name}"
        path.write_bytes(data)
        return path

    # ---- one file ----------------------------------------------------------------------------

    def table(self, draw: Draw) -> None:
        """Damage an atomic file; what is read must be what a plain reader finds in it."""
        name = draw.choice([name for name in FILES if name.split(".")[-1] in REQUIRED])
        required = REQUIRED[name.split(".")[-1]]
        path = self._write(name, damaged((self.sound / f"toy.{name}").read_bytes(), draw))
        told = f"toy.{name} {path.read_bytes()!r:.300}"
        fine, table = judge(lambda: read_table(path, required=required), [path.name], told=told)
        if fine:
            _compare(path.read_bytes(), table, told)

    def planted_table(self, draw: Draw) -> None:
        """Plant a corruption that must be refused with file and line."""
        name = draw.choice([name for name in FILES if name.split(".")[-1] in REQUIRED])
        required = REQUIRED[name.split(".")[-1]]
        lines = (self.sound / f"toy.{name}").read_bytes().rstrip(b"\n").split(b"\n")
        kind = draw.choice(list(_PLANTED))
        at = draw.randrange(1, len(lines))
        lines[at] = _PLANTED[kind](lines[at], draw)
        path = self._write(name, b"\n".join(lines) + b"\n")
        told = f"toy.{name} line {at + 1}, {kind}: {lines[at]!r:.100}"
        judge(lambda: read_table(path, required=required), [f"line {at + 1}:"], True, told)

    def planted_header(self, draw: Draw) -> None:
        """Plant a wrong header: a column renamed, mistyped, repeated or without a type."""
        name = draw.choice([name for name in FILES if name.split(".")[-1] in REQUIRED])
        required = REQUIRED[name.split(".")[-1]]
        head, rest = (self.sound / f"toy.{name}").read_bytes().split(b"\n", 1)
        cells = head.split(b"\t")
        at = draw.randrange(len(required))
        kind = draw.randrange(5)
        column, _, word = cells[at].partition(b":")
        cells[at] = [column, column + b":tokn", b"x" + cells[at], cells[(at + 1) % len(cells)],
                     column + b":" + word + b" "][kind]  # fmt: skip
        path = self._write(name, b"\t".join(cells) + b"\n" + rest)
        told = f"toy.{name} header {b' '.join(cells)!r}"
        planted = len(cells) > 1
        judge(lambda: read_table(path, required=required), ["line 1:"], planted, told)

    # ---- features ----------------------------------------------------------------------------

    def features(self, draw: Draw) -> None:
        """Damage a matrix or its tokens; what is read must be finite and of the right shape."""
        name = draw.choice(["visual.npy", "visual.ids"])
        path = self._write(name, damaged((self.sound / f"toy.{name}").read_bytes(), draw))
        told = f"toy.{name} {path.read_bytes()!r:.200}"
        fine, found = self._load(told, planted=False)
        if fine and not np.isfinite(found.matrix).all():
            raise FoundFault(f"{told}: a matrix that is not finite")
        self._write(name, (self.sound / f"toy.{name}").read_bytes())

    def _load(self, told: str, planted: bool) -> tuple[bool, Any]:
        tokens = np.array(["[PAD]", *(f"i{item}" for item in range(14))], dtype=object)
        path = self.folder / "toy.visual.npy"
        return judge(
            lambda: load_features(path, tokens, "mask", Counter()),
            ["toy.visual.npy", "toy.visual.ids"], planted, told,
        )  # fmt: skip

    def planted_features(self, draw: Draw) -> None:
        """Plant numbers or tokens that no model must see."""
        path, ids = self.folder / "toy.visual.npy", self.folder / "toy.visual.ids"
        matrix = np.load(self.sound / "toy.visual.npy")
        names = (self.sound / "toy.visual.ids").read_text("utf-8").split()
        kind = draw.choice(list(_MATRICES))
        row, column = draw.randrange(len(matrix)), draw.randrange(matrix.shape[1])
        matrix, names = _MATRICES[kind](matrix, names, row, column)
        np.save(path, matrix)
        ids.write_text("".join(f"{name}\n" for name in names), "utf-8")
        self._load(f"toy.visual: {kind} in row {row}", planted=True)
        for name in ("visual.npy", "visual.ids"):
            self._write(name, (self.sound / f"toy.{name}").read_bytes())

    # ---- the whole ---------------------------------------------------------------------------

    def dataset(self, draw: Draw) -> None:
        """Damage any file and read the whole data set; counts and ids must fit together."""
        name = draw.choice(FILES)
        data = damaged((self.sound / f"toy.{name}").read_bytes(), draw)
        self._write(name, data)
        told = f"toy.{name} {data!r:.200}"
        fine, dataset = judge(self._read, ["toy.", "'toy'"], told=told)
        if fine:
            self._check(dataset, told)
        self._write(name, (self.sound / f"toy.{name}").read_bytes())

    def _read(self) -> MultimodalKGDataset:
        dataset = MultimodalKGDataset(self.config)
        dataset.build()
        return dataset

    def _check(self, dataset: MultimodalKGDataset, told: str) -> None:
        graph, n_items = dataset.knowledge, dataset.item_num
        ends = np.concatenate([graph.heads, graph.tails, np.zeros(1, np.int64)])
        right = {
            "items are not entities": graph.n_entities >= n_items == len(graph.linked),
            "a triple's end is out of range": 0 <= ends.min() <= ends.max() < graph.n_entities,
            "padding interacts": int(dataset.inter_feat["item_id"].min()) > 0,
            "a feature table has other rows": all(
                len(part.matrix) == n_items == len(part.presence)
                for part in dataset.features.values()
            ),
        }
        wrong = [fault for fault, holds in right.items() if not holds]
        if wrong:
            raise FoundFault(f"{told}: {wrong[0]}")


def _compare(data: bytes, table: Any, told: str) -> None:
    """Compare a table with what splitting the text finds."""
    text = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").decode("utf-8")
    lines = [line for line in text.split("\n")[1:] if line]
    names = list(table.types)
    rows = [line.split("\t") for line in lines]
    if len(rows) != len(table.frame):
        raise FoundFault(f"{told}: {len(table.frame)} rows read of {len(rows)}")
    head = [cell.partition(":")[0] for cell in text.split("\n")[0].split("\t")]
    for name in names:
        if table.types[name] == "token":
            wanted = [row[head.index(name)].strip() for row in rows]
            found = table.frame[name].tolist()
            if found != wanted:
                raise FoundFault(f"{told}: column {name} reads {found[:3]}, not {wanted[:3]}")


def _first_empty(line: bytes, draw: Draw) -> bytes:
    return b"\t".join([b"", *line.split(b"\t")[1:]])


_PLANTED: dict[str, Callable[[bytes, Draw], bytes]] = {
    "a cell too few": lambda line, draw: line.rpartition(b"\t")[0] or b"x\ty\tz\tw\tv",
    "a cell too many": lambda line, draw: line + b"\tx",
    "an empty token": _first_empty,
    "blanks for a token": lambda line, draw: b"  " + _first_empty(line, draw),
    "a NUL byte": lambda line, draw: line[:1] + b"\0" + line[1:],
    "not UTF-8": lambda line, draw: b"\xff" + line,
    "UTF-8 cut off": lambda line, draw: b"\xe2\x82" + line,
    "spaces for tabs": lambda line, draw: line.replace(b"\t", b" "),
}
Features = tuple[np.ndarray, list[str]]


def _set(value: float) -> Callable[[np.ndarray, list[str], int, int], Features]:
    def change(matrix: np.ndarray, names: list[str], row: int, column: int) -> Features:
        matrix = matrix.astype(np.float64)
        matrix[row, column] = value
        return matrix, names

    return change


def _named(change: Callable[[list[str], int], list[str]]) -> Any:
    return lambda matrix, names, row, column: (matrix, change(list(names), row))


_MATRICES: dict[str, Callable[[np.ndarray, list[str], int, int], Features]] = {
    "a NaN": _set(float("nan")),
    "an infinity": _set(float("inf")),
    "a number beyond float32": _set(-1e300),
    "whole numbers": lambda matrix, names, row, column: (matrix.astype(int), names),
    "complex numbers": lambda matrix, names, row, column: (matrix.astype(complex), names),
    "one dimension": lambda matrix, names, row, column: (matrix[:, 0], names),
    "a row too few": lambda matrix, names, row, column: (np.delete(matrix, row, 0), names),
    "no rows": lambda matrix, names, row, column: (matrix[:0], names[:0]),
    "a token too few": _named(lambda names, row: names[:row] + names[row + 1 :]),
    "a token twice": _named(lambda names, row: [*names[:row], names[row - 1], *names[row + 1 :]]),
    "an empty token": _named(lambda names, row: [*names[:row], "", *names[row + 1 :], "end"][:-1]
                             if row < len(names) - 1 else [*names[:-1], names[0]]),
    "tokens of other items": _named(lambda names, row: [f"q{name}" for name in names]),
}  # fmt: skip

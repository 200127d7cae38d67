"""A data set's tables as plain arrays and one JSON tree, and back, to the bit; no pickle.

Every value that a read data set holds is of one of a few kinds: numbers, texts, dictionaries,
arrays, tensors, RecBole's `Interaction` and field types, a pandas frame, the knowledge graph.
Anything else is refused by name, so that nothing is kept wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_slif.graph.knowledge import KnowledgeGraph

_ENUMS: Mapping[str, type] = {"FeatureType": FeatureType, "FeatureSource": FeatureSource}
_LARGE = 64
_WIDE = 32


class NotPackableError(Exception):
    """A value is of a kind that is not kept."""


class Packer:
    """Turns values into JSON, putting arrays aside; a value met twice stays one value.

    Attributes:
        arrays: name to array, none of Python objects.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._seen: dict[int, tuple[int, Any]] = {}

    def pack(self, value: Any) -> Any:
        """Return the JSON of a value.

        Raises:
            NotPackableError: it is, or holds, something of another kind.
        """
        if value is None or type(value) in (bool, int, float, str):
            return value
        if id(value) in self._seen:
            return {"kind": "again", "number": self._seen[id(value)][0]}
        kind = _kind(value)
        node = {"kind": kind, **getattr(self, f"_{kind}")(value)}
        node["number"] = len(self._seen)
        self._seen[id(value)] = node["number"], value  # held, so that no other takes its id
        return node

    def _put(self, array: np.ndarray) -> str:
        name = f"a{len(self.arrays)}"
        self.arrays[name] = array
        return name

    def _texts(self, texts: list[str]) -> dict[str, Any]:
        """Put texts aside as UTF-8 and their lengths in characters."""
        whole = "".join(texts).encode("utf-8", "surrogatepass")
        lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        return {
            "text": self._put(np.frombuffer(whole, dtype=np.uint8)),
            "lengths": self._put(narrowed(lengths)),
        }

    def _array(self, value: np.ndarray) -> dict[str, Any]:
        node: dict[str, Any] = {"dtype": value.dtype.str}
        if value.dtype.hasobject or (value.dtype.kind == "U" and value.dtype.itemsize > 4 * _WIDE):
            texts = value.ravel().tolist()
            if not all(type(text) is str for text in texts):
                raise NotPackableError("an array of objects")
            return {**node, "shape": list(value.shape), **self._texts(texts)}
        return {**node, "at": self._put(narrowed(value))}

    def _tensor(self, value: torch.Tensor) -> dict[str, Any]:
        return {"is": self.pack(value.detach().cpu().numpy())}

    def _dict(self, value: Mapping[Any, Any]) -> dict[str, Any]:
        if len(value) >= _LARGE and all(type(key) is str for key in value):
            kinds = {type(entry) for entry in value.values()}
            if kinds == {int}:
                numbers = np.fromiter(value.values(), dtype=np.int64, count=len(value))
                return {"keys": self._texts(list(value)), "values": self.pack(numbers)}
            if kinds == {str}:
                return {
                    "keys": self._texts(list(value)),
                    "values": {"kind": "words", **self._texts(list(value.values()))},
                }
        return {"items": [[self.pack(key), self.pack(entry)] for key, entry in value.items()]}

    def _counter(self, value: Counter[str]) -> dict[str, Any]:
        return {"items": [[key, self.pack(count)] for key, count in value.items()]}

    def _list(self, value: list[Any]) -> dict[str, Any]:
        return {"items": [self.pack(entry) for entry in value]}

    _tuple = _list

    def _path(self, value: Path) -> dict[str, Any]:
        return {"is": str(value)}

    def _number(self, value: np.generic) -> dict[str, Any]:
        return {"is": self.pack(np.asarray(value))}

    def _enum(self, value: Any) -> dict[str, Any]:
        return {"of": type(value).__name__, "is": value.name}

    def _interaction(self, value: Interaction) -> dict[str, Any]:
        return {"columns": [[name, self.pack(value[name])] for name in value]}

    def _frame(self, value: pd.DataFrame) -> dict[str, Any]:
        if any(str(dtype) not in ("object", "int64", "float64") for dtype in value.dtypes):
            raise NotPackableError(f"a table of {', '.join(map(str, value.dtypes))}")
        columns = [[name, self.pack(value[name].to_numpy())] for name in value]
        return {"columns": columns, "index": self.pack(value.index.to_numpy())}

    def _graph(self, value: KnowledgeGraph) -> dict[str, Any]:
        return {"items": [[part.name, self.pack(getattr(value, part.name))] for part in _PARTS]}


_PARTS = fields(KnowledgeGraph)
_KINDS: tuple[tuple[type, str], ...] = (
    (np.ndarray, "array"),
    (torch.Tensor, "tensor"),
    (Counter, "counter"),
    (dict, "dict"),
    (list, "list"),
    (tuple, "tuple"),
    (Path, "path"),
    (np.generic, "number"),
    (FeatureType, "enum"),
    (FeatureSource, "enum"),
    (Interaction, "interaction"),
    (pd.DataFrame, "frame"),
    (KnowledgeGraph, "graph"),
)
_EXACT = (Counter, dict, list, tuple)


def _kind(value: Any) -> str:
    for known, kind in _KINDS:
        if type(value) is known or (known not in _EXACT and isinstance(value, known)):
            return kind
    raise NotPackableError(f"a {type(value).__name__}")


def narrowed(array: np.ndarray) -> np.ndarray:
    """Return whole numbers in the smallest type that holds them, other arrays as they are."""
    if array.dtype.kind != "i" or not array.size:
        return array
    low, high = int(array.min()), int(array.max())
    for smaller in (np.int8, np.int16, np.int32):
        limits = np.iinfo(smaller)
        if array.dtype.itemsize > limits.bits // 8 and limits.min <= low and high <= limits.max:
            return array.astype(smaller)
    return array


class Unpacker:
    """Undoes `Packer.pack` with the arrays it put aside."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays
        self._values: dict[int, Any] = {}
        self._makers: Mapping[str, Callable[[Any], Any]] = {
            "array": self._array,
            "tensor": lambda node: torch.from_numpy(self.unpack(node["is"])),
            "dict": self._dict,
            "words": self._texts,
            "counter": lambda node: Counter(dict(node["items"])),
            "list": lambda node: [self.unpack(entry) for entry in node["items"]],
            "tuple": lambda node: tuple(self.unpack(entry) for entry in node["items"]),
            "path": lambda node: Path(node["is"]),
            "number": lambda node: self.unpack(node["is"])[()],
            "enum": lambda node: _ENUMS[node["of"]][node["is"]],  # type: ignore[index]
            "interaction": lambda node: Interaction(self._pairs(node["columns"])),
            "frame": self._frame,
            "graph": lambda node: KnowledgeGraph(**self._pairs(node["items"])),
        }

    def unpack(self, node: Any) -> Any:
        """Return the value of a JSON node."""
        if not isinstance(node, dict):
            return node
        if node["kind"] == "again":
            return self._values[node["number"]]
        value = self._makers[node["kind"]](node)
        if "number" in node:
            self._values[node["number"]] = value
        return value

    def _pairs(self, items: list[list[Any]]) -> dict[Any, Any]:
        return {self.unpack(key): self.unpack(entry) for key, entry in items}

    def _texts(self, node: Mapping[str, str]) -> list[str]:
        whole = self._arrays[node["text"]].tobytes().decode("utf-8", "surrogatepass")
        ends = np.cumsum(self._arrays[node["lengths"]], dtype=np.int64).tolist()
        return [whole[start:end] for start, end in pairwise([0, *ends])]

    def _array(self, node: Mapping[str, Any]) -> np.ndarray:
        dtype = np.dtype(node["dtype"])
        if "at" in node:
            return self._arrays[node["at"]].astype(dtype, copy=False)
        texts = self._texts(node)
        found = np.empty(len(texts), dtype=dtype)
        found[:] = texts
        return found.reshape(node["shape"])

    def _dict(self, node: Mapping[str, Any]) -> dict[Any, Any]:
        if "items" in node:
            return self._pairs(node["items"])
        values = self.unpack(node["values"])
        values = values if isinstance(values, list) else values.tolist()
        return dict(zip(self._texts(node["keys"]), values, strict=True))

    def _frame(self, node: Mapping[str, Any]) -> pd.DataFrame:
        columns = self._pairs(node["columns"])
        index = pd.Index(self.unpack(node["index"]))
        dtypes = {name: column.dtype for name, column in columns.items()}
        frame = pd.DataFrame(columns, index=index, dtype=object)
        return frame.astype(dtypes)

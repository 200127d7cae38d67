"""Vectors of finished batches, kept on disk, so that an encoder goes on after a kill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.errors import DataError

from .progress import bar

_HEADER = 256


def digest(parts: Iterable[str]) -> str:
    """Return a hash of texts in their order."""
    found = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "little"))
        found.update(data)
    return found.hexdigest()


def encode_batches(
    path: Path,
    identity: str,
    batches: Sequence[Sequence[int]],
    encode: Callable[[Sequence[int]], np.ndarray],
    name: str,
) -> np.ndarray:
    """Encode batch after batch, or the batches that a killed run left.

    Args:
        path: File for the vectors of finished batches; removed by the caller at the end.
        identity: Hash of all that the vectors depend on; a file of another one is begun anew.
        batches: Numbers of the rows in each batch; together each number from 0 once.
        encode: Gives `[len(batch), dim]` vectors of a batch.
        name: What is encoded, for the progress bar.

    Returns:
        `[n, dim]` float32, by row number.

    Raises:
        DataError: The file cannot be written, or batches have different dimensions.
    """
    store = _Store(path, identity, [len(rows) for rows in batches])
    total = sum(map(len, batches))
    done = sum(map(len, batches[: store.done]))
    try:
        with bar(total, name, unit="row", start=done) as shown:
            for rows in batches[store.done :]:
                store.add(np.asarray(encode(rows), dtype=np.float32))
                shown.update(len(rows))
        found = store.all()
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error})") from error
    finally:
        store.close()
    vectors = np.empty_like(found)
    vectors[np.concatenate([np.asarray(rows, dtype=np.intp) for rows in batches])] = found
    return vectors


class _Store:
    """A file: a header line that says whose vectors follow, then those of whole batches."""

    def __init__(self, path: Path, identity: str, sizes: list[int]) -> None:
        self._path, self._identity, self._sizes = path, identity, sizes
        self.done, self._dim = 0, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._find()

    def _find(self) -> None:
        """Count the whole batches that are there and cut off what follows them."""
        self._file.seek(0)
        head = self._header(self._file.read(_HEADER))
        if head is None:
            self._file.truncate(0)
            return
        self._dim = head
        rows = (self._path.stat().st_size - _HEADER) // (4 * self._dim)
        ends = np.cumsum(self._sizes)
        self.done = int(np.searchsorted(ends, rows, side="right"))
        whole = int(ends[self.done - 1]) if self.done else 0
        self._file.truncate(_HEADER + 4 * self._dim * whole)

    def _header(self, data: bytes) -> int | None:
        try:
            head: dict[str, Any] = json.loads(data)
            return int(head["dim"]) if head["identity"] == self._identity else None
        except (ValueError, KeyError, TypeError):
            return None

    def add(self, vectors: np.ndarray) -> None:
        """Append the vectors of the next batch."""
        if vectors.ndim != 2 or len(vectors) != self._sizes[self.done]:
            raise DataError(f"the encoder gave {vectors.shape} for {self._sizes[self.done]} rows")
        if not self._dim:
            self._dim = vectors.shape[1]
            head = json.dumps({"identity": self._identity, "dim": self._dim})
            self._file.write(head.encode().ljust(_HEADER))
        if vectors.shape[1] != self._dim:
            raise DataError(f"the encoder gave {vectors.shape[1]} dimensions after {self._dim}")
        self._file.write(vectors.tobytes())
        self._file.flush()
        self.done += 1

    def all(self) -> np.ndarray:
        """Return `[n, dim]` vectors in the order in which they were added."""
        self._file.seek(_HEADER)
        return np.frombuffer(self._file.read(), dtype=np.float32).reshape(-1, self._dim)

    def close(self) -> None:
        """Close the file, which stays."""
        self._file.close()

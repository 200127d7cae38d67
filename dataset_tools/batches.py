"""Vectors of finished batches, kept on disk, so that an encoder goes on after a kill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.errors import DataError

from .journal import hold
from .progress import bar

_HEADER = 256
_PIECE_BYTES = 8 << 20


def digest(parts: Iterable[str]) -> str:
    """Return a hash of texts in their order."""
    found = hashlib.sha256()
    for part in parts:
        take_text(found, part)
    return found.hexdigest()


def take_text(found: hashlib._Hash, text: str) -> None:
    """Take a text, and where it ends, into a hash."""
    data = text.encode("utf-8", "surrogatepass")
    found.update(len(data).to_bytes(8, "little") + data)


def encode_batches(
    path: Path,
    identity: str,
    order: np.ndarray,
    batch_size: int,
    encode: Callable[[np.ndarray], np.ndarray],
    name: str,
) -> Vectors:
    """Encode batch after batch, or the batches that a killed run left.

    Args:
        path: File for the vectors of finished batches; removed by the caller at the end.
        identity: Hash of all that the vectors depend on; a file of another one is begun anew.
        order: `[n]` numbers of the rows, each once, as they go into batches.
        batch_size: Rows of a batch; the last may have fewer.
        encode: Gives `[len(batch), dim]` vectors of the rows of a batch.
        name: What is encoded, for the progress bar.

    Returns:
        `[n, dim]` float32 on disk, by row number.

    Raises:
        DataError: The file cannot be written, another run is writing it, or batches have different
            dimensions.
    """
    store = _Store(path, identity, len(order), batch_size)
    try:
        with bar(len(order), name, unit="row", start=store.rows) as shown:
            while store.rows < len(order):
                rows = order[store.rows : store.rows + batch_size]
                store.add(np.asarray(encode(rows), dtype=np.float32))
                shown.update(len(rows))
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error})") from error
    finally:
        store.close()
    return Vectors(path, store.dim, order)


class Vectors:
    """Vectors of rows in a file of batches.

    Args:
        path: The file.
        dim: Numbers of a vector.
        order: `[n]` row of each vector in the file.
    """

    def __init__(self, path: Path, dim: int, order: np.ndarray) -> None:
        self._path, self.dim = path, dim
        self._place = np.empty(len(order), dtype=np.int64)
        self._place[order] = np.arange(len(order))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._place)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the vectors of rows `start` to `stop`, `[n, dim]` float32."""
        places = self._place[start:stop].tolist()
        found = np.empty((len(places), self.dim), dtype=np.float32)
        with self._path.open("rb", buffering=0) as file:
            for row, place in zip(found, places, strict=True):
                file.seek(_HEADER + 4 * self.dim * place)
                row[:] = np.frombuffer(file.read(4 * self.dim), dtype=np.float32)
        return found

    def pieces(self, what: str) -> Iterator[np.ndarray]:
        """Yield all vectors in the order of rows, `[n, dim]` float32 at once.

        Args:
            what: What is done with them, for the bar.
        """
        size = max(_PIECE_BYTES // (4 * self.dim), 1)
        with bar(4 * self.dim * len(self), what) as shown:
            for start in range(0, len(self), size):
                found = self.read(start, start + size)
                yield found
                shown.update(found.nbytes)


class _Store:
    """A file: a header line that says whose vectors follow, then those of whole batches."""

    def __init__(self, path: Path, identity: str, total: int, batch_size: int) -> None:
        self._path, self._identity = path, identity
        self._total, self._batch_size = total, batch_size
        self.rows, self.dim = 0, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        hold(self._file, path.parent)
        self._find()

    def _find(self) -> None:
        """Count the rows of whole batches that are there and cut off what follows them."""
        self._file.seek(0)
        head = self._header(self._file.read(_HEADER))
        if head is None:
            self._file.truncate(0)
            return
        self.dim = head
        rows = min((self._path.stat().st_size - _HEADER) // (4 * self.dim), self._total)
        self.rows = rows if rows == self._total else rows - rows % self._batch_size
        self._file.truncate(_HEADER + 4 * self.dim * self.rows)

    def _header(self, data: bytes) -> int | None:
        try:
            head: dict[str, Any] = json.loads(data)
            return int(head["dim"]) if head["identity"] == self._identity else None
        except (ValueError, KeyError, TypeError):
            return None

    def add(self, vectors: np.ndarray) -> None:
        """Append the vectors of the next batch."""
        size = min(self._batch_size, self._total - self.rows)
        if vectors.ndim != 2 or len(vectors) != size:
            raise DataError(f"the encoder gave {vectors.shape} for {size} rows")
        if not self.dim:
            self.dim = vectors.shape[1]
            head = json.dumps({"identity": self._identity, "dim": self.dim})
            self._file.write(head.encode().ljust(_HEADER))
        if vectors.shape[1] != self.dim:
            raise DataError(f"the encoder gave {vectors.shape[1]} dimensions after {self.dim}")
        self._file.write(vectors.tobytes())
        self._file.flush()
        self.rows += size

    def close(self) -> None:
        """Close the file, which stays."""
        self._file.close()

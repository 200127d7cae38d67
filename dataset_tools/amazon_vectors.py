"""Amazon's image features: records of a ten-byte ASIN and 4,096 float32, streamed."""

from __future__ import annotations

import lzma
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np

from recbole_slif.errors import DataError

from .archives import decompressed, kind_of
from .faults import Faults
from .progress import bar
from .tokens import canonical
from .writing import atomic, write_matrix_head, write_text

NAME_BYTES, DIM = 10, 4096
RECORD = NAME_BYTES + 4 * DIM
_AT_ONCE = 256
_BROKEN = "records whose first bytes are no item id (the file is shifted or torn)"


def write_vectors(
    path: Path,
    folder: Path,
    stem: str,
    known: Collection[str] | None,
    faults: Faults,
    check: Callable[[], None],
) -> Counter[str]:
    """Write the vectors of a binary file as `STEM.npy` and `STEM.ids`, by item token.

    The file is read twice: for the ids, then for the vectors, each of which goes to its place, so
    that memory does not grow with the file.

    Args:
        path: The file, plain or packed.
        folder: To write to.
        stem: `NAME.<modality>`.
        known: Item tokens to take; None takes all.
        faults: Receives a torn end, broken ids, repeated items and vectors that are not finite.
        check: Is called when all faults are known, before the files take their names; may raise.

    Returns:
        Counts of what was read and written.

    Raises:
        DataError: The file cannot be read, or holds none of the items.
    """
    size = path.stat().st_size if path.is_file() else None
    if size is None:
        raise DataError(f"{path} does not exist")
    counts = Counter[str]()
    times = Counter[str]()
    for number, names, _ in _records(path, size, "ids", faults):
        for place, name in enumerate(names):
            if not name:
                faults.add(_BROKEN, path, number + place)
            elif known is None or name in known:
                if name in times:
                    faults.add("records of an item that already has one", path, number + place)
                times[name] += 1
            else:
                counts["records of items that the data set does not have"] += 1
    if not times:
        raise DataError(
            f"{path}: none of its records is of an item of the data set; records must be "
            f"{NAME_BYTES} bytes of id and {DIM} float32"
        )
    lost = _place(path, size, (folder, stem, times), faults, check)
    return counts + Counter({"items": len(times) - lost, "dimensions": DIM})


def _place(
    path: Path,
    size: int,
    target: tuple[Path, str, Counter[str]],
    faults: Faults,
    check: Callable[[], None],
) -> int:
    """Write each vector to its item's row; return how many items are left without."""
    folder, stem, times = target
    tokens = canonical(times)
    row_of = {name: row for row, name in enumerate(tokens)}
    several: dict[str, tuple[bool, bytes]] = {}
    lost = 0
    with atomic(folder / f"{stem}.npy") as file:
        write_matrix_head(file, (len(tokens), DIM), np.dtype("<f2"))
        start = file.tell()
        for number, names, vectors in _records(path, size, "vectors", Faults()):
            for place, name in enumerate(names):
                if name not in row_of:
                    continue
                data, finite = _half(vectors[place])
                if not finite:
                    faults.add("vectors that are not finite in float16", path, number + place)
                entry = not finite, data
                if times[name] > 1:
                    # Of several the smallest finite one, whatever their order in the file.
                    entry = several[name] = min(entry, several.get(name, entry))
                file.seek(start + 2 * DIM * row_of[name])
                file.write(entry[1])
                lost += not finite and times[name] == 1
        check()
        write_text(folder / f"{stem}.ids", "".join(f"{token}\n" for token in tokens))
    return lost + sum(lacking for lacking, _ in several.values())


def _half(vector: np.ndarray) -> tuple[bytes, bool]:
    """Return float16 bytes and whether they are finite; else they are NaN, a missing feature."""
    with np.errstate(over="ignore", invalid="ignore"):
        half = vector.astype("<f2")
    finite = bool(np.isfinite(half).all())
    return (half if finite else np.full(DIM, np.nan, dtype="<f2")).tobytes(), finite


def _records(
    path: Path, size: int, what: str, faults: Faults
) -> Iterator[tuple[int, list[str], np.ndarray]]:
    """Yield the number of the first record, from 1, ids and `[n, 4096]` vectors."""
    number, whole = 1, 0
    broken: list[str] = []
    try:
        for data in _blocks(path, size, what, broken):
            whole = len(data) // RECORD
            rows = np.frombuffer(data, dtype=np.uint8, count=whole * RECORD)
            rows = rows.reshape(whole, RECORD)
            names = [_name(row.tobytes()) for row in rows[:, :NAME_BYTES]]
            vectors = np.ascontiguousarray(rows[:, NAME_BYTES:]).view("<f4")
            yield number, names, vectors
            number += whole
            if len(data) % RECORD and not broken:
                faults.add("record that breaks off; the file is not whole", path, number)
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if broken:
        faults.add(f"archive is damaged ({broken[0]}); what follows is lost", path, number)


def _blocks(path: Path, size: int, what: str, broken: list[str]) -> Iterator[bytes]:
    """Yield the bytes of some records at a time; `broken` receives why an archive ends early."""
    kind = kind_of(path)
    waiting, more = bytearray(), b"more"
    with (
        bar(size, f"{path.name}: {what}") as shown,
        decompressed(path, kind, shown.update) as file,
    ):
        # Step by step, since a read that meets the damage gives nothing of what it had before.
        read = getattr(file, "read1", file.read)
        while more:
            try:
                more = read(RECORD * _AT_ONCE - len(waiting))
            except Exception as error:  # each library has an error class of its own
                if not kind:
                    raise
                broken.append(" ".join(str(error).split()))
                more = b""
            waiting += more
            if waiting and (not more or len(waiting) == RECORD * _AT_ONCE):
                yield bytes(waiting)
                waiting.clear()


def _name(data: bytes) -> str:
    try:
        text = data.decode("ascii").strip()
    except UnicodeDecodeError:
        return ""
    return text if text.isalnum() else ""

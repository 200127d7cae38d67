"""Keeps what reading a data set gives, and gives it back while nothing has changed.

An entry is one `.npz` of plain arrays with a JSON tree among them. Its name is the hash of every
byte of the atomic files and of every setting that counts (`cache_key.py`), so a changed file or
setting finds no entry. Features are not kept: they are `.npy` files already and are read, and
checked, each time. Whatever goes wrong here costs a reading of the files and a line in the log.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import BytesIO
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.atomic_files import open_atomic
from recbole_slif.data.cache_key import atomic_files, content_key
from recbole_slif.data.dataset import MultimodalKGDataset
from recbole_slif.data.packing import NotPackableError, Packer, Unpacker
from recbole_slif.data.protocol import option

SMALLEST = 1 << 20  # smaller data sets are read in a blink
KEPT = 32
_DAY = 86_400
_UNPACKED = ("config", "logger", "features", "notes")
_NAME = "recbole_slif data"

Parts = tuple[MultimodalKGDataset, ...]
_unwritable: set[Path] = set()


class DamagedError(Exception):
    """An entry is torn, altered or not ours."""


def cached(
    config: Any, read: Callable[[], tuple[MultimodalKGDataset, Parts]]
) -> tuple[MultimodalKGDataset, Parts]:
    """Return a data set and its parts from the cache, else from `read`, which fills the cache.

    Args:
        config: keys `data_cache` (on or off), `data_cache_dir` and those of `cache_key.py`.
        read: reads and splits the files.
    """
    if not option(config, "data_cache", False) or _size(config) < SMALLEST:
        return read()
    try:
        key = content_key(config)
    except OSError:
        return read()  # which says what is wrong with the file
    path = cache_folder(config) / f"{config['dataset']}-{key}.npz"
    found = _kept(path, config, key)
    if found is not None:
        return found
    fresh = read()
    # A file that changed while it was read has another key by now: what was read is not kept.
    with suppress(OSError):
        if content_key(config) == key:
            _keep(path, key, *fresh)
    return fresh


def cache_folder(config: Any) -> Path:
    """Return the folder of the entries: the key, else the environment's, else the user's."""
    named = option(config, "data_cache_dir", None) or os.environ.get("RECBOLE_SLIF_CACHE")
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "recbole_slif" / "data"


def _size(config: Any) -> int:
    with suppress(OSError):
        return sum(path.stat().st_size for path in atomic_files(config))
    return 0


# ---- reading -----------------------------------------------------------------------------------


def _kept(path: Path, config: Any, key: str) -> tuple[MultimodalKGDataset, Parts] | None:
    """Return what an entry holds; None if there is none that can be used."""
    if not path.is_file():
        return None
    try:
        state, feats = load_entry(path, key)
    except DamagedError as error:
        getLogger().warning(
            f"data cache: {path.name} is {error}; the files are read and it is written anew"
        )
        return None
    dataset = _restored(config, state)
    getLogger().info(f"data: read from the cache, {path.name}")
    with suppress(OSError):
        os.utime(path)
    return dataset, tuple(dataset.copy(feat) for feat in feats)


def _restored(config: Any, state: Mapping[str, Any]) -> MultimodalKGDataset:
    dataset: Any = MultimodalKGDataset.__new__(MultimodalKGDataset)
    dataset.config, dataset.logger = config, getLogger()
    vars(dataset).update(state)
    dataset.notes = Counter(dataset.notes_of_tables)
    dataset._load_features()
    return dataset


def load_entry(path: Path, key: str) -> tuple[dict[str, Any], list[Any]]:
    """Read one entry.

    Returns:
        The attributes of the data set, and the interactions of its parts.

    Raises:
        DamagedError: it cannot be read whole, or holds something else than its name says.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").tobytes())
        checksum = arrays.pop("checksum").tobytes().decode()
    except Exception as error:  # zipfile, zlib, json and numpy each fail in their own ways
        raise DamagedError("damaged") from error
    if checksum != _checksum(header, arrays):
        raise DamagedError("damaged")
    if (header.get("name"), header.get("key")) != (_NAME, key):
        raise DamagedError("not what its name says")
    try:
        state, feats = Unpacker(arrays).unpack(header["tree"])
    except Exception as error:  # whoever writes the right checksum may write any tree
        raise DamagedError("damaged") from error
    return state, feats


# ---- writing -----------------------------------------------------------------------------------


def _keep(path: Path, key: str, dataset: MultimodalKGDataset, parts: Parts) -> None:
    """Write an entry; a folder that cannot be written to is named once and costs the cache."""
    state = {name: value for name, value in vars(dataset).items() if name not in _UNPACKED}
    packer = Packer()
    try:
        tree = packer.pack((state, [part.inter_feat for part in parts]))
    except NotPackableError as error:
        getLogger().info(f"data cache: this data set holds {error}, which is not kept")
        return
    header = {"name": _NAME, "key": key, "tree": tree}
    try:
        _write(path, header, packer.arrays)
        _forget_oldest(path.parent)
    except OSError as error:
        if path.parent not in _unwritable:
            _unwritable.add(path.parent)
            getLogger().warning(
                f"data cache: {path.parent}: {error.strerror}; going on without (data_cache_dir "
                "names another folder, data_cache: False asks for none)"
            )


def _write(path: Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    texts = {"header": json.dumps(header), "checksum": _checksum(header, arrays)}
    content = {name: np.frombuffer(text.encode(), np.uint8) for name, text in texts.items()}
    buffer = BytesIO()
    np.savez(buffer, **content, **arrays)  # type: ignore[arg-type]
    with open_atomic(path) as stream:
        stream.write(buffer.getbuffer())


def _checksum(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(json.dumps(header, sort_keys=True).encode(), digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\0{name}{array.dtype.str}{array.shape}\0".encode())
        digest.update(array.view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


def _forget_oldest(folder: Path) -> None:
    """Keep the entries used last, and no temporary file of a process killed long ago."""
    entries = sorted(folder.glob("*-*.npz"), key=_last_used)
    torn = [path for path in folder.glob(".*.npz.*") if _last_used(path) < time.time() - _DAY]
    for path in [*entries[:-KEPT], *torn]:
        path.unlink(missing_ok=True)


def _last_used(path: Path) -> float:
    """Return when a file was last used; now if another process has just moved or removed it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()

"""What decides how a data set comes out of its files, as one hash: bytes, settings, versions."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import recbole

import recbole_slif
from recbole_slif.config import properties_dir
from recbole_slif.config_yaml import read_settings
from recbole_slif.data.locate import resolve_folder
from recbole_slif.data.protocol import option

FORMAT = 1
_FURTHER = frozenset({"dataset", "data_path", "encoding", "eval_args", "reproducibility"})
# Features are read from their own files each time, see `cache.py`.
_OF_FEATURES = frozenset({"feature_path", "modalities", "missing"})
_SUFFIXES = ("inter", "kg", "link", "user", "item")
_LIBRARIES = ("recbole", "pandas", "numpy", "torch")
_CHUNK = 1 << 20


@cache
def reading_keys() -> frozenset[str]:
    """Return the keys that decide what is read and how it is split."""
    theirs = Path(recbole.__file__).parent / "properties" / "dataset" / "sample.yaml"
    ours = properties_dir() / "data.yaml"
    found = _FURTHER.union(read_settings(theirs), read_settings(ours))
    return found - {"data_cache", "data_cache_dir"}


def atomic_files(config: Any) -> list[Path]:
    """Return the atomic files of a configuration's data set, by name.

    Raises:
        DataError: there is no such data set.
    """
    name = config["dataset"]
    folder = resolve_folder(config["data_path"], name)
    suffixes = {*_SUFFIXES, *map(str, option(config, "additional_feat_suffix", None) or ())}
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.startswith(f"{name}.")
        and path.name.rpartition(".")[2] in suffixes
        and path.is_file()
    )


def content_key(config: Any) -> str:
    """Hash every byte of the atomic files and every setting, version and line of code that counts.

    Returns:
        32 hexadecimal digits.

    Raises:
        DataError: there is no such data set.
        OSError: a file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(_circumstances(config).encode())
    for path in atomic_files(config):
        digest.update(f"\0{path.absolute()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _circumstances(config: Any) -> str:
    """Return everything but the files as one text."""
    wanted = reading_keys() - _OF_FEATURES
    settings = {key: config[key] for key in wanted if key in config}
    if settings.get("split_seed") is None:
        settings["split_seed"] = option(config, "seed", 0)
    content = {
        "format": FORMAT,
        "package": recbole_slif.__version__,
        "code": _code(),
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
        "settings": {key: repr(value) for key, value in settings.items()},
    }
    return json.dumps(content, sort_keys=True)


@cache
def _code() -> str:
    """Hash the modules that read data, so that an edited checkout never meets its old results."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()

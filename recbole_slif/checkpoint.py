"""Checkpoints that hold tensors and JSON only: written atomically, loaded without running code.

A checkpoint is one `torch.save` file with two entries: `header`, a JSON text, and `tensors`, a flat
dictionary of tensors. Nested state (optimizer, random generators, loaders) is a tree in the header
whose tensors are replaced by their names, see `pack` and `unpack`. The configuration is plain JSON.
"""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recbole_slif.atomic_files import open_atomic
from recbole_slif.errors import CheckpointError
from recbole_slif.plain import read_json

FORMAT = "recbole_slif"
SCHEMA = 1
_ROOT = "tree"
_KEPT_LATER = ("graph", "features", "columns")
_MOST_ROWS = 1 << 31
_DAMAGED = (
    ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, MemoryError,
    RecursionError,
)  # fmt: skip
BEST, LAST = "best.pt", "last.pt"


@dataclass
class Checkpoint:
    """One checkpoint in memory.

    Attributes:
        header: plain JSON values: model, dataset, config, fingerprint, counts, versions, epoch ...
        state: nested dictionaries, lists and scalars with tensors and arrays in them.
    """

    header: dict[str, Any]
    state: dict[str, Any] = field(default_factory=dict)


def pack(value: Any, tensors: dict[str, Tensor], name: str = _ROOT) -> Any:
    """Turn a tree into JSON values, putting its tensors and arrays into `tensors`.

    Raises:
        CheckpointError: the tree holds an object of a kind a checkpoint cannot keep.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu()
        return {"$tensor": name}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise CheckpointError(f"a checkpoint cannot keep the object array '{name}'")
        raw = np.frombuffer(np.ascontiguousarray(value).tobytes(), dtype=np.uint8)
        tensors[name] = torch.from_numpy(raw.copy())
        return {"$array": name, "dtype": value.dtype.str, "shape": list(value.shape)}
    if sp.issparse(value):
        rows = sp.coo_array(value)
        parts = {"row": rows.row, "col": rows.col, "data": rows.data}
        packed = {key: pack(part, tensors, f"{name}/{key}") for key, part in parts.items()}
        return {"$sparse": packed, "format": value.format, "shape": list(value.shape)}
    return _pack_container(value, tensors, name)


def _pack_container(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    if isinstance(value, Mapping):
        items = [
            [pack(key, tensors, f"{name}/key{number}"), pack(entry, tensors, f"{name}/{key}")]
            for number, (key, entry) in enumerate(value.items())
        ]
        return {"$items": items}
    if isinstance(value, list | tuple):
        entries = [pack(entry, tensors, f"{name}/{at}") for at, entry in enumerate(value)]
        return {"$tuple": entries} if isinstance(value, tuple) else entries
    raise CheckpointError(f"a checkpoint cannot keep '{name}', a {type(value).__name__}")


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `pack`."""
    if isinstance(value, list):
        return [unpack(entry, tensors) for entry in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        return tensors[value["$tensor"]]
    if "$array" in value:
        raw = tensors[value["$array"]].numpy().tobytes()
        return np.frombuffer(raw, dtype=np.dtype(value["dtype"])).reshape(value["shape"]).copy()
    if "$sparse" in value:
        part = {key: unpack(entry, tensors) for key, entry in value["$sparse"].items()}
        if max(value["shape"]) > _MOST_ROWS:
            raise ValueError(f"a sparse matrix of shape {value['shape']}")
        matrix = sp.coo_matrix((part["data"], (part["row"], part["col"])), shape=value["shape"])
        return matrix.asformat(value["format"])
    if "$tuple" in value:
        return tuple(unpack(entry, tensors) for entry in value["$tuple"])
    return {unpack(key, tensors): unpack(entry, tensors) for key, entry in value["$items"]}


def save(path: Path | str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Raises:
        CheckpointError: the state cannot be kept or the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    tree = pack(checkpoint.state, tensors)
    header = {**checkpoint.header, "format": FORMAT, "schema": SCHEMA, "state": tree}
    payload = {"header": json.dumps(header), "tensors": tensors}
    try:
        with open_atomic(Path(path)) as stream:
            torch.save(payload, stream)
    except (OSError, RuntimeError) as error:
        reason = _root_cause(error)
        raise CheckpointError(f"checkpoint '{path}' could not be written: {reason}") from error


def _root_cause(error: BaseException) -> str:
    """Return the system's word where torch wraps it in its own."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        seen = seen.__cause__ or seen.__context__
    return str(error)


def load(path: Path | str, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint; nothing in the file is executed.

    Raises:
        CheckpointError: the file is missing, empty, torn, foreign or of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint '{path}' does not exist")
    if path.stat().st_size == 0:
        raise CheckpointError(f"checkpoint '{path}' is empty; an earlier one must be used")
    _require_sound(path)
    try:
        payload = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint '{path}' holds pickled objects and was not opened; a RecBole checkpoint "
            "is read by `recbole-slif import`, or by checkpoint.import_recbole_checkpoint"
        ) from error
    except Exception as error:
        raise CheckpointError(f"checkpoint '{path}' is torn or not a checkpoint") from error
    return _decode(payload, path)


def _require_sound(path: Path) -> None:
    """Look at the archive that a checkpoint is before torch does.

    `torch.save` packs nothing, and little can unpack to much; it writes checksums, and torch does
    not read them.

    Raises:
        CheckpointError: the file is torn, has packed members, or was changed after its writing.
    """
    try:
        if not zipfile.is_zipfile(path):
            return  # torch says what it is
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"checkpoint '{path}' is torn or not a checkpoint") from error
    with archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise CheckpointError(
                f"checkpoint '{path}' holds packed members, which no checkpoint does; it was not "
                "opened"
            )
        try:
            bad = archive.testzip()
        except Exception as error:
            raise CheckpointError(f"checkpoint '{path}' is torn or damaged: {error}") from error
    if bad is not None:
        raise CheckpointError(f"checkpoint '{path}' is damaged: '{bad}' fails its checksum")


def _decode(payload: Any, path: Path) -> Checkpoint:
    foreign = f"'{path}' is not a checkpoint of this package"
    if not (isinstance(payload, dict) and isinstance(payload.get("header"), str)):
        raise CheckpointError(foreign)
    try:
        header = read_json(payload["header"])
        if header.get("format") != FORMAT:
            raise CheckpointError(foreign)
        if header["schema"] != SCHEMA:
            raise CheckpointError(
                f"checkpoint '{path}' has format version {header['schema']}, "
                f"this version reads {SCHEMA}"
            )
        state = unpack(header.pop("state"), payload["tensors"])
    except _DAMAGED as error:
        raise CheckpointError(f"checkpoint '{path}' is damaged: {error}") from error
    return Checkpoint(header, state)


def require_fit(path: Path | str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check that a checkpoint belongs to the present settings and data.

    Checkpoints written before `graph`, `features` and `columns` were kept are not compared by them.

    Args:
        path: named in the message.
        found: the checkpoint's values.
        wanted: the present ones, compared key by key.

    Raises:
        CheckpointError: names everything that differs, in one line.
    """
    differing = {
        key: f"{key} (checkpoint {found.get(key)}, here {value})"
        for key, value in wanted.items()
        if found.get(key) != value and (key in found or key not in _KEPT_LATER)
    }
    if differing:
        files = {"data", *_KEPT_LATER} & set(differing)
        hint = "; the data files, or the settings that read them, changed since" if files else ""
        told = ", ".join(differing.values())
        raise CheckpointError(f"checkpoint '{path}' does not fit: {told}{hint}")


def model_state(model: Any) -> dict[str, Any]:
    """Collect all that scoring depends on: parameters, RecBole's extras, the epoch's state."""
    epoch = model.epoch_state() if hasattr(model, "epoch_state") else {}
    extras = model.other_parameter() if hasattr(model, "other_parameter") else {}
    return {"parameters": dict(model.state_dict()), "extras": extras, "epoch": dict(epoch)}


def copy_state(model: Any) -> dict[str, Any]:
    """Return `model_state` in memory of its own, which training on leaves as it is."""
    tensors: dict[str, Tensor] = {}
    tree = pack(model_state(model), tensors)
    return dict(unpack(tree, {name: tensor.clone() for name, tensor in tensors.items()}))


def _to_device(value: Any, device: torch.device | str) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def restore_model(model: Any, state: Mapping[str, Any], path: Path | str) -> None:
    """Put a saved model state into `model`.

    Raises:
        CheckpointError: the parameters have other names or shapes.
    """
    device = getattr(model, "device", "cpu")
    try:
        model.load_state_dict(state["parameters"])
        extras = {key: _to_device(value, device) for key, value in state["extras"].items()}
        if extras:
            model.load_other_parameter(extras)
        if hasattr(model, "load_epoch_state"):
            epoch = {key: _to_device(value, device) for key, value in state["epoch"].items()}
            model.load_epoch_state(epoch)
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"checkpoint '{path}' does not fit the model: {reason}") from error


def load_model(
    path: Path | str,
    overrides: Mapping[str, Any] | None = None,
    model: str | type | None = None,
) -> Any:
    """Rebuild configuration, data and model of a checkpoint; the scores are the saved model's.

    Args:
        path: a checkpoint, or a run folder whose `best.pt` (else `last.pt`) is taken.
        overrides: keys to change, such as `data_path` or `eval_batch_size`.
        model: class or `module:Class` of a model that is neither ours nor RecBole's.

    Returns:
        `(config, model, bundle)`: the configuration, the model in evaluation mode and the data.

    Raises:
        CheckpointError: the file is unusable or the data is not what the model was trained on.
    """
    from recbole_slif import factory

    file, checkpoint = _load_best(path)
    config = factory.rebuild_config(checkpoint.header, overrides, model)
    bundle = factory.load_data(config)
    require_fit(file, checkpoint.header["identity"], factory.identity(config, bundle))
    built = factory.build_model(config, bundle)
    restore_model(built, checkpoint.state["model"], file)
    built.eval()
    return config, built, bundle


def _load_best(path: Path | str) -> tuple[Path, Checkpoint]:
    file = resolve(path, (BEST, LAST))
    try:
        return file, load(file)
    except CheckpointError as error:
        other = file.with_name(LAST)
        if file == other or not other.is_file():
            raise
        raise CheckpointError(
            f"{error}; the run's last epoch is in '{other}', which can be named instead"
        ) from error


def resolve(path: Path | str, names: Sequence[str]) -> Path:
    """Return `path`, or for a run folder the first of `names` that lies in it.

    Raises:
        CheckpointError: there is no such file.
    """
    path = Path(os.path.expanduser(path))
    if path.suffix == ".json":
        raise CheckpointError(
            f"'{path}' is the record of a run, not its checkpoint; name the folder of the run "
            f"(saved/{path.stem}, or in checkpoint_dir of yours)"
        )
    if not path.is_dir():
        return path
    for name in names:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(
        f"folder '{path}' holds no {' or '.join(names)}; name the folder of one run, "
        "saved/MODEL-DATASET-... or in checkpoint_dir of yours"
    )


def import_recbole_checkpoint(
    path: Path | str, model: Any, trust_pickle: bool = False
) -> dict[str, Any]:
    """Load the weights of a checkpoint that RecBole wrote into `model`.

    RecBole's files pickle the whole configuration, so opening one runs code from it.

    Args:
        path: RecBole's `.pth` file.
        model: a model of the same class and size.
        trust_pickle: must be True; says that the file's origin is trusted.

    Returns:
        RecBole's other entries: `epoch`, `best_valid_score`, `cur_step`.

    Raises:
        CheckpointError: `trust_pickle` is not set, or the file does not fit.
    """
    if not trust_pickle:
        raise CheckpointError(
            f"'{path}' may run code when opened; pass trust_pickle=True if you trust its origin"
        )
    content = read_recbole_checkpoint(path)
    extras = content.get("other_parameter") or {}
    restore_model(model, {"parameters": content["state_dict"], "extras": extras, "epoch": {}}, path)
    return {key: content.get(key) for key in ("epoch", "best_valid_score", "cur_step")}


def read_recbole_checkpoint(path: Path | str) -> dict[str, Any]:
    """Unpickle a checkpoint that RecBole wrote, which RUNS THE CODE IN IT.

    Raises:
        CheckpointError: it is none.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=False)
        if not {"config", "state_dict"} <= set(content):
            raise KeyError("it has no config or no state_dict")
    except (
        OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError, EOFError,
        ImportError, pickle.UnpicklingError,
    ) as error:  # fmt: skip
        raise CheckpointError(f"'{path}' is not a RecBole checkpoint: {error}") from error
    return dict(content)

"""Image backbones by key: torchvision's, timm's, or a package of one's own; without classifier."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from recbole_slif.errors import DataError

DEFAULT = "resnet50"


class Backbone(Protocol):
    """What is asked of a backbone."""

    def prepare(self, picture: Any) -> torch.Tensor:
        """Turn an RGB picture (PIL) into the model's input, `[channels, height, width]`."""
        ...

    def encode(self, batch: torch.Tensor) -> np.ndarray:
        """Return `[n, dim]` vectors of `[n, channels, height, width]`."""
        ...


class TorchBackbone:
    """A network in evaluation mode with its own preparation of pictures.

    Args:
        network: Gives `[n, dim]` for `[n, channels, height, width]`.
        transform: Turns a PIL picture into a tensor.
        device: Where it runs.
    """

    def __init__(self, network: torch.nn.Module, transform: Any, device: str) -> None:
        self._network = network.eval().to(device)
        self._transform, self._device = transform, device

    def prepare(self, picture: Any) -> torch.Tensor:
        """See `Backbone`."""
        return self._transform(picture)

    def encode(self, batch: torch.Tensor) -> np.ndarray:
        """See `Backbone`."""
        with torch.inference_mode():
            found = self._network(batch.to(self._device))
        return found.flatten(1).float().cpu().numpy()


def load_backbone(key: str, weights: Path | None, device: str) -> Backbone:
    """Load a backbone.

    Args:
        key: `resnet50` or another torchvision name (also `torchvision:NAME`), `timm:NAME`, or a
            package with `load_backbone(weights=..., device=...)`.
        weights: A file of weights; None takes the library's own, downloaded if need be.
        device: `cpu`, `cuda`, ...

    Raises:
        DataError: The library, the model or the weights cannot be had.
    """
    if weights is not None and not weights.is_file():
        raise DataError(f"--weights: {weights} does not exist")
    library, _, name = key.rpartition(":")
    try:
        if library == "timm":
            return _timm(name, weights, device)
        package = _package(key) if not library else None
        if package is not None:
            return package.load_backbone(weights=weights, device=device)
        if library in ("", "torchvision"):
            return _torchvision(name, weights, device)
    except ImportError as error:
        raise DataError(f"--backbone: {_install(library, key)} ({_first_line(error)})") from error
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(f"--backbone: '{key}' cannot be loaded ({_first_line(error)})") from error
    raise DataError(f"--backbone: '{key}' is neither NAME, torchvision:NAME nor timm:NAME")


def _install(library: str, key: str) -> str:
    wanted = "timm" if library == "timm" else "torchvision"
    return (
        f"'{key}' needs {wanted}, in the version that belongs to torch {torch.__version__}; "
        f"pip install {wanted}"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _package(key: str) -> Any:
    try:
        found = importlib.import_module(key.replace("-", "_"))
    except (ImportError, ValueError):
        return None
    return found if hasattr(found, "load_backbone") else None


def _torchvision(name: str, weights: Path | None, device: str) -> Backbone:
    models = importlib.import_module("torchvision.models")
    standard = models.get_model_weights(name).DEFAULT
    network = models.get_model(name, weights=None)
    if weights is None:
        network.load_state_dict(standard.get_state_dict(progress=True, check_hash=True))
    else:
        _load(network, weights)
    _drop_classifier(network)
    return TorchBackbone(network, standard.transforms(), device)


def _timm(name: str, weights: Path | None, device: str) -> Backbone:
    timm = importlib.import_module("timm")
    network = timm.create_model(name, pretrained=weights is None, num_classes=0)
    if weights is not None:
        _load(network, weights)
    config = timm.data.resolve_model_data_config(network)
    return TorchBackbone(network, timm.data.create_transform(**config), device)


def _drop_classifier(network: torch.nn.Module) -> None:
    """Put an identity in place of the last linear layer, torchvision's classifier.

    Raises:
        ValueError: There is none.
    """
    linear = [name for name, part in network.named_modules() if isinstance(part, torch.nn.Linear)]
    if not linear:
        raise ValueError("it has no linear classifier to take off")
    parent, _, last = linear[-1].rpartition(".")
    setattr(network.get_submodule(parent), last, torch.nn.Identity())


def _load(network: torch.nn.Module, path: Path) -> None:
    """Load weights from a file; the classifier's may be missing, of another size, or too many.

    Raises:
        DataError: The file holds more than weights, or those of another network.
    """
    given = _read_weights(path)
    own = network.state_dict()
    linear = [name for name, part in network.named_modules() if isinstance(part, torch.nn.Linear)]
    head = f"{linear[-1]}." if linear else ""
    spared = ("fc.", "classifier.", "head.", "heads.", *([head] if head else []))
    fits = {name for name in own if name in given and given[name].shape == own[name].shape}
    missing = [name for name in own if name not in fits and not name.startswith(spared)]
    foreign = [name for name in given if name not in own and not name.startswith(spared)]
    if missing or foreign:
        what = f"lacks '{missing[0]}'" if missing else f"has '{foreign[0]}', which the model lacks"
        raise DataError(f"--weights: {path} {what}; it is of another model than --backbone")
    network.load_state_dict({name: given[name] for name in fits}, strict=False)


def _read_weights(path: Path) -> Mapping[str, torch.Tensor]:
    """Read names and tensors without running anything that the file holds.

    Raises:
        DataError: The file is no such file.
    """
    try:
        if path.suffix == ".safetensors":
            found: Any = importlib.import_module("safetensors.torch").load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise DataError(f"--weights: {path} needs a library; pip install safetensors") from error
    except Exception as error:  # torch raises what it likes for foreign files
        raise DataError(
            f"--weights: {path} is no file of weights alone ({_first_line(error)})"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(map(torch.is_tensor, found.values())):
        raise DataError(f"--weights: {path} holds no dictionary of tensors")
    return {name.removeprefix("module."): value for name, value in found.items()}

"""Extreme data for every model: losses, gradients and scores stay finite, or the error has a name.

Each case writes a small data set, changes it, and trains for an epoch with the package's trainer.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_slif import factory
from recbole_slif.errors import SlifError
from recbole_slif.testing.trial import Bench, require
from recbole_slif.trainer import trainer_class
from reliability.apart import apart
from reliability.frame import Case, Setting

Change = Callable[[Path], None]


def _features(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Change the matrices of all modalities."""

    def run(folder: Path) -> None:
        for path in folder.glob("*.npy"):
            np.save(path, change(np.load(path)))

    return run


def _one(value: float) -> Change:
    def change(matrix: np.ndarray) -> np.ndarray:
        matrix[3, 1] = value
        return matrix

    return _features(change)


def _without(*patterns: str) -> Change:
    def run(folder: Path) -> None:
        for pattern in patterns:
            for path in folder.glob(pattern):
                path.unlink()

    return run


def _head(*ends: str) -> Change:
    """Leave the header of tables alone."""

    def run(folder: Path) -> None:
        for end in ends:
            path = folder / f"{folder.name}.{end}"
            path.write_text(path.read_text("utf-8").splitlines()[0] + "\n", "utf-8")

    return run


def _lines(end: str, keep: Callable[[int, str], bool]) -> Change:
    """Keep the lines of a table for which `keep` holds, given number and text."""

    def run(folder: Path) -> None:
        path = folder / f"{folder.name}.{end}"
        head, *lines = path.read_text("utf-8").splitlines()
        kept = [line for number, line in enumerate(lines) if keep(number, line)]
        path.write_text("\n".join([head, *kept]) + "\n", "utf-8")

    return run


def _one_item_users(folder: Path) -> None:
    path = folder / f"{folder.name}.train.inter"
    head, *lines = path.read_text("utf-8").splitlines()
    first = {line.split("\t")[0]: line for line in reversed(lines)}
    path.write_text("\n".join([head, *first.values()]) + "\n", "utf-8")


def _one_user(folder: Path) -> None:
    for part in ("train", "valid", "test"):
        _lines(f"{part}.inter", lambda number, line: line.startswith("u0\t"))(folder)


def _hub(folder: Path) -> None:
    """One entity at the end of every triple."""
    path = folder / f"{folder.name}.kg"
    head, *lines = path.read_text("utf-8").splitlines()
    rows = sorted({"\t".join([*line.split("\t")[:2], "x0"]) for line in lines})
    path.write_text("\n".join([head, *rows]) + "\n", "utf-8")


def _constant(matrix: np.ndarray) -> np.ndarray:
    return np.full_like(matrix, 0.25)


EXTREMES: Mapping[str, Change] = {
    "features of zero": _features(np.zeros_like),
    "constant features": _features(_constant),
    "features of 1e18": _features(lambda matrix: matrix * 1e18),
    "features of 3e38": _features(lambda matrix: np.sign(matrix) * np.float32(3e38)),
    "features of 1e-40": _features(lambda matrix: matrix * np.float32(1e-40)),
    "a NaN among the features": _one(float("nan")),
    "an infinity among the features": _one(float("-inf")),
    "features of NaN": _features(lambda matrix: matrix * np.nan),
    "one item with features": _features(
        lambda matrix: np.where(np.arange(len(matrix))[:, None] == 0, matrix, np.nan)
    ),
    "no features": _without("*.npy", "*.ids"),
    "no graph": _without("*.kg", "*.link"),
    "a graph without triples": _head("kg"),
    "a graph without links": _head("link"),
    "a graph of one triple": _lines("kg", lambda number, line: number == 0),
    "one linked item": _lines("link", lambda number, line: number == 0),
    "an entity in all triples": _hub,
    "users of one item": _one_item_users,
    "one user": _one_user,
    "no graph and no features": _without("*.kg", "*.link", "*.npy", "*.ids"),
    "a batch of one": lambda folder: None,
}
SETTINGS: Mapping[str, Mapping[str, Any]] = {"a batch of one": {"train_batch_size": 1}}


def train(model: str, extreme: str, folder: Path) -> None:
    """Train a model for an epoch on extreme data.

    Raises:
        AssertionError: a loss, gradient, parameter or score is not finite, and no named error.
    """
    place = folder / f"{model}-{extreme}".replace(" ", "_")
    settings = {"epochs": 1, "topk": [3], "valid_metric": "Recall@3", "seed": 1,
                **SETTINGS.get(extreme, {})}  # fmt: skip
    written, config = Bench(model, place, {}).settled(settings)
    EXTREMES[extreme](written.folder / written.name)
    try:
        _train(config)
    except SlifError as error:
        if len(str(error).splitlines()) != 1:
            raise AssertionError(f"not one line: {error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _train(config: Any) -> None:
    bundle = factory.load_data(config)
    factory.require_data(config, bundle.dataset)
    model = factory.build_model(config, bundle)
    trainer = trainer_class(config, model)(config, model)
    for optimizer in (trainer.optimizer, *trainer._own_optimizers().values()):
        _watch(optimizer, model)
    trainer.fit(bundle.train_data, bundle.valid_data, verbose=False, saved=False)
    broken = [name for name, one in model.named_parameters() if not bool(one.isfinite().all())]
    require(not broken, f"parameters are not finite: {', '.join(broken)}")
    users = torch.arange(1, bundle.dataset.user_num)
    scores = model.full_sort_predict({config["USER_ID_FIELD"]: users})
    require(bool(scores.isfinite().all()), "scores are not finite")


def _watch(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> None:
    """Look at all gradients before each step."""
    step = optimizer.step

    def watched(*args: Any, **options: Any) -> Any:
        broken = [
            name
            for name, one in model.named_parameters()
            if one.grad is not None and not bool(one.grad.isfinite().all())
        ]
        require(not broken, f"gradients are not finite: {', '.join(broken)}")
        return step(*args, **options)

    optimizer.step = watched  # type: ignore[method-assign]


def cases(setting: Setting) -> Iterator[Case]:
    """Yield each kind of extreme data for each model, models in turn."""
    pairs = [(extreme, model) for extreme in EXTREMES for model in setting.models]
    for extreme, model in pairs[: setting.cases]:
        run = partial(train, model, extreme, setting.folder)
        yield Case(f"{model}: {extreme}", partial(apart, run))

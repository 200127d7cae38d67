"""One model on one tiny data set: built, trained for some epochs, scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from recbole.trainer import KGTrainer
from recbole.utils import InputType, KGDataLoaderState, init_seed
from torch import Tensor

from recbole_slif import factory
from recbole_slif.config import SlifConfig
from recbole_slif.phases import learning_parameters, phases_of
from recbole_slif.testing.toy import Toy, write_toy
from recbole_slif.trainer import trainer_class


class CheckFailure(AssertionError):  # noqa: N818 - named for what a reader sees in a test report
    """A model does not pass the checklist; the text lists every failed check."""


def summed(parts: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return a loss, or the sum of its parts, as a scalar; RecBole's penalties have shape `[1]`."""
    joined = parts if isinstance(parts, tuple) else (parts,)
    return torch.stack([part.reshape(()) for part in joined]).sum()


def require(condition: bool, message: str) -> None:
    """Fail the running check with `message` unless `condition` holds."""
    if not condition:
        raise CheckFailure(message)


@dataclass
class Trial:
    """A model with its data.

    Attributes:
        toy: the files behind it.
        config: the settings.
        bundle: the loaders.
        model: the model, on the device of the settings; the CPU unless `use_gpu` is set.
    """

    toy: Toy
    config: Any
    bundle: Any
    model: Any

    @property
    def positives_alone(self) -> bool:
        """Whether the model learns from train pairs alone, set against no other item."""
        drawn = self.config["train_neg_sample_args"]["distribution"] != "none"
        return self.config["MODEL_INPUT_TYPE"] == InputType.POINTWISE and not drawn

    def optimizer(self, rate: float) -> torch.optim.Optimizer:
        """Return Adam on the parameters that the trainer's optimizer takes."""
        return torch.optim.Adam(learning_parameters(self.model), lr=rate)

    def batches(self) -> Iterator[tuple[Callable[[Any], Any], Any]]:
        """Yield each batch of interactions, then of triples, behind the loss it goes to.

        RecBole's own knowledge models without a loss of triples get both in each batch.
        """
        loader, model = self.bundle.train_data, self.model
        phases = [(self._first_state(), model.calculate_loss)]
        if hasattr(model, "calculate_kg_loss"):
            phases.append((KGDataLoaderState.KG, model.calculate_kg_loss))
        for mode, calculate in phases:
            if hasattr(loader, "set_mode"):
                loader.set_mode(mode)
            for batch in loader:
                yield calculate, batch.to(self.config["device"])

    def _first_state(self) -> KGDataLoaderState:
        """Return what the batches of `calculate_loss` hold, as the model's trainer sets it."""
        joined = issubclass(trainer_class(self.config, self.model), KGTrainer)
        if joined and not hasattr(self.model, "calculate_kg_loss"):
            return KGDataLoaderState.RSKG
        return KGDataLoaderState.RS

    def losses(self) -> Iterator[Tensor]:
        """Yield the summed loss of each batch of interactions, then of triples."""
        for calculate, batch in self.batches():
            yield summed(calculate(batch))

    def steps(
        self, epoch: int, optimizer: torch.optim.Optimizer
    ) -> Iterator[tuple[Tensor, torch.optim.Optimizer]]:
        """Go through an epoch as the trainer does, hooks included.

        Yields:
            The summed loss of each batch and the optimizer that steps it; the caller takes the
            step before asking for the next.
        """
        self.model.train()
        yield from self._own_steps("before", epoch, optimizer)
        self.hook("pre_epoch", epoch)
        for loss in self.losses():
            yield loss, optimizer
        yield from self._own_steps("after", epoch, optimizer)
        self.hook("post_epoch", epoch)

    def _own_steps(
        self, when: str, epoch: int, optimizer: torch.optim.Optimizer
    ) -> Iterator[tuple[Tensor, torch.optim.Optimizer]]:
        for phase in phases_of(self.model, when, epoch):
            chosen = optimizer
            if phase.optimizer != "main":
                chosen = self.model.own_optimizers()[phase.optimizer]
            for batch in phase.batches:
                yield summed(phase.loss(batch)), chosen

    def epoch(self, number: int, optimizer: torch.optim.Optimizer) -> list[float]:
        """Train epoch `number` with its hooks; returns the losses."""
        values = []
        for loss, chosen in self.steps(number, optimizer):
            chosen.zero_grad()
            loss.backward()
            chosen.step()
            values.append(float(loss.detach()))
        return values

    def hook(self, name: str, epoch: int) -> None:
        """Call an epoch hook if the model has it."""
        if hasattr(self.model, name):
            getattr(self.model, name)(epoch)

    def train(self, epochs: int, rate: float = 0.02) -> list[float]:
        """Train from epoch 0, with the generators at the trial's seed; returns all losses."""
        init_seed(self.config["seed"], True)
        optimizer = self.optimizer(rate)
        return [loss for number in range(epochs) for loss in self.epoch(number, optimizer)]

    def forget(self) -> None:
        """Forget the tables cached for evaluation, if the model keeps any."""
        if hasattr(self.model, "clear_tables"):
            self.model.clear_tables()

    @torch.no_grad()
    def scores(self) -> Tensor:
        """Return all scores `[n_users, n_items]` as evaluation sees them, on the CPU."""
        self.model.eval()
        users = torch.arange(self.bundle.dataset.user_num, device=self.config["device"])
        flat = self.model.full_sort_predict({self.config["USER_ID_FIELD"]: users})
        return flat.view(len(users), -1).cpu().clone()

    def train_matrix(self) -> Tensor:
        """Return the pairs of the train file, bool `[n_users, n_items]`."""
        dataset = self.bundle.dataset
        matrix = torch.zeros(dataset.user_num, dataset.item_num, dtype=torch.bool)
        users, items = dataset.field2token_id["user_id"], dataset.field2token_id["item_id"]
        for user, item in self.toy.train:
            matrix[users[user], items[item]] = True
        return matrix


class Bench:
    """Builds trials of one model, each from files of its own."""

    def __init__(self, model: str | type, folder: Path, overrides: Mapping[str, Any]) -> None:
        """Remember what to build.

        Args:
            model: name or class.
            folder: where the data sets are written.
            overrides: configuration keys for every trial.
        """
        self.model, self.folder, self.overrides = model, folder, dict(overrides)

    def trial(self, seed: int = 1, **toy: Any) -> Trial:
        """Write a data set and build the model on it.

        Args:
            seed: of parameters, negatives and order.
            **toy: what is particular to the data set, see `write_toy`.
        """
        written, config = self.settled({"seed": seed}, **toy)
        bundle = factory.load_data(config)
        return Trial(written, config, bundle, factory.build_model(config, bundle))

    def settled(self, more: Mapping[str, Any], **toy: Any) -> tuple[Toy, SlifConfig]:
        """Write a data set and settle the configuration of a trial on it.

        Args:
            more: settings besides the bench's own.
            **toy: what is particular to the data set, see `write_toy`.
        """
        name = "toy" + "".join(f"-{key}-{value}" for key, value in sorted(toy.items()))
        written = write_toy(self.folder, name, **toy)
        settings = {
            "data_path": str(self.folder),
            "checkpoint_dir": str(self.folder / "saved"),
            "split_seed": 0,
            "protocol": "benchmark",
            "use_gpu": False,
            "use_tuned": False,
            "train_batch_size": 32,
            "state": "ERROR",
            "show_progress": False,
        }
        config = SlifConfig(self.model, name, overrides={**settings, **more, **self.overrides})
        return written, config

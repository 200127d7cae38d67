"""A spy on a whole run: who reads which part of the split, and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from recbole_slif import factory
from recbole_slif.data.pairs import PairTable, SplitPairs
from recbole_slif.stages import Hooks, Run
from recbole_slif.testing.trial import Bench, require

_BUILT, _TRAINING, _VALIDATION, _TEST = "building", "training", "validation", "test"


@dataclass
class Readings:
    """What was read of validation and test, in order.

    Attributes:
        stage: what the run is at.
        seen: stage, part of the split, and what was asked of it.
    """

    stage: str = _BUILT
    seen: list[tuple[str, str, str]] = field(default_factory=list)

    def note(self, part: str, what: str) -> None:
        """Note that a part was read."""
        self.seen.append((self.stage, part, what))

    def of(self, part: str, stages: Sequence[str]) -> list[str]:
        """Return what was asked of a part at these stages."""
        return [what for stage, read, what in self.seen if read == part and stage in stages]

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """Say what the run is at for as long as the block runs."""
        before, self.stage = self.stage, stage
        try:
            yield
        finally:
            self.stage = before


class SpiedPairs(SplitPairs):
    """The split's pairs, telling which parts are asked for."""

    readings: Readings

    def table(self, *phases: str) -> PairTable:
        """Return the pairs of the given phases together."""
        for phase in phases:
            if phase != "train":
                self.readings.note(phase, f"SplitPairs.table{phases}")
        return super().table(*phases)


def _spied(dataset: Any, part: str, readings: Readings) -> None:
    """Tell of every look at a data set's interactions."""
    kind = type(dataset)

    class Spied(kind):  # type: ignore[misc, valid-type]
        def __getattribute__(self, name: str) -> Any:
            if name == "inter_feat":
                readings.note(part, f"{kind.__name__}.{name}")
            return super().__getattribute__(name)

    Spied.__name__, Spied.__qualname__ = kind.__name__, kind.__qualname__
    dataset.__class__ = Spied


def watch(bundle: Any, readings: Readings) -> None:
    """Put the spy on loaded data: its pairs, and the interactions of all parts but train."""
    pairs = bundle.pairs
    pairs.__class__ = SpiedPairs
    pairs.readings = readings
    _spied(bundle.dataset, "whole", readings)
    for part in ("valid", "test"):
        _spied(getattr(bundle, f"{part}_data")._dataset, part, readings)


def spied_run(bench: Bench, epochs: int = 2) -> Readings:
    """Build, train and test a model as the command line does; return who read what."""
    readings = Readings()
    settings = {"seed": 1, "epochs": epochs, "topk": [3], "valid_metric": "Recall@3"}
    _, config = bench.settled(settings)

    def load(config: Any) -> Any:
        bundle = factory.load_data(config)
        watch(bundle, readings)
        return bundle

    run = Run(config, False, False, (), Hooks(load=load))
    run.prepare(None)
    validate = run.trainer._valid_epoch

    def validated(*args: Any, **options: Any) -> Any:
        with readings.at(_VALIDATION):
            return validate(*args, **options)

    run.trainer._valid_epoch = validated
    with readings.at(_TRAINING):
        run.train()
    with readings.at(_TEST):
        run.test()
    run.close("finished")
    return readings


def held_out_pairs_wait_for_their_turn(bench: Bench) -> None:
    """Validation is read by validation alone, and test by nobody before the epoch is chosen."""
    readings = spied_run(bench)
    early = readings.of("test", (_BUILT, _TRAINING, _VALIDATION))
    require(not early, f"the test split is read before the best epoch is chosen: {early[:1]}")
    early = readings.of("valid", (_BUILT, _TRAINING))
    require(not early, f"the validation split is read outside validation: {early[:1]}")
    early = readings.of("whole", (_BUILT, _TRAINING))
    require(not early, f"the whole data set's interactions are read in training: {early[:1]}")
    for part, stage in (("valid", _VALIDATION), ("test", _TEST)):
        require(bool(readings.of(part, (stage,))), f"the {part} split was not read at its turn")

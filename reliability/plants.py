"""Something that happens at the n-th call inside a region of a run, such as a kill."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from recbole_slif import checkpoint, factory
from recbole_slif.epochs import EpochMixin
from recbole_slif.experiment.claims import Claims
from recbole_slif.experiment.folder import Folder
from recbole_slif.records import RunRecord
from recbole_slif.trainer import PhaseTrainer

REGIONS: Mapping[str, tuple[tuple[Any, str], ...]] = {
    "load": ((factory, "load_data"), (factory, "build_model")),
    "batch": ((PhaseTrainer, "_train_epoch"),),
    "refresh": ((EpochMixin, "_hook"),),
    "evaluation": ((PhaseTrainer, "_valid_epoch"), (PhaseTrainer, "evaluate")),
    "save": ((checkpoint, "save"), (RunRecord, "write")),
    "ledger": ((Folder, "append"), (Folder, "write_per_user"), (Claims, "take")),
}


class Plant:
    """Counts the calls, of Python and of C functions, that a region makes; acts at one of them.

    Args:
        region: a name in `REGIONS`.
        at: number of the call, counted from 1 over the whole process; 0 only counts.
        act: what happens then.

    Attributes:
        seen: calls counted so far.
    """

    def __init__(self, region: str, at: int = 0, act: Callable[[], None] | None = None) -> None:
        self.region, self.at, self.act = region, at, act
        self.seen = 0

    def set(self) -> Plant:
        """Put the count around the functions of the region, for the rest of this process."""
        for owner, name in REGIONS[self.region]:
            setattr(owner, name, self._around(getattr(owner, name)))
        return self

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def planted(*args: Any, **options: Any) -> Any:
            before = sys.getprofile()
            sys.setprofile(self._count)
            try:
                return function(*args, **options)
            finally:
                sys.setprofile(before)

        return planted

    def _count(self, frame: Any, event: str, arg: Any) -> None:
        self.seen += 1
        if self.seen == self.at and self.act is not None:
            self.act()


def signalled(region: str, at: int, number: int) -> None:
    """Let this process send itself a signal at a call of a region."""
    Plant(region, at, lambda: os.kill(os.getpid(), number)).set()


def count_all(regions: tuple[str, ...], action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run an action once for each region, adding the calls counted there under `calls`.

    One region is counted at a time, as a plant inside another region would hide it.
    """
    plants = [Plant(region).set() for region in regions]
    answer = action()
    return {**answer, "calls": {plant.region: plant.seen for plant in plants}}

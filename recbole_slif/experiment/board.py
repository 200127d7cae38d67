"""What a runner asks of whoever says which run is whose: the folder, or a shared storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from recbole_slif.experiment.claims import Claims
from recbole_slif.experiment.folder import Folder
from recbole_slif.experiment.plan import Plan
from recbole_slif.sharing.address import Address

Lines = Sequence[Mapping[str, Any]]


class RunClaim(Protocol):
    """A run that this process is at, until the end of the `with` block."""

    def holds(self) -> bool:
        """Tell whether nobody has taken the run over."""

    def record(self, folder: Folder, lines: Lines) -> bool:
        """Record the run's lines, one for each cell; False if it was taken over meanwhile."""

    def __enter__(self) -> RunClaim:
        """Hold the run."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the run free."""


class Board(Protocol):
    """Who is at which run."""

    def begin(self, folder: Folder) -> None:
        """Bring folder and board together before the work starts."""

    def refresh(self, folder: Folder) -> Sequence[Lines]:
        """Put what others recorded into the folder; return those lines, run by run."""

    def take(self, name: str) -> RunClaim | None:
        """Claim a run; None if another process is at it or has done it."""

    def clearing(self, name: str, rest: bool) -> RunClaim | None:
        """Claim what a kill left of a recorded run; `rest` says that its checkpoints are there."""


def make_board(
    plan: Plan,
    folder: Folder,
    address: Address | None,
    on_beat: Callable[[], None] = lambda: None,
) -> Board:
    """Return the board of an experiment.

    Args:
        plan: what is to be run.
        folder: where this machine records it.
        address: of the storage that machines share; None keeps the claims in the folder.
        on_beat: called every few seconds while a run is held, from a thread.

    Raises:
        ConfigError: Optuna or a database's driver is not installed.
        SlifError: the storage cannot be used.
    """
    local = Claims(folder.claims, on_beat=on_beat)
    if address is None:
        return local
    from recbole_slif.experiment.shared import SharedClaims

    return SharedClaims(plan, address, local, on_beat)

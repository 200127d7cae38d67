"""Who is at what, and what came of it, kept as the trials of a study that many processes share.

A piece of work is named by a key. Who wants to do it adds a trial in the state `running` that
bears the key, looks again, and withdraws if a trial with a lower number is at it or has done it: a
storage numbers trials in one order for all, so just one goes on. Each trial names its process and
carries a count that grows every `BEAT` seconds. A trial is lost when its process is known to have
ended, or when its count has stood still for `STALE_AFTER` seconds by the clock of who looks; it is
then marked failed and its work is free. So databases and journal files follow one rule, a kill is
noticed at once on the same machine, and no two clocks are compared.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from recbole_slif.processes import BEAT, STALE_AFTER, Mark, Pulse, Releasing, ended
from recbole_slif.sharing.address import Address, failure, load_optuna, open_storage

RUNNING, FINISHED, FAILED, LOST = "running", "finished", "failed", "lost"
GONE = "its process is gone"
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Attempt:
    """One trial of the study, as far as it is ours.

    Attributes:
        number: its place in the order of all trials.
        trial_id: the storage's name of it.
        key: what it is about.
        state: `running`, `finished`, `failed` or `lost`.
        value: its result, where it has one.
        params: what Optuna knows of its settings.
        attrs: what was recorded with it.
    """

    number: int
    trial_id: int
    key: str
    state: str
    value: float | None
    params: Mapping[str, Any]
    attrs: Mapping[str, Any]


@dataclass(frozen=True)
class Piece:
    """Work that is to be claimed.

    Attributes:
        key: names it.
        params, distributions: its settings for Optuna's samplers and dashboards.
        attrs: recorded with the trial from its beginning; JSON values.
    """

    key: str
    params: Mapping[str, Any] = field(default_factory=dict)
    distributions: Mapping[str, Any] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)


class Held(Releasing):
    """Work that this process is at; kept fresh until it is finished or given free."""

    def __init__(self, study: SharedStudy, number: int, trial_id: int) -> None:
        self.number = number
        self.trial_id = trial_id
        self._study = study
        self._count = 0
        self._open = True
        self._pulse = Pulse(study.beat, self._touch)

    def _touch(self) -> None:
        self._count += 1
        with contextlib.suppress(Exception):  # a storage that is away may be back at the next beat
            self._study.storage.set_trial_user_attr(self.trial_id, "beat", self._count)
        self._study.on_beat()

    def holds(self) -> bool:
        """Tell whether nobody has taken the work over."""
        return self._study.attempt(self.trial_id).state == RUNNING

    def finish(self, attrs: Mapping[str, Any], value: float | None) -> bool:
        """Record what came of the work.

        Args:
            attrs: JSON values recorded with the trial.
            value: its result; None says that it failed.

        Returns:
            Whether it was recorded; False if another process has taken the work over.
        """
        recorded = self._study.settle(self.trial_id, attrs, value)
        self._open = False
        return recorded

    def release(self) -> None:
        """Give the work free, for others if it is not finished."""
        self._pulse.stop()
        if self._open:
            self._open = False
            self._study.lose(self.trial_id, "given up")


class SharedStudy:
    """A study in a shared storage.

    Args:
        address: of the storage.
        name: of the study; made if it is not there.
        maximize: whether greater values are better.
        stale_after: seconds without a beat after which work is lost.
        beat: seconds between beats.
        on_beat: called at each beat, from its thread.

    Raises:
        ConfigError: Optuna or a driver is not installed.
        SlifError: the storage cannot be used.
    """

    def __init__(
        self,
        address: Address,
        name: str,
        maximize: bool = True,
        stale_after: float = STALE_AFTER,
        beat: float = BEAT,
        on_beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.address = address
        self.name = name
        self.beat = beat
        self.stale_after = stale_after
        self.on_beat = on_beat
        self._mark = Mark.own()
        self._seen: dict[int, tuple[int, float]] = {}
        optuna = load_optuna()
        self.storage = open_storage(address)
        direction = "maximize" if maximize else "minimize"
        self._study = self._patiently(
            lambda: optuna.create_study(
                storage=self.storage, study_name=name, direction=direction, load_if_exists=True
            )
        )

    def names(self) -> list[str]:
        """Return the names of all studies in the storage."""
        found = self._patiently(self.storage.get_all_studies)
        return [study.study_name for study in found]

    def notes(self, name: str | None = None) -> dict[str, Any]:
        """Return what was noted about this study, or about another one in the storage."""
        if name is None:
            return dict(self._patiently(lambda: self._study.user_attrs))
        other = self._patiently(lambda: self.storage.get_study_id_from_name(name))
        return dict(self._patiently(lambda: self.storage.get_study_user_attrs(other)))

    def note(self, key: str, value: Any) -> None:
        """Note a JSON value about the study."""
        self._patiently(lambda: self._study.set_user_attr(key, value))

    def attempts(self) -> list[Attempt]:
        """Return all trials of ours by number; those whose process is gone are marked lost."""
        found = []
        for trial in self._trials():
            if "key" not in trial.user_attrs:
                continue
            state = _state(trial)
            if state == RUNNING and self._gone(trial):
                self._bury(trial)
                found.append(self.attempt(trial._trial_id))
            else:
                found.append(_attempt(trial))
        return found

    def attempt(self, trial_id: int) -> Attempt:
        """Return a trial as it is now."""
        return _attempt(self._patiently(lambda: self.storage.get_trial(trial_id)))

    def take(
        self, piece: Piece, forbids: Callable[[Attempt], bool], limit: int | None = None
    ) -> Held | None:
        """Claim a piece of work.

        Args:
            piece: the work.
            forbids: tells of an earlier trial whether it leaves no room for this one.
            limit: how many trials that are not lost there may be.

        Returns:
            The claim, or None if another process was first or the limit is reached.
        """
        optuna = load_optuna()
        draft = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=dict(piece.params),
            distributions=dict(piece.distributions),
            user_attrs={**piece.attrs, "key": piece.key, "holder": self._mark.content()},
        )
        # should a failing storage have carried it out all the same, that trial never beats: it is
        # lost before long
        trial_id = self._patiently(
            lambda: self.storage.create_new_trial(self._study._study_id, draft)
        )
        before = []
        number = -1
        for attempt in self.attempts():
            if attempt.trial_id == trial_id:
                number = attempt.number
                break
            before.append(attempt)
        taken = any(forbids(one) for one in before)
        full = limit is not None and sum(one.state != LOST for one in before) >= limit
        if taken or full:
            self.lose(trial_id, "another was first" if taken else "enough trials")
            return None
        return Held(self, number, trial_id)

    def settle(self, trial_id: int, attrs: Mapping[str, Any], value: float | None) -> bool:
        """Record the result of a trial, the state last; False if it was lost meanwhile."""
        outcome = FAILED if value is None else FINISHED
        told = {**attrs, "outcome": {"state": outcome, "value": value}}
        for key, content in told.items():
            if not self._update(self.storage.set_trial_user_attr, trial_id, key, content):
                return False
        return self._close(trial_id, value)

    def lose(self, trial_id: int, reason: str) -> None:
        """Mark a trial as one whose work is to be done again."""
        if self._update(self.storage.set_trial_user_attr, trial_id, "lost", reason):
            self._close(trial_id, None)

    def _close(self, trial_id: int, value: float | None) -> bool:
        states = load_optuna().trial.TrialState
        state = states.FAIL if value is None else states.COMPLETE
        values = None if value is None else [value]
        return self._update(self.storage.set_trial_state_values, trial_id, state, values)

    def _update(self, change: Callable[..., Any], trial_id: int, *values: Any) -> bool:
        """Change a trial; False if another process has closed it."""
        try:
            self._patiently(lambda: change(trial_id, *values))
        except RuntimeError as error:  # Optuna's word for a closed trial, and not for that alone
            if self.attempt(trial_id).state == RUNNING:
                raise failure(self.address, error) from None
            return False
        return True

    def _bury(self, trial: Any) -> None:
        """Close a trial whose process is gone, by its result if that was recorded, else as lost."""
        outcome = trial.user_attrs.get("outcome")
        if outcome is not None:
            self._close(trial._trial_id, outcome["value"])
        else:
            self.lose(trial._trial_id, GONE)

    def _gone(self, trial: Any) -> bool:
        if ended(trial.user_attrs.get("holder"), self._mark.place):
            return True
        count, now = trial.user_attrs.get("beat", 0), time.monotonic()
        known = self._seen.get(trial._trial_id)
        if known is None or known[0] != count:
            self._seen[trial._trial_id] = (count, now)
            return False
        return now - known[1] > self.stale_after

    def _trials(self) -> list[Any]:
        return self._patiently(lambda: self._study.get_trials(deepcopy=False))

    def _patiently(self, call: Callable[[], Result]) -> Result:
        """Call the storage again, up to a minute, while it cannot be reached."""
        exceptions = load_optuna().exceptions
        for wait in (*_WAITS, None):
            try:
                return call()
            except exceptions.StorageInternalError as error:
                if wait is None:
                    raise failure(self.address, error) from None
            except (OSError, ValueError) as error:  # a journal that is damaged or out of reach
                raise failure(self.address, error) from None
            time.sleep(wait)
        raise AssertionError("unreachable")


def _state(trial: Any) -> str:
    states = load_optuna().trial.TrialState
    if trial.state == states.COMPLETE:
        return FINISHED
    if trial.state in (states.RUNNING, states.WAITING):
        return RUNNING
    outcome = trial.user_attrs.get("outcome") or {}
    return FAILED if outcome.get("state") == FAILED and "lost" not in trial.user_attrs else LOST


def _attempt(trial: Any) -> Attempt:
    attrs = trial.user_attrs
    return Attempt(
        trial.number,
        trial._trial_id,
        attrs.get("key", ""),
        _state(trial),
        trial.value,
        trial.params,
        attrs,
    )

"""Which settings come next in a shared search, decided by what the study holds.

Draw number n of a study is seeded by the search's seed and n, whoever makes it: a search that was
stopped goes on as if it had not been, and random search draws the same settings on any number of
workers. Samplers are Optuna's, on a copy of the study in memory, so that drawing leaves no trace.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from recbole_slif.hyper.results import key_of
from recbole_slif.hyper.space import Parameter, settle
from recbole_slif.sharing.address import load_optuna
from recbole_slif.sharing.study import FINISHED, GONE, LOST, RUNNING, Attempt, Piece

_DEFAULT_TRIALS = 100
_REDRAWS = 50
_SEEN = (FINISHED, RUNNING)


def distribution(parameter: Parameter) -> Any:
    """Return Optuna's distribution of a parameter.

    `quniform` draws the multiples of its step that hyperopt's does; the bounds of `loguniform` are
    those of the logarithm.
    """
    kinds = load_optuna().distributions
    if parameter.kind == "choice":
        return kinds.CategoricalDistribution(parameter.flat())
    if parameter.kind != "quniform":
        return kinds.FloatDistribution(*parameter.ends(), log=parameter.kind == "loguniform")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the last digit of a multiple
        return kinds.FloatDistribution(*parameter.ends(), step=parameter.values[2])


def combinations(parameters: Sequence[Parameter]) -> Iterator[dict[str, Any]]:
    """Return all combinations of choices as Optuna's values, the last parameter fastest."""
    names = [parameter.name for parameter in parameters]
    for values in itertools.product(*(parameter.flat() for parameter in parameters)):
        yield dict(zip(names, values, strict=True))


class Draws:
    """Chooses the next settings of a study.

    Args:
        parameters: what is searched.
        algo: `exhaustive`, `random` or `bayes`.
        max_evals: most trials of the whole study; None means all combinations or 100.
        seed: of the draws.
        maximize: whether greater scores are better.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        algo: str,
        max_evals: int | None,
        seed: int,
        maximize: bool,
    ) -> None:
        self.parameters = list(parameters)
        self.algo = algo
        self.seed = seed
        self.maximize = maximize
        self.distributions = {one.name: distribution(one) for one in parameters}
        self.limit = max_evals or _DEFAULT_TRIALS
        if algo == "exhaustive":
            sizes = [len({key_of({"": value}) for value in one.values}) for one in parameters]
            self.limit = min(max_evals or math.prod(sizes), math.prod(sizes))

    def next(self, attempts: Sequence[Attempt]) -> Piece | None:
        """Return the settings to try next, lost ones first; None if there is nothing now.

        The settings may be those of a finished trial: a draw that repeats one counts as a trial.
        """
        done = {one.key for one in attempts if one.state != LOST}
        made = _made(attempts)
        for one in attempts:
            # who withdrew may have drawn other settings under the number of who went on
            drawn = one.attrs.get("draw") in made
            if one.state == LOST and one.key not in done and not drawn:
                attrs = {key: one.attrs[key] for key in ("settings", "draw") if key in one.attrs}
                return Piece(one.key, one.params, self.distributions, attrs)
        if self.algo == "exhaustive":
            pieces = (self._piece(values) for values in combinations(self.parameters))
            return next((piece for piece in pieces if piece.key not in done), None)
        return self._drawn(attempts)

    def _drawn(self, attempts: Sequence[Attempt]) -> Piece | None:
        running = {one.key for one in attempts if one.state == RUNNING}
        made = _made(attempts)
        number = next(at for at in itertools.count() if at not in made)
        for again in range(_REDRAWS):
            piece = self._piece(self._sample(attempts, number, again), draw=number)
            if piece.key not in running:
                return piece
        return None

    def _sample(self, attempts: Sequence[Attempt], number: int, again: int) -> dict[str, Any]:
        optuna = load_optuna()
        words = np.random.SeedSequence([self.seed, number, again]).generate_state(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of features that Optuna calls experimental
            if self.algo == "random":
                sampler = optuna.samplers.RandomSampler(seed=int(words[0]))
            else:
                sampler = optuna.samplers.TPESampler(seed=int(words[0]), constant_liar=True)
        direction = "maximize" if self.maximize else "minimize"
        study = optuna.create_study(direction=direction, sampler=sampler)
        if self.algo == "bayes":
            study.add_trials([self._known(one) for one in attempts if one.state in _SEEN])
        return dict(study.ask(self.distributions).params)

    def _known(self, attempt: Attempt) -> Any:
        optuna = load_optuna()
        states = optuna.trial.TrialState
        return optuna.trial.create_trial(
            state=states.RUNNING if attempt.state == RUNNING else states.COMPLETE,
            value=attempt.value,
            params=dict(attempt.params),
            distributions=self.distributions,
        )

    def _piece(self, values: dict[str, Any], **attrs: Any) -> Piece:
        settings = {name: settle(value) for name, value in values.items()}
        attrs = {"settings": settings, **attrs}
        return Piece(key_of(settings), values, self.distributions, attrs)


def _made(attempts: Sequence[Attempt]) -> set[int]:
    """Return the numbers of the draws that a trial is at or has tried."""
    return {one.attrs["draw"] for one in attempts if one.state != LOST and "draw" in one.attrs}


def losses(attempts: Sequence[Attempt], key: str) -> int:
    """Count how often the process that was at some settings ended before they were tried."""
    return sum(one.key == key and one.attrs.get("lost") == GONE for one in attempts)

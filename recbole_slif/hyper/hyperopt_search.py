"""A search in one process through RecBole's `HyperTuning`, decided by the validation metric."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from recbole.trainer import HyperTuning

from recbole_slif.hyper.results import (
    Row,
    Train,
    TrialsFile,
    best_of,
    key_of,
    table,
    trained_row,
)
from recbole_slif.hyper.space import Parameter, check_algorithm, settle


def without_progress(limit: int) -> Callable[..., tuple[bool, list[Any]]]:
    """Return hyperopt's rule to end a search, `limit` trials without a smaller loss.

    A trial that failed has no loss and is no progress.
    """

    def stop(trials: Any, best: float | None = None, idle: int = 0) -> tuple[bool, list[Any]]:
        loss = trials.trials[-1]["result"].get("loss")
        if loss is not None and (best is None or loss < best):
            return False, [loss, 0]
        return idle + 1 >= limit, [best, idle + 1]

    return stop


class Search(HyperTuning):
    """RecBole's search with kept trials, a seed, and failures that do not end it.

    Args:
        train: takes the trial's settings and returns what `quick_start.objective` returns.
        parameters: what is searched.
        algo: `exhaustive`, `random` or `bayes`.
        max_evals: most trials; None means all combinations (exhaustive) or 100.
        trials: finished trials, which are not trained again.
        seed: of the draws.
        early_stop: trials without progress after which random and bayes end.
    """

    best_score: float | None
    best_params: dict[str, Any] | None

    def __init__(
        self,
        train: Train,
        parameters: Sequence[Parameter],
        algo: str = "exhaustive",
        max_evals: int | None = None,
        trials: TrialsFile | None = None,
        seed: int = 2020,
        early_stop: int = 10,
    ) -> None:
        check_algorithm(algo, parameters)
        space = {entry.name: entry.space() for entry in parameters}
        super().__init__(train, space=space, algo=algo, early_stop=early_stop)
        sizes = [len(entry.values) for entry in parameters if entry.kind == "choice"]
        if algo == "exhaustive":
            self.max_evals = int(np.prod(sizes))
        # exhaustive: a duplicate draw is no progress, so no early end before all combinations are
        # seen; else a rule of our own, since hyperopt's asks a failed trial for its loss
        self.early_stop_fn = None if algo == "exhaustive" else without_progress(early_stop)
        self.max_evals = min(self.max_evals, max_evals) if max_evals else self.max_evals
        self.seed = seed
        self.trials = trials
        self.rows: list[Row] = []
        self._kept = {} if trials is None else trials.read()

    def trial(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Train with one set of values, or take the result from its file."""
        import hyperopt

        settings = {name: settle(value) for name, value in params.items()}
        key = key_of(settings)
        row = self._kept.get(key) or self._train(settings, key)
        self.rows.append(row)
        if row["score"] is None:
            return {"status": hyperopt.STATUS_FAIL}
        score, bigger = row["score"], row["bigger"]
        best = self.best_score
        if best is None or (score > best if bigger else score < best):
            self.best_score, self.best_params = score, settings
        return {"loss": -score if bigger else score, "status": hyperopt.STATUS_OK}

    def _train(self, settings: dict[str, Any], key: str) -> Row:
        row = trained_row(self.objective_function, settings)
        if self.trials is not None:
            self.trials.append(row)
        self._kept[key] = row
        return row

    def run(self) -> None:
        """Search, with hyperopt's progress bar.

        Raises:
            SlifError: every trial failed.
        """
        from hyperopt import fmin
        from hyperopt.exceptions import AllTrialsFailed

        with contextlib.suppress(AllTrialsFailed):
            fmin(
                self.trial,
                self.space,
                algo=self.algo,
                max_evals=self.max_evals,
                early_stop_fn=self.early_stop_fn,
                rstate=np.random.default_rng(self.seed),
                return_argmin=False,
            )
        best_of(self.rows)

    def table(self) -> str:
        """Lay out the trials, best first."""
        return table(self.rows)

"""A search whose trials run on Ray, on this machine or on the cluster that `RAY_ADDRESS` names.

Ray only carries trials out. What is tried is decided by `draws`, as in a shared search, and each
trial is our own training, which reports the validation metric: RecBole's own use of Ray hands the
test metrics to the search.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from functools import partial
from typing import Any

from recbole_slif.console import one_line
from recbole_slif.errors import ConfigError, SlifError
from recbole_slif.hyper.results import Row, Train, TrialsFile, trained_row
from recbole_slif.hyper.shared_search import Task, without_progress
from recbole_slif.sharing.study import FAILED, FINISHED, RUNNING, Attempt, Piece

_SCORE = "valid_score"
# Ray would move each trial into a folder of its own, where relative paths mean something else, and
# send usage statistics.
_SURROUNDINGS = {"RAY_CHDIR_TO_TRIAL_DIR": "0", "RAY_USAGE_STATS_ENABLED": "0"}


def load_ray() -> Any:
    """Import Ray with its `tune`.

    Raises:
        ConfigError: it is not installed, or is a version that cannot be imported.
    """
    try:
        import ray
        import ray.tune.search
    except Exception as error:  # versions that RecBole asks for fail in many ways
        raise ConfigError(
            f"--backend=ray: ray cannot be imported ({one_line(error)}); "
            "pip install -U 'ray[tune]', or take --backend=optuna"
        ) from None
    return ray


class Course:
    """What has been tried, in one process that hands trials out.

    Args:
        task: what is searched and how.
        known: finished trials by their settings, which are not trained again.
    """

    def __init__(self, task: Task, known: Mapping[str, Row]) -> None:
        self.task = task
        self.draws = task.draws()
        self.known = dict(known)
        self.attempts: list[Attempt] = []

    def next(self) -> Attempt | None:
        """Begin the next trial that needs a training; None if there is none now."""
        while not self.over():
            piece = self.draws.next(self.attempts)
            if piece is None:
                return None
            attempt = self._begin(piece)
            row = self._earlier(piece)
            if row is None:
                return attempt
            self.end(attempt.number, row)
        return None

    def over(self) -> bool:
        """Tell whether no further trial is to begin."""
        if len(self.attempts) >= self.draws.limit:
            return True
        return self.task.algo != "exhaustive" and without_progress(self.task, self.attempts)

    def end(self, number: int, row: Row) -> None:
        """Note what came of a trial."""
        begun = self.attempts[number]
        state = FAILED if row["score"] is None else FINISHED
        attrs = {**begun.attrs, "row": row}
        self.attempts[number] = Attempt(
            number, number, begun.key, state, row["score"], begun.params, attrs
        )

    def rows(self) -> list[Row]:
        """Return the rows of the trials that ended."""
        return [one.attrs["row"] for one in self.attempts if one.state != RUNNING]

    def _begin(self, piece: Piece) -> Attempt:
        number = len(self.attempts)
        begun = Attempt(number, number, piece.key, RUNNING, None, piece.params, piece.attrs)
        self.attempts.append(begun)
        return begun

    def _earlier(self, piece: Piece) -> Row | None:
        for one in self.attempts:
            if one.key == piece.key and one.state != RUNNING:
                return dict(one.attrs["row"])
        return self.known.get(piece.key)


def trial(train: Train, config: Mapping[str, Any]) -> dict[str, Any]:
    """Carry one trial out, in a process of Ray's; the row goes as text, since Ray flattens it."""
    row = trained_row(train, dict(config["settings"]))
    score = row["score"]
    return {"row": json.dumps(row), _SCORE: float("nan") if score is None else score}


def _searcher(ray: Any, course: Course, file: TrialsFile) -> Any:
    """Return the course as Ray asks for it: suggestions, and word of what came of them."""
    base: Any = ray.tune.search.Searcher

    class Searching(base):
        """Hands out what the course says."""

        def __init__(self) -> None:
            super().__init__(metric=_SCORE, mode="max" if course.task.maximize else "min")
            self._numbers: dict[str, int] = {}

        def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
            """Return settings, None to be asked again, or the word for the end."""
            attempt = course.next()
            if attempt is None:
                return str(base.FINISHED) if course.over() else None
            self._numbers[trial_id] = attempt.number
            return {"settings": dict(attempt.attrs["settings"])}

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
        ) -> None:
            """Take the row of a trial; one that Ray lost has none."""
            number = self._numbers.pop(trial_id)
            settings = course.attempts[number].attrs["settings"]
            row: Row = {"params": settings, "score": None, "error": "Ray could not carry it out"}
            if result and "row" in result:
                row = json.loads(result["row"])
            course.end(number, row)
            file.append(row)

        def save(self, checkpoint_path: str) -> None:
            """Keep nothing: the trials' file is what a search goes on from."""

        def restore(self, checkpoint_path: str) -> None:
            """Keep nothing."""

    return Searching()


def run_on_ray(task: Task, file: TrialsFile, workers: int) -> list[Row]:
    """Search on Ray.

    Args:
        task: what is searched and how.
        file: finished trials, which are not trained again; new ones are added.
        workers: most trials at a time.

    Returns:
        The rows of all trials.

    Raises:
        ConfigError: Ray or Optuna, whose samplers draw, is not installed.
        SlifError: Ray failed.
    """
    ray = load_ray()
    course = Course(task, file.read())
    for name, value in _SURROUNDINGS.items():
        os.environ.setdefault(name, value)
    started = not ray.is_initialized()
    try:
        if started:
            ray.init(include_dashboard=False, log_to_driver=task.debug, logging_level="WARNING")
        _fit(ray, course, file, workers)
    except Exception as error:
        if task.debug:
            raise
        raise SlifError(f"Ray failed: {one_line(error)}") from None
    finally:
        if started:
            ray.shutdown()
    return course.rows()


def _fit(ray: Any, course: Course, file: TrialsFile, workers: int) -> None:
    tune = ray.tune
    with tempfile.TemporaryDirectory() as scratch:
        tuner = tune.Tuner(
            partial(trial, course.task.train),
            tune_config=tune.TuneConfig(
                num_samples=course.draws.limit,
                search_alg=_searcher(ray, course, file),
                max_concurrent_trials=workers,
            ),
            run_config=tune.RunConfig(storage_path=scratch, verbose=1),
        )
        tuner.fit()

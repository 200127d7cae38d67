"""All kinds of a `.hyper` file as Optuna's distributions; draws that depend on the study alone."""

import math

import pytest

from recbole_slif.hyper import Parameter
from recbole_slif.hyper.draws import Draws, combinations, distribution
from recbole_slif.sharing.study import FAILED, FINISHED, LOST, RUNNING, Attempt
from tests.hyper.joining import GRID, LINE


def drawn(parameter, count=200):
    draws = Draws([parameter], "random", None, 1, True)
    found = [attempt(at, draws.next(past(at)), FINISHED, 0.0) for at in range(count)]
    return [one.attrs["settings"][parameter.name] for one in found]


def past(count):
    """So many trials of other settings."""
    return [Attempt(at, at, f"other {at}", FINISHED, 0.0, {}, {"draw": at}) for at in range(count)]


def attempt(number, piece, state, value=None, **attrs):
    return Attempt(number, number, piece.key, state, value, piece.params, {**piece.attrs, **attrs})


def search(draws, states, score=lambda settings: settings["a"]):
    """Let draws follow one another; `states` says what became of each."""
    attempts = []
    for state in states:
        piece = draws.next(attempts)
        value = score(piece.attrs["settings"]) if state == FINISHED else None
        attempts.append(attempt(len(attempts), piece, state, value))
    return attempts


def test_choices_keep_their_kinds():
    values = (1, 2.5, "x", None, [64, 32], True)
    found = drawn(Parameter("a", "choice", values))
    for value in values:
        assert any(one == value and type(one) is type(value) for one in found)


def test_uniform_and_loguniform():
    found = drawn(Parameter("a", "uniform", (2.0, 3.0)))
    assert 2 <= min(found) < 2.1 and 2.9 < max(found) <= 3
    logs = [math.log(value) for value in drawn(Parameter("a", "loguniform", (-8.0, -2.0)))]
    assert -8 <= min(logs) < -7.5 and -2.5 < max(logs) <= -2
    assert 0.35 < sum(value < -5 for value in logs) / len(logs) < 0.65


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ((1.0, 4.0, 1.0), {1.0, 2.0, 3.0, 4.0}),
        ((0.0, 0.5, 0.1), {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}),
        ((1.0, 5.0, 2.0), {2.0, 4.0}),  # as hyperopt's: multiples of the step
        ((0.1, 0.2, 5.0), {0.0}),
    ],
)
def test_quniform_draws_what_hyperopt_draws(values, wanted):
    import numpy as np
    from hyperopt.pyll.stochastic import sample

    parameter = Parameter("a", "quniform", values)
    space, rng = parameter.space(), np.random.default_rng(0)
    theirs = {round(float(sample(space, rng)), 9) for _ in range(200)}
    assert {round(value, 9) for value in drawn(parameter)} == theirs == wanted


def test_every_kind_has_a_distribution():
    for kind, values in (("choice", ("x",)), ("uniform", (0.0, 1.0)),
                         ("quniform", (0.0, 1.0, 0.5)), ("loguniform", (-1.0, 1.0))):  # fmt: skip
        assert distribution(Parameter("a", kind, values))


def test_exhaustive_draws_each_combination_once_and_lost_ones_again():
    draws = Draws(GRID, "exhaustive", None, 1, True)
    assert draws.limit == 8
    attempts = search(draws, [FINISHED, RUNNING, FAILED, LOST, *[FINISHED] * 5])
    assert attempts[4].key == attempts[3].key
    kept = [one.key for one in attempts if one.state != LOST]
    assert len(set(kept)) == len(kept) == 8
    assert draws.next(attempts) is None
    values = [dict(one.params) for one in attempts if one.state != LOST]
    assert values == list(combinations(GRID))
    assert Draws(GRID, "exhaustive", 3, 1, True).limit == 3
    assert Draws([Parameter("a", "choice", (1, 1, 2))], "exhaustive", None, 1, True).limit == 2


@pytest.mark.parametrize("algo", ["random", "bayes"])
def test_draws_follow_from_seed_and_study_alone(algo):
    whole = search(Draws(LINE, algo, None, 7, True), [FINISHED] * 15)
    again = search(Draws(LINE, algo, None, 7, True), [FINISHED] * 15)
    assert [one.key for one in whole] == [one.key for one in again]
    assert Draws(LINE, algo, None, 7, True).next(whole[:12]).key == whole[12].key
    other = search(Draws(LINE, algo, None, 8, True), [FINISHED] * 15)
    assert not {one.key for one in whole} & {one.key for one in other}


def test_random_draws_do_not_depend_on_who_is_at_what():
    alone = search(Draws(LINE, "random", None, 7, True), [FINISHED] * 6)
    beside = search(Draws(LINE, "random", None, 7, True), [RUNNING, FINISHED, RUNNING] * 2)
    assert [one.key for one in alone] == [one.key for one in beside]


def test_bayes_learns_from_scores():
    def near(settings):
        return -abs(settings["a"] - 5.0)

    up = search(Draws(LINE, "bayes", None, 3, True), [FINISHED] * 60, near)
    late = [one.attrs["settings"]["a"] for one in up[40:]]
    assert sum(abs(value - 5) < 0.7 for value in late) > len(late) / 2
    down = search(Draws(LINE, "bayes", None, 3, False), [FINISHED] * 60, lambda s: -near(s))
    late = [one.attrs["settings"]["a"] for one in down[40:]]
    assert sum(abs(value - 5) < 0.7 for value in late) > len(late) / 2


def test_running_settings_are_not_drawn_a_second_time():
    draws = Draws([Parameter("a", "choice", (1, 2))], "random", None, 1, True)
    first = draws.next([])
    running = [attempt(0, first, RUNNING)]
    other = draws.next(running)
    assert other.key != first.key
    assert draws.next([*running, attempt(1, other, RUNNING)]) is None

"""`check_recommender`: run every check on a model and list what failed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from recbole_slif.errors import ConfigError
from recbole_slif.testing import checks, leaks, spies
from recbole_slif.testing.trial import Bench, CheckFailure

Check = Callable[[Bench], None]
_ALL: tuple[Check, ...] = (
    checks.gradients_reach_every_parameter,
    checks.tiny_set_is_overfitted,
    checks.saved_scores_are_identical,
    checks.same_seed_repeats,
    checks.evaluation_is_deterministic,
    checks.gaps_in_the_data_are_survived,
    checks.tables_equal_forward,
    checks.training_clears_cached_scores,
    checks.both_predictions_agree,
    checks.parts_of_a_batch_add_up,
    leaks.training_sees_the_train_split_alone,
    leaks.held_out_pairs_are_in_no_graph,
    leaks.held_out_pairs_change_nothing,
    spies.held_out_pairs_wait_for_their_turn,
)
CHECKS: dict[str, Check] = {check.__name__: check for check in _ALL}


def check_recommender(
    model: str | type,
    data_folder: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    skip: Collection[str] = (),
) -> list[str]:
    """Run the checklist on a model; takes seconds on a CPU and needs no data.

    The model may be any pairwise RecBole model, or one that learns from train pairs alone;
    `score_tables`, the epoch hooks and `calculate_kg_loss` are used where it has them. Its own
    settings come from its YAML, from the class attribute `config_defaults`, or from `overrides`:

        from recbole_slif.testing import check_recommender
        check_recommender(MyModel, overrides={"learning_rate": 0.01})

    `overrides={"use_gpu": True}` runs it on a GPU. Checks that ask for the same bits may fail
    there, where sums have no fixed order.

    Args:
        model: a class, or a name the command line knows.
        data_folder: where the tiny data sets are written and kept; a temporary folder by default.
        overrides: configuration keys for every check.
        skip: names of checks to leave out, see `CHECKS`.

    Returns:
        The names of the checks that were run.

    Raises:
        CheckFailure: at least one check failed; the text lists all that did.
        ConfigError: `skip` names a check that does not exist.
    """
    strange = sorted(set(skip) - set(CHECKS))
    if strange:
        raise ConfigError(f"there is no check '{strange[0]}': choose from {', '.join(CHECKS)}")
    wanted = {name: check for name, check in CHECKS.items() if name not in skip}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary if data_folder is None else data_folder)
        bench = Bench(model, folder, overrides or {})
        failed = {name: _failure(check, bench) for name, check in wanted.items()}
    lines = [f"  {name}: {reason}" for name, reason in failed.items() if reason]
    if lines:
        title = model if isinstance(model, str) else model.__name__
        count = f"{len(lines)} of {len(wanted)} checks"
        raise CheckFailure("\n".join([f"{title} fails {count}:", *lines]))
    return list(wanted)


def _failure(check: Check, bench: Bench) -> str:
    """Run one check; return why it failed, or an empty text."""
    try:
        check(bench)
    except CheckFailure as failure:
        return str(failure)
    except Exception as error:  # a model that breaks in one check still gets all the others
        return f"{type(error).__name__}: {error}"
    return ""

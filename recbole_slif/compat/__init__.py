"""The only place that bends RecBole 1.2.1 to current libraries.

`apply()` registers every fix of the table to be made when its module is imported. A fix whose cause
is absent (the old interface still exists) does nothing. `report()` tells the doctor what was done.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from recbole_slif.compat import libraries, upstream
from recbole_slif.compat.hooks import Around, HookFinder


@dataclass(frozen=True)
class Fix:
    """One fault and its cure.

    Attributes:
        name: short name shown by the doctor and used by the tests.
        modules: the modules whose import is the moment to act.
        fault: what goes wrong without the fix.
        upstream: where the fault is known: an issue, or the library change that causes it.
        around: context manager entered around the import of each module.
        needed: tells whether this environment has the fault.
    """

    name: str
    modules: tuple[str, ...]
    fault: str
    upstream: str
    around: Around
    needed: Callable[[], bool] = lambda: True


def _after(patch: Callable[[ModuleType], None]) -> Around:
    """Turn a function to be called after an import into a context manager around it."""

    @contextmanager
    def around(module: ModuleType) -> Iterator[None]:
        yield
        patch(module)

    return around


_DATASET = "recbole.data.dataset.dataset"
_KG_DATASET = "recbole.data.dataset.kg_dataset"
_SEARCH = "recbole.trainer.hyper_tuning"
_CONFIG = "recbole.config.configurator"
_MODELS = "recbole.model"
_UNPICKLING = (
    f"{_MODELS}.general_recommender.convncf",
    f"{_MODELS}.general_recommender.ldiffrec",
    f"{_MODELS}.general_recommender.nais",
    f"{_MODELS}.general_recommender.neumf",
    f"{_MODELS}.general_recommender.ract",
    f"{_MODELS}.context_aware_recommender.kd_dagfm",
    f"{_MODELS}.sequential_recommender.s3rec",
)

FIXES = (
    Fix(
        "numpy-names",
        ("recbole",),
        "np.float_, np.complex_, np.unicode_ and older aliases are read but gone",
        "numpy 2.0 removal; RecBole #2215",
        _after(libraries.add_numpy_names),
        libraries.numpy_names_missing,
    ),
    Fix(
        "scipy-dok-update",
        ("recbole",),
        "LightGCN, NGCF, KGIN and MCCLK of RecBole call dok_matrix._update",
        "scipy 1.13 removal",
        _after(libraries.add_dok_update),
        libraries.dok_update_missing,
    ),
    Fix(
        "pandas-fill",
        (_DATASET,),
        "missing tokens and numbers stay missing, without a message",
        "pandas 3 copy-on-write",
        _after(libraries.fill_missing_values),
        libraries.pandas_copies_on_write,
    ),
    Fix(
        "pandas-sequence-cells",
        (_DATASET,),
        "a missing cell of a sequence column stops the reader",
        "pandas 3 copy-on-write",
        _after(libraries.read_missing_sequences),
        libraries.pandas_copies_on_write,
    ),
    Fix(
        "pandas-sequence-lengths",
        (_DATASET, _KG_DATASET),
        "Series.agg(len) gives one number, so every sequence column stops the loader",
        "pandas 3 change of Series.agg",
        _after(libraries.measure_sequences),
        libraries.pandas_copies_on_write,
    ),
    Fix(
        "hyperopt-generator",
        (_SEARCH,),
        "exhaustive search draws from a RandomState where a Generator is asked for",
        "hyperopt 0.2.6 change",
        _after(libraries.search_with_generator),
        libraries.hyperopt_wants_generator,
    ),
    Fix(
        "hyperopt-pkg-resources",
        ("hyperopt.atpe",),
        "hyperopt 0.2.x imports pkg_resources, which setuptools 82 no longer has",
        "setuptools 82 removal",
        libraries.lend_pkg_resources,
        libraries.hyperopt_lacks_pkg_resources,
    ),
    Fix(
        "literals-only",
        (_CONFIG, _SEARCH),
        "strings of the command line and of search files are run as code",
        "RecBole 1.2.1 configurator and hyper_tuning",
        _after(upstream.literals_only),
    ),
    Fix(
        "plain-files",
        _UNPICKLING,
        "weights and matrices that a model is given are unpickled, which runs code from them",
        "RecBole 1.2.1 models with files of their own",
        _after(upstream.read_plain_files),
    ),
    Fix(
        "teacher-names",
        (f"{_MODELS}.context_aware_recommender.kd_dagfm",),
        "the key teacher is run as code",
        "RecBole 1.2.1 KD_DAGFM",
        _after(upstream.name_teachers),
    ),
    Fix(
        "collector-counts",
        ("recbole.evaluator.collector",),
        "ItemCoverage, AveragePopularity, GiniIndex and the like stop the evaluation",
        "RecBole 1.2.1 collector",
        _after(upstream.collect_anything),
    ),
    Fix(
        "pop-counts",
        ("recbole.model.general_recommender.pop",),
        "Pop counts an item once a batch, and drawn negatives as well",
        "RecBole 1.2.1 Pop",
        _after(upstream.count_every_pair),
    ),
    Fix(
        "anomaly-mode",
        ("recbole.model.sequential_recommender.sine",),
        "looking up a knowledge model makes all training slower, up to twice",
        "RecBole 1.2.1 SINE",
        upstream.anomaly_unchanged,
    ),
    Fix(
        "use-gpu",
        (_CONFIG,),
        "use_gpu: False still picks the GPU",
        "RecBole 1.2.1 configurator",
        _after(upstream.honour_use_gpu),
    ),
)

_finder = HookFinder()


def apply() -> None:
    """Register the fixes this environment needs; calling it again changes nothing."""
    if any(type(finder).__name__ == HookFinder.__name__ for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _finder)
    for fix in FIXES:
        if _is_needed(fix):
            for module in fix.modules:
                _finder.watch(module, fix.around)


def _is_needed(fix: Fix) -> bool:
    """Ask a fix about this environment; a library that is missing is the doctor's business."""
    try:
        return fix.needed()
    except ModuleNotFoundError:
        return False


def report() -> list[dict[str, str]]:
    """List each fix with its state.

    Returns:
        One dictionary per fix with `name`, `fault`, `upstream` and `state`: `active`, `waiting`
        (its module has not been imported yet) or `not needed`.
    """
    rows = []
    for fix in FIXES:
        names = {"name": fix.name, "fault": fix.fault, "upstream": fix.upstream}
        rows.append({**names, "state": _state(fix)})
    return rows


def _state(fix: Fix) -> str:
    """Say what became of one fix."""
    if not _finder.watches(fix.around):
        return "not needed"
    loaded = all(module in sys.modules for module in fix.modules)
    return "active" if loaded else "waiting"

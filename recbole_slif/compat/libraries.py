"""What current numpy, scipy, pandas and hyperopt no longer offer and RecBole 1.2.1 still uses.

Every function here takes the RecBole module it repairs, right after that module was executed.
"""

from __future__ import annotations

import importlib.resources
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType, SimpleNamespace
from typing import Any

_NUMPY_ALIASES = {
    "float_": "float64",
    "complex_": "complex128",
    "unicode_": "str_",
    "bool": "bool_",
    "int": "int_",
    "float": "float64",
    "complex": "complex128",
    "object": "object_",
    "str": "str_",
    "long": "int_",
    "unicode": "str_",
}


def installed(distribution: str) -> tuple[int, ...]:
    """Return the leading numbers of a distribution's version, () if it is not installed."""
    try:
        text = version(distribution)
    except PackageNotFoundError:
        return ()
    numbers = []
    for part in text.split("+")[0].split(".")[:3]:
        digits = "".join(c for c in part if c.isdigit())
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def numpy_names_missing() -> bool:
    """Say whether numpy lacks a name that RecBole's modules read."""
    import numpy as np

    return any(alias not in vars(np) for alias in _NUMPY_ALIASES)


def add_numpy_names(_: ModuleType) -> None:
    """Give numpy the removed names; a name that exists keeps its meaning."""
    import numpy as np

    for alias, target in _NUMPY_ALIASES.items():
        if alias not in vars(np):  # asking with hasattr warns of names to come
            setattr(np, alias, getattr(np, target))


def dok_update_missing() -> bool:
    """Say whether scipy's dictionary-of-keys matrix lost its unchecked update."""
    from scipy.sparse import dok_matrix

    return not hasattr(dok_matrix, "_update")


def add_dok_update(_: ModuleType) -> None:
    """Let RecBole's own graph models fill a `dok_matrix` from a dictionary of (row, column)."""
    from scipy.sparse import dok_matrix

    def update(self: Any, entries: dict[tuple[int, int], float]) -> None:
        for (row, column), value in entries.items():
            self._dict[(int(row), int(column))] = value

    dok_matrix._update = update


def pandas_copies_on_write() -> bool:
    """Say whether pandas (3 and later) hands out columns as copies."""
    return installed("pandas") >= (3,)


def fill_missing_values(module: ModuleType) -> None:
    """Assign the filled column instead of filling a copy of it."""
    import numpy as np

    token, number = module.FeatureType.TOKEN, module.FeatureType.FLOAT
    token_sequence = module.FeatureType.TOKEN_SEQ

    def fill_column(column: Any, kind: Any) -> Any:
        if kind == token:
            return column.fillna(0)
        if kind == number:
            return column.fillna(column.mean())
        empty = np.array([], dtype=np.int64 if kind == token_sequence else np.float64)
        return column.map(lambda cell: empty if isinstance(cell, float) else cell)

    def _fill_nan(self: Any) -> None:
        for table in (getattr(self, name) for name in self.feat_name_list):
            for field in list(table):
                table[field] = fill_column(table[field], self.field2type[field])

    module.Dataset._fill_nan = _fill_nan


class _PandasReadingSequences:
    """pandas as RecBole's reader sees it: missing cells of sequence columns read as empty."""

    def __init__(self, pandas: ModuleType) -> None:
        self._pandas = pandas

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pandas, name)

    def read_csv(self, *args: Any, **kwargs: Any) -> Any:
        frame = self._pandas.read_csv(*args, **kwargs)
        for header in frame.columns:
            if str(header).endswith("_seq"):  # an atomic file's header is `field:type`
                frame[header] = frame[header].fillna("")
        return frame


def read_missing_sequences(module: ModuleType) -> None:
    """Make missing sequence cells empty strings before RecBole splits them."""
    module.pd = _PandasReadingSequences(module.pd)  # type: ignore[attr-defined]


def measure_sequences(module: ModuleType) -> None:
    """Restore the element-wise meaning of `Series.agg(len)` in one RecBole module.

    pandas 3 hands the whole series to the function, so the module gets a `len` of its own that
    answers a series of sequences with the series of their lengths.
    """
    import pandas as pd

    def length(value: Any) -> Any:
        if isinstance(value, pd.Series) and value.dtype == object:
            return value.map(len)
        return len(value)

    module.len = length  # type: ignore[attr-defined]


def hyperopt_wants_generator() -> bool:
    """Say whether hyperopt draws with numpy's `Generator` (0.2.6 and later)."""
    return installed("hyperopt") >= (0, 2, 6)


class _NumpyDrawingWithGenerator:
    """numpy as RecBole's search sees it: its random state is a `Generator`."""

    def __init__(self, numpy: ModuleType) -> None:
        self._numpy = numpy
        self.random = SimpleNamespace(RandomState=numpy.random.default_rng)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._numpy, name)


def search_with_generator(module: ModuleType) -> None:
    """Hand hyperopt the generator it asks for in RecBole's exhaustive search."""
    module.np = _NumpyDrawingWithGenerator(module.np)  # type: ignore[attr-defined]


def hyperopt_lacks_pkg_resources() -> bool:
    """Say whether hyperopt 0.2.x would import a module that setuptools 82 dropped."""
    found = installed("hyperopt")
    return () < found < (0, 3) and importlib.util.find_spec("pkg_resources") is None


@contextmanager
def lend_pkg_resources(module: ModuleType) -> Iterator[None]:
    """Offer the one function hyperopt 0.2.x uses, while it is being imported and to it alone."""

    def resource_string(package: str, name: str) -> bytes:
        return importlib.resources.files(package.rpartition(".")[0]).joinpath(name).read_bytes()

    stand_in = ModuleType("pkg_resources")
    read: Callable[[str, str], bytes] = resource_string
    stand_in.resource_string = read  # type: ignore[attr-defined]
    sys.modules["pkg_resources"] = stand_in
    try:
        yield
    finally:
        sys.modules.pop("pkg_resources", None)

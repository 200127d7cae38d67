"""Hyper-parameter search decided by the validation metric alone; the test split is not read.

A search writes three files beside each other: the result table, the trials (JSON lines) and the
best settings as YAML, ready for `--config_files`. `hyperopt_search` is RecBole's `HyperTuning` in
one process; `shared_search` spreads a search over processes and machines through a storage of
Optuna's; `ray_search` runs it on Ray where that is installed.
"""

from recbole_slif.hyper.cli import main, search_command
from recbole_slif.hyper.hyperopt_search import Search
from recbole_slif.hyper.space import Parameter, check_space, read_space

__all__ = ["Parameter", "Search", "check_space", "main", "read_space", "search_command"]

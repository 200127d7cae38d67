"""The command `import`: a checkpoint that RecBole wrote becomes one of this package's.

RecBole pickles its whole configuration, so opening such a file runs code from it; no other command
does. RecBole numbers users and items in the order of its files, this package by their tokens: rows
are put in the new order by reading RecBole's data set once more.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from recbole.utils import ModelType
from torch import Tensor

from recbole_slif import checkpoint as files
from recbole_slif import factory
from recbole_slif.config import SlifConfig
from recbole_slif.config_yaml import split_names
from recbole_slif.console import Parser, guarded, usable
from recbole_slif.errors import CheckpointError, ConfigError

_BEHIND_USERS = ("item", "entity")  # in the one table that some models have
_EPILOG = """\
all other --key=value options are settings of the model, as for run

WARNING: a RecBole checkpoint is a pickle; opening it runs whatever code is in it. Import files of
your own, or of people whose code you would run.

example:
  recbole-slif import saved/BPR-Jan-01-2026_00-00-00.pth --model=BPR --dataset=ml-100k \\
      --embedding_size=64 --trust_pickle
  recbole-slif recommend --checkpoint=saved/BPR-ml-100k-imported --users=196 \\
      --exclude=train,valid,test
"""
_OTHER_SPLIT = (
    "note: the split drawn here is not RecBole's, so what the model was trained on lies in all "
    "three parts: recommend with --exclude=train,valid,test, and test it on no part"
)


def _parser() -> Parser:
    text = "Turn a checkpoint that RecBole wrote into one that loads without running code."
    parser = Parser("import", text, _EPILOG)
    parser.usage = "recbole-slif import FILE --model=NAME --dataset=NAME --trust_pickle"
    parser.add_argument("--model", required=True, help="the model that was saved")
    parser.add_argument("--dataset", required=True, help="the data set it was trained on")
    parser.add_argument("--config_files", help="YAML files, parted by commas")
    parser.add_argument(
        "--out", metavar="FOLDER", help="default CHECKPOINT_DIR/MODEL-DATASET-imported"
    )
    parser.add_argument(
        "--ids",
        default="recbole",
        choices=("recbole", "ours"),
        help="whose numbers of users and items the rows have, default recbole",
    )
    parser.add_argument(
        "--trust_pickle", action="store_true", help="run the code in the file; needed"
    )
    return parser


def import_command(words: Sequence[str]) -> int:
    """Import a checkpoint as the command line asks."""
    named = [word for word in words[:1] if not word.startswith("-")]
    options, settings = _parser().parse_known_args(words[len(named) :])
    if not named:
        raise ConfigError("name the file to import: recbole-slif import FILE --model=...")
    if not options.trust_pickle:
        raise CheckpointError(
            f"'{named[0]}' may run code when opened; add --trust_pickle if you trust its origin"
        )
    print(f"warning: opening '{named[0]}' runs the code in it", file=sys.stderr)
    config = SlifConfig(
        options.model, options.dataset, split_names(options.config_files), argv=settings
    )
    name = f"{config['model']}-{config['dataset']}-imported"
    out = Path(options.out or Path(config["checkpoint_dir"]) / name)
    path = import_checkpoint(named[0], config, out, reorder=options.ids == "recbole")
    print(f"checkpoint   {usable(path)}")
    return 0


def import_checkpoint(file: Path | str, config: Any, out: Path, reorder: bool = True) -> Path:
    """Read a RecBole checkpoint, running the code in it, and write `best.pt` into `out`.

    Where no files fix the split, it is said that this package draws another one than RecBole.

    Args:
        file: RecBole's `.pth`; its origin is trusted.
        config: settings of the model.
        out: folder to write into.
        reorder: put rows of users and items from RecBole's order into ours.

    Returns:
        The checkpoint written.

    Raises:
        CheckpointError: the file is no RecBole checkpoint, or does not fit model or data.
    """
    bundle = factory.load_data(config)
    model = factory.build_model(config, bundle)
    content = files.read_recbole_checkpoint(file)
    weights, extras = dict(content["state_dict"]), content.get("other_parameter") or {}
    if reorder and model.type == ModelType.CONTEXT:
        raise CheckpointError(
            f"'{file}': {config['model']} keeps all columns in one table, whose rows cannot be put "
            "into this package's order; train it here"
        )
    if reorder:
        orders = _row_orders(file, content["config"], config, bundle)
        weights, extras = _reordered(weights, orders, file), _extras(extras, orders, file)
    files.restore_model(model, {"parameters": weights, "extras": extras, "epoch": {}}, file)
    kind = type(model)
    header = {
        "kind": "best",
        "model": config["model"],
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "dataset": config["dataset"],
        "epoch": content.get("epoch"),
        "identity": factory.identity(config, bundle),
        "config": factory.saved_settings(config),
    }
    path = out / files.BEST
    files.save(path, files.Checkpoint(header, {"model": files.model_state(model)}))
    if bundle.statistics["protocol"] != "benchmark":
        print(_OTHER_SPLIT, file=sys.stderr)
    return path


def _row_orders(file: Path | str, theirs: Any, config: Any, bundle: Any) -> dict[str, np.ndarray]:
    """Return for users and items the row of RecBole's table of each of our ids.

    So too for entities and relations, where RecBole read them.
    """
    from recbole.data import create_dataset

    theirs["data_path"] = str(bundle.dataset.dataset_path)
    theirs["dataset"] = config["dataset"]  # the folder may have another name since
    numbered = create_dataset(theirs)
    orders = {}
    for kind in ("user", "item", "entity", "relation"):
        key = f"{kind.upper()}_ID_FIELD"
        field, known = config[key], numbered.field2token_id.get(theirs[key])
        if known is None:  # no graph was read
            continue
        tokens = bundle.dataset.field2id_token[field].tolist()
        if set(tokens) != set(known):
            raise CheckpointError(
                f"'{file}' does not fit: RecBole numbered {len(known) - 1} values of '{field}' in "
                f"these files, here there are {len(tokens) - 1}; the filters differ"
            )
        orders[kind] = np.array([known[token] for token in tokens], dtype=np.int64)
    return orders


def _reordered(
    weights: Mapping[str, Tensor], orders: Mapping[str, np.ndarray], file: Path | str
) -> dict[str, Tensor]:
    """Put the rows of each table of one kind into our order; other tensors stay."""
    found = {}
    joint = {len(orders["user"]) + len(orders[kind]) for kind in orders if kind in _BEHIND_USERS}
    for name, tensor in weights.items():
        rows, *others = tensor.shape or (0,)
        kinds = _kinds(rows, orders)
        named = [kind for kind in kinds if kind in name.lower()]
        across = any(set(_kinds(length, orders)) & {"user", "item"} for length in others)
        if rows in joint or across or (kinds and len(named) != 1):
            raise CheckpointError(
                f"'{file}': it cannot be told whose numbers the {rows} rows of '{name}' have, or "
                "its columns; import models that keep users and items in tables named after them, "
                "or train this one here"
            )
        if named:
            tensor = tensor.index_select(0, torch.from_numpy(orders[named[0]]))
        found[name] = tensor
    return found


def _kinds(length: int, orders: Mapping[str, np.ndarray]) -> list[str]:
    return [kind for kind, order in orders.items() if len(order) == length]


def _extras(
    extras: Mapping[str, Any], orders: Mapping[str, np.ndarray], file: Path | str
) -> dict[str, Any]:
    """Put what a model keeps beside its weights, counts and similarities, into our order."""
    found = {}
    for name, value in extras.items():
        kinds = [_kinds(length, orders) for length in getattr(value, "shape", ())]
        ids = any("entity" in each for each in kinds) and "float" not in str(value.dtype)
        if isinstance(value, Mapping) or ids or any(len(each) > 1 for each in kinds):
            raise CheckpointError(
                f"'{file}': '{name}' holds numbers of users, items or entities that cannot be told "
                "apart from others; train this model here"
            )
        for axis, each in enumerate(kinds):
            value = _taken(value, axis, orders[each[0]]) if each else value
        found[name] = value
    return found


def _taken(value: Any, axis: int, order: np.ndarray) -> Any:
    if isinstance(value, Tensor):
        return value.index_select(axis, torch.from_numpy(order))
    if sp.issparse(value):
        rows = value.tocsr()
        return (rows[order] if axis == 0 else rows[:, order]).asformat(value.format)
    return np.take(value, order, axis)


def main(argv: Sequence[str]) -> int:
    """Import; a mistake in the input is one line on stderr and exit code 2."""
    return guarded(import_command, argv)

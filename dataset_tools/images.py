"""`images`: turns pictures of items, or vectors of Amazon, into features, a row per item."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, groupby
from pathlib import Path

import numpy as np

from recbole_slif.errors import ConfigError, DataError

from . import faults as fault_log
from .batches import Vectors, digest, encode_batches
from .faults import Faults
from .pictures import BrokenPictureError, Picture, find_pictures, open_picture, read_owners
from .progress import bar
from .tokens import read_tokens
from .writing import save_pieces

DESCRIPTION = """\
Encode pictures with a network and write a float16 matrix NAME.visual.npy with the item tokens
beside it in NAME.visual.ids, or bring Amazon's file of 4,096 numbers per item into this form. A
picture is named after its item; several of one item are averaged (--several). Broken pictures are
counted and named. A killed run goes on where it stopped and ends with the same bytes."""
EXAMPLES = """\
  python -m dataset_tools images --folder pictures --name shop --out dataset/shop \\
      --items dataset/shop/shop.inter
  python -m dataset_tools images --folder pictures --backbone timm:vit_base_patch16_224 \\
      --weights vit.safetensors --name shop --out dataset/shop --device cuda
  python -m dataset_tools images --folder photos --index photos.json \\
      --index-fields photo_id business_id --name yelp2018 --out dataset/yelp2018
  python -m dataset_tools images --amazon image_features_Books.b --name amazon-book \\
      --items dataset/amazon-book/amazon-book.train.inter --out dataset/amazon-book"""
_NAMED, _AT_ONCE = 5, 512
_LARGEST = float(np.finfo(np.float16).max)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `images`."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--folder", type=Path, help="pictures: TOKEN.jpg, TOKEN_2.jpg, TOKEN/x.png")
    source.add_argument("--amazon", type=Path, help="file of ASIN and 4,096 float32 each")
    parser.add_argument("--name", required=True, help="data set name in the file names")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two files")
    parser.add_argument("--modality", default="visual", help="default: %(default)s")
    parser.add_argument("--items", nargs="+", type=Path, help="take the items of these files alone")
    parser.add_argument("--item-field", default="item_id", help="its name there: %(default)s")
    parser.add_argument("--index", type=Path, help="JSON lines that say which item a file shows")
    parser.add_argument(
        "--index-fields",
        nargs=2,
        default=["photo_id", "business_id"],
        metavar=("FILE", "ITEM"),
        help="keys of file name and item in --index; default: photo_id business_id",
    )
    parser.add_argument(
        "--several",
        choices=("mean", "max", "first"),
        default="mean",
        help="of an item with several pictures, by element or by file name; default: %(default)s",
    )
    parser.add_argument(
        "--backbone",
        default="resnet50",
        help="a torchvision name, timm:NAME, or a package with load_backbone; default: %(default)s",
    )
    parser.add_argument(
        "--weights", type=Path, help="a file of weights; default: the library's, downloaded"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1; default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=32, help="default: %(default)s")
    fault_log.add_options(parser)


def run(options: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        ConfigError: An option is out of range.
        DataError: Pictures, vectors or the backbone cannot be used.
    """
    if options.batch_size < 1:
        raise ConfigError(f"--batch-size: {options.batch_size} must be at least 1")
    faults, counts = Faults(), Counter[str]()
    known = read_tokens(options.items, options.item_field, faults) if options.items else None
    if known is not None and not known:
        raise DataError(f"--items: {options.items[0]} holds no item")
    stem = f"{options.name}.{options.modality}"
    if options.amazon:
        from .amazon_vectors import write_vectors

        check = partial(fault_log.refuse, faults, options)
        counts += write_vectors(options.amazon, options.out, stem, known, faults, check)
    else:
        counts += _encode_folder(options, stem, known, faults)
    if known is not None:
        counts["items of the data set without features"] = len(known) - counts["items"]
    print(options.out / f"{stem}.npy")
    fault_log.conclude(counts, faults, options)


def _encode_folder(
    options: argparse.Namespace, stem: str, known: set[str] | None, faults: Faults
) -> Counter[str]:
    from .backbones import load_backbone

    counts = Counter[str]()
    file_field, item_field = options.index_fields
    owners = None
    if options.index:
        owners = read_owners(options.index, file_field, item_field, faults)
    pictures = find_pictures(options.folder, known, owners, counts)
    backbone = load_backbone(options.backbone, options.weights, options.device)
    kept = options.out / f".{stem}.partial"
    vectors = encode_pictures(backbone, pictures, options.batch_size, kept, _identity(options))
    found = [np.isnan(piece).any(axis=1) for piece in vectors.pieces("look for broken pictures")]
    broken = np.concatenate(found)
    if broken.any():
        names = [pictures[place].path for place in np.flatnonzero(broken)[:_NAMED]]
        shown = ", ".join(Path(path).relative_to(options.folder).as_posix() for path in names)
        faults.add(f"broken pictures (first: {shown})", options.folder, count=int(broken.sum()))
    fault_log.refuse(faults, options)
    if broken.all():
        raise DataError(f"{options.folder}: all {len(pictures):,} pictures are broken")
    sound = (shown.item for shown, lost in zip(pictures, broken, strict=True) if not lost)
    tokens = [item for item, _ in groupby(sound)]
    pieces = item_pieces(pictures, vectors, broken, options.several)
    save_pieces(options.out, stem, pieces, vectors.dim, np.dtype("<f2"), tokens)
    kept.unlink()
    counts["pictures read"] = len(pictures) - int(broken.sum())
    counts["pictures broken"] = int(broken.sum())
    return counts + Counter({"items": len(tokens), "dimensions": vectors.dim})


def _identity(options: argparse.Namespace) -> str:
    """Return what vectors depend on beside the pictures: the network and its weights."""
    weights = options.weights
    stamp = f"{weights.stat().st_size} {weights.stat().st_mtime_ns}" if weights else ""
    return f"{options.backbone} {weights} {stamp}"


def encode_pictures(
    backbone: object, pictures: Sequence[Picture], batch_size: int, kept: Path, name: str
) -> Vectors:
    """Encode pictures in their order.

    Args:
        backbone: See `backbones.Backbone`.
        pictures: What to encode.
        batch_size: Of one call of the network.
        kept: File for finished batches, from which a killed run goes on.
        name: What the vectors depend on beside the pictures.

    Returns:
        `[n, dim]` float32 on disk; rows of broken pictures are NaN.

    Raises:
        DataError: No picture of the first batch can be read, or the network gives no numbers.
    """
    stamps = (f"{shown.path} {os.stat(shown.path).st_mtime_ns}" for shown in pictures)
    identity = digest(chain([name, str(batch_size)], stamps))
    order = np.arange(len(pictures))
    encoder = _Encoder(backbone, pictures)
    return encode_batches(kept, identity, order, batch_size, encoder, "encode pictures")


class _Encoder:
    """Encodes batches of pictures; what cannot be read becomes NaN."""

    def __init__(self, backbone: object, pictures: Sequence[Picture]) -> None:
        from .backbones import Backbone

        self._backbone: Backbone = backbone  # type: ignore[assignment]
        self._pictures, self._dim = pictures, 0

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        import torch

        inputs, places = [], []
        for place, row in enumerate(rows.tolist()):
            try:
                picture = open_picture(Path(self._pictures[row].path))
            except BrokenPictureError:
                continue
            inputs.append(self._backbone.prepare(picture))
            places.append(place)
        if not inputs:
            return np.full((len(rows), self._width()), np.nan, dtype=np.float32)
        found = self._backbone.encode(torch.stack(inputs))
        self._dim = found.shape[1]
        if not (np.abs(found) <= _LARGEST).all():
            raise DataError("--backbone: it gave numbers that are not finite in float16")
        vectors = np.full((len(rows), self._dim), np.nan, dtype=np.float32)
        vectors[places] = found
        return vectors

    def _width(self) -> int:
        """Return the number of dimensions, asking the network with a grey picture if need be."""
        if not self._dim:
            import torch
            from PIL import Image

            grey = self._backbone.prepare(Image.new("RGB", (64, 64), (127, 127, 127)))
            self._dim = self._backbone.encode(torch.stack([grey])).shape[1]
        return self._dim


def item_pieces(
    pictures: Sequence[Picture], vectors: Vectors, broken: np.ndarray, several: str
) -> Iterator[np.ndarray]:
    """Yield the rows of items, `[m, dim]` float16 of a few items at once.

    Args:
        pictures: Sorted by item.
        vectors: Of each picture.
        broken: `[n]` pictures to leave out.
        several: See `one_row_per_item`.
    """
    items = [shown.item for shown in pictures]
    begin = 0
    with bar(len(pictures), "write pictures", unit="row") as shown:
        while begin < len(pictures):
            end = min(begin + _AT_ONCE, len(pictures))
            while end < len(pictures) and items[end] == items[end - 1]:
                end += 1
            sound = np.flatnonzero(~broken[begin:end])
            if len(sound):
                chosen = [pictures[begin + place] for place in sound.tolist()]
                found = vectors.read(begin, end)[sound]
                yield one_row_per_item(chosen, found, several)[1]
            shown.update(end - begin)
            begin = end


def one_row_per_item(
    pictures: Sequence[Picture], vectors: np.ndarray, several: str
) -> tuple[list[str], np.ndarray]:
    """Bring the vectors of an item's pictures together.

    Args:
        pictures: Sorted by item.
        vectors: `[n, dim]` float32 of these pictures.
        several: `mean` or `max` by element, or `first` by file name.

    Returns:
        Item tokens and `[items, dim]` float16.
    """
    items = np.array([picture.item for picture in pictures], dtype=object)
    starts = np.flatnonzero(np.append(True, items[1:] != items[:-1]))
    if several == "max":
        merged = np.maximum.reduceat(vectors, starts)
    elif several == "mean":
        sizes = np.diff(np.append(starts, len(items)))
        sums = np.add.reduceat(vectors, starts, dtype=np.float64)
        merged = sums / sizes[:, None]
    else:
        merged = vectors[starts]
    return items[starts].tolist(), merged.astype(np.float16)

"""Which picture belongs to which item, and opening one without trusting it."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recbole_slif.errors import DataError

from .faults import Faults
from .records import read_records
from .reviews import token_of
from .tokens import canonical

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
# EPS and the like would run another program.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_TWO = "pictures named after an item in the folder of another, which they show"
_NUMBER = re.compile(r"[-_ ]\d+$")


class Picture(NamedTuple):
    """A file and the item that it shows."""

    item: str
    path: str


class BrokenPictureError(Exception):
    """A file is no picture that can be read."""


def find_pictures(
    folder: Path,
    known: Collection[str] | None,
    owners: dict[str, str] | None,
    counts: Counter[str],
) -> list[Picture]:
    """Return the pictures of a folder, by item and file name.

    Each file in a folder named after an item shows it, `TOKEN/left.jpg`, whatever its own name;
    other files show the item that they are named after, `TOKEN.jpg`, and, where `known` has `TOKEN`
    and not `TOKEN_2`, `TOKEN_2.jpg`.

    Args:
        folder: Searched with all below it.
        known: Item tokens to take; None takes all.
        owners: File name, with suffix or without, to item, where names are not tokens.
        counts: Receives files that show none of the items, and those whose own name is that of
            another item than their folder's.

    Raises:
        DataError: There is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder of pictures")
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if path.suffix.lower() not in SUFFIXES or not path.is_file():
                continue
            item = _item_of(path.relative_to(folder), known, owners)
            if item == "":
                counts["pictures whose name can be no item id"] += 1
            elif item:
                found.append(Picture(item, path.as_posix()))
                if owners is None and item != path.stem and path.stem in (known or ()):
                    counts[_TWO] += 1
            else:
                counts["pictures of no item of the data set"] += 1
    if not found:
        kinds = ", ".join(sorted(SUFFIXES))
        raise DataError(
            f"{folder}: no picture ({kinds}) of an item; files must be named after item tokens"
        )
    rank = {item: place for place, item in enumerate(canonical({shown.item for shown in found}))}
    found.sort(key=lambda shown: (rank[shown.item], shown.path))
    return found


def _item_of(
    path: Path, known: Collection[str] | None, owners: dict[str, str] | None
) -> str | None:
    """Return the item that a picture shows, None for none, empty where its name can be no id."""
    if owners is not None:
        item = owners.get(path.stem) or owners.get(path.name)
        return item if item and (known is None or item in known) else None
    # The folder comes first: of items with numbers as tokens, 12/3.jpg shows 12 and not 3.
    names = [*path.parts[:-1][:1], path.stem]
    if known is None:
        return token_of(names[0])
    names.append(_NUMBER.sub("", path.stem))
    return next((name for name in names if name in known), None)


def read_owners(path: Path, file_field: str, item_field: str, faults: Faults) -> dict[str, str]:
    """Read from JSON lines which item each picture shows, as Yelp's `photos.json` says it.

    Raises:
        DataError: The file cannot be read.
    """
    found: dict[str, str] = {}
    for number, item, record in read_records(path, item_field, faults):
        name = token_of(record.get(file_field))
        if not name:
            faults.add(f"lines without '{file_field}'", path, number)
        elif name in found and found[name] != item:
            faults.add("pictures that two lines give to two items", path, number)
            found[name] = min(item, found[name])
        else:
            found[name] = item
    return found


def open_picture(path: Path) -> Any:
    """Return an RGB picture, turned as its camera says.

    Raises:
        BrokenPictureError: The file is no picture, is cut off, or too large.
        DataError: Pillow is missing.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise DataError("pictures need a library; pip install pillow") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as picture:
                deep = picture.mode.startswith("I;16")
                deep |= (picture.mode, picture.format) == ("I", "PNG")
                upright = ImageOps.exif_transpose(picture)
                return (_in_bytes(upright) if deep else upright).convert("RGB")
    except Exception as error:  # Pillow raises what its decoders do
        raise BrokenPictureError(" ".join(str(error).split())) from error


def _in_bytes(picture: Any) -> Any:
    """Return a grey picture of 16 bits in 8; Pillow itself would make all but the darkest white."""
    from PIL import Image

    return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))

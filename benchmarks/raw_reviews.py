"""Writes a dump of reviews as large as you like, to measure `dataset_tools interactions` on.

`python -m benchmarks.raw_reviews 10000000 reviews.json.gz`: lines like Amazon's of 2014, with
a few activity-heavy users and items and very many rare ones, some reviews twice, some lines broken.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from pathlib import Path

import numpy as np

_CHUNK = 100_000
_TEXT = "It kept me reading all night; the second part is slower, but the end makes up for it. " * 2


def lines(generator: np.random.Generator, count: int, total: int) -> list[str]:
    """Return review lines of a dump that has `total` of them."""
    users = (total * generator.random(count) ** 1.6).astype(np.int64)
    items = (total // 5 * generator.random(count) ** 3).astype(np.int64)
    ratings = generator.integers(1, 6, count)
    days = generator.integers(12_000, 16_000, count)
    cut = generator.integers(40, len(_TEXT), count)
    found = [
        f'{{"reviewerID": "A{user:013d}", "asin": "{item:010d}", "overall": {rating}.0, '
        f'"reviewText": "{_TEXT[:end]}", "unixReviewTime": {day * 86_400}}}\n'
        for user, item, rating, day, end in zip(users, items, ratings, days, cut, strict=True)
    ]
    found[0] = found[0][: len(found[0]) // 2] + "\n"
    found[1] = found[2]
    return found


def main() -> int:
    """Write the dump that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("path", type=Path)
    options = parser.parse_args()
    generator = np.random.default_rng(1)
    with gzip.open(options.path, "wt", compresslevel=1, encoding="utf-8") as file:
        for start in range(0, options.count, _CHUNK):
            size = min(_CHUNK, options.count - start)
            file.writelines(lines(generator, size, options.count))
    return 0


if __name__ == "__main__":
    sys.exit(main())

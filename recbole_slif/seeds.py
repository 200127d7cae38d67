"""The training seeds of a comparison or an experiment, from the command line or a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from recbole_slif.errors import ConfigError

MOST_SEEDS = 1000
"""More is a slip of the keyboard, and a list of so many runs would fill the memory."""

LARGEST_SEED = 2**32 - 1


def require_count(count: int, where: str) -> int:
    """Return a number of seeds.

    Raises:
        ConfigError: it is not between 1 and `MOST_SEEDS`; the text begins with `where`.
    """
    if not 1 <= count <= MOST_SEEDS:
        raise ConfigError(
            f"{where} is a number of seeds from 1 to {MOST_SEEDS} or a list such as 1,2,3, "
            f"not '{count}'"
        )
    return count


def parse_seeds(text: str | None) -> list[int] | int | None:
    """Read `5` as a number of seeds and `1,2,3` as the seeds themselves.

    Raises:
        ConfigError: neither of both, or a seed stands twice, which would count one run as two.
    """
    if text is None:
        return None
    try:
        seeds = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        seeds = []
    if not seeds:
        raise ConfigError(f"--seeds is a number of seeds or a list such as 1,2,3, not '{text}'")
    repeated = [seed for seed, times in Counter(seeds).items() if times > 1]
    if repeated:
        raise ConfigError(f"--seeds names {repeated[0]} more than once; give each seed once")
    return seeds if "," in text else require_count(seeds[0], "--seeds")


def training_seeds(asked: Sequence[int] | int, base: int) -> list[int]:
    """Return the seeds themselves, from `base` on where their number is asked for.

    Raises:
        ConfigError: too many are asked for, or one of them is none; the last one as well is told
            before the first run.
    """
    if isinstance(asked, int):
        seeds = [base + step for step in range(require_count(asked, "seeds"))]
    else:
        seeds = list(asked)
    for seed in seeds:
        if not 0 <= seed <= LARGEST_SEED:
            raise ConfigError(f"seeds: a seed must be between 0 and {LARGEST_SEED}, not {seed}")
    return seeds

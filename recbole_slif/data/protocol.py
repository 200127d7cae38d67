"""The split protocols. Their results must never stand in one table.

`ratio_811`: each user's interactions at random 80/10/10, the paper's words (Section IV-A).
`benchmark`: public train and test files; validation is drawn from train. This is what Table II's
numbers really come from.
`eval_args`: whatever RecBole's key `eval_args` asks for (leave-one-out, time order, other ratios).

Splits depend on the tokens and `split_seed` alone: not on the order of lines in a file, nor on any
global random state, nor on the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.data.locate import interaction_files, missing_file
from recbole_slif.errors import ConfigError
from recbole_slif.graph.grouping import group_by_key

RATIOS = (0.8, 0.1, 0.1)
PROTOCOLS = ("auto", "ratio_811", "benchmark", "eval_args")
PHASES = ("train", "valid", "test")


def option(config: Any, key: str, default: Any) -> Any:
    """Return a configuration value, or the default where the key is absent or null."""
    value = config[key] if key in config else None  # noqa: SIM401 - RecBole's config has no get()
    return default if value is None else value


def choose_protocol(config: Any, folder: Path, name: str) -> tuple[str, list[tuple[Path, int]]]:
    """Decide on the protocol and the files it reads.

    Args:
        config: Keys `protocol`, `benchmark_filename`, `eval_args`.
        folder: The data set's folder.
        name: The data set's name.

    Returns:
        The protocol's name and `(file, phase)` pairs, phase 0 train, 1 valid, 2 test. Without
        `.inter`, the public files are pooled for the protocols that split by themselves.

    Raises:
        ConfigError: Unknown protocol, or keys that contradict it.
        DataError: The files that the protocol needs are missing.
    """
    protocol = option(config, "protocol", "auto")
    listed = option(config, "benchmark_filename", None)
    default_split = _is_default(option(config, "eval_args", {}))
    if protocol not in PROTOCOLS:
        raise ConfigError(f"protocol: '{protocol}' is none of {', '.join(PROTOCOLS)}")
    if protocol in ("ratio_811", "eval_args") and listed:
        raise ConfigError(
            f"protocol: {protocol} splits by itself, but benchmark_filename is set; remove one"
        )
    if protocol == "ratio_811" and not default_split:
        raise ConfigError(
            "protocol: ratio_811 fixes the split, but eval_args asks for another; "
            "remove eval_args.split/group_by/order or set protocol: eval_args"
        )
    if listed:
        return "benchmark", _listed_files(folder, name, listed)
    files = interaction_files(folder, name)
    public = [(files[part], phase) for phase, part in enumerate(PHASES) if part in files]
    complete = "train" in files and "test" in files
    if protocol == "benchmark" and not complete:
        raise missing_file(folder, f"{name}.train.inter", f"{name}.test.inter")
    if protocol in ("benchmark", "auto") and complete:
        return "benchmark", _public_files(name, public, default_split)
    if protocol == "auto":
        protocol = "ratio_811" if default_split else "eval_args"
    if "all" in files:
        return protocol, [(files["all"], 0)]
    if not complete:
        raise missing_file(folder, f"{name}.inter (or {name}.train.inter with {name}.test.inter)")
    return protocol, [(path, 0) for path, _ in public]


def _public_files(
    name: str, public: list[tuple[Path, int]], default_split: bool
) -> list[tuple[Path, int]]:
    if not default_split:
        raise ConfigError(
            f"eval_args: {name}.train.inter and {name}.test.inter are split already (protocol "
            "benchmark); remove eval_args.split/group_by/order, or set protocol: eval_args to "
            "pool and split them anew"
        )
    return public


def _is_default(eval_args: Mapping[str, Any]) -> bool:
    split = eval_args.get("split") or {"RS": list(RATIOS)}
    ratios = split.get("RS") if isinstance(split, Mapping) else None
    same = (
        isinstance(ratios, list)
        and len(ratios) == len(RATIOS)
        and sum(ratios) > 0
        and np.allclose(np.array(ratios) / sum(ratios), RATIOS)
    )
    grouped = str(eval_args.get("group_by", "user")).lower() == "user"
    return same and grouped and eval_args.get("order", "RO") == "RO"


def _listed_files(folder: Path, name: str, listed: Sequence[str]) -> list[tuple[Path, int]]:
    phases = {2: (0, 2), 3: (0, 1, 2)}.get(len(listed))
    if phases is None:
        raise ConfigError(
            f"benchmark_filename: {list(listed)} must name train, (valid,) and test files"
        )
    paths = [folder / f"{name}.{part}.inter" for part in listed]
    absent = [path.name for path in paths if not path.is_file()]
    if absent:
        raise missing_file(folder, *absent)
    return list(zip(paths, phases, strict=True))


def _rank_within(groups: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each element's rank by `keys` within its group, and its group's size; both `[n]`."""
    order = np.argsort(keys)
    if (np.diff(keys[order]) == 0).any():
        order = np.argsort(keys, kind="stable")
    width = int(groups.max(initial=-1)) + 1
    within, offsets = group_by_key(groups[order].astype(np.int32), width)
    order = order[within]
    counts = np.diff(offsets)
    start, counts = offsets[:-1][counts > 0], counts[counts > 0]
    rank = np.empty(len(groups), dtype=np.int64)
    rank[order] = np.arange(len(groups)) - np.repeat(start, counts)
    size = np.empty(len(groups), dtype=np.int64)
    size[order] = np.repeat(counts, counts)
    return rank, size


def ratio_split(
    users: np.ndarray, seed: int, cut: Callable[[int], Sequence[int]]
) -> list[np.ndarray]:
    """Split each user's interactions at random.

    Args:
        users: `[n]` user of each interaction, in canonical order (by user, then item).
        seed: Of the draw.
        cut: Number of a user's interactions to the two ranks where validation and test begin
            (RecBole's rounding; a user with one interaction keeps it in train).

    Returns:
        Three ascending index arrays: train, valid, test.
    """
    part = parts_by_rank(users, np.random.default_rng(seed).random(len(users)), cut)
    return [np.flatnonzero(part == phase) for phase in range(3)]


def parts_by_rank(
    users: np.ndarray, keys: np.ndarray, cut: Callable[[int], Sequence[int]]
) -> np.ndarray:
    """Return the part of each interaction by its rank among its user's.

    Args:
        users: `[n]` user of each interaction.
        keys: `[n]` what they are ranked by; equal ones keep their order.
        cut: See `ratio_split`.

    Returns:
        `[n]` 0 train, 1 valid, 2 test.
    """
    rank, size = _rank_within(users, keys)
    sizes, inverse = np.unique(size, return_inverse=True)
    cuts = np.array([cut(int(n)) for n in sizes], dtype=np.int64).reshape(-1, 2)[inverse]
    return (rank >= cuts[:, 0]).astype(np.int64) + (rank >= cuts[:, 1])


def benchmark_split(
    users: np.ndarray, phases: np.ndarray, seed: int, valid_ratio: float, minimum: int
) -> list[np.ndarray]:
    """Keep the public files' split; without validation file, draw validation from train.

    Args:
        users: `[n]` user of each interaction, in canonical order.
        phases: `[n]` 0 train, 1 valid, 2 test.
        seed: Of the draw.
        valid_ratio: Share of each user's train interactions that becomes validation, rounded down
            but at least one; 0 draws none.
        minimum: Users with fewer train interactions give none.

    Returns:
        Three ascending index arrays: train, valid, test.
    """
    train = np.flatnonzero(phases == 0)
    valid = np.flatnonzero(phases == 1)
    if not len(valid) and valid_ratio > 0:
        keys = np.random.default_rng(seed).random(len(train))
        drawn = drawn_for_validation(users[train], keys, valid_ratio, minimum)
        train, valid = train[~drawn], train[drawn]
    return [train, valid, np.flatnonzero(phases == 2)]


def drawn_for_validation(
    users: np.ndarray, keys: np.ndarray, valid_ratio: float, minimum: int
) -> np.ndarray:
    """Return which train interactions become validation, `[n]` bool.

    Args:
        users: `[n]` user of each, with all of each user's train interactions.
        keys: `[n]` random numbers; each user's lowest are taken.
        valid_ratio: See `benchmark_split`.
        minimum: See `benchmark_split`.
    """
    rank, size = _rank_within(users, keys)
    wanted = np.maximum(1, np.floor(size * valid_ratio + 1e-9))
    wanted = np.where(size >= max(minimum, 2), np.minimum(wanted, size - 1), 0)
    return rank < wanted


def fingerprint(
    user_tokens: Sequence[str],
    item_tokens: Sequence[str],
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
) -> str:
    """Hash a split by its tokens; equal texts prove the same interactions in the same parts.

    Args:
        user_tokens: Tokens in id order, which is canonical.
        item_tokens: Tokens in id order.
        parts: `(users, items)` ids of train, valid and test, in any order of lines.

    Returns:
        16 hexadecimal digits of SHA-256.
    """
    digest = hashlib.sha256()
    for tokens in (user_tokens, item_tokens):
        digest.update("\n".join(tokens).encode("utf-8", "surrogatepass") + b"\0")
    for users, items in parts:
        pairs = np.sort(users.astype(np.int64) * len(item_tokens) + items)
        digest.update(len(pairs).to_bytes(8, "little") + pairs.astype("<i8").tobytes())
    return digest.hexdigest()[:16]

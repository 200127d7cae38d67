"""A tiny data set with what goes wrong in large ones: gaps, strangers, held-out pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MODALITIES: Mapping[str, int] = {"visual": 6, "text": 4}
N_USERS = 10
N_ITEMS = 14
N_OTHERS = 6
N_RELATIONS = 2
ITEMS_PER_USER = 4

Pairs = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Toy:
    """A written data set.

    Attributes:
        folder: value of the key `data_path`.
        name: name of the data set.
        train: the (user, item) tokens a model may learn from.
        held_out: the tokens of validation and test.
    """

    folder: Path
    name: str
    train: Pairs
    held_out: Pairs


def write_toy(
    folder: Path,
    name: str,
    held_out_seed: int = 0,
    lacking: float = 0.2,
    unlinked: int = 2,
    modalities: Mapping[str, int] = MODALITIES,
    n_users: int = N_USERS,
    n_items: int = N_ITEMS,
) -> Toy:
    """Write a data set of users in two tastes; each has a validation and a test item.

    Train pairs, graph and features are the same in all sets but for what the arguments take away,
    so two sets that differ in `held_out_seed` must lead to the same model.

    Args:
        folder: the data set's folder is made in it.
        name: name of the data set.
        held_out_seed: draws the validation and test items.
        lacking: share of items without features, drawn for each modality.
        unlinked: number of items without a link to the knowledge graph.
        modalities: name and width of each modality.
        n_users: number of users.
        n_items: number of items.
    """
    rng = np.random.default_rng(0)
    train = _train_pairs(n_users, n_items, rng)
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    parts = {"train": sorted(train)}
    parts |= _held_out(train, n_users, n_items, np.random.default_rng([1, held_out_seed]))
    for part, pairs in parts.items():
        rows = [(f"u{user}", f"i{item}") for user, item in pairs]
        _write(target / f"{name}.{part}.inter", ("user_id:token", "item_id:token"), rows)
    _write_knowledge(target / name, n_items - unlinked, rng)
    for modality, dim in modalities.items():
        _write_features(target / f"{name}.{modality}", n_items, dim, lacking, rng)
    held_out = [*parts["valid"], *parts["test"]]
    return Toy(folder, name, _tokens(parts["train"]), _tokens(held_out))


def _tokens(pairs: Iterable[tuple[int, int]]) -> Pairs:
    return frozenset((f"u{user}", f"i{item}") for user, item in pairs)


def _train_pairs(n_users: int, n_items: int, rng: np.random.Generator) -> set[tuple[int, int]]:
    """Each user takes items of its own taste (even or odd numbers); each item has a user."""
    pairs = {(item % n_users, item) for item in range(n_items)}
    for user in range(n_users):
        own = [item for item in range(n_items) if item % 2 == user % 2]
        pairs |= {(user, int(item)) for item in rng.choice(own, ITEMS_PER_USER, replace=False)}
    return pairs


def _held_out(
    train: set[tuple[int, int]], n_users: int, n_items: int, rng: np.random.Generator
) -> dict[str, list[tuple[int, int]]]:
    parts: dict[str, list[tuple[int, int]]] = {"valid": [], "test": []}
    for user in range(n_users):
        rest = [item for item in range(n_items) if (user, item) not in train]
        for part, item in zip(parts, rng.choice(rest, 2, replace=False), strict=True):
            parts[part].append((user, int(item)))
    return parts


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = ["\t".join(row) for row in (header, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_knowledge(stem: Path, n_linked: int, rng: np.random.Generator) -> None:
    triples = {
        (f"e{item}", f"r{rng.integers(N_RELATIONS)}", f"x{rng.integers(N_OTHERS)}")
        for item in range(n_linked)
        for _ in range(2)
    }
    for other in range(N_OTHERS):
        triples.add((f"x{other}", f"r{other % N_RELATIONS}", f"x{(other + 1) % N_OTHERS}"))
    header = ("head_id:token", "relation_id:token", "tail_id:token")
    _write(stem.with_name(f"{stem.name}.kg"), header, sorted(triples))
    links = [(f"i{item}", f"e{item}") for item in range(n_linked)]
    _write(stem.with_name(f"{stem.name}.link"), ("item_id:token", "entity_id:token"), links)


def _write_features(
    stem: Path, n_items: int, dim: int, lacking: float, rng: np.random.Generator
) -> None:
    matrix = rng.standard_normal((n_items, dim)).astype(np.float32)
    present = rng.permutation(n_items)[round(lacking * n_items) :]
    np.save(stem.with_name(f"{stem.name}.npy"), matrix[present])
    ids = "".join(f"i{item}\n" for item in present)
    stem.with_name(f"{stem.name}.ids").write_text(ids, encoding="utf-8")

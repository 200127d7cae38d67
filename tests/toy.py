"""Writes a tiny data set folder, the ground on which the tests stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

MODALITIES: Mapping[str, int] = {"visual": 6, "text": 4}
MISSING: Mapping[str, int] = {"visual": 2, "text": 1}


def toy_pairs(n_users: int, n_items: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Distinct (user, item) numbers; every user has at least five, every item at least one."""
    pairs = {(item % n_users, item) for item in range(n_items)}
    for user in range(n_users):
        wanted = int(rng.integers(5, max(6, n_items // 2) + 1))
        for item in rng.permutation(n_items)[: min(wanted, n_items - 2)]:
            pairs.add((user, int(item)))
    ordered = sorted(pairs)
    rng.shuffle(ordered)
    return ordered


def write_table(path: Path, header: list[str], rows: list[tuple]) -> None:
    """Write an atomic file: typed header, tab separated cells."""
    lines = ["\t".join(header), *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_interactions(
    folder: Path, name: str, pairs: list[tuple[int, int]], benchmark: bool
) -> None:
    header = ["user_id:token", "item_id:token"]
    rows = [(f"u{user}", f"i{item}") for user, item in pairs]
    if not benchmark:
        write_table(folder / f"{name}.inter", header, rows)
        return
    held: dict[str, int] = {}
    train, test = [], []
    for user, item in rows:
        held[user] = held.get(user, 0) + 1
        (test if held[user] == 2 else train).append((user, item))
    write_table(folder / f"{name}.train.inter", header, train)
    write_table(folder / f"{name}.test.inter", header, test)


def _write_knowledge(
    folder: Path, name: str, linked: list[int], n_other: int, n_relations: int, rng
) -> None:
    triples = set()
    for item in linked:
        for _ in range(int(rng.integers(1, 4))):
            relation, other = int(rng.integers(n_relations)), int(rng.integers(n_other))
            triples.add((f"e{item}", f"r{relation}", f"x{other}"))
    for other in range(n_other):
        triples.add((f"x{other}", f"r{other % n_relations}", f"x{(other + 1) % n_other}"))
    header = ["head_id:token", "relation_id:token", "tail_id:token"]
    write_table(folder / f"{name}.kg", header, sorted(triples))
    rows = [(f"i{item}", f"e{item}") for item in linked]
    write_table(folder / f"{name}.link", ["item_id:token", "entity_id:token"], rows)


def _write_features(folder: Path, stem: str, n_items: int, dim: int, missing: int, dtype, rng):
    # Correlated with the item number, so that a nearest neighbour graph is not pure noise.
    base = np.linspace(0.0, 3.0, n_items)[:, None] * np.arange(1, dim + 1)[None, :]
    matrix = (np.sin(base) + 0.1 * rng.standard_normal((n_items, dim))).astype(dtype)
    order = rng.permutation(n_items)
    present = order[: n_items - missing]
    np.save(folder / f"{stem}.npy", matrix[present])
    (folder / f"{stem}.ids").write_text("".join(f"i{item}\n" for item in present), "utf-8")


def write_toy(
    folder: Path,
    name: str = "toy",
    n_users: int = 12,
    n_items: int = 15,
    n_other_entities: int = 8,
    n_relations: int = 3,
    seed: int = 0,
    modalities: Mapping[str, int] = MODALITIES,
    unlinked: int = 2,
    missing: Mapping[str, int] = MISSING,
    dtype: str = "float32",
    benchmark: bool = False,
    knowledge: bool = True,
) -> Path:
    """Write data set `name` below `folder` and return `folder`, ready for the key `data_path`.

    Tokens are `u0..`, `i0..`, `e<item>` for linked entities, `x0..` for the others, `r0..` for
    relations. The last `unlinked` items have no link; `missing[m]` items lack modality `m`.
    `benchmark` writes `.train.inter` and `.test.inter` instead of one `.inter`;
    `knowledge=False` leaves `.kg` and `.link` out.
    """
    rng = np.random.default_rng(seed)
    target = Path(folder) / name
    target.mkdir(parents=True, exist_ok=True)
    _write_interactions(target, name, toy_pairs(n_users, n_items, rng), benchmark)
    items = [(f"i{item}", f"Title {item}", 1990 + item, "A B") for item in range(n_items)]
    header = ["item_id:token", "title:token_seq", "year:token", "genre:token_seq"]
    write_table(target / f"{name}.item", header, items)
    if knowledge:
        linked = list(range(n_items - unlinked))
        _write_knowledge(target, name, linked, n_other_entities, n_relations, rng)
    for modality, dim in modalities.items():
        lacking = missing.get(modality, 0)
        _write_features(target, f"{name}.{modality}", n_items, dim, lacking, dtype, rng)
    return Path(folder)


def edit_lines(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Rewrite a text file through a function of its lines (no line ends)."""
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")

"""Columns of tokens, in batches, become rows of numbers on disk; what two token files share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .number_file import NumberFile, NumberWriter
from .progress import bar
from .token_order import SortedTokens, TokenSorter

Column = Sequence[str] | np.ndarray


class NumberedRows:
    """Takes rows of three cells and numbers their tokens in canonical order, from 0.

    Args:
        folder: For its files.
        name: Begins the names of its own files.
        kinds: What the tokens of each column are, columns of one kind numbered together; None for
            a column of numbers.
    """

    def __init__(self, folder: Path, name: str, kinds: Sequence[str | None]) -> None:
        self._folder, self._name, self._kinds = folder, name, kinds
        self._sorters = {kind: TokenSorter(folder, kind) for kind in kinds if kind is not None}
        self._sizes: list[int] = []
        self._out = NumberWriter(folder / f"{name}.local")

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._out.size

    def add(self, columns: Sequence[Column]) -> None:
        """Append rows, `[n]` for each column; tokens hold no line end."""
        if not len(columns[0]):
            return
        found = list(columns)
        for kind, sorter in self._sorters.items():
            places = [at for at, other in enumerate(self._kinds) if other == kind]
            local = sorter.add([token for at in places for token in columns[at]])
            for at, part in zip(places, np.split(local, len(places)), strict=True):
                found[at] = part
        self._out.write(*(np.asarray(column) for column in found))
        self._sizes.append(len(columns[0]))

    def finish(self) -> tuple[NumberFile, dict[str, SortedTokens]]:
        """Return the rows in numbers of all tokens, and the tokens of each kind."""
        self._out.close()
        tokens = {}
        for kind, sorter in self._sorters.items():
            tokens[kind] = sorter.merge()
            sorter.drop()
        local = NumberFile(self._out.path)
        at = 0
        with (
            NumberWriter(self._folder / self._name) as out,
            bar(len(local), f"number {self._name}", unit="row") as shown,
        ):
            for batch, size in enumerate(self._sizes):
                rows = local.read(at, at + size)
                ranks = {kind: sorter.ranks(batch) for kind, sorter in self._sorters.items()}
                for column, of_column in enumerate(self._kinds):
                    if of_column is not None:
                        rows[:, column] = ranks[of_column][rows[:, column]]
                out.write(rows)
                at += size
                shown.update(size)
        local.path.unlink()
        return NumberFile(out.path), tokens

    def close(self) -> None:
        """Close the files; done twice, it changes nothing."""
        self._out.close()
        for sorter in self._sorters.values():
            sorter.close()


def places_in(tokens: SortedTokens, others: SortedTokens) -> np.ndarray:
    """Return the number that each token has among others, `[len(tokens)]` int64, -1 for none.

    Both are read once, in order.
    """
    found = np.full(len(tokens), -1, dtype=np.int64)
    pieces = others.pieces()
    start, known = next(pieces, (0, []))
    places = {token: start + place for place, token in enumerate(known)}
    for first, texts in tokens.pieces():
        row = 0
        while row < len(texts):
            text = texts[row]
            place = places.get(text)
            if place is None and known and (len(text), text) > (len(known[-1]), known[-1]):
                start, known = next(pieces, (0, []))
                places = {token: start + place for place, token in enumerate(known)}
                continue
            if place is not None:
                found[first + row] = place
            row += 1
    return found

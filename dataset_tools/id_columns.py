"""Columns of ids whose texts are made only where they are written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import numpy as np

from .number_file import NumberFile

Texts = Callable[[np.ndarray], list[str]]


class IdColumn:
    """A column of ids, made into texts only where it is written.

    Args:
        rows: The rows.
        column: Which of their numbers.
        texts: Gives the texts of some ids.
    """

    def __init__(self, rows: NumberFile, column: int, texts: Texts) -> None:
        self._rows, self._column, self._texts = rows, column, texts

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def cells(self, start: int, stop: int) -> list[str]:
        """Return the texts of rows `start` to `stop`."""
        return self._texts(self._rows.read(start, stop)[:, self._column])


class TextsOf(Collection[str]):
    """The tokens of some ids, made where they are read.

    Args:
        ids: `[n]`.
        tokens: Id to token.
    """

    def __init__(self, ids: np.ndarray, tokens: np.ndarray) -> None:
        self._ids, self._tokens = ids, tokens

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        """Yield the token of each."""
        return (self._tokens[number] for number in self._ids)

    def __contains__(self, token: object) -> bool:
        """Tell whether a token is among them."""
        return any(token == other for other in self)

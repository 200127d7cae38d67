"""What the ids of a release are called in atomic files: by names of its lists, or by numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.errors import DataError

from .marks import Marks
from .number_file import NumberFile
from .numbered_rows import NumberedRows
from .release_store import ListedNames, ReleaseStore
from .token_order import SortedTokens

_PREFIX = "http://rdf.freebase.com/ns/"
_Pieces = Iterator[tuple[np.ndarray, list[str]]]


class Labels:
    """Labels of ids: a name where there is one, else a prefix and the id.

    Args:
        prefix: Of ids without a name.
        named: Ids with a name; None for no names.
        names: Their names, in the order of ids.
    """

    def __init__(
        self, prefix: str, named: Marks | None = None, names: SortedTokens | None = None
    ) -> None:
        self._prefix, self._named, self._names = prefix, named, names

    def of(self, ids: np.ndarray) -> list[str]:
        """Return the labels of `[n]` ids."""
        found = [f"{self._prefix}{number}" for number in ids.tolist()]
        if self._named is not None and self._names is not None:
            places = np.flatnonzero(self._named.of(ids))
            names = self._names.texts(self._named.places(ids[places]))
            for place, name in zip(places.tolist(), names, strict=True):
                found[place] = name
        return found


def original_ids(
    names: ListedNames, used: Marks, what: str, path: Path, store: ReleaseStore
) -> Labels:
    """Return the original ids of users or items as labels.

    Args:
        names: Names of their list.
        used: Ids that need one.
        what: `user` or `item`.
        path: The list, for messages.
        store: Keeps the labels.

    Raises:
        DataError: An id has none, or two have one.
    """

    def pieces() -> _Pieces:
        for ids, texts in names.pieces(f"name {what}s", used):
            yield ids, [text.partition("\t")[0] for text in texts]

    def check(named: Marks, distinct: int) -> None:
        missing = used.count() - named.count()
        if missing:
            first = next(
                int(ids[~named.of(ids)][0]) for ids in used.pieces() if not named.of(ids).all()
            )
            raise DataError(
                f"{path}: no original id for {what} {first} ({missing} lack one); leave out "
                "--original-ids"
            )
        if distinct != used.count():
            raise DataError(f"{path}: two {what}s have one original id")

    return _kept(what, "", used.size, pieces, store, check)


def unique_names(names: ListedNames, used: Marks, what: str, store: ReleaseStore) -> Labels:
    """Return the names of entities or relations as labels, those that no other has.

    Of two ids of one name the lower has it, and none has a label that another has by its number.

    Args:
        names: Names of their list.
        used: Ids that need a label.
        what: `entity` or `relation`.
        store: Keeps the labels.
    """
    prefix = what[0]
    numbered = re.compile(rf"{prefix}(0|[1-9][0-9]{{0,8}})")

    def free(name: str) -> bool:
        found = numbered.fullmatch(name)
        return bool(name) and not (found and int(found[1]) < used.size)

    def pieces() -> _Pieces:
        for ids, texts in names.pieces(f"name {what}", used):
            found = [text.partition("\t")[0].removeprefix(_PREFIX) for text in texts]
            kept = [free(name) for name in found]
            yield ids[kept], [name for name, good in zip(found, kept, strict=True) if good]

    return _kept(what, prefix, used.size, pieces, store)


def _kept(
    what: str,
    prefix: str,
    size: int,
    pieces: Callable[[], _Pieces],
    store: ReleaseStore,
    check: Callable[[Marks, int], None] = lambda named, distinct: None,
) -> Labels:
    """Write each name for the first id that has it, or find what a killed run has written."""
    key, path = f"{what} names", store.folder / f"{what}.names"
    marks = path.with_suffix(".named")
    if store.journal.last(key) is None:
        named, numbers, tokens = _numbered(what, size, pieces(), store.folder)
        check(named, len(tokens))
        met, named, at = Marks(len(tokens)), Marks(size), 0
        with path.open("wb") as out:
            for ids, texts in pieces():
                new = met.add_new(numbers.read(at, at + len(ids))[:, 2])
                at += len(ids)
                named.add(ids[new])
                first = (text for text, kept in zip(texts, new.tolist(), strict=True) if kept)
                out.write("".join(f"{text}\n" for text in first).encode())
        named.save(marks)
        entry: dict[str, Any] = {key: True}
        store.journal.add([path.name, marks.name], **entry)
    return Labels(prefix, Marks.load(marks, size), SortedTokens.of_lines(path))


def _numbered(
    what: str, size: int, pieces: _Pieces, folder: Path
) -> tuple[Marks, NumberFile, SortedTokens]:
    """Return the ids that have a name, rows that end with the name's number, and the names."""
    kind, named = f"{what} label", Marks(size)
    rows = NumberedRows(folder, f"{what} labels", (None, None, kind))
    try:
        for ids, texts in pieces:
            named.add(ids)
            rows.add((ids, np.zeros(len(ids)), texts))
        numbers, tokens = rows.finish()
    finally:
        rows.close()
    return named, numbers, tokens[kind]

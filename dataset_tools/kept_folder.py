"""A scratch folder with a journal, from which the same command goes on after a kill."""

from __future__ import annotations

import abc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .journal import Journal
from .scratch_folder import JOURNAL, ScratchFolder
from .token_order import SortedTokens, TokenSorter


class KeptFolder(ScratchFolder):
    """Base of what keeps batches of rows, and goes on behind the last of them.

    Args:
        folder: Where it lies.
        identity: What the rows depend on (see `run_identity`): a run of the same identity goes on
            where a killed one was. None begins anew.

    Attributes:
        journal: What is done; for the caller's own stages as well.
        place: Gives, as JSON values, how far the caller is; asked when rows are kept.
    """

    def __init__(self, folder: Path, identity: dict[str, Any] | None = None) -> None:
        super().__init__(folder)
        self.resumes = identity is not None
        self.journal = Journal(folder / JOURNAL, identity or {})
        self.place: Callable[[], dict[str, Any]] = dict

    def _left(self) -> bool:
        found = self.journal.found()  # even of what is not gone on with: it may be at work
        return self.resumes and found

    def left_place(self) -> dict[str, Any] | None:
        """Return how far a killed run was, or None; with `whole` where it had put in all."""
        found = self.journal.last("place")
        return None if found is None else {**found["place"], "whole": found["whole"]}

    @abc.abstractmethod
    def finish(self) -> None:
        """Keep what is still in memory, as the last rows."""

    def _merged(self, sorter: TokenSorter) -> SortedTokens:
        """Return the distinct tokens of all batches, merged now or by a killed run."""
        name = f"{sorter.name}s"
        done = self.journal.last(name)
        if done:
            tokens = SortedTokens.load(self.folder / f"{sorter.name}.tokens", done[name])
        else:
            tokens = sorter.merge()
            tokens.save()
            files = [f"{sorter.name}.{end}" for end in ("tokens", "offsets", "ranks")]
            entry: dict[str, Any] = {name: len(tokens)}
            self.journal.add(files, [f"{sorter.name}.runs"], **entry)
        sorter.drop()
        return tokens

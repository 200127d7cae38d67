"""Walks through the dump once for each hop, collecting the triples around the linked entities."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..faults import Faults
from ..journal import file_identity
from ..progress import bar
from ..writing import atomic
from .blocks import Block, BrokenDumpError, Place, is_pipe, read_dump
from .entities import distinct_ends, without
from .scan import Found, Frontier, scan_block
from .spill import Relations, Spill
from .state import State, load_state


@dataclass(frozen=True)
class Plan:
    """What to collect.

    Attributes:
        hops: Passes; each looks for the entities that the one before found.
        both: An entity's triples are those it is head or tail of, not head alone.
        language: Literals in others are counted apart.
        takes: Says of a relation's name whether its triples are wanted.
        described: `takes` in words, to tell a saved state of other relations.
        most: Most entities to hold in memory.
    """

    hops: int
    both: bool
    language: str
    takes: Callable[[str], bool]
    described: list[str]
    most: int


class Walk:
    """One walk; `run` goes on where a killed one stopped.

    Args:
        dump: The N-triples file.
        linked: `[n]` sorted keys to begin with.
        plan: What to collect.
        folder: For the files of the work.
        every: Seconds between two saved states.
    """

    def __init__(
        self, dump: Path, linked: np.ndarray, plan: Plan, folder: Path, every: float = 20.0
    ) -> None:
        self.dump, self.linked, self.plan, self.folder = dump, linked, plan, folder
        self._every, self._pipe = every, is_pipe(dump)
        folder.mkdir(parents=True, exist_ok=True)
        wanted = self._wanted()
        state = None if self._pipe else load_state(folder, wanted)
        self.resumed = state is not None
        self.state = state or State(wanted)
        self.faults = Faults()
        self.faults.take(self.state.faults)
        self.relations = Relations(self.state.relations)
        self.spill = Spill(folder / "found.bin", self.state.records)
        self._taken = np.empty(0, dtype=bool)

    def _wanted(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "dump": {} if self._pipe else file_identity(self.dump),
            "linked": [len(self.linked), int(np.bitwise_xor.reduce(self.linked, initial=0))],
            "plan": [plan.hops, plan.both, plan.language, plan.described],
        }

    def run(self) -> np.ndarray:
        """Make the passes that are missing; return the sorted keys of all entities found.

        Raises:
            DataError: The dump cannot be read, or more entities are found than memory may hold.
        """
        while self.state.hop <= self.plan.hops:
            self._pass(self._frontier())
            self.state.ends.append(self.spill.records)
            self.state.hop += 1
            self.state.place, self.state.lines = Place(), 0
            self._save()
        return distinct_ends(self.spill, 0, self.spill.records, self.plan.most)

    def _frontier(self) -> np.ndarray:
        """Return the entities this pass looks for: those new in the triples of the one before."""
        ends, most = self.state.ends, self.plan.most
        if not ends:
            return self.linked
        kept = self.folder / f"frontier-{self.state.hop}.npy"
        if self.resumed and kept.is_file():
            return np.load(kept, allow_pickle=False)
        before = ends[-2] if len(ends) > 1 else 0
        new = without(distinct_ends(self.spill, before, ends[-1], most), self.linked)
        if before:
            new = without(new, distinct_ends(self.spill, 0, before, most))
        with atomic(kept) as file:
            np.save(file, new, allow_pickle=False)
        return new

    def _pass(self, keys: np.ndarray) -> None:
        if not len(keys):
            return
        wanted, saved = Frontier(keys), time.monotonic()
        total = None if self._pipe else self.dump.stat().st_size
        name = f"hop {self.state.hop} of {self.plan.hops}"
        try:
            with bar(total, name, start=self.state.place.member) as shown:
                for block in read_dump(self.dump, self.state.place):
                    self._take(block, wanted)
                    shown.update(block.read - shown.n)
                    if time.monotonic() - saved > self._every:
                        self._save()
                        saved = time.monotonic()
        except BrokenDumpError as broken:
            if self.state.hop == 1:
                text = str(broken).removeprefix(f"{self.dump}: the ")
                self.faults.add(f"{text}; what follows is lost", self.dump, self.state.lines + 1)

    def _take(self, block: Block, wanted: Frontier) -> None:
        first = self.state.hop == 1
        found = scan_block(
            block.text, block.size, wanted, self.plan.both, self.plan.language if first else None
        )
        self.state.counts += found.counts
        if first:
            self._count_faults(found.bad_lines, "lines without the four cells of an N-triple")
        self._count_faults(
            found.bad_ids, "lines at wanted entities with other cells that hold no id"
        )
        self._keep(block.text, found)
        self.state.lines += found.lines
        self.state.place = block.place

    def _count_faults(self, lines: np.ndarray, kind: str) -> None:
        for number in lines.tolist():
            self.faults.add(kind, self.dump, self.state.lines + number + 1)

    def _keep(self, text: np.ndarray, found: Found) -> None:
        codes = self.relations.codes(text, found)
        names = self.relations.names
        if len(names) > len(self._taken):
            new = [self.plan.takes(name) for name in names[len(self._taken) :]]
            self._taken = np.concatenate([self._taken, np.array(new, dtype=bool)])
        taken = self._taken[codes]
        dropped = int(len(taken) - taken.sum())
        if dropped:
            self.state.counts["triples left out by relation"] += dropped
        self.spill.add(found.heads[taken], codes[taken], found.tails[taken])

    def _save(self) -> None:
        if self._pipe:
            return
        self.spill.sync()
        self.state.records = self.spill.records
        self.state.relations = self.relations.names
        self.state.faults = self.faults.report()
        self.state.save(self.folder)

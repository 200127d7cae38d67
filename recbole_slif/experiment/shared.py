"""Claims and lines of an experiment in a storage of Optuna's that machines share.

An experiment is a study, and each attempt at a run a trial whose key is the run's settings hash.
The trial of a run that ended holds its line and, up to `PER_USER_LIMIT`, its per-user metrics,
compressed and cut into pieces that every database takes. Each machine puts the lines of the others
into its own folder, so that everything else, the report too, reads folders as ever.
"""

from __future__ import annotations

import base64
import json
import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from recbole_slif.errors import DataError
from recbole_slif.experiment.claims import Claim, Claims
from recbole_slif.experiment.folder import NOT_HERE, Folder, per_user_name
from recbole_slif.experiment.plan import Plan
from recbole_slif.plain import read_json
from recbole_slif.processes import Releasing
from recbole_slif.records import plain
from recbole_slif.sharing.address import Address
from recbole_slif.sharing.study import FAILED, FINISHED, RUNNING, Attempt, Held, Piece, SharedStudy

PER_USER_LIMIT = 2 * 2**20
_PIECE = 30_000  # MySQL's TEXT ends at 65,535 bytes
_MOST_BYTES = 256 << 20
_POLL = 0.05
_LOCK = "taking-in"


def study_of(plan: Plan) -> str:
    """Return the name of an experiment's study."""
    return f"experiment-{plan.experiment}-{plan.dataset}{'-quick' if plan.quick else ''}"


def packed(name: str, content: bytes) -> dict[str, Any]:
    """Return bytes as attributes of a trial: `name` counts the pieces `name:0`, `name:1`, ..."""
    text = base64.b64encode(zlib.compress(content, 9)).decode("ascii")
    pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
    return {**{f"{name}:{at}": piece for at, piece in enumerate(pieces)}, name: len(pieces)}


def unpacked(name: str, attrs: Mapping[str, Any]) -> bytes | None:
    """Undo `packed`; None if nothing of that name was recorded."""
    count = attrs.get(name)
    if count is None:
        return None
    text = "".join(attrs[f"{name}:{at}"] for at in range(count))
    packer = zlib.decompressobj()
    content = packer.decompress(base64.b64decode(text), _MOST_BYTES)
    if packer.unconsumed_tail:
        raise ValueError(f"'{name}' unpacks to more than {_MOST_BYTES >> 20} MiB")
    return content + packer.flush()


def published(folder: Folder, line: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is recorded of a run with its trial."""
    content = dict(plain(line))
    attrs: dict[str, Any] = {}
    file = folder.per_user_file(content)
    if file is not None and file.stat().st_size <= PER_USER_LIMIT:
        attrs = packed("per_user", file.read_bytes())
    text = json.dumps(content, allow_nan=False)
    named = {key: content.get(key) for key in ("model", "seed", "status", "valid", "test")}
    return {"run": named, **attrs, **packed("line", text.encode())}


def value_of(line: Mapping[str, Any]) -> float | None:
    """Return what Optuna's views show of a run: its validation score; None for one that failed."""
    if line["status"] != "finished":
        return None
    score = (line.get("valid") or {}).get(str(line.get("valid_metric")).lower())
    return float(score) if score is not None and math.isfinite(score) else 0.0


class SharedClaim(Releasing):
    """A run that this process is at, known to all who share the storage."""

    def __init__(self, board: SharedClaims, held: Held) -> None:
        self._board = board
        self._held = held

    def holds(self) -> bool:
        """Tell whether nobody has taken the run over."""
        return self._held.holds()

    def record(self, folder: Folder, lines: Sequence[Mapping[str, Any]]) -> bool:
        """Record the run in the storage, then in the folder."""
        if not self._held.finish(published(folder, lines[0]), value_of(lines[0])):
            return False
        self._board.take_in(folder, [self._board.study.attempt(self._held.trial_id)])
        return True

    def release(self) -> None:
        """Give the run free."""
        self._held.release()


class SharedClaims:
    """Makes claims in a storage and brings what others recorded there into a folder.

    Args:
        plan: what is to be run.
        address: of the storage.
        local: claims in the folder, for what only its own processes must not do at once.
        on_beat: called at each beat, from a claim's thread.
    """

    def __init__(
        self, plan: Plan, address: Address, local: Claims, on_beat: Callable[[], None]
    ) -> None:
        self.plan = plan
        self.local = local
        self.study = SharedStudy(address, study_of(plan), on_beat=on_beat)
        self._attempts: list[Attempt] = []
        self._taken_in: set[int] = set()

    def begin(self, folder: Folder) -> None:
        """Publish finished runs that only the folder knows, and take in those of others."""
        self._attempts = self.study.attempts()
        done = {one.key for one in self._attempts if one.state == FINISHED}
        for line in folder.lines():
            text = line["settings_hash"]
            if line["status"] == "finished" and text in self.plan.groups and text not in done:
                done.add(text)
                self._publish(folder, line)
        self.refresh(folder)

    def _publish(self, folder: Folder, line: Mapping[str, Any]) -> None:
        text = line["settings_hash"]
        held = self.study.take(Piece(text), partial(_forbids, text))
        if held is not None:
            held.finish(published(folder, line), value_of(line))
            held.release()

    def refresh(self, folder: Folder) -> list[list[dict[str, Any]]]:
        """Put what others recorded into the folder; return those lines, run by run."""
        self._attempts = self.study.attempts()
        ended = [
            one
            for one in self._attempts
            if one.state in (FINISHED, FAILED)
            and one.key in self.plan.groups
            and one.trial_id not in self._taken_in
        ]
        return self.take_in(folder, ended) if ended else []

    def take(self, name: str) -> SharedClaim | None:
        """Claim a run; None if another process is at it or has done it."""
        forbids = partial(_forbids, name)
        if any(forbids(one) for one in self._attempts):
            return None
        held = self.study.take(Piece(name), forbids)
        return None if held is None else SharedClaim(self, held)

    def clearing(self, name: str, rest: bool) -> Claim | None:
        """Claim what a kill left of a recorded run in this folder."""
        return self.local.clearing(name, rest)

    def take_in(self, folder: Folder, ended: Sequence[Attempt]) -> list[list[dict[str, Any]]]:
        """Append the lines of trials that the folder has not; one process at a time does so."""
        while (claim := self.local.take(_LOCK)) is None:
            time.sleep(_POLL)
        with claim:
            there = {_place(line, line["cell"]) for line in folder.lines()}
            found = [self._missing(folder, one, there) for one in ended]
            self._taken_in |= {one.trial_id for one in ended}
        return [lines for lines in found if lines]

    def _missing(
        self, folder: Folder, ended: Attempt, there: set[tuple[Any, ...]]
    ) -> list[dict[str, Any]]:
        """Append and return the lines of one trial that the folder has not."""
        content = self._content(ended)
        recorded = folder.recorded().finished
        lines = [
            {**content, "cell": run.cell}
            for run in self.plan.groups[ended.key]
            if (run.cell, ended.key) not in recorded and _place(content, run.cell) not in there
        ]
        if lines:
            _take_arrays(folder, lines, ended)
            folder.append(lines)
        return lines

    def _content(self, ended: Attempt) -> dict[str, Any]:
        try:
            return dict(read_json(unpacked("line", ended.attrs) or b""))
        except (ValueError, KeyError, TypeError, zlib.error) as error:
            where = f"trial {ended.number} of study '{self.study.name}'"
            raise DataError(
                f"{where} in '{self.study.address.shown}' holds no line of a run ({error})"
            ) from None


def _place(line: Mapping[str, Any], cell: str) -> tuple[Any, ...]:
    """Return what tells a line from others; a run that failed may finish under the same name."""
    return cell, line.get("run_id"), line["status"]


def _take_arrays(folder: Folder, lines: list[dict[str, Any]], ended: Attempt) -> None:
    """Write a run's per-user metrics, or say in its lines that they are elsewhere."""
    if not lines[0].get("per_user"):
        return
    found: dict[str, Any] = {"per_user": per_user_name(ended.key)}
    if not (folder.path / found["per_user"]).is_file():
        arrays = unpacked("per_user", ended.attrs)
        if arrays is None:
            found = dict(NOT_HERE)
        else:
            folder.keep_per_user(ended.key, arrays)
    for line in lines:
        line.update(found)


def _forbids(name: str, earlier: Attempt) -> bool:
    """Tell whether an earlier attempt leaves no room for another at the same run."""
    return earlier.key == name and earlier.state in (RUNNING, FINISHED)

"""Who is at which run: claim files that only one process can make, taken over when it is gone."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_slif.experiment.folder import Folder
from recbole_slif.plain import read_json
from recbole_slif.processes import BEAT, STALE_AFTER, Mark, Pulse, Releasing, ended


class Claim(Releasing):
    """A run that this process is at; keeps the claim fresh until released.

    Attributes:
        path: the claim's file; its ending counts how often the run was taken over.
    """

    def __init__(self, path: Path, beat: float, on_beat: Callable[[], None]) -> None:
        self.path = path
        self._on_beat = on_beat
        self._pulse = Pulse(beat, self._touch)

    def _touch(self) -> None:
        with contextlib.suppress(OSError):
            os.utime(self.path)
        self._on_beat()

    def holds(self) -> bool:
        """Tell whether nobody has taken the run over."""
        numbers = [_number(path) for path in _generations(self.path.parent, self.path.stem)]
        return self.path.exists() and max(numbers) == _number(self.path)

    def record(self, folder: Folder, lines: Sequence[Mapping[str, Any]]) -> bool:
        """Record the run's lines."""
        folder.append(lines)
        return True

    def release(self) -> None:
        """Give the run free."""
        self._pulse.stop()
        for path in _generations(self.path.parent, self.path.stem):
            if _number(path) <= _number(self.path):
                path.unlink(missing_ok=True)


class Claims:
    """Makes claims in a folder that several processes, also of several machines, may share.

    A claim is a file `NAME.GENERATION`, made whole by a hard link, which fails if it is there. Its
    holder touches it. A claim is stale if its holder is known to have ended, or has not touched it
    for long; the next generation then takes the run over, and only one process can make that.

    Args:
        folder: where the claim files lie.
        stale_after: seconds without a touch; clocks are compared by the folder's own times.
        beat: seconds between touches.
        on_beat: called at each touch, from the claim's thread.
    """

    def __init__(
        self,
        folder: Path,
        stale_after: float = STALE_AFTER,
        beat: float = BEAT,
        on_beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder
        self.stale_after = stale_after
        self.beat = beat
        self.on_beat = on_beat
        self._mark = Mark.own().content()

    def begin(self, folder: Folder) -> None:
        """Do nothing: the folder is all there is."""

    def refresh(self, folder: Folder) -> list[list[dict[str, Any]]]:
        """Return nothing: others record in the folder themselves."""
        return []

    def take(self, name: str) -> Claim | None:
        """Claim a run; None if another process is at it."""
        found = _generations(self.folder, name)
        if not found:
            return self._make(self.folder / f"{name}.0")
        latest = max(found, key=_number)
        if not self._stale(latest):
            return None
        return self._make(self.folder / f"{name}.{_number(latest) + 1}")

    def held(self, name: str) -> bool:
        """Tell whether a process is at a run."""
        found = _generations(self.folder, name)
        return bool(found) and not self._stale(max(found, key=_number))

    def clearing(self, name: str, rest: bool) -> Claim | None:
        """Claim what a kill left of a recorded run: its checkpoints, its claim, or both."""
        return self.take(name) if rest or self.left(name) else None

    def left(self, name: str) -> bool:
        """Tell whether there is a claim on a run, of a living process or not."""
        return bool(_generations(self.folder, name))

    def _make(self, path: Path) -> Claim | None:
        draft = self.folder / f".{os.getpid()}-{os.urandom(4).hex()}"
        try:
            draft.write_text(json.dumps(self._mark), encoding="utf-8")
            try:
                os.link(draft, path)
            except FileExistsError:
                return None
            except OSError:  # a file system without hard links
                with path.open("x", encoding="utf-8") as stream:
                    stream.write(json.dumps(self._mark))
        except FileExistsError:
            return None
        finally:
            draft.unlink(missing_ok=True)
        return Claim(path, self.beat, self.on_beat)

    def _stale(self, path: Path) -> bool:
        try:
            touched = path.stat().st_mtime
            mark: Any = read_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            mark = {}
        if ended(mark, self._mark["place"]):
            return True
        return self._now() - touched > self.stale_after

    def _now(self) -> float:
        """Return the time by the clock that dates the folder's files."""
        probe = self.folder / f".{os.getpid()}-{os.urandom(4).hex()}"
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            probe.unlink(missing_ok=True)


def _generations(folder: Path, name: str) -> list[Path]:
    """Return the claim files of a run, oldest generation first."""
    return sorted(
        (path for path in folder.glob(f"{name}.*") if path.suffix[1:].isdecimal()), key=_number
    )


def _number(path: Path) -> int:
    return int(path.suffix[1:])

"""What a step has finished, line by line, so that the same command goes on after a kill."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from recbole_slif.errors import DataError

try:
    import fcntl
except ImportError:  # Windows, where two runs in one folder are not told apart
    fcntl = None  # type: ignore[assignment]

_EDGE = 1 << 20
_FORMAT = 2
# What these options say changes no byte of what a step keeps.
_WITHOUT_SAY = ("report", "strict")


def file_identity(path: Path) -> dict[str, Any]:
    """Return what tells a file from another without reading it whole: size and both ends.

    A pipe, which cannot be read twice, is told from everything else.

    Raises:
        DataError: It cannot be read.
    """
    if path.exists() and not path.is_file():
        return {"name": path.name, "begun": time.time_ns()}
    try:
        size = path.stat().st_size
        digest = hashlib.sha256()
        with path.open("rb") as file:
            digest.update(file.read(_EDGE))
            file.seek(max(0, size - _EDGE))
            digest.update(file.read(_EDGE))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return {"name": path.name, "size": size, "ends": digest.hexdigest()}


def run_identity(options: argparse.Namespace, files: Iterable[Path]) -> dict[str, Any]:
    """Return what a step depends on: its options, and the files that it reads with their times.

    Raises:
        DataError: A file cannot be read.
    """
    found = [{**file_identity(path), "time": path.stat().st_mtime_ns} for path in files]
    words = {name: str(value) for name, value in vars(options).items() if name not in _WITHOUT_SAY}
    return {"format": _FORMAT, "options": words, "files": found}


def hold(file: IO[bytes], folder: Path) -> None:
    """Keep other runs out of a folder for as long as a file in it is open.

    Raises:
        DataError: Another run has the file.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(
            f"{folder}: another run is at work there; wait for it, or choose another --out"
        ) from error
    except OSError:
        pass  # a file system without locks


class Journal:
    """One JSON entry a line; the first says what all the others depend on.

    A line that a kill has torn is forgotten. Files are written before the entry that keeps them; if
    one of them is missing or shorter later, none of the entries is trusted.

    Args:
        path: The file.
        identity: What the step depends on, as JSON values; entries of another are forgotten.

    Attributes:
        entries: Those that are there, oldest first.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path, self._identity = path, identity
        self.entries: list[dict[str, Any]] = []
        self._file: IO[bytes] | None = None

    def found(self) -> bool:
        """Tell whether a run of the same identity has left entries, and all files that they keep.

        Raises:
            DataError: That run is still at work.
        """
        if not self.path.is_file():
            return False
        with self.path.open("rb") as file:
            hold(file, self.path.parent)
            lines = list(_whole_lines(file.read()))
        return bool(lines) and lines[0] == self._identity and self._intact(lines[1:])

    def _intact(self, entries: Iterable[dict[str, Any]]) -> bool:
        sizes: dict[str, int] = {}
        for entry in entries:
            sizes.update(entry["keeps"])
            for name in entry["drops"]:
                sizes.pop(name, None)
        paths = {self.path.with_name(name): size for name, size in sizes.items()}
        return all(path.is_file() and path.stat().st_size >= paths[path] for path in paths)

    def open(self) -> None:
        """Read the entries that are there and make ready for others.

        Raises:
            DataError: Another run is at work here.
        """
        self._file = self.path.open("a+b")
        hold(self._file, self.path.parent)
        self._file.seek(0)
        data = self._file.read()
        lines = list(_whole_lines(data))
        if lines and lines[0] == self._identity:
            self.entries = lines[1:]
            self._file.truncate(data.rfind(b"\n") + 1)
        else:
            self._file.truncate(0)
            self._write(self._identity)

    def add(self, keeps: Iterable[str] = (), drops: Iterable[str] = (), **entry: Any) -> None:
        """Append an entry.

        Args:
            keeps: Files beside the journal that are needed from now on, written so far.
            drops: Files that are needed no more.
            entry: What is done, as JSON values.
        """
        sizes = {name: self.path.with_name(name).stat().st_size for name in keeps}
        entry |= {"keeps": sizes, "drops": list(drops)}
        self.entries.append(entry)
        self._write(entry)

    def _write(self, entry: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()

    def last(self, key: str) -> dict[str, Any] | None:
        """Return the newest entry that has a key, or None."""
        return next((entry for entry in reversed(self.entries) if key in entry), None)

    def once(self, path: Path, write: Callable[[], int]) -> int:
        """Write a file, unless a killed run did and nobody has touched it since.

        Args:
            path: The file.
            write: Writes it and returns the number of its rows.

        Returns:
            The number of its rows.
        """
        done = self.last(path.name)
        if done and path.is_file() and done[path.name]["touched"] == _touched(path):
            return int(done[path.name]["rows"])
        rows = write()
        entry: dict[str, Any] = {path.name: {"touched": _touched(path), "rows": rows}}
        self.add(**entry)
        return rows

    def close(self) -> None:
        """Close the file, which stays."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _touched(path: Path) -> list[int]:
    """Return size and time of a file."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _whole_lines(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the entries up to the first that is none."""
    for line in data.split(b"\n")[:-1]:
        try:
            entry = json.loads(line)
        except ValueError:
            return
        if not isinstance(entry, dict):
            return
        yield entry

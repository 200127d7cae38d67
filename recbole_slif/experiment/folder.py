"""The folder of an experiment: plan, a line for each run, per-user metrics, work at hand."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.atomic_files import append_lines, make_folder, remove_halves, write_atomic
from recbole_slif.errors import DataError
from recbole_slif.plain import read_json
from recbole_slif.records import plain

NOT_HERE: Mapping[str, Any] = {"per_user": None, "per_user_elsewhere": True}
"""What a line says whose per-user metrics were recorded and are not in its folder."""


@dataclass
class Recorded:
    """What the lines of a folder say, as far as it was read.

    Attributes:
        finished: `(cell, hash)` of finished runs.
        hashes: hash -> cell of a finished run under these settings.
        failed: hash -> how many lines tell of a failure.
    """

    finished: set[tuple[str, str]] = field(default_factory=set)
    hashes: dict[str, str] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)

    def take(self, line: Mapping[str, Any]) -> None:
        """Count one line."""
        cell, text = line["cell"], line["settings_hash"]
        if line["status"] == "finished":
            self.finished.add((cell, text))
            self.hashes[text] = cell
        else:
            self.failed[text] = self.failed.get(text, 0) + 1


class Folder:
    """Reads and writes an experiment's folder; several processes may hold one at a time.

    A line is appended in one write, so that no reader and no kill sees a part of it; a part that a
    full disk left is skipped when read and closed off by the next line.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.plan_file = self.path / "plan.json"
        self.runs_file = self.path / "runs.jsonl"
        self._read_to = 0
        self._recorded = Recorded()

    @property
    def claims(self) -> Path:
        """Folder of the claims on runs at hand."""
        return self.path / "claims"

    def work(self, settings_hash: str) -> Path:
        """Return the folder of a run's checkpoints while it is at hand."""
        return self.path / "work" / _plain_name(settings_hash)

    def make(self) -> None:
        """Make the folder.

        Raises:
            ConfigError: it cannot be made.
        """
        for folder in (self.path, self.claims):
            make_folder(folder, "choose another with --out")

    def read_plan(self) -> dict[str, Any] | None:
        """Return the plan that lies here, None if there is none.

        Raises:
            DataError: the file is damaged.
        """
        if not self.plan_file.is_file():
            return None
        try:
            content = read_json(self.plan_file.read_text(encoding="utf-8"))
            return {"runs": [], **content}
        except (ValueError, TypeError) as error:
            raise DataError(f"'{self.plan_file}' is damaged: {error}; remove it") from error

    def write_json(self, name: str, content: Any) -> Path:
        """Write a JSON file atomically and return its path."""
        path = self.path / name
        write_atomic(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
        return path

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines to `runs.jsonl`, all of them or none."""
        text = "".join(json.dumps(plain(line), allow_nan=False) + "\n" for line in lines)
        append_lines(self.runs_file, text)

    def lines(self) -> list[dict[str, Any]]:
        """Return all whole lines."""
        if not self.runs_file.is_file():
            return []
        return list(_parsed(self.runs_file.read_bytes()))

    def recorded(self) -> Recorded:
        """Return what is recorded by now; only what is new since the last call is read."""
        if self.runs_file.is_file():
            with self.runs_file.open("rb") as stream:
                stream.seek(self._read_to)
                fresh = stream.read()
            whole = fresh[: fresh.rfind(b"\n") + 1]
            self._read_to += len(whole)
            for line in _parsed(whole):
                self._recorded.take(line)
        return self._recorded

    def write_per_user(self, settings_hash: str, values: Mapping[str, np.ndarray]) -> str:
        """Keep the per-user test metrics of a run; return the file relative to the folder."""
        arrays = {("users" if key == "user" else key): array for key, array in values.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        # nobody writes it: this process holds the run's claim
        remove_halves(self.path / per_user_name(settings_hash))
        return self.keep_per_user(settings_hash, buffer.getvalue())

    def keep_per_user(self, settings_hash: str, content: bytes) -> str:
        """Keep a run's file of per-user metrics, whatever it was called where it comes from.

        Returns:
            The file relative to the folder.
        """
        name = per_user_name(settings_hash)
        write_atomic(self.path / name, content)
        return name

    def per_user_file(self, line: Mapping[str, Any]) -> Path | None:
        """Return the file of per-user metrics that a line names.

        None if it names none, if the file is missing, or if it lies outside of the folder: lines
        may come from others, and no file of theirs is to be read or shared from elsewhere.
        """
        name = line.get("per_user")
        if not isinstance(name, str) or "\0" in name:
            return None
        path = self.path / name
        inside = path.resolve().is_relative_to(self.path.resolve())
        return path if inside and path.is_file() else None

    def clear_work(self, settings_hash: str) -> None:
        """Remove the checkpoints of a run."""
        shutil.rmtree(self.work(settings_hash), ignore_errors=True)
        parent = self.path / "work"
        if parent.is_dir() and not any(parent.iterdir()):
            shutil.rmtree(parent, ignore_errors=True)


def per_user_name(settings_hash: str) -> str:
    """Return the file of a run's per-user metrics, relative to its folder."""
    return f"per_user/{_plain_name(settings_hash)}.npz"


def _plain_name(settings_hash: str) -> str:
    """Return a hash of settings, which is the name of a file or folder and never a path.

    Raises:
        DataError: it is one.
    """
    if settings_hash in ("", ".", "..") or set(settings_hash) & set("/\\\0"):
        raise DataError(f"settings hash '{settings_hash}' of a run is a path; remove its line")
    return settings_hash


def _parsed(text: bytes) -> Iterable[dict[str, Any]]:
    for raw in text.splitlines():
        try:
            line = read_json(raw)
        except ValueError:
            continue
        if isinstance(line, dict) and {"cell", "settings_hash", "status"} <= set(line):
            yield line

"""What a search leaves behind: a row for each trial, the table, the trials' file, the best."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from recbole_slif.atomic_files import append_lines, write_atomic
from recbole_slif.console import one_line
from recbole_slif.errors import ConfigError, SlifError
from recbole_slif.interrupt import TrainingStoppedError
from recbole_slif.plain import read_json

Train = Callable[[Mapping[str, Any]], dict[str, Any]]
Row = dict[str, Any]


def key_of(settings: Mapping[str, Any]) -> str:
    """Return the text that is equal for equal settings."""
    return json.dumps(settings, sort_keys=True)


def trained_row(train: Train, settings: dict[str, Any]) -> Row:
    """Train with one set of values; only the validation metric is asked for.

    Returns:
        `params`, `score` (None if the training failed), then `bigger` and `valid`, or `error`.

    Raises:
        ConfigError: the settings are not usable, which ends a search.
        TrainingStoppedError: Ctrl-C or SIGTERM.
    """
    try:
        result = train(settings)
        score = float(result["best_valid_score"])
        if math.isnan(score):
            raise SlifError("the validation metric is not a number")
    except (ConfigError, TrainingStoppedError):
        raise
    except SlifError as error:
        return {"params": settings, "score": None, "error": one_line(error)}
    return {
        "params": settings,
        "score": score,
        "bigger": bool(result["valid_score_bigger"]),
        "valid": dict(result["best_valid_result"] or {}),
    }


def best_of(rows: Sequence[Row]) -> Row:
    """Return the first of the best rows.

    Raises:
        SlifError: every trial failed.
    """
    done = [row for row in rows if row["score"] is not None]
    if not done:
        last = rows[-1]["error"] if rows else "none was drawn"
        raise SlifError(f"no trial gave a result; the last one: {last}")
    return (max if done[0]["bigger"] else min)(done, key=lambda row: row["score"])


def table(rows: Sequence[Row]) -> str:
    """Lay out the trials, best first."""
    done = [row for row in rows if row["score"] is not None]
    done.sort(key=lambda row: -row["score"] if row["bigger"] else row["score"])
    failed = [row for row in rows if row["score"] is None]
    names = list(rows[0]["params"])
    ends = [(row, f"{row['score']:.6f}") for row in done]
    ends += [(row, f"failed: {row['error']}") for row in failed]
    # by name: trials of other backends, or of a file with other lines first, have another order
    cells = [[*(row["params"].get(name) for name in names), end] for row, end in ends]
    headers = [*names, "valid score"]
    return tabulate(cells, headers, tablefmt="simple", disable_numparse=True)


class TrialsFile:
    """Finished trials as JSON lines, each marked with what else decided its score.

    Args:
        path: the file.
        scope: a hash of the settings that are not searched and of the data. Trials under another
            one stay in the file and do not count.
    """

    def __init__(self, path: Path, scope: str) -> None:
        self.path = path
        self.scope = scope

    def read(self) -> dict[str, Row]:
        """Return this scope's trials by their settings; failures are left out."""
        return {
            key_of(row["params"]): {name: row[name] for name in row if name != "scope"}
            for row in self._lines()
            if row.get("scope") == self.scope
        }

    def foreign(self) -> int:
        """Count the trials under other settings."""
        return sum(row.get("scope") != self.scope for row in self._lines())

    def append(self, row: Row) -> None:
        """Add a trial."""
        append_lines(self.path, self._text(row))

    def replace(self, rows: Sequence[Row]) -> Path | None:
        """Write the file at once, each set of values once.

        Returns:
            Where a file with trials that are not among `rows` was moved to, None if there was none.
        """
        ours = {key_of(row["params"]): row for row in reversed(rows)}
        moved = None
        if self.foreign() or any(ours.get(key) != row for key, row in self.read().items()):
            moved = _free_name(self.path)
            self.path.rename(moved)
        write_atomic(self.path, "".join(map(self._text, reversed(ours.values()))).encode())
        return moved

    def _text(self, row: Row) -> str:
        return json.dumps({**row, "scope": self.scope}) + "\n"

    def _lines(self) -> Iterator[Row]:
        """Yield the trials that gave a score; a line cut off by a crash is left out."""
        if not self.path.is_file():
            return
        for line in self.path.read_bytes().splitlines():
            try:
                row = read_json(line)
            except ValueError:
                continue
            if _is_trial(row):
                yield row


def _is_trial(row: Any) -> bool:
    """Tell whether a line is a trial that gave a score."""
    whole = isinstance(row, dict) and isinstance(row.get("params"), dict)
    score = row.get("score") if whole else None
    return isinstance(score, int | float) and isinstance(row.get("bigger"), bool)


def _free_name(path: Path) -> Path:
    number = 1
    while (name := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    return name


def beside(output: Path, ending: str) -> Path:
    """Return a file beside the table; a number behind the name's last dot is no ending of it."""
    stem = output.name if output.suffix[1:].isdecimal() else output.stem
    return output.with_name(f"{stem}{ending}")


def write_results(output: Path, rows: Sequence[Row], best: Row, title: str) -> str:
    """Write the table and the best settings.

    Args:
        output: file of the table; the best settings lie beside it.
        rows: all trials.
        best: the one to use.
        title: what was searched and by which metric, for the first line of the best settings.

    Returns:
        What to tell the user.
    """
    shown = table(rows)
    best_file = beside(output, ".best.yaml")
    head = f"# best of {len(rows)} trials of {title} {best['score']:.6f}\n"
    write_atomic(output, f"{shown}\n".encode())
    write_atomic(best_file, (head + yaml.safe_dump(best["params"], sort_keys=True)).encode())
    told = f"best: {best['params']}\ntable   {output}\nuse it  --config_files={best_file}"
    return f"\n{shown}\n\n{told}"

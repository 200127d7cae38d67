"""Where an attack runs: a folder of its own, a canary outside it, and an eye on what is done.

The eye is an audit hook of the interpreter: it sees every unpickled class, every process started
and every file opened for writing, made, moved or removed, by whatever library.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_slif.errors import SlifError
from recbole_slif.testing.toy import write_toy
from recbole_slif.testing.trial import require

REFUSED = 2
_STARTS = frozenset({"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.fork"})
_CHANGES = frozenset({"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "shutil.rmtree"})
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_ASKED = ("git", "fc-list")  # for the commit of a record, and by matplotlib for its fonts
_CACHES = (
    "MPLCONFIGDIR",
    "RECBOLE_SLIF_CACHE",
    "TORCHINDUCTOR_CACHE_DIR",
)  # of libraries, made at their first use
_HARMLESS = ("/dev/null", "/dev/tty", "/proc/")


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        """Say how to make it again: by running the code."""
        return exec, (self.code,)


@dataclass(frozen=True)
class Arena:
    """What an attack is given.

    Attributes:
        folder: working folder, in which files are placed.
        canary: file outside the folder that the attack would make.
    """

    folder: Path
    canary: Path

    @property
    def code(self) -> str:
        """Python code that makes the canary."""
        return f"open({str(self.canary)!r}, 'w').close()"

    @property
    def call(self) -> str:
        """The same as one expression, for what might be evaluated."""
        return f"__import__('pathlib').Path({str(self.canary)!r}).touch()"

    @property
    def bomb(self) -> Bomb:
        """An object that makes the canary when unpickled."""
        return Bomb(self.code)

    def data(self, name: str = "toy") -> Path:
        """Write a sound data set; returns the folder of its files."""
        write_toy(self.folder / "data", name)
        return self.folder / "data" / name

    def words(self, model: str = "BPR", *more: str) -> list[str]:
        """Return the command line of a tiny run on that data set."""
        return [
            f"--model={model}", "--dataset=toy", "--data_path=data", "--epochs=1", "--gpu_id=",
            "--checkpoint_dir=saved", "--topk=[3]", "--valid_metric=Recall@3", "--state=ERROR",
            "--embedding_size=4", "--show_progress=False", "--use_tuned=False", *more,
        ]  # fmt: skip


@dataclass(frozen=True)
class Attack:
    """One attack; `run` builds the file, has it read, and checks what came of it."""

    name: str
    run: Callable[[Arena], None]


class _Eye:
    """Notes what an attack must not do; asleep outside `open_on`."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []
        self._hooked = False

    @contextlib.contextmanager
    def open_on(self, folder: Path) -> Iterator[None]:
        """Watch for as long as the block runs; writing is allowed below `folder`."""
        if not self._hooked:
            sys.addaudithook(self._note)  # cannot be taken off again
            self._hooked = True
        self.seen, self.folder = [], f"{folder}{os.sep}"
        try:
            yield
        finally:
            self.folder = None

    def _note(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event == "pickle.find_class":
            self.seen.append(f"unpickled {args[0]}.{args[1]}")
        elif event in _STARTS and not (args and Path(os.fsdecode(args[0])).name in _ASKED):
            self.seen.append(f"{event} {args!r:.80}")
        elif event == "open" and isinstance(args[2], int) and args[2] & _WRITING:
            self._path(event, args[0])
        elif event == "os.symlink":  # its first path is what the link says
            self._path(event, args[1])
        elif event in _CHANGES:
            for path in args[:2]:
                self._path(event, path)

    def _path(self, event: str, path: Any) -> None:
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if not isinstance(path, str | os.PathLike):
            return
        place = os.path.realpath(path)
        if not f"{place}{os.sep}".startswith((str(self.folder), *_HARMLESS)):
            self.seen.append(f"{event} {place}")


_EYE = _Eye()


def survive(attack: Attack) -> None:
    """Run an attack in a fresh arena.

    Raises:
        AssertionError: code ran, something was unpickled, or was written outside the folder.
    """
    with tempfile.TemporaryDirectory(prefix="arena-") as temporary:
        base = Path(temporary).resolve()
        arena = Arena(base / "inside", base / "canary")
        arena.folder.mkdir()
        before, arguments, places = Path.cwd(), sys.argv, dict(os.environ)
        os.chdir(arena.folder)
        sys.argv = ["recbole-slif"]
        os.environ.update(dict.fromkeys(_CACHES, str(arena.folder / ".cache")))
        try:
            with _EYE.open_on(arena.folder):
                attack.run(arena)
        finally:
            os.chdir(before)
            sys.argv = arguments
            for name in _CACHES:
                os.environ.pop(name)
            os.environ.update({name: places[name] for name in _CACHES if name in places})
        outside = sorted(path.name for path in base.iterdir() if path != arena.folder)
        require(not outside, f"{attack.name}: {outside} was made outside the folder")
        require(not _EYE.seen, f"{attack.name}: {'; '.join(_EYE.seen[:3])}")


def refused(action: Callable[[], Any], *named: str) -> str:
    """Require that an action ends in one line of our own error class that names these texts.

    Returns:
        The line.
    """
    try:
        action()
    except SlifError as error:
        text = str(error)
    else:
        raise AssertionError("the attack was accepted")
    require(len(text.splitlines()) == 1, f"not one line: {text!r}")
    missing = [name for name in named if name not in text]
    require(not missing, f"'{text}' does not name {missing}")
    return text


def called(words: Sequence[str]) -> tuple[int, str, str]:
    """Run a command line in this process; returns exit code, standard output and error."""
    from recbole_slif.__main__ import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(words))
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else REFUSED
    return code, out.getvalue(), err.getvalue()


def turned_away(words: Sequence[str], *named: str) -> str:
    """Require that a command line ends in exit code 2 and one line that names these texts."""
    code, _, told = called(words)
    lines = [line for line in told.splitlines() if line.startswith("error: ")]
    require(code == REFUSED and len(lines) == 1, f"exit code {code}: {told[-300:]}")
    missing = [name for name in named if name not in lines[0]]
    require(not missing, f"'{lines[0]}' does not name {missing}")
    require(lines[0].isprintable(), f"control characters reach the terminal: {lines[0]!r}")
    return lines[0]

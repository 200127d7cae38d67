"""Files that are seen whole or not at all, and the folders that they go into."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from recbole_slif.errors import ConfigError


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` for writing; it takes the name once it is safe."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not `tempfile`, whose files only their owner can read: records and checkpoints are shared.
    # `remove_halves` looks for such names.
    name = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        with name.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def remove_halves(path: Path) -> None:
    """Remove what killed processes left half-written of a file that no process is writing."""
    for half in path.parent.glob(f".{glob.escape(path.name)}.*"):
        half.unlink(missing_ok=True)


def write_atomic(path: Path | str, content: bytes) -> None:
    """Write `content` so that a reader sees the old file or the new one, never a part.

    Of a link the file is written that it leads to. A pipe or device (`/dev/stdout`), which holds
    no old content, is written to and not replaced.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        path.write_bytes(content)
        return
    with open_atomic(Path(os.path.realpath(path))) as stream:
        stream.write(content)


def append_lines(path: Path, text: str) -> None:
    """Add whole lines to a file, which outlast a crash once this returns.

    A line that a crash cut off is closed off first.

    Raises:
        OSError: not all of it could be written.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags, 0o666)
    try:
        size = os.fstat(handle).st_size
        if size:
            os.lseek(handle, size - 1, os.SEEK_SET)
            if os.read(handle, 1) != b"\n":
                text = "\n" + text
        left = text.encode()
        while left:  # a disk that fills up takes a part and refuses the rest alone
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path, instead: str) -> None:
    """Make a folder and those above it, if they are not there.

    Args:
        folder: what to make.
        instead: what the user can do if that is not possible, for the message.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"folder '{folder}' cannot be made ({error.strerror}); {instead}"
        ) from error

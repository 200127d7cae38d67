"""Small and read-only file systems, where the system lets this process make them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from reliability.frame import CaseSkipped


def _mount(*words: str) -> None:
    program = shutil.which("mount")
    if program is None:
        raise CaseSkipped("no `mount` here: file systems cannot be made")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CaseSkipped(f"file systems cannot be made here: {done.stderr.strip()}")


@contextlib.contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """Mount a file system of `kib` KiB on `folder`.

    Raises:
        CaseSkipped: this process may not mount.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        unmount(folder)


def resize(folder: Path, kib: int) -> None:
    """Give a mounted small disk another size."""
    _mount("-o", f"remount,size={kib}k", str(folder))


def set_writable(folder: Path, writable: bool) -> None:
    """Make a mounted disk read-only, or writable again."""
    _mount("-o", f"remount,{'rw' if writable else 'ro'}", str(folder))


def unmount(folder: Path) -> None:
    """Take a mount away."""
    program = shutil.which("umount")
    if program is not None:
        subprocess.run([program, "-l", str(folder)], capture_output=True, check=False)

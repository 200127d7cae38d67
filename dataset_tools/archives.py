"""Unpacks zip, tar and gz archives of unknown origin: nothing outside the folder, nor without end.

All is looked at before the first byte is written: names that climb out, absolute names, links,
devices, two members of one name, too many members, too large a declared size. While unpacking the
true size is held against the same limits. A refused archive leaves no file behind.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from recbole_slif.errors import DataError

from .progress import bar
from .reading import Counted, zstd_engine

GIB = 1 << 30
_CHUNK = 1 << 20
_LONGEST_HEADER = 16 << 20
_XZ_MEMORY = 512 << 20
_RESERVED = {"con", "prn", "aux", "nul", *(f"{w}{n}" for w in ("com", "lpt") for n in range(1, 10))}
_MAGIC = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x1f\x8b": "gz",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zst",
}


@dataclass(frozen=True)
class Limits:
    """What an archive may hold.

    Attributes:
        size: Bytes of all files together, unpacked.
        entries: Files and folders.
        ratio: Unpacked bytes for each packed byte; small archives are spared.
        spared: Unpacked bytes up to which `ratio` is not looked at.
    """

    size: int = 64 * GIB
    entries: int = 2_000_000
    ratio: int = 1000
    spared: int = 64 << 20


# What the libraries raise where bytes are not what they should be.
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    ValueError,
)


class HostileArchiveError(DataError):
    """An archive holds what must not be unpacked."""


@dataclass(frozen=True)
class _Entry:
    """One file or folder of an archive; opened before the next one is asked for."""

    name: str
    size: int
    folder: bool
    open: Callable[[], IO[bytes]]


class _Budget:
    """Counts unpacked bytes of one archive against its limits."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path, self._limits = path, limits
        self._packed = max(1, path.stat().st_size)
        self.written = 0

    def count(self, entries: int) -> None:
        """Refuse too many entries."""
        if entries > self._limits.entries:
            raise HostileArchiveError(
                f"{self._path}: more than {self._limits.entries:,} files in it; raise "
                "--max-entries if you trust it"
            )

    def spend(self, size: int) -> None:
        """Count bytes before they are written."""
        self.written += size
        self.check(self.written)

    def check(self, size: int) -> None:
        """Refuse a size beyond the limits."""
        if size > self._limits.size:
            raise HostileArchiveError(
                f"{self._path}: unpacks to more than {self._limits.size:,} bytes; raise --max-size "
                "if you trust it"
            )
        if size > self._limits.spared and size / self._packed > self._limits.ratio:
            raise HostileArchiveError(
                f"{self._path}: unpacks to more than {self._limits.ratio} times its size; raise "
                "--max-ratio if you trust it"
            )


def unpack(path: Path, folder: Path, limits: Limits | None = None) -> list[Path]:
    """Unpack an archive into a folder.

    A single compressed file (`reviews.json.gz`) becomes a file without the suffix.

    Args:
        path: zip, tar (plain, gz, bz2, xz, zst), or one file packed by gz, bz2, xz or zst.
        folder: Where to; made if missing. Files that are there are replaced by the archive's.
        limits: What it may hold.

    Returns:
        The files written, sorted.

    Raises:
        HostileArchiveError: It holds something that must not be unpacked; nothing was written.
        DataError: It cannot be read, is damaged, or the folder cannot be written.
    """
    limits = limits or Limits()
    stage = folder / f".{path.name}.partial"
    try:
        budget = _Budget(path, limits)
        _check(path, budget)
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
        _write(path, stage, budget)
        return _move(stage, folder)
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or "it breaks off"
        raise DataError(f"{path}: the archive is damaged ({reason}); get it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be unpacked ({error.strerror or error})") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def kind_of(path: Path) -> str:
    """Return `zip`, `gz`, `bz2`, `xz`, `zst`, `tar` or `` by the first bytes of a file."""
    with path.open("rb") as file:
        head = file.read(265)
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    return "tar" if head[257:262] == b"ustar" else ""


def _entries(path: Path, tell: Callable[[int], object] | None = None) -> Iterator[_Entry]:
    kind = kind_of(path)
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            for info, entry in zip(archive.infolist(), _zip_entries(path, archive), strict=True):
                yield entry
                if tell:
                    tell(info.compress_size)
        return
    if not kind:
        raise DataError(f"{path}: no archive that is known here: zip, tar, gz, bz2, xz or zst")
    with decompressed(path, kind) as raw:
        is_tar = raw.read(512)[257:262] == b"ustar"
    with decompressed(path, kind, tell) as raw:
        if is_tar:
            yield from _tar_entries(path, _Metered(path, raw))
        else:
            yield _Entry(path.stem if path.suffix else f"{path.name}.out", 0, False, lambda: raw)


class _Metered:
    """Passes on reads, but between two members none so long that a header could fill the memory."""

    def __init__(self, path: Path, raw: IO[bytes]) -> None:
        self._path, self._raw, self._left = path, raw, _LONGEST_HEADER

    def allow(self, size: int) -> None:
        """Let the next member be read: `size` bytes, and the headers after it."""
        self._left = size + _LONGEST_HEADER

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes."""
        data = self._raw.read(min(size, _CHUNK))
        self._left -= len(data)
        if self._left < 0:
            raise HostileArchiveError(f"{self._path}: a header larger than 16 MiB in it")
        return data


@contextmanager
def decompressed(
    path: Path, kind: str, tell: Callable[[int], object] | None = None
) -> Iterator[IO[bytes]]:
    """Open a file that `kind_of` found to be packed, or any other, for reading what is in it.

    Args:
        path: The file.
        kind: Of `kind_of`.
        tell: Receives the bytes of each read of the packed file.
    """
    with path.open("rb") as file:
        if kind == "xz":  # a forged header could ask for gigabytes
            lzma.LZMADecompressor(memlimit=_XZ_MEMORY).decompress(file.read(4096), 1)
            file.seek(0)
        source = cast(IO[bytes], Counted(file, tell)) if tell else file
        if kind == "gz":
            yield cast(IO[bytes], gzip.GzipFile(fileobj=source))
        elif kind == "bz2":
            yield bz2.BZ2File(source)
        elif kind == "xz":
            with lzma.LZMAFile(source) as opened:
                yield opened
        elif kind == "zst":
            zstd_engine(path)  # says what to install
            zstandard = importlib.import_module("zstandard")
            engine = zstandard.ZstdDecompressor(max_window_size=1 << 31)
            yield engine.stream_reader(source, read_across_frames=True)
        else:
            yield source


def _zip_entries(path: Path, archive: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in archive.infolist():
        # The name as the archive spells it: zipfile takes a NUL and what follows off `filename`.
        name = info.orig_filename
        if (info.external_attr >> 16) & 0o170000 not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise HostileArchiveError(f"{path}: '{name}' is a link or a device")
        if info.flag_bits & 1:
            raise DataError(f"{path}: '{name}' needs a password; unpack it by hand")
        yield _Entry(name, info.file_size, info.is_dir(), partial(archive.open, info))


def _tar_entries(path: Path, raw: _Metered) -> Iterator[_Entry]:
    with tarfile.open(fileobj=cast(IO[bytes], raw), mode="r|") as archive:
        for info in archive:
            if not (info.isreg() or info.isdir()) or info.issparse():
                raise HostileArchiveError(f"{path}: '{info.name}' is a link, a device or has holes")
            raw.allow(info.size)
            opened = cast(Callable[[], IO[bytes]], partial(archive.extractfile, info))
            yield _Entry(info.name, info.size, info.isdir(), opened)


def _check(path: Path, budget: _Budget) -> None:
    """Look at all names, kinds and declared sizes; nothing is written.

    Raises:
        HostileArchiveError: One of them must not be.
    """
    is_folder: dict[str, bool] = {}
    declared = 0
    for number, entry in enumerate(_entries(path), start=1):
        budget.count(number)
        declared += max(0, entry.size)
        budget.check(declared)
        name = _folded(_safe_name(path, entry.name))
        if name in is_folder and not (entry.folder and is_folder[name]):
            raise HostileArchiveError(f"{path}: two members are named '{entry.name}'")
        is_folder[name] = entry.folder
    for name in is_folder:
        for parent in PurePosixPath(name).parents:
            if is_folder.get(str(parent)) is False:
                raise HostileArchiveError(f"{path}: '{parent}' is a file and a folder")


def _folded(name: PurePosixPath) -> str:
    """Return what equal names share on systems that ignore case."""
    return unicodedata.normalize("NFC", str(name)).casefold()


def _safe_name(path: Path, name: str) -> PurePosixPath:
    """Return a member's name, which stays below the folder on every system.

    Raises:
        HostileArchiveError: It does not.
    """
    parts = name.replace("\\", "/").split("/")
    wrong = (
        name.startswith(("/", "\\", "~"))
        or ".." in parts
        or ":" in name
        or any(ord(letter) < 32 or ord(letter) == 127 for letter in name)
        or any(part.rstrip(". ") != part for part in parts if part not in ("", "."))
        or any(part.split(".")[0].lower() in _RESERVED for part in parts)
        or any(len(part.encode("utf-8", "surrogateescape")) > 255 for part in parts)
        or not name.isprintable()
    )
    if wrong or not name:
        raise HostileArchiveError(f"{path}: the name {name!r} would not stay in the folder")
    return PurePosixPath(*[part for part in parts if part not in ("", ".")] or ["."])


def _write(path: Path, stage: Path, budget: _Budget) -> None:
    with bar(path.stat().st_size, path.name) as shown:
        for entry in _entries(path, shown.update):
            target = stage / _safe_name(path, entry.name)
            if entry.folder:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with entry.open() as source, target.open("xb") as file:
                while data := source.read(_CHUNK):
                    budget.spend(len(data))
                    file.write(data)


def _move(stage: Path, folder: Path) -> list[Path]:
    """Move what was unpacked into the folder; return the files."""
    found = sorted(stage.rglob("*"))
    targets = [folder / source.relative_to(stage) for source in found]
    for source, target in zip(found, targets, strict=True):
        differs = target.exists() and target.is_dir() != source.is_dir()
        if target.is_symlink() or differs:
            raise DataError(f"{target} is in the way of what the archive holds; move it away")
    for source, target in zip(found, targets, strict=True):
        if source.is_dir():
            target.mkdir(exist_ok=True)
        else:
            source.replace(target)
    return [target for target in targets if target.is_file()]

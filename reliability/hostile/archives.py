"""Attacks by archives: members that climb out, links, devices, and bytes without end."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from dataset_tools.archives import Limits, unpack
from reliability.hostile.arena import Arena, Attack, refused, require

LIMITS = Limits(size=64 << 20, entries=500, ratio=50, spared=1 << 20)
Member = tuple[str | tarfile.TarInfo, bytes]


def tarred(members: Sequence[Member], mode: str = "w") -> bytes:
    """Return a tar archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """Return a tar member that is no file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zipped(members: Sequence[tuple[str | zipfile.ZipInfo, bytes]]) -> bytes:
    """Return a zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def linked(name: str, target: bytes) -> tuple[zipfile.ZipInfo, bytes]:
    """Return a zip member that is a symbolic link."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info, target


def _attack(make: Callable[[Arena], bytes]) -> Callable[[Arena], None]:
    """Unpack what `make` returns; it must be refused and leave nothing."""

    def run(arena: Arena) -> None:
        Path("x.archive").write_bytes(make(arena))
        refused(lambda: unpack(Path("x.archive"), Path("out"), LIMITS), "x.archive")
        left = list(Path("out").rglob("*")) if Path("out").exists() else []
        require(not left, f"left behind: {left}")

    return run


GOOD = ("good.txt", b"fine")
ATTACKS = [
    Attack("tar: a name that climbs out", _attack(
        lambda a: tarred([GOOD, ("../../canary", b"x")]))),
    Attack("tar: an absolute name", _attack(lambda a: tarred([GOOD, (str(a.canary), b"x")]))),
    Attack("tar: a link, then a file through it", _attack(
        lambda a: tarred([(special("l", tarfile.SYMTYPE, ".."), b""), ("l/canary", b"x")]))),
    Attack("tar: a hard link to a file outside", _attack(
        lambda a: tarred([GOOD, (special("h", tarfile.LNKTYPE, "/etc/passwd"), b"")]))),
    Attack("tar: a device", _attack(lambda a: tarred([(special("d", tarfile.CHRTYPE), b"")]))),
    Attack("tar.gz: a hundred megabytes of zeros", _attack(
        lambda a: tarred([("big", bytes(100 << 20))], "w:gz"))),
    Attack("zip: a name that climbs out", _attack(
        lambda a: zipped([GOOD, ("a/../../../canary", b"x")]))),
    Attack("zip: backslashes", _attack(lambda a: zipped([GOOD, ("..\\..\\canary", b"x")]))),
    Attack("zip: a link", _attack(lambda a: zipped([GOOD, linked("l", b"/etc")]))),
    Attack("zip: a hundred megabytes of zeros", _attack(
        lambda a: zipped([("big", bytes(100 << 20))]))),
    Attack("zip: more files than allowed", _attack(
        lambda a: zipped([(f"{number}", b"") for number in range(501)]))),
    Attack("gz: a hundred megabytes of zeros", _attack(
        lambda a: gzip.compress(bytes(100 << 20), 9))),
]  # fmt: skip

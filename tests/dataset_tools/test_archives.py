"""Archives of unknown origin: what is sound is unpacked, what is not leaves nothing behind."""

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import zipfile

import pytest

from dataset_tools import archives
from dataset_tools.archives import HostileArchiveError, Limits, unpack
from recbole_slif.errors import DataError
from tests.dataset_tools.commands import bars_of


def tar(path, members, mode="w", **options):
    """Write a tar of (name or TarInfo, bytes)."""
    with tarfile.open(path, mode, **options) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def info(name, kind, target=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def zip_kind(name, mode, content=b""):
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, mode << 16
    return entry, content


def forged_pax(path):
    """A tar whose extended header says that it is a GiB long, packed to a few KiB."""
    head = tarfile.TarInfo("x")
    head.type, head.size = tarfile.XHDTYPE, 1 << 30
    with gzip.open(path, "wb") as file:
        file.write(head.tobuf(tarfile.USTAR_FORMAT))
        file.write(bytes(64 << 20))
    return path


def holes(path):
    head = tarfile.TarInfo("x")
    head.type, head.size = tarfile.GNUTYPE_SPARSE, 0
    path.write_bytes(head.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    return path


def lying_zip(path):
    """A zip that declares ten bytes and holds a hundred MiB."""
    zipped(path, [("big", bytes(100 << 20))])
    data = bytearray(path.read_bytes())
    data[22:26] = struct.pack("<I", 10)
    place = data.rfind(b"PK\x01\x02")
    data[place + 24 : place + 28] = struct.pack("<I", 10)
    path.write_bytes(data)
    return path


def overlapping_zip(path):
    """Two entries of the directory that share one body."""
    zipped(path, [("aa", b"x" * 5000), ("ab", b"x" * 5000)])
    data = bytearray(path.read_bytes())
    place = data.rfind(b"PK\x01\x02")
    data[place + 42 : place + 46] = struct.pack("<I", 0)
    path.write_bytes(data)
    return path


ok = [("good.txt", b"fine")]
HOSTILE = {
    "tar parent": lambda p: tar(p, [*ok, ("../evil", b"x")]),
    "tar deep parent": lambda p: tar(p, [*ok, ("a/b/../../../evil", b"x")]),
    "tar inner parent": lambda p: tar(p, [*ok, ("a/../b", b"x")]),
    "tar absolute": lambda p: tar(p, [*ok, ("/tmp/evil", b"x")]),  # noqa: S108
    "tar home": lambda p: tar(p, [*ok, ("~/evil", b"x")]),
    "tar symlink": lambda p: tar(p, [*ok, (info("l", tarfile.SYMTYPE, "/etc"), b"")]),
    "tar link then file": lambda p: tar(
        p, [(info("l", tarfile.SYMTYPE, ".."), b""), ("l/evil", b"x")]
    ),
    "tar hard link": lambda p: tar(p, [*ok, (info("h", tarfile.LNKTYPE, "/etc/passwd"), b"")]),
    "tar character device": lambda p: tar(p, [*ok, (info("c", tarfile.CHRTYPE), b"")]),
    "tar block device": lambda p: tar(p, [*ok, (info("b", tarfile.BLKTYPE), b"")]),
    "tar pipe": lambda p: tar(p, [*ok, (info("f", tarfile.FIFOTYPE), b"")]),
    "tar holes": holes,
    "tar twice": lambda p: tar(p, [*ok, *ok]),
    "tar case": lambda p: tar(p, [*ok, ("GOOD.txt", b"x")]),
    "tar file and folder": lambda p: tar(p, [("a", b"x"), ("a/b", b"x")]),
    "tar.gz parent": lambda p: tar(p, [("../evil", b"x")], "w:gz"),
    "tar.xz absolute": lambda p: tar(p, [("/evil", b"x")], "w:xz"),
    "tar.bz2 link": lambda p: tar(p, [(info("l", tarfile.SYMTYPE, "x"), b"")], "w:bz2"),
    "tar line end": lambda p: tar(p, [("a\nb", b"x")]),
    "tar forged header": forged_pax,
    "zip parent": lambda p: zipped(p, [*ok, ("../evil", b"x")]),
    "zip backslashes": lambda p: zipped(p, [*ok, ("..\\evil", b"x")]),
    "zip absolute": lambda p: zipped(p, [*ok, ("/evil", b"x")]),
    "zip drive": lambda p: zipped(p, [*ok, ("C:\\evil", b"x")]),
    "zip share": lambda p: zipped(p, [*ok, ("\\\\host\\evil", b"x")]),
    "zip stream": lambda p: zipped(p, [*ok, ("a.txt:evil", b"x")]),
    "zip reserved": lambda p: zipped(p, [*ok, ("AUX.txt", b"x")]),
    "zip dots": lambda p: zipped(p, [*ok, ("a/... /evil", b"x")]),
    "zip symlink": lambda p: zipped(p, [*ok, zip_kind("l", 0o120777, b"/etc")]),
    "zip device": lambda p: zipped(p, [*ok, zip_kind("d", 0o020666)]),
    "zip pipe": lambda p: zipped(p, [*ok, zip_kind("d", 0o010666)]),
    "zip twice": lambda p: zipped(p, [*ok, ("Good.TXT", b"x")]),
    "zip long name": lambda p: zipped(p, [*ok, ("a" * 300, b"x")]),
    "zip bomb": lambda p: zipped(p, [*ok, ("big", bytes(100 << 20))]),
    "zip many": lambda p: zipped(p, [(f"{n}", b"") for n in range(2001)]),
    "tar many": lambda p: tar(p, [(f"{n}", b"") for n in range(2001)]),
    "gz bomb": lambda p: p.write_bytes(gzip.compress(bytes(100 << 20))) and p,
    "xz bomb": lambda p: p.write_bytes(lzma.compress(bytes(100 << 20), preset=0)) and p,
    "bz2 bomb": lambda p: p.write_bytes(bz2.compress(bytes(100 << 20))) and p,
    "tar.gz bomb": lambda p: tar(p, [("big", bytes(100 << 20))], "w:gz"),
}
DAMAGED = {
    "zip lies about sizes": lying_zip,
    "zip overlaps": overlapping_zip,
    "zip cut": lambda p: p.write_bytes(zipped(p, ok).read_bytes()[:-30]) and p,
    "gz cut": lambda p: p.write_bytes(gzip.compress(os.urandom(9999))[:-4000]) and p,
    "tar cut": lambda p: p.write_bytes(tar(p, [("a", b"x" * 9999)]).read_bytes()[:3000]) and p,
    "tar.xz cut": lambda p: p.write_bytes(tar(p, ok, "w:xz").read_bytes()[:-40]) and p,
    "gz sum": lambda p: p.write_bytes(gzip.compress(b"abc")[:-8] + bytes(8)) and p,
    "no archive": lambda p: p.write_bytes(b"hello") and p,
    "empty": lambda p: p.write_bytes(b"") or p,
}
LIMITS = Limits(size=1 << 30, entries=2000, ratio=50, spared=1 << 20)


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_leave_nothing(case, tmp_path):
    path = HOSTILE[case](tmp_path / "archive")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    before = everything(tmp_path)
    with pytest.raises(HostileArchiveError, match="archive"):
        unpack(path, tmp_path / "out", LIMITS)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_archives_leave_nothing(case, tmp_path):
    path = DAMAGED[case](tmp_path / "archive")
    before = everything(tmp_path)
    with pytest.raises(DataError, match="archive"):
        unpack(path, tmp_path / "out", LIMITS)
    assert [name for name in everything(tmp_path) if name != "out"] == before


GOOD = [("a/b.txt", b"one"), ("a/c d.txt", b"two" * 9999), ("e.txt", "\u00e9".encode())]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip", "zst"])
def test_sound_archives_are_unpacked(mode, tmp_path, monkeypatch):
    path = tmp_path / "archive.bin"
    if mode == "zip":
        zipped(path, [("a/", b""), *GOOD])
    elif mode == "zst":
        zstandard = pytest.importorskip("zstandard")
        path.write_bytes(zstandard.compress(tar(path, GOOD).read_bytes()))
    else:
        folder = info("a", tarfile.DIRTYPE)
        tar(path, [(folder, b""), *GOOD, (info("./", tarfile.DIRTYPE), b"")], mode)
    out = tmp_path / "out"
    (out / "a").mkdir(parents=True)
    (out / "a" / "b.txt").write_text("old")
    stale = out / f".{path.name}.partial"
    stale.mkdir()
    (stale / "left by a kill").write_text("x")
    shown = bars_of(monkeypatch)
    found = unpack(path, out)
    (bar,) = shown
    assert (bar.unit, bar.total) == ("B", path.stat().st_size) and 0 < bar.n <= bar.total
    assert found == [out / name for name, _ in GOOD]
    assert [path.read_bytes() for path in found] == [content for _, content in GOOD]
    assert everything(out) == ["a", "a/b.txt", "a/c d.txt", "e.txt"]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_single_file_loses_its_suffix(pack, tmp_path):
    path = tmp_path / "reviews.json.gz"
    path.write_bytes(pack(b"{}\n") + pack(b"{}\n"))
    assert unpack(path, tmp_path) == [tmp_path / "reviews.json"]
    assert (tmp_path / "reviews.json").read_bytes() == b"{}\n{}\n"


def test_links_in_the_folder_are_not_followed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    path = tar(tmp_path / "archive", GOOD)
    with pytest.raises(DataError, match="in the way"):
        unpack(path, tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_size_is_capped_before_and_while_unpacking(tmp_path, monkeypatch):
    path = tar(tmp_path / "archive", [("a", b"x" * 1000)])
    with pytest.raises(HostileArchiveError, match="999 bytes; raise --max-size"):
        unpack(path, tmp_path / "out", Limits(size=999))
    monkeypatch.setattr(archives, "_check", lambda *_: None)
    with pytest.raises(HostileArchiveError, match="999 bytes"):
        unpack(path, tmp_path / "out", Limits(size=999))
    assert everything(tmp_path / "out") == []

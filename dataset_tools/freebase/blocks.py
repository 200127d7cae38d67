"""Reads a dump as blocks of whole lines, each with the place from which reading can go on.

A gzip file may be a row of members (Freebase's is); reading goes on at the member that holds the
place, and what lies before the place in it is decompressed and thrown away. zstd and plain files
work too; so does a pipe, from its start alone.
"""

from __future__ import annotations

import bisect
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from recbole_slif.errors import DataError

from ..reading import gzip_engine, in_thread, zstd_engine
from .scan import PADDING

BLOCK = 4 << 20
LONGEST_LINE = 64 << 20
_READ = 256 << 10
_MOUTHFUL = 8 << 10
# Decompressed bytes asked for at once: an archive of zeros must not fill the memory.
_PIECE = 1 << 20
_PAD = bytes(PADDING)
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Place:
    """Where reading can go on.

    Attributes:
        member: Offset in the file of the gzip member that holds the place.
        member_at: Decompressed offset at which this member begins.
        done: Decompressed bytes before the place; the place begins a line.
    """

    member: int = 0
    member_at: int = 0
    done: int = 0


class Block(NamedTuple):
    """Whole lines.

    Attributes:
        text: `[size + PADDING or more]` uint8; what follows `size` means nothing.
        size: Bytes of whole lines.
        place: Where reading goes on after them.
        read: Offset in the file up to which it has been read.
    """

    text: np.ndarray
    size: int
    place: Place
    read: int


class _Piece(NamedTuple):
    data: bytes
    member: int
    member_at: int
    read: int


_Step = Callable[[Any, bytes], tuple[bytes, bytes]]


class BrokenDumpError(DataError):
    """The archive is damaged or breaks off; whole lines before that were given."""


def is_pipe(path: Path) -> bool:
    """Return whether a file can be read only once, from its start."""
    return not stat.S_ISREG(path.stat().st_mode)


def read_dump(path: Path, place: Place | None = None, block: int = BLOCK) -> Iterator[Block]:
    """Yield a dump's lines in blocks; decompression runs ahead in a thread of its own.

    Args:
        path: gzip, zstd or plain file, or a pipe.
        place: Where to go on; None begins at the start.
        block: Bytes of a block, about.

    Raises:
        BrokenDumpError: The archive is damaged or breaks off.
        DataError: The file cannot be read, or a line is too long to be one.
    """
    start = place or Place()
    return in_thread(lambda: _blocks(path, start, block))


def _blocks(path: Path, place: Place, block: int) -> Iterator[Block]:
    members = [(place.member_at, place.member)]
    done, read, size = place.done, place.member, 0
    waiting: list[bytes] = []
    broken: BrokenDumpError | None = None
    try:
        for piece in _after(_pieces(path, place), place.done - place.member_at):
            if piece.member != members[-1][1]:
                members.append((piece.member_at, piece.member))
            read = piece.read
            waiting.append(piece.data)
            size += len(piece.data)
            if size < block:
                continue
            data, cut = _joined(path, waiting, size)
            waiting, size = [data[cut:size]], size - cut
            if cut:
                done += cut
                yield Block(_array(data), cut, _place(members, done), read)
    except BrokenDumpError as error:
        broken = error
    whole = broken or not size or waiting[-1].endswith(b"\n")
    data, cut = _joined(path, waiting if whole else [*waiting, b"\n"], size + (not whole))
    if cut:
        yield Block(_array(data), cut, _place(members, done + cut), read)
    if broken:
        raise broken


def _joined(path: Path, pieces: list[bytes], size: int) -> tuple[bytes, int]:
    """Return the pieces with padding after them, and how many bytes of them are whole lines."""
    data = b"".join([*pieces, _PAD])
    cut = data.rfind(b"\n", 0, size) + 1
    if not cut and size > LONGEST_LINE:
        raise DataError(f"{path}: a line of more than {size:,} bytes; this is no N-triples file")
    return data, cut


def _array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint8)


def _place(members: list[tuple[int, int]], done: int) -> Place:
    """Return the place after `done` bytes and forget the members that end before it."""
    last = bisect.bisect_right(members, (done, sys.maxsize)) - 1
    del members[:last]
    at, member = members[0]
    return Place(member, at, done)


def _after(pieces: Iterator[_Piece], skip: int) -> Iterator[_Piece]:
    for piece in pieces:
        if skip >= len(piece.data):
            skip -= len(piece.data)
            continue
        yield piece._replace(data=piece.data[skip:]) if skip else piece
        skip = 0


def _pieces(path: Path, place: Place) -> Iterator[_Piece]:
    try:
        with path.open("rb") as file:
            head = file.read(len(_ZSTD))
            if not (head.startswith(_GZIP) or head == _ZSTD):
                yield from _plain(file, head)
                return
            zstd = head == _ZSTD
            how = (zstd_engine(path), _some) if zstd else (gzip_engine(), _limited)
            if place.member:
                head = b""
                file.seek(place.member)
            yield from _members(path, file, head, place, how)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _plain(file: IO[bytes], head: bytes) -> Iterator[_Piece]:
    data, read = head, 0
    while data:
        read += len(data)
        yield _Piece(data, 0, 0, read)
        data = file.read(_PIECE)


def _members(
    path: Path, file: IO[bytes], head: bytes, place: Place, how: tuple[Callable[[], Any], _Step]
) -> Iterator[_Piece]:
    """Decompress one member after the other.

    Args:
        path: For errors.
        file: Stands after `head`.
        head: What was read of the member at `place.member`.
        place: The member to begin with.
        how: What gives a decompressor for one member, and what takes a step with it.
    """
    make, step = how
    member, at, given = place.member, place.member_at, place.member_at
    read = member + len(head)
    engine, begun, raw = make(), bool(head), head
    while True:
        if not raw:
            # Reads end at multiples of their size: a damaged archive gives the same text wherever
            # reading began.
            raw = file.read(_READ - read % _READ)
            read += len(raw)
        if not begun:  # zero bytes may pad the space between members
            raw = raw.lstrip(b"\0")
            member, at = read - len(raw), given
        if not raw:
            break
        begun = True
        try:
            data, raw = step(engine, raw)
        except Exception as error:  # each library has an error class of its own
            reason = " ".join(str(error).split())
            raise BrokenDumpError(
                f"{path}: the archive is damaged after {given:,} bytes of text ({reason})"
            ) from error
        given += len(data)
        if data:
            yield _Piece(data, member, at, read)
        if engine.eof:
            engine, begun = make(), False
    if begun:
        raise BrokenDumpError(f"{path}: the archive breaks off after {given:,} bytes of text")


def _limited(engine: Any, raw: bytes) -> tuple[bytes, bytes]:
    """Decompress gzip, up to a limit; return what that gave and what is left."""
    data = engine.decompress(raw, _PIECE)
    return data, engine.unused_data if engine.eof else engine.unconsumed_tail


def _some(engine: Any, raw: bytes) -> tuple[bytes, bytes]:
    """Decompress some zstd, whose output has no limit; return what it gave and what is left."""
    data = engine.decompress(raw[:_MOUTHFUL])
    return data, (engine.unused_data if engine.eof else b"") + raw[_MOUTHFUL:]

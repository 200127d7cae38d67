"""Streams lines of plain, gzip and zstd files, whatever their size.

Lines carry their numbers. What cannot be read (a broken archive, text in a wrong encoding) is
counted in `Faults` and leaves the other lines as they are.
"""

from __future__ import annotations

import importlib
import queue
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from recbole_slif.errors import DataError

from .faults import Faults
from .progress import bar

T = TypeVar("T")
BLOCK_BYTES = 1 << 20
WIDTH = "lines with another number of columns"
LONGEST_LINE = 64 << 20
_AHEAD = 4
_MOUTHFUL = 8 << 10
_BOM = b"\xef\xbb\xbf"
_ARCHIVES = {b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z"}


class Block(NamedTuple):
    """Whole lines of a file.

    Attributes:
        number: Line number of the first, from 1.
        data: The lines, each with its line end (the file's last line may lack it).
    """

    number: int
    data: bytes


class _BrokenError(Exception):
    """The archive cannot be read further; the text says why."""


def read_text(
    path: Path, faults: Faults, encoding: str = "utf-8", after: int = 0
) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is not blank, from the one behind `after` on.

    Byte-order mark and Windows line ends are taken off. Lines with a NUL byte or in another
    encoding are counted and left out.

    Raises:
        DataError: There is no such file, it is no text archive we read, or the encoding is unknown.
    """
    try:
        "".encode(encoding)
    except LookupError as error:
        raise DataError(f"--encoding: '{encoding}' is not known; use utf-8 or latin-1") from error
    for number, line in read_lines(path, faults, after):
        try:
            yield number, line.decode(encoding)
        except UnicodeDecodeError:
            faults.add(f"lines that are not {encoding} text", path, number)


def read_atomic(path: Path, faults: Faults) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each line of an atomic file, the header first; see `read_text`.

    Tabs alone part cells: quotes are ordinary characters, as they are in training. Lines of
    another width than the header's are counted and left out.
    """
    width = 0
    for number, line in read_text(path, faults):
        cells = line.split("\t")
        width = width or len(cells)
        if len(cells) == width:
            yield number, cells
        else:
            faults.add(WIDTH, path, number)


def read_lines(path: Path, faults: Faults, after: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each line that is not blank; see `read_text`."""
    for block in read_blocks(path, faults, after):
        clean = b"\0" not in block.data
        for number, line in enumerate(block.data.split(b"\n"), start=block.number):
            line = line.rstrip(b"\r")
            if number <= after or not line.strip():
                continue
            if clean or b"\0" not in line:
                yield number, line
            else:
                faults.add("lines with a NUL byte", path, number)


def read_blocks(path: Path, faults: Faults, after: int = 0) -> Iterator[Block]:
    """Yield the lines of a file in blocks of about a MiB, with a progress bar.

    Blocks that end before line `after` does are left out, and so are faults up to there.

    Decompression runs in a thread of its own. An archive that breaks off gives its whole lines;
    the line it breaks in is counted as a fault. So is a line beyond `LONGEST_LINE`.

    Raises:
        DataError: There is no such file, or it is an archive of another kind.
    """
    number, rest = 1, b""

    def grow(rest: bytes, piece: bytes) -> bytes:
        return _grow(rest, piece, path, number, faults if number > after else Faults())

    try:
        for piece in in_thread(lambda: _pieces(path)):
            if number == 1 and not rest and piece.startswith(_BOM):
                piece = piece[len(_BOM) :]
            end = piece.rfind(b"\n") + 1
            if not end:
                rest = grow(rest, piece)
                continue
            data = grow(rest, piece[: piece.index(b"\n")])
            data += piece[piece.index(b"\n") : end]
            rest = piece[end:]
            lines = data.count(b"\n")
            if number + lines > after:
                yield Block(number, data)
            number += lines
    except _BrokenError as broken:
        faults.add(f"archive {broken}; what follows is lost", path, number)
        return
    if rest:
        yield Block(number, rest)


def _grow(rest: bytes, piece: bytes, path: Path, number: int, faults: Faults) -> bytes:
    """Add to an unfinished line; one that gets too long is counted and becomes blanks."""
    if len(rest) + len(piece) <= LONGEST_LINE:
        return rest + piece
    if len(rest) <= LONGEST_LINE:
        faults.add(f"lines longer than {LONGEST_LINE >> 20} MiB", path, number)
    return b" " * (LONGEST_LINE + 1)


def _pieces(path: Path) -> Iterator[bytes]:
    """Yield the decompressed bytes of a file, advancing the bar by bytes read from disk."""
    try:
        with path.open("rb") as file, bar(path.stat().st_size, path.name) as shown:
            source = Counted(file, shown.update)
            head = source.read(BLOCK_BYTES)
            for magic, kind in _ARCHIVES.items():
                if head.startswith(magic):
                    raise DataError(f"{path}: a {kind} archive; unpack it, or make it a .gz")
            if head.startswith(b"\x1f\x8b"):
                yield from _inflate(head, source, gzip_engine())
            elif head.startswith(b"\x28\xb5\x2f\xfd"):
                yield from _inflate(head, source, zstd_engine(path))
            else:
                while head:
                    yield head
                    head = source.read(BLOCK_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


class Counted:
    """Passes on reads and tells how many bytes they gave.

    Args:
        file: Is read.
        tell: Receives the number of bytes of each read.
    """

    def __init__(self, file: IO[bytes], tell: Callable[[int], Any]) -> None:
        self._file, self._tell = file, tell

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, all for -1."""
        data = self._file.read(size)
        self._tell(len(data))
        return data


def gzip_engine() -> Callable[[], Any]:
    """Return what makes a decompressor for one gzip member; isal's where it is installed."""
    try:
        fast = importlib.import_module("isal.isal_zlib")
    except ImportError:
        return lambda: zlib.decompressobj(31)
    return lambda: fast.decompressobj(31)


def zstd_engine(path: Path) -> Callable[[], Any]:
    """Return what makes a decompressor for one zstd frame."""
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError as error:
        raise DataError(f"{path}: zstd needs a library; pip install zstandard") from error
    return lambda: zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()


def _inflate(head: bytes, source: Counted, make: Callable[[], Any]) -> Iterator[bytes]:
    """Decompress member after member, in mouthfuls so small that no bomb can fill the memory.

    Args:
        head: Bytes already read.
        source: Where more come from.
        make: Gives a decompressor for one member.
    """
    engine, gathered, waiting, at = make(), bytearray(), head, 0
    begun = True
    while waiting:
        mouthful = waiting[at : at + _MOUTHFUL]
        at += len(mouthful)
        try:
            gathered += engine.decompress(mouthful)
        except Exception as error:  # each library has an error class of its own
            yield bytes(gathered)
            raise _BrokenError(f"is damaged ({' '.join(str(error).split())})") from error
        begun = True
        if engine.eof:
            waiting, at = engine.unused_data + waiting[at:], 0
            engine, begun = make(), False
        if len(gathered) >= BLOCK_BYTES:
            yield bytes(gathered)
            gathered.clear()
        if at >= len(waiting):
            waiting, at = source.read(BLOCK_BYTES), 0
        if not begun:  # padding after a member is no member
            waiting = waiting.lstrip(b"\0") or source.read(BLOCK_BYTES).lstrip(b"\0")
    yield bytes(gathered)
    if begun:
        raise _BrokenError("breaks off")


def in_thread(make: Callable[[], Iterator[T]]) -> Iterator[T]:
    """Run an iterator in a thread, a few items ahead; its exceptions come through."""
    ready: queue.Queue[T | BaseException | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(entry: T | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for piece in make():
                if not put(piece):
                    return
            put(None)
        except BaseException as error:  # handed to the reader's thread, whatever it is
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (entry := ready.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry
    finally:
        stopped.set()
        thread.join()

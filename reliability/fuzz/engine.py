"""How a case of fuzzing is drawn and judged: seeded, in this process, one file at a time."""

from __future__ import annotations

import contextlib
import os
import random
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from recbole_slif.errors import SlifError

Draw = random.Random
PIECES = [
    b"\t", b"\n", b"\r", b"\r\n", b"\0", b" ", b'"', b"'", b":", b",", b"#", b"-", b"\\", b"/",
    b"\xef\xbb\xbf", b"\xff", b"\xfe", b"\xc3", b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\x1b[2J",
    b"\x0b", b"\x0c", b"\x1c", b"\x85", b"nan", b"NaN", b"inf", b"-inf", b"1e999", b"1e-999",
    b"99999999999999999999", b"-1", b"0", b"[PAD]", b"None", b"null", b"true", b"../..", b"=1+1",
    "\u00e9".encode(), "\U0001f600".encode(), "\u0660".encode(), b"a" * 300,
]  # fmt: skip


class FoundFault(AssertionError):  # noqa: N818 - what a case reports
    """A case that ended as it must not."""


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Work in a folder for as long as the block runs."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def damaged(data: bytes, draw: Draw) -> bytes:
    """Return bytes with one to three random damages."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        data = draw.choice(_DAMAGES)(data, draw)
    return data


def _place(data: bytes, draw: Draw) -> int:
    return draw.randrange(len(data) + 1)


def _insert(data: bytes, draw: Draw) -> bytes:
    at = _place(data, draw)
    return data[:at] + draw.choice(PIECES) + data[at:]


def _replace(data: bytes, draw: Draw) -> bytes:
    at = _place(data, draw)
    return data[:at] + draw.choice(PIECES) + data[at + draw.randrange(1, 9) :]


def _flip(data: bytes, draw: Draw) -> bytes:
    if not data:
        return b"\x00"
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]


def _cut(data: bytes, draw: Draw) -> bytes:
    at = _place(data, draw)
    return data[:at] + data[at + draw.randrange(1, 40) :]


def _truncate(data: bytes, draw: Draw) -> bytes:
    return data[: _place(data, draw)]


def _lines(data: bytes, draw: Draw) -> bytes:
    """Repeat, remove, swap or join lines."""
    lines = data.split(b"\n")
    first, second = draw.randrange(len(lines)), draw.randrange(len(lines))
    kind = draw.randrange(4)
    if kind == 0:
        lines.insert(second, lines[first])
    elif kind == 1:
        del lines[first]
    elif kind == 2:
        lines[first], lines[second] = lines[second], lines[first]
    else:
        lines[first : first + 2] = [b"".join(lines[first : first + 2])]
    return b"\n".join(lines)


def _repeat(data: bytes, draw: Draw) -> bytes:
    at = _place(data, draw)
    return data[:at] + data[at : at + draw.randrange(1, 30)] * draw.randrange(2, 5) + data[at:]


_DAMAGES: list[Callable[[bytes, Draw], bytes]] = [
    _insert, _replace, _flip, _cut, _truncate, _lines, _repeat,
]  # fmt: skip


def judge(
    action: Callable[[], Any], names: Collection[str], planted: bool = False, told: str = ""
) -> tuple[bool, Any]:
    """Run an action that may refuse its input.

    Args:
        action: what reads the input.
        names: texts of which a refusal must name one: the file, or the key.
        planted: whether the input is known to be wrong, so that it must be refused.
        told: what was given, for the report.

    Returns:
        Whether it was accepted, and the result.

    Raises:
        FoundFault: another error, a message of several lines or that names nothing, or planted
            corruption was accepted.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = action()
    except SlifError as error:
        text = str(error)
        if len(text.splitlines()) != 1 or not text.isprintable():
            raise FoundFault(f"{told}: not one plain line: {text!r}") from error
        if not any(name in text for name in names):
            raise FoundFault(f"{told}: names neither file nor key: {text}") from error
        return False, None
    except Exception as error:
        raise FoundFault(f"{told}: {type(error).__name__}: {error}") from error
    if planted:
        raise FoundFault(f"{told}: accepted")
    return True, result

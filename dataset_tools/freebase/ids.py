"""Freebase ids as 64-bit keys that sort like their text: `m.0abc` and `g.11b6gp` and back.

A key is `kind * 38^12 + digits`: kind 1 for `m.`, 0 for `g.`, then up to twelve characters as
digits to base 38, left-aligned, 0 for "no more". The characters' order is ASCII's, so numeric order
of keys is byte order of ids, and a sorted array of keys is a sorted list of tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

CHARACTERS = b"0123456789_abcdefghijklmnopqrstuvwxyz"
WIDTH = 12
BASE = len(CHARACTERS) + 1
_KIND = np.uint64(BASE**WIDTH)
_BAD = 255
_DIGIT = np.full(256, _BAD, dtype=np.uint8)
_DIGIT[np.frombuffer(CHARACTERS, dtype=np.uint8)] = np.arange(1, BASE)
_LETTER = np.frombuffer(b"\0" + CHARACTERS, dtype=np.uint8)


def pack(text: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, ...]:
    """Turn ids that lie in a block of bytes into keys.

    Args:
        text: `[size]` uint8; at least `WIDTH + 2` bytes must follow the last start.
        starts: `[n]` where the ids begin, at their `m` or `g`.
        lengths: `[n]` characters of each, `m.` counted.

    Returns:
        `[n]` uint64 keys and `[n]` bool, False where the text is no id (its key means nothing).
    """
    first = text[starts]
    valid = ((first == ord("m")) | (first == ord("g"))) & (text[starts + 1] == ord("."))
    valid &= (lengths > 2) & (lengths <= WIDTH + 2)
    keys = (first == ord("m")).astype(np.uint64)
    for place in range(2, WIDTH + 2):
        inside = place < lengths
        digit = _DIGIT[text[starts + place]]
        valid &= ~inside | (digit != _BAD)
        keys = keys * np.uint64(BASE) + np.where(inside, digit, 0).astype(np.uint64)
    return keys, valid


def letters(keys: np.ndarray) -> np.ndarray:
    """Return the ids of `[n]` keys as `[n, 16]` uint8, filled up with zero bytes."""
    spelled = np.zeros((len(keys), 16), dtype=np.uint8)
    kind = keys >= _KIND
    spelled[:, 0] = np.where(kind, ord("m"), ord("g"))
    spelled[:, 1] = ord(".")
    rest = keys - kind.astype(np.uint64) * _KIND
    for place in range(WIDTH + 1, 1, -1):
        rest, digit = np.divmod(rest, np.uint64(BASE))
        spelled[:, place] = _LETTER[digit.astype(np.intp)]
    return spelled


def tokens(keys: np.ndarray) -> list[str]:
    """Return the ids of keys as text."""
    return [word.decode("ascii") for word in letters(keys).view("S16").ravel().tolist()]


def keys_of(words: Iterable[str]) -> tuple[np.ndarray, list[str]]:
    """Turn ids into sorted distinct keys.

    Args:
        words: Ids written `m.0abc`, `/m/0abc`, or as the address of the entity.

    Returns:
        `[n]` uint64 keys, and the words that are no Freebase ids.
    """
    given = list(dict.fromkeys(words))
    plain = [_plain(word) for word in given]
    width = WIDTH + 4
    cells = np.array([word.encode()[:width] for word in plain], dtype=f"S{width}")
    text = np.append(cells.view(np.uint8), np.zeros(width, dtype=np.uint8))
    lengths = np.array([min(len(word.encode()), width) for word in plain], dtype=np.int64)
    keys, valid = pack(text, np.arange(len(given)) * width, lengths)
    return np.unique(keys[valid]), [given[row] for row in np.flatnonzero(~valid)]


def _plain(word: str) -> str:
    tail = word.strip("<>").rpartition("/ns/")[2]
    return tail.strip("/").replace("/", ".", 1)

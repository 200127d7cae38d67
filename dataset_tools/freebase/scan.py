"""Finds, in a block of N-triples, the triples that touch a set of entities, without reading lines.

A block is scanned once for tabs and line ends, the only bytes below 11 in a sound dump. All else is
looked up at the places found: is the object an entity or a literal, and do the eight bytes of a
subject's id hit the bitmap of the wanted ones. Python sees only what is left.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from .ids import WIDTH, letters, pack

PREFIX = b"<http://rdf.freebase.com/ns/"
PADDING = 64
LONGEST_RELATION = 256
_SKIP = len(PREFIX)
_BITS = 24
_FACTORS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_MASKS = np.array([(1 << (8 * n)) - 1 for n in range(9)], dtype=np.uint64)
_ENTITY = [int.from_bytes(word, "little") for word in (b"s/m.", b"s/g.")]
_PREFIX_LANES = [
    (at, np.uint64(int.from_bytes(PREFIX[at : at + 8], "little"))) for at in (0, 8, 16, 20)
]


class Frontier:
    """The entities that a pass looks for.

    Attributes:
        keys: `[n]` sorted uint64.
        bitmap: `[2^24]` bool of hashed ids: a quick no for most rows.
    """

    def __init__(self, keys: np.ndarray) -> None:
        self.keys = keys
        self.bitmap = np.zeros(1 << _BITS, dtype=bool)
        for start in range(0, len(keys), 1 << 20):
            lanes = letters(keys[start : start + (1 << 20)]).view("<u8")
            self.bitmap[_hash(lanes[:, 0], lanes[:, 1])] = True

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Return `[n]` bool, whether each key is one of the wanted."""
        if not len(self.keys):
            return np.zeros(len(keys), dtype=bool)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return self.keys[at] == keys


@dataclass
class Found:
    """What a block gave.

    Attributes:
        heads: `[n]` uint64 keys of triples between two entities of which one is wanted.
        tails: `[n]` likewise.
        relation_starts: `[n]` where each relation begins in the block, after `<`.
        relation_ends: `[n]` where it ends, before `>`.
        lines: Lines in the block.
        bad_lines: 0-based numbers, within the block, of lines that are not four cells.
        bad_ids: likewise, of lines at wanted ids whose other cells are not what they should be.
        counts: Rows by kind, over all lines; empty unless asked for.
    """

    heads: np.ndarray
    tails: np.ndarray
    relation_starts: np.ndarray
    relation_ends: np.ndarray
    lines: int
    bad_lines: np.ndarray
    bad_ids: np.ndarray
    counts: Counter[str] = field(default_factory=Counter)


@dataclass
class _Rows:
    """Well-formed lines of a block: where their cells begin and end."""

    start: np.ndarray
    tabs: np.ndarray  # [n, 3]
    line: np.ndarray

    def take(self, kept: np.ndarray) -> _Rows:
        return _Rows(self.start[kept], self.tabs[kept], self.line[kept])


def scan_block(
    text: np.ndarray, size: int, wanted: Frontier, both: bool, language: str | None
) -> Found:
    """Find the triples of one block that touch wanted entities.

    Args:
        text: `[size + PADDING]` uint8: whole lines, then padding.
        size: Bytes that count.
        wanted: The entities to look for.
        both: Look for them as objects too, not as subjects alone.
        language: Count all rows by kind, with literals of other languages apart; None does not.
    """
    rows, n_lines, bad = _split(text, size)
    objects = rows.tabs[:, 1] + 1
    subject_is = _starts_entity(text, rows.start)
    object_is = _starts_entity(text, objects)
    counts = Counter[str]()
    if language is not None:
        counts = _kinds(text, rows, subject_is, object_is, language)
    rows = rows.take(np.flatnonzero(subject_is & object_is))
    hit = _maybe(text, rows.start, rows.tabs[:, 0], wanted)
    if both:
        hit |= _maybe(text, rows.tabs[:, 1] + 1, rows.tabs[:, 2], wanted)
    return _exact(text, rows.take(np.flatnonzero(hit)), wanted, both, (n_lines, bad, counts))


def _split(text: np.ndarray, size: int) -> tuple[_Rows, int, np.ndarray]:
    separators = np.flatnonzero(text[:size] < 11)
    breaks = np.flatnonzero(text[separators] == 10)
    ends = separators[breaks]
    starts = np.empty_like(ends)
    if len(ends):
        starts[0], starts[1:] = 0, ends[:-1] + 1
    cells = np.diff(breaks, prepend=-1)
    good = (cells == 4) & (text[ends - 1] == ord(".")) & (text[starts] == ord("<"))
    line = np.flatnonzero(good)
    at = breaks[line]
    tabs = separators[at[:, None] + np.array([-3, -2, -1])]
    # Blank lines are not triples, and no faults.
    bad = np.flatnonzero(~good & (ends > starts))
    return _Rows(starts[line], tabs, line), len(ends), bad


def _lanes(text: np.ndarray, places: np.ndarray, kind: str = "<u8") -> np.ndarray:
    """Read `[n]` unaligned words of the block."""
    step = np.dtype(kind).itemsize
    view = np.ndarray((len(text) - step + 1,), kind, text.data, strides=(1,))
    return view[places]


def _starts_entity(text: np.ndarray, starts: np.ndarray) -> np.ndarray:
    mark = _lanes(text, np.minimum(starts + _SKIP - 2, len(text) - 8), "<u4")
    return (mark == _ENTITY[0]) | (mark == _ENTITY[1])


def _hash(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    mixed = (low * _FACTORS[0]) ^ (high * _FACTORS[1])
    mixed ^= mixed >> np.uint64(29)
    return ((mixed * _FACTORS[0]) >> np.uint64(64 - _BITS)).astype(np.int64)


def _maybe(text: np.ndarray, starts: np.ndarray, ends: np.ndarray, wanted: Frontier) -> np.ndarray:
    begin = starts + _SKIP
    length = ends - 1 - begin
    low = _lanes(text, begin) & _MASKS[np.clip(length, 0, 8)]
    high = _lanes(text, begin + 8) & _MASKS[np.clip(length - 8, 0, 8)]
    return wanted.bitmap[_hash(low, high)]


def _keys(text: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, ...]:
    keys, valid = pack(text, starts + _SKIP, ends - 1 - starts - _SKIP)
    valid &= text[ends - 1] == ord(">")
    for at, word in _PREFIX_LANES:
        valid &= _lanes(text, starts + at) == word
    return keys, valid


def _exact(
    text: np.ndarray,
    rows: _Rows,
    wanted: Frontier,
    both: bool,
    rest: tuple[int, np.ndarray, Counter[str]],
) -> Found:
    heads, head_ok = _keys(text, rows.start, rows.tabs[:, 0])
    tails, tail_ok = _keys(text, rows.tabs[:, 1] + 1, rows.tabs[:, 2])
    touched = head_ok & wanted.holds(heads)
    if both:
        touched |= tail_ok & wanted.holds(tails)
    relation = rows.tabs[:, 0] + 1
    length = rows.tabs[:, 1] - relation
    relation_ok = (text[relation] == ord("<")) & (text[rows.tabs[:, 1] - 1] == ord(">"))
    sound = head_ok & tail_ok & relation_ok & (length > 2) & (length <= LONGEST_RELATION)
    kept = np.flatnonzero(touched & sound)
    n_lines, bad, counts = rest
    return Found(
        heads[kept],
        tails[kept],
        relation[kept] + 1,
        rows.tabs[kept, 1] - 1,
        n_lines,
        bad,
        rows.line[touched & ~sound],
        counts,
    )


def _kinds(
    text: np.ndarray, rows: _Rows, subject_is: np.ndarray, object_is: np.ndarray, language: str
) -> Counter[str]:
    objects, ends = rows.tabs[:, 1] + 1, rows.tabs[:, 2]
    literal = text[objects] == ord('"')
    other = _other_language(text, ends[literal], language)
    n_literal, n_other = int(literal.sum()), int(other.sum())
    between = int((subject_is & object_is).sum())
    return Counter(
        {
            "triples between entities": between,
            f"literals (none or {language})": n_literal - n_other,
            "literals of other languages": n_other,
            "objects or subjects that are no entities": len(literal) - n_literal - between,
        }
    )


def _other_language(text: np.ndarray, ends: np.ndarray, language: str) -> np.ndarray:
    """Return `[n]` bool: the literal that ends here has a tag, and not that of `language`."""
    own = language.encode()
    tagged = np.zeros(len(ends), dtype=bool)
    same = np.zeros(len(ends), dtype=bool)
    for width in range(2, WIDTH):
        quote = (text[ends - width - 1] == ord('"')) & (text[ends - width] == ord("@"))
        tagged |= quote
        if width > len(own):
            start = ends - width + 1
            equal = np.all([text[start + at] == byte for at, byte in enumerate(own)], axis=0)
            follows = text[start + len(own)]
            same |= quote & equal & ((follows == 9) | (follows == ord("-")))
    return tagged & ~same

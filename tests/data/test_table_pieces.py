"""A table read in pieces is the table read at once, down to counts and the lines of errors."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from recbole_slif.data.tables import read_pieces, read_table
from recbole_slif.errors import DataError

HEAD = b"user_id:token\titem_id:token\trating:float"
LINES = [f"u{n % 7}\ti{n % 5}\t{n / 2 if n % 3 else ''}".encode() for n in range(60)]


def text(lines=LINES, end=b"\n", head=HEAD):
    return end.join([head, *lines]) + end


GOOD = {
    "plain": text(),
    "header alone": HEAD + b"\n",
    "header without line end": HEAD,
    "no last line end": text()[:-1],
    "windows": text(end=b"\r\n"),
    "mark": b"\xef\xbb\xbf" + text(),
    "blanks": text([*LINES[:20], b" u1\ti1 \t3", *LINES[20:], b"u2\t i3\t 4 "]),
    "blank lines": text([*LINES[:9], b"", b"", *LINES[9:], b"", b""]),
    "other letters": text(["ü\t\u2028é\t1".encode(), *LINES]),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("size", [1, 40, 77, 300, 1 << 20])
def test_pieces_are_the_whole(tmp_path, name, size):
    path = tmp_path / "x.inter"
    path.write_bytes(GOOD[name])
    rules = {"keep": ["rating"], "required": ["item_id", "user_id"]}
    whole = read_table(path, **rules)
    pieces = list(read_pieces(path, size=size, **rules))
    frame = pd.concat([piece.frame for piece in pieces], ignore_index=True)
    assert list(frame) == list(whole.frame)
    for column in whole.frame:
        values, others = (one[column].to_numpy() for one in (whole.frame, frame))
        assert len(values) == len(others)
        assert all(a == b or (a != a and b != b) for a, b in zip(values, others, strict=True))
    assert frame["rating"].dtype == np.float64 or not len(frame)
    assert sum((piece.notes for piece in pieces), Counter()) == whole.notes
    assert all(piece.types == whole.types for piece in pieces)


BAD = {
    "nul": [*LINES[:30], b"u\0\ti1\t1", *LINES[30:]],
    "narrow": [*LINES[:30], b"u1\ti1", *LINES[30:]],
    "first": [b"u1", *LINES],
    "last": [*LINES, b"u1\ti1\t1\t1"],
    "number": [*LINES[:30], b"", b"u1\ti1\tone", *LINES[30:]],
    "empty": [*LINES[:30], b"\ti1\t1", *LINES[30:]],
    "encoding": [*LINES[:30], b"\xff\ti1\t1", *LINES[30:]],
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("size", [1, 64, 300, 1 << 20])
def test_an_error_names_the_same_line(tmp_path, name, size):
    path = tmp_path / "x.inter"
    path.write_bytes(text(BAD[name]))
    found = []
    for read in (read_table, lambda *a, **k: list(read_pieces(*a, size=size, **k))):
        with pytest.raises(DataError) as error:
            read(path, required=["user_id"])
        found.append(str(error.value))
    assert found[0] == found[1]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"user_id\n", None])
def test_a_file_that_is_none_is_refused_alike(tmp_path, content):
    path = tmp_path / "x.inter"
    if content is not None:
        path.write_bytes(content)
    found = []
    for read in (read_table, lambda path: list(read_pieces(path))):
        with pytest.raises(DataError) as error:
            read(path)
        found.append(str(error.value))
    assert found[0] == found[1]

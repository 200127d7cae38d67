"""Lines of raw files: numbers, archives whole and broken, encodings, faults and their report."""

import argparse
import gzip
import json
import sys

import pytest
import zstandard

from dataset_tools import reading
from dataset_tools.faults import Faults, conclude
from dataset_tools.reading import read_blocks, read_lines, read_text
from recbole_slif.errors import DataError

LINES = [f"line {number} of many, äöü" for number in range(1, 60_001)]
TEXT = ("\n".join(LINES) + "\n").encode()


def compressed(kind):
    if kind == "gzip":
        return gzip.compress(TEXT)
    if kind == "members":
        parts = [TEXT[:5000], TEXT[5000:5007], TEXT[5007:]]
        return b"".join(gzip.compress(part) for part in parts) + b"\0" * 100
    if kind == "zstd":
        return zstandard.ZstdCompressor().compress(TEXT)
    return TEXT


@pytest.fixture(params=["plain", "gzip", "members", "zstd"])
def archive(request, tmp_path):
    path = tmp_path / "raw"
    path.write_bytes(compressed(request.param))
    return path


def test_every_line_comes_with_its_number(archive):
    faults = Faults()
    assert list(read_text(archive, faults)) == list(enumerate(LINES, start=1))
    assert faults.total == 0


def test_blocks_hold_whole_lines_and_know_their_place(archive):
    blocks = list(read_blocks(archive, Faults()))
    assert b"".join(block.data for block in blocks) == TEXT
    assert len(blocks) > 1
    for block in blocks:
        assert block.data.endswith(b"\n")
        assert block.data.startswith(f"line {block.number} ".encode())


def test_stdlib_reads_gzip_where_isal_is_absent(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    path = tmp_path / "raw.gz"
    path.write_bytes(compressed("members"))
    assert [line for _, line in read_text(path, Faults())] == LINES


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize("with_isal", [True, False])
def test_an_archive_that_breaks_off_gives_its_whole_lines(tmp_path, kind, with_isal, monkeypatch):
    if not with_isal:
        monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    path, faults = tmp_path / "raw", Faults()
    whole = compressed(kind)
    path.write_bytes(whole[: len(whole) // 2])
    found = [line for _, line in read_text(path, faults)]
    assert 0 < len(found) < len(LINES)
    assert found == LINES[: len(found)]
    (entry,) = faults.report()
    assert "breaks off" in entry["kind"] and entry["lines"] == [len(found) + 1]


def test_a_damaged_archive_says_where(tmp_path):
    path, faults = tmp_path / "raw.gz", Faults()
    whole = bytearray(compressed("gzip"))
    whole[len(whole) // 2 : len(whole) // 2 + 200] = b"\xff" * 200
    path.write_bytes(whole)
    found = [line for _, line in read_text(path, faults)]
    assert found[:100] == LINES[:100]
    assert faults.total == 1 and "is damaged" in faults.report()[0]["kind"]


def test_bad_lines_are_counted_and_change_no_other(tmp_path):
    path, faults = tmp_path / "raw", Faults()
    path.write_bytes(b"\xef\xbb\xbfone\r\n\xfftwo\n\n  \nth\0ree\nfour\nfi\xc3\xa4ve")
    assert list(read_text(path, faults)) == [(1, "one"), (6, "four"), (7, "fiäve")]
    assert [(entry["kind"], entry["lines"]) for entry in faults.report()] == [
        ("lines that are not utf-8 text", [2]),
        ("lines with a NUL byte", [5]),
    ]
    latin = dict(read_text(path, Faults(), "latin-1"))
    assert latin[2] == "ÿtwo"


@pytest.mark.parametrize("end", [b"\nlast\n", b""])
def test_a_line_without_end_does_not_fill_the_memory(tmp_path, monkeypatch, end):
    monkeypatch.setattr(reading, "LONGEST_LINE", 3 << 20)
    path, faults = tmp_path / "raw", Faults()
    path.write_bytes(b"first\n" + b"x" * (5 << 20) + end)
    expected = [(1, b"first"), (3, b"last")] if end else [(1, b"first")]
    found = [(n, line) for n, line in read_lines(path, faults)]
    assert [(n, line.strip(b"x ")) for n, line in found if line.strip(b"x ")] == expected
    assert max(len(line) for _, line in found) < 10
    assert faults.report()[0]["lines"] == [2] and faults.total == 1


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent.*cannot be read"):
        list(read_text(tmp_path / "absent", Faults()))
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04xxxx")
    with pytest.raises(DataError, match="zip archive; unpack"):
        list(read_text(tmp_path / "a.zip", Faults()))
    with pytest.raises(DataError, match="--encoding: 'klingon'"):
        list(read_text(tmp_path / "a.zip", Faults(), "klingon"))


def test_a_reader_may_stop_early(archive):
    lines = read_text(archive, Faults())
    assert next(lines) == (1, LINES[0])
    lines.close()


def test_faults_keep_the_first_lines_and_count_all(tmp_path, capsys):
    faults = Faults(kept=2)
    for line in (3, 5, 8):
        faults.add("lines of broken JSON", tmp_path / "b.json", line)
    faults.add("links twice", "a.txt")
    options = argparse.Namespace(strict=True, report=tmp_path / "out" / "report.json")
    assert faults.summary() == [
        "a.txt: 1 links twice",
        "b.json: 3 lines of broken JSON (line 3, 5, ...)",
    ]
    with pytest.raises(DataError, match=r"a.txt: 1 links twice; 4 faults in all"):
        conclude({"lines read": 12345}, faults, options)
    shown = capsys.readouterr()
    assert "12,345" in shown.out and "b.json: 3 lines" in shown.err
    content = json.loads(options.report.read_text())
    assert content["counts"] == {"lines read": 12345}
    assert content["faults"][1]["lines"] == [3, 5]


def test_the_lowest_line_numbers_are_kept_in_whatever_order_they_come():
    faults = Faults(kept=3)
    for line in (9, 4, 7, 1, 8):
        faults.add("lines", "x", line)
    assert faults.report() == [{"file": "x", "kind": "lines", "count": 5, "lines": [1, 4, 7]}]

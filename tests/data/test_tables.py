"""Each fault of an atomic file is handled and counted, or refused with file, line and fix."""

from pathlib import Path

import numpy as np
import pytest

from recbole_slif.data.tables import read_table
from recbole_slif.errors import DataError

GOOD = "user_id:token\titem_id:token\trating:float\nu1\ti1\t3\nu1\ti2\t\nu2\ti1\t4.5\n"


def read(tmp_path: Path, content: bytes | str, **options):
    path = tmp_path / "toy.inter"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, required=["user_id", "item_id"], **options)


def test_good_file_is_read_with_its_types(tmp_path):
    table = read(tmp_path, GOOD)
    assert table.frame["user_id"].tolist() == ["u1", "u1", "u2"]
    rating = table.frame["rating"].to_numpy()
    assert rating[[0, 2]].tolist() == [3.0, 4.5] and np.isnan(rating[1])
    assert table.types == {"user_id": "token", "item_id": "token", "rating": "float"}
    assert not +table.notes


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("", None, "empty"),
        (" \n\n", None, "empty"),
        ("u1\ti1\nu2\ti2\n", 1, "no type"),
        ("user_id\titem_id\nu1\ti1\n", 1, "has no type"),
        ("user_id:token item_id:token\nu1 i1\n", 1, "spaces for tabs"),
        ("user_id:token\titem_id:token\nu1\ti1\nu1 i2\n", 3, "spaces for tabs"),
        ("user_id:token\titem_id:int\nu1\ti1\n", 1, "type 'int'"),
        ("user_id:float\titem_id:token\n1\ti1\n", 1, "write user_id:token"),
        ("user_id:token\titem_id:token_seq\nu1\ti1\n", 1, "has type 'token_seq'"),
        ("user_id:token\tuser_id:token\nu1\ti1\n", 1, "occurs twice"),
        ("uid:token\titem_id:token\nu1\ti1\n", 1, "no column 'user_id'"),
        (GOOD + "u3\ti2\n", 5, "truncated"),
        (GOOD + "u3\ti2\t1\t9\n", 5, "column"),
        (GOOD.replace("u2", ""), 4, "'user_id' is empty"),
        (GOOD.replace("\n", "\n\n", 1).replace("u2", " "), 5, "'user_id' is empty"),
        (GOOD.replace("u2", "u\0"), 4, "NUL"),
        (GOOD.replace("4.5", "many"), 4, "'many'"),
        (GOOD.replace("4.5", "inf"), 4, "'inf'"),
        (GOOD.encode() + b"u\xff\ti1\t1\n", 5, "UTF-8"),
        (GOOD.encode("utf-16"), 1, "UTF-16"),
    ],
)
def test_malformed_files_are_refused_by_name_and_line(tmp_path, content, line, words):
    with pytest.raises(DataError) as failure:
        read(tmp_path, content)
    text = str(failure.value)
    assert "toy.inter" in text and words in text and "\n" not in text
    assert line is None or f"line {line}:" in text


def test_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"absent\.inter"):
        read_table(tmp_path / "absent.inter")


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"\xef\xbb\xbf" + GOOD.encode(), "byte-order mark"),
        (GOOD.replace("\n", "\r\n").encode(), "Windows line ends"),
        (GOOD.replace("u2", " u2 ").encode(), "blanks around"),
        (GOOD.replace("u2", "\nu2").encode(), "blank lines"),
    ],
)
def test_harmless_faults_are_put_right_and_counted(tmp_path, content, note):
    table = read(tmp_path, content)
    assert table.frame["user_id"].tolist() == ["u1", "u1", "u2"]
    assert [count for name, count in table.notes.items() if note in name] == [1]


def test_words_that_pandas_takes_for_missing_are_tokens(tmp_path):
    table = read(tmp_path, 'user_id:token\titem_id:token\nNA\tnull\nnan\t"x\nNone\ty"\n')
    assert table.frame["user_id"].tolist() == ["NA", "nan", "None"]
    assert table.frame["item_id"].tolist() == ["null", '"x', 'y"']


def test_last_line_needs_no_line_end_and_blank_lines_are_skipped(tmp_path):
    table = read(tmp_path, GOOD.replace("u2", "\nu2").rstrip("\n"))
    assert len(table.frame) == 3


def test_columns_can_be_chosen(tmp_path):
    assert list(read(tmp_path, GOOD, keep={"rating"}).frame) == ["user_id", "item_id", "rating"]
    assert list(read(tmp_path, GOOD, drop={"rating"}).frame) == ["user_id", "item_id"]


@pytest.mark.parametrize("encoding", ["gbk", "shift_jis", "big5", "cp037", "utf-8-sig"])
def test_separators_inside_signs_of_other_encodings_part_nothing(tmp_path, encoding):
    sign = next(
        sign
        for sign in map(chr, range(0xE9, 0x9FFF))
        if b"|" in sign.encode(encoding, "ignore")[1:] or encoding in ("cp037", "utf-8-sig")
    )
    content = f"user_id:token|item_id:token\n{sign}|i1\nu2|{sign}\n".encode(encoding)
    table = read(tmp_path, content, separator="|", encoding=encoding)
    assert table.frame.to_numpy().tolist() == [[sign, "i1"], ["u2", sign]]

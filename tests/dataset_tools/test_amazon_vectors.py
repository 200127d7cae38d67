"""`images --amazon`: the binary file of vectors, streamed, faults, archives."""

import bz2
import gzip
import lzma
import os

import numpy as np
import pytest

from dataset_tools import amazon_vectors
from dataset_tools.amazon_vectors import DIM
from tests.dataset_tools.test_images import images, written
from tests.toy import write_table


def record(asin, value):
    return asin.encode().ljust(10)[:10] + np.full(DIM, value, "<f4").tobytes()


def test_amazon_vectors_are_streamed_to_their_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(amazon_vectors, "_AT_ONCE", 2)
    rows = [("B000000009", 1.5), ("A000000001", 2), ("B000000003", 7), ("C", 4)]
    rows += [("A000000001", -2), ("B000000007", 1e9)]
    parts = [record(*row) for row in rows]
    write_table(
        tmp_path / "x.inter",
        ["user_id:token", "item_id:token"],
        [("u", name) for name in ("B000000009", "A000000001", "C", "B000000007", "D")],
    )
    (tmp_path / "v.b").write_bytes(b"".join(parts) + parts[0][:500])
    (tmp_path / "v.b.gz").write_bytes(gzip.compress(b"".join(reversed(parts))))
    found = []
    for name in ("v.b", "v.b.gz"):
        words = ["--amazon", tmp_path / name, "--items", tmp_path / "x.inter"]
        assert images(tmp_path, *words) == 0
        found.append((tmp_path / "out" / "shop.visual.npy").read_bytes())
        shown = capsys.readouterr()
        assert "1 records of an item that already has one" in shown.err
        assert "1 vectors that are not finite" in shown.err
        assert ("breaks off; the file is not whole (line 7)" in shown.err) == (name == "v.b")
        counts = " ".join(shown.out.split())
        assert "items 3" in counts and "without features 2" in counts
        assert "records of items that the data set does not have 1" in counts
    assert found[0] == found[1]
    matrix, tokens = written(tmp_path)
    assert tokens == ["C", "A000000001", "B000000007", "B000000009"]
    assert matrix[:, 0].tolist()[:2] == [4, 2] and matrix[3].tolist() == [1.5] * DIM
    assert np.isnan(matrix[2]).all() and matrix.dtype == np.float16


def test_of_two_records_the_one_with_finite_numbers_stays(tmp_path, capsys):
    rows = [("A", 2), ("A", np.inf), ("B", np.inf), ("B", np.nan), ("C", np.nan), ("C", 2)]
    (tmp_path / "v.b").write_bytes(b"".join(record(*row) for row in rows))
    assert images(tmp_path, "--amazon", tmp_path / "v.b") == 0
    matrix, tokens = written(tmp_path)
    assert tokens == ["A", "B", "C"] and np.isnan(matrix[1]).all()
    assert matrix[[0, 2], 0].tolist() == [2, 2]
    assert "items 2" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_broken_archive_of_vectors_gives_its_whole_records(tmp_path, capsys, pack):
    records = [record("A", 1), record("B", 2), record("C", 3)]
    for name, parts in (("whole", records[:2]), ("cut", [*records, os.urandom(9999)])):
        data = pack(b"".join(parts[:2])) + pack(b"".join(parts[2:]))[: -900 if parts[2:] else None]
        (tmp_path / "v.b.gz").write_bytes(data)
        assert images(tmp_path, "--amazon", tmp_path / "v.b.gz", "--modality", name) == 0
    assert "1 archive is damaged" in capsys.readouterr().err
    whole, cut = (np.load(tmp_path / "out" / f"shop.{name}.npy") for name in ("whole", "cut"))
    assert np.array_equal(whole, cut[:2])
    words = ["--amazon", tmp_path / "v.b.gz", "--strict", "--modality", "strict"]
    assert images(tmp_path, *words) == 2
    assert not list((tmp_path / "out").glob("*strict*"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "none of its records"),
        (b"\xff" * amazon_vectors.RECORD, "none of its records"),
        (b"\x1f\x8bno archive", "none of its records"),
    ],
    ids=["empty", "no token", "no archive"],  # the bytes hold the time, which names no test twice
)
def test_files_that_are_no_amazon_vectors(tmp_path, content, words, capsys):
    (tmp_path / "v.b").write_bytes(content)
    assert images(tmp_path, "--amazon", tmp_path / "v.b") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out" / "shop.visual.npy").exists()


# ---- backbones ---------------------------------------------------------------------------------

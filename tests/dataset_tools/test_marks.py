"""Marks are a set of numbers: what they tell is what a Python set does."""

import numpy as np
import pytest

from dataset_tools.marks import Marks


@pytest.mark.parametrize("piece", [1, 2, 1 << 12])
@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1000])
def test_marks_are_a_set(tmp_path, monkeypatch, size, piece):
    monkeypatch.setattr("dataset_tools.marks._PIECE", piece)
    rng = np.random.default_rng(size)
    marks, known = Marks(size), set()
    for _ in range(4):
        fresh = rng.integers(0, max(size, 1), min(size, 40)).astype(np.uint32)
        marks.add(fresh)
        known |= set(fresh.tolist())
        found = sorted(known)
        everything = np.arange(size + 70, dtype=np.uint32)
        assert np.flatnonzero(marks.of(everything)).tolist() == found
        assert [number for part in marks.pieces() for number in part.tolist()] == found
        assert marks.places(np.array(found, dtype=np.uint32)).tolist() == list(range(len(found)))
        for since in range(0, size + 70, 7):
            assert marks.count(since) == sum(number >= since for number in found)
    marks.save(tmp_path / "marks")
    again = Marks.load(tmp_path / "marks", size)
    assert np.array_equal(again.of(everything), marks.of(everything))


def test_new_numbers_are_told_once():
    marks = Marks(100)
    marks.add(np.array([5]))
    new = marks.add_new(np.array([7, 5, 99, 7, 64]))
    assert new.tolist() == [True, False, True, False, True]
    assert not marks.add_new(np.array([5, 7, 64, 99])).any()

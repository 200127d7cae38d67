"""Tokens sorted on disk: ranks are those of Python's own order, and every text comes back."""

import numpy as np
import pytest

from dataset_tools import token_order
from dataset_tools.token_order import TokenSorter

SIGNS = np.array(list("abz09-_ äöß語𝄞"))


def drawn(seed, count=400):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(SIGNS, rng.integers(1, 6))) for _ in range(count)]


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("batch", [1, 17, 1000])
def test_texts_and_ranks_are_those_of_python(tmp_path, monkeypatch, small, batch):
    if small:
        for name, size in (("_MERGED_BYTES", 1), ("_LEAST_PIECE", 5), ("_READ_BYTES", 9)):
            monkeypatch.setattr(token_order, name, size)
        monkeypatch.setattr(token_order, "_STEP", 4)
    tokens = [*drawn(0), *drawn(1, 50), "語" * 40, *drawn(0, 30)]
    sorter = TokenSorter(tmp_path, "item")
    batches = [tokens[start : start + batch] for start in range(0, len(tokens), batch)]
    places = [sorter.add(part) for part in batches]
    order = sorter.merge()
    expected = sorted(set(tokens), key=lambda token: (len(token), token))
    assert len(order) == len(expected)
    found = [sorter.ranks(number)[place] for number, place in enumerate(places)]
    ranks = np.concatenate(found)
    assert [expected[rank] for rank in ranks.tolist()] == tokens
    assert order.texts(np.arange(len(expected))) == expected
    rng = np.random.default_rng(3)
    for size in (1, 3, 200):
        chosen = rng.integers(0, len(expected), size)
        assert order.texts(chosen) == [expected[number] for number in chosen.tolist()]
    assert order.texts(np.empty(0, dtype=np.uint32)) == []


def test_long_tokens_are_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(token_order, "_MERGED_BYTES", 64)
    tokens = [letter * length for letter in "ba" for length in (5000, 3, 3000)]
    sorter = TokenSorter(tmp_path, "user")
    places = [sorter.add(tokens[:3]), sorter.add(tokens[3:])]
    order = sorter.merge()
    ranks = [sorter.ranks(number)[place].tolist() for number, place in enumerate(places)]
    assert ranks == [[5, 1, 3], [4, 0, 2]]
    assert order.texts(np.array([4, 1])) == [tokens[3], tokens[1]]


def test_more_ids_than_can_be_numbered_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(token_order, "_MOST", 3)
    sorter = TokenSorter(tmp_path, "user")
    sorter.add(list("abcd"))
    with pytest.raises(token_order.DataError, match="more than 3 distinct ids"):
        sorter.merge()


@pytest.mark.parametrize("read", [1, 5, 1 << 20])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 50])
def test_lines_in_any_order_are_found_by_their_numbers(tmp_path, monkeypatch, read, count):
    monkeypatch.setattr(token_order, "_READ_BYTES", read)
    monkeypatch.setattr(token_order, "_STEP", 4)
    lines = [f"{'é' * (number % 7)}{-number}" for number in range(count)]
    path = tmp_path / "lines"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    found = token_order.SortedTokens.of_lines(path)
    assert len(found) == count
    assert [text for _, part in found.pieces() for text in part] == lines
    chosen = np.random.default_rng(1).integers(0, count, 30)
    assert found.texts(chosen) == [lines[number] for number in chosen]

"""Tokens as bytes: every text comes back, and ranks are those of Python's own order."""

import numpy as np

from dataset_tools import token_table
from dataset_tools.token_table import TokenColumn, TokenTable


def test_texts_and_ranks_are_those_of_python(monkeypatch):
    monkeypatch.setattr(token_table, "_CHUNK", 7)
    rng = np.random.default_rng(0)
    signs = np.array(list("abz09-_ äöß語𝄞"))
    tokens = sorted({"".join(rng.choice(signs, rng.integers(1, 6))) for _ in range(400)})
    rng.shuffle(tokens)
    table = TokenTable(iter(tokens))
    assert len(table) == len(tokens)
    assert table.texts(np.arange(len(tokens))) == tokens
    ranks = table.ranks()
    expected = sorted(tokens, key=lambda token: (len(token), token))
    assert [expected.index(token) for token in tokens] == ranks.tolist()
    column = TokenColumn(table, np.argsort(ranks))
    assert column.cells(0, len(column)) == expected
    assert column.take(np.array([3, 1])).cells(0, 2) == [expected[3], expected[1]]
    assert len(TokenTable([])) == 0 and TokenTable([]).ranks().tolist() == []

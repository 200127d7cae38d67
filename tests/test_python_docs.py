"""The Python of docs/PYTHON.md runs as it stands."""

import re
from pathlib import Path

import pytest

import recbole_slif

DOCS = Path(__file__).resolve().parents[1] / "docs" / "PYTHON.md"


def blocks():
    return re.findall(r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.S | re.M)


def test_the_document_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks():
        exec(compile(block, str(DOCS), "exec"), names)  # noqa: S102
    shown = capsys.readouterr().out
    assert names["result"].status == "finished" and names["more"].folder == names["result"].folder
    assert len(names["results"]) == 4 and all(one.error is None for one in names["results"])
    assert len(names["record"]["epochs"]) == 5
    assert names["items"].matrix.shape == (1682, 64)
    assert tuple(names["scores"].shape) == (2, 1683)
    assert "5 " in shown and "LightGCN" in shown


def test_what_the_package_offers_is_there_and_nothing_else():
    for name in recbole_slif.__all__:
        assert getattr(recbole_slif, name) is not None
        assert name in dir(recbole_slif)
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        _ = recbole_slif.rum

"""Text of unknown origin: JSON read, cells and messages shown."""

import pytest

from recbole_slif.console import one_line
from recbole_slif.errors import DataError, printable
from recbole_slif.plain import read_json, sheet_cell


def test_json_nested_too_deep_is_no_json():
    assert read_json('{"a": [1]}') == {"a": [1]}
    for text in ("[" * 100_000, "{", ""):
        with pytest.raises(ValueError):
            read_json(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢", "plain é 漢"),
        ("a\tb\nc\u00a0d\u3000e", "a b c d e"),
        ("\x1b[2Jx\x07", "\\x1b[2Jx\\x07"),
        ("a\u202eb\u2066", "a\\u202eb\\u2066"),
        ("\x9b31m", "\\x9b31m"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("x\x7f", "x\\x7f"),
    ],
)
def test_messages_hold_nothing_that_a_terminal_obeys(text, shown):
    assert printable(text) == shown
    assert str(DataError(text)) == shown
    assert one_line(ValueError(text)) == " ".join(shown.split())


@pytest.mark.parametrize("value", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-x"])
def test_a_text_that_a_spreadsheet_would_calculate_is_a_text(value):
    assert sheet_cell(value) == f"'{value}"


@pytest.mark.parametrize("value", ["-1", "+0.5", "-1e-3", "a=b", "", 3, -2.5, None, "'=1"])
def test_other_cells_stay(value):
    assert sheet_cell(value) is value

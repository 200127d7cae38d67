"""The command registry: overview, errors of one line, modules loaded only when called."""

import subprocess
import sys
from pathlib import Path

import pytest

from dataset_tools.__main__ import COMMANDS, main, offered

ROOT = Path(__file__).parents[2]


def test_the_overview_names_every_command(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for name in offered():
        assert f"  {name} " in shown
    assert main([]) == 2


@pytest.mark.parametrize("name", offered())
def test_each_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert f"python -m dataset_tools {name}" in shown
    assert "examples:" in shown


def test_mistakes_are_one_line(capsys):
    assert main(["texts"]) == 2
    assert "command 'texts' is not known" in capsys.readouterr().err
    assert main(["text", "--no-such-option"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


def test_the_overview_loads_no_library_of_a_command():
    code = (
        "import sys; from dataset_tools.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'recbole', 'matplotlib', 'isal', 'msgspec', 'zstandard'}\n"
        "found = sorted(heavy & set(sys.modules)); assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(offered()) <= set(COMMANDS)


@pytest.mark.parametrize("words", [["--items", "x.ids"], ["--format", "amazon"]])
def test_options_of_raw_lines_are_refused_beside_an_item_file(tmp_path, capsys, words):
    assert main(["text", "--item-file", "x.item", "--out", str(tmp_path / "o"), *words]) == 2
    assert f"{words[0]}: goes with --raw" in capsys.readouterr().err

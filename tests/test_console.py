"""Options of the commands: empty, repeated, misspelt, below the home folder."""

import sys
import types
from pathlib import Path

import pytest

from recbole_slif import cli
from recbole_slif.__main__ import main as entry
from recbole_slif.config_keys import command_options
from recbole_slif.records import read_record
from tests.test_cli import refused, words


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--resume=runs/BPR-1.json"], "is the record of a run, not its checkpoint"),
        (["--modl=BPR"], "key 'modl' is not known; did you mean 'model'?"),
        (["--config_file_list=a.yaml"], "did you mean 'config_files'?"),
        (["hyper", "--model=BPR", "--max_eval=3"], "did you mean 'max_evals'?"),
        (["--model=", "--epochs=1"], "option --model is empty"),
        (["--resume", ""], "option --resume is empty"),
        (["recommend", "--checkpoint=x", "--users="], "option --users is empty"),
        (["explain", "--checkpoint=x", "--user="], "option --user is empty"),
        (["experiment", "mine.yaml"], "experiment file 'mine.yaml' does not exist"),
        (["--config_files=a.yaml", "--config_files=b.yaml"], "--config_files is given twice"),
        (["experiment", "table2_overall", "--model=BPR"], "choose among them with --models"),
        (["experiment", "table2_overall", "--dry-run"], "--dry-run is not known; did you mean"),
        (["experiment", "table2_overall", "--resume=x"], "--resume takes no value; write --resume"),
        (["report", "--metric=recall@20", "x"], "did you mean '--metrics'?"),
    ],
)
def test_mistakes_are_named_with_their_fix(argv, said, capsys):
    assert said in refused(argv, capsys)
    assert not Path("saved").exists()


def test_options_of_a_command_are_offered_while_it_runs(capsys):
    refused(["--modl=BPR"], capsys)
    assert command_options == []


def test_comparing_shows_no_option_that_it_refuses(capsys):
    with pytest.raises(SystemExit):
        cli.main(["compare", "--help"])
    assert "--resume" not in capsys.readouterr().out
    assert "goes with run" in refused(["compare", "--resume=x"], capsys)


@pytest.mark.parametrize("more", [[], ["--seeds=1"], ["--models=BPR"]])
def test_a_file_may_name_model_and_data_set(more, tmp_path):
    given = [word for word in words(tmp_path, epochs=1) if "--dataset" not in word]
    Path("mine.yaml").write_text("model: BPR\ndataset: toy\n", encoding="utf-8")
    assert cli.main(["--config_files=mine.yaml", *given, *more]) == 0
    (record,) = Path("saved/runs").iterdir()
    assert record.name.startswith("BPR-toy-")


@pytest.mark.parametrize("argv", [["run"], ["run", "--seeds=2"], ["compare"], ["hyper"]])
def test_a_file_may_not_name_code(argv, capsys):
    Path("code_that_a_file_names.py").write_text("raise SystemExit(7)\n", encoding="utf-8")
    Path("mine.yaml").write_text("model: code_that_a_file_names:Mine\n", encoding="utf-8")
    assert "is code that a file names" in refused([*argv, "--config_files=mine.yaml"], capsys)


def test_ctrl_c_while_torch_loads_is_one_line(monkeypatch, capsys):
    class Loading(types.ModuleType):
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "recbole_slif.cli", Loading("recbole_slif.cli"))
    assert entry(["--model=BPR"]) == 130
    assert capsys.readouterr().err == "stopped by SIGINT\n"


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_output_may_be_closed(name, tmp_path, monkeypatch):
    given = [*words(tmp_path, epochs=1), "--show_progress=True"]
    given.remove("--show_progress=False")
    monkeypatch.setattr(sys, name, None)
    assert cli.main(["--models=BPR", *given]) == 0


def test_a_choice_called_none_is_no_null(tmp_path):
    assert cli.main(["--model=SLIFMR", "--ablation=none", *words(tmp_path, epochs=1)]) == 0
    (record,) = Path("saved/runs").iterdir()
    assert read_record(record)["config"]["ablation"] == "none"


def test_the_home_folder_is_found_behind_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    given = [word for word in words(tmp_path, epochs=1) if "checkpoint_dir" not in word]
    Path("home").mkdir()
    Path("home/mine.yaml").write_text("record_dir: ~/records\n", encoding="utf-8")
    line = ["--model=BPR", "--config_files=~/mine.yaml", "--checkpoint_dir=~/kept", *given]
    assert cli.main(line) == 0
    assert not Path("~").exists()
    (folder,), (record,) = Path("home/kept").iterdir(), Path("home/records").iterdir()
    assert record.stem == folder.name
    lists = ["recommend", f"--checkpoint=~/kept/{folder.name}", "--users=all", "--output=~/l.csv"]
    assert cli.main(lists) == 0
    assert Path("home/l.csv").is_file()

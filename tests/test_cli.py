import subprocess
import sys
from pathlib import Path

import pytest

from recbole_slif import cli
from recbole_slif.console import compare_table, metric_table
from recbole_slif.errors import ConfigError
from recbole_slif.quick_start import RunResult
from recbole_slif.records import read_record
from recbole_slif.seeds import parse_seeds
from tests.running import settings

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def words(tmp_path, **changes):
    """Write the settings of a small run as command line words."""
    chosen = settings(tmp_path, data_path="data", checkpoint_dir="saved", **changes)
    return ["--dataset=toy", *(f"--{key}={value}" for key, value in chosen.items())]


def refused(argv, capsys):
    assert cli.main(argv) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    return shown


def test_run_ends_with_a_table_and_says_where_things_lie(tmp_path, capsys):
    assert cli.main(["--model=BPR", *words(tmp_path)]) == 0
    shown = capsys.readouterr().out
    (record,) = Path("saved/runs").iterdir()
    content = read_record(record)
    for name in ("recall@5", "ndcg@3"):
        row = next(line.split() for line in shown.splitlines() if line.startswith(name))
        assert row == [name, f"{content['valid'][name]:.4f}", f"{content['test'][name]:.4f}"]
    assert str(record) in shown
    assert f"saved/{content['run_id']}" in shown
    assert content["command"][0] == "--model=BPR"


def test_both_ways_to_write_an_option(tmp_path):
    assert cli.main(["run", "--model", "BPR", "--seed", "11", *words(tmp_path)]) == 0
    (record,) = Path("saved/runs").iterdir()
    assert read_record(record)["seed"] == 11


def test_resume_from_the_command_line(tmp_path, capsys):
    assert cli.main(["--model=BPR", *words(tmp_path, epochs=1)]) == 0
    (folder,) = (path for path in Path("saved").iterdir() if path.name != "runs")
    assert cli.main([f"--resume={folder}", "--epochs=3"]) == 0
    (record,) = Path("saved/runs").iterdir()
    assert [entry["epoch"] for entry in read_record(record)["epochs"]] == [0, 1, 2]
    assert "takes data set" in refused([f"--resume={folder}", "--dataset=toy"], capsys)


def test_comparison_prints_one_table(tmp_path, capsys):
    argv = ["compare", "--models=Pop,BPR", "--seeds=3,4", *words(tmp_path, epochs=1)]
    assert cli.main(argv) == 0
    shown = capsys.readouterr().out.splitlines()
    rows = [line for line in shown if line.startswith(("Pop", "BPR"))]
    assert len(rows) == 2
    assert all("±" in row for row in rows)


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["--model=BRP"], "did you mean 'BPR'?"),
        (["--model=BPR", "--learnig_rate=1"], "did you mean 'learning_rate'?"),
        (["--model=BPR", "--epochs=many"], "epochs must be a whole number"),
        (["--model=BPR", "--dataset=toi"], "did you mean 'toy'?"),
        (["--model=BPR", "--epochs"], "--epochs has no value"),
        (["--model=BPR", "stray"], "'stray' belongs to no option"),
        (["--models=Pop,BRP"], "did you mean 'BPR'?"),
        (["--models=Pop", "--seeds=x"], "--seeds is a number"),
        (["--models=BPR", "--seeds=1,-2"], "a seed must be between 0 and 4294967295, not -2"),
        (["--models=Pop", "--seeds=99999999999999999999"], "from 1 to 1000"),
        (["--resume=nowhere"], "'nowhere' does not exist"),
        (["--config_files=nofile.yaml"], "nofile.yaml"),
        (["rnu"], "command 'rnu' is not known"),
        (["recommend", "--users=all"], "--checkpoint"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, argv, wanted):
    given = {word.partition("=")[0].removeprefix("--") for word in argv}
    common = [word for word in words(tmp_path) if word.partition("=")[0][2:] not in given]
    plain = any(word in argv for word in ("rnu", "recommend", "--resume=nowhere"))
    assert wanted in refused(argv if plain else [*common, *argv], capsys)


def test_debug_shows_the_exception(tmp_path):
    with pytest.raises(ConfigError):
        cli.main(["--model=BRP", "--debug"])


def test_models_lists_ours_and_recboles(capsys):
    assert cli.main(["models"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("SLIFMR", "KGIN", "LightGCN", "Pop", "CKE"))


@pytest.mark.parametrize("argv", [["--help"], ["run", "--help"], ["compare", "-h"],
                                  ["hyper", "--help"], ["recommend", "--help"]])  # fmt: skip
def test_help_is_complete(argv, capsys):
    try:
        assert cli.main(argv) == 0
    except SystemExit as leave:
        assert leave.code == 0
    shown = capsys.readouterr().out
    assert "--debug" in shown
    assert "examples" in shown or "key=value" in shown
    if argv == ["--help"]:
        assert all(name in shown for name in ("run", "compare", "hyper", "recommend", "models"))


def test_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith("recbole_slif 0.")


def test_script_leaves_no_traceback(tmp_path):
    command = [sys.executable, str(ROOT / "run_recbole_slif.py"), "--model=BRP"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: model 'BRP'")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "wanted"), [(None, None), ("5", 5), ("1,2,3", [1, 2, 3]), ("7,", [7])]
)
def test_seeds(text, wanted):
    assert parse_seeds(text) == wanted


@pytest.mark.parametrize("text", ["0", "-1", "a", "", "1,b", "1001"])
def test_bad_seeds(text):
    with pytest.raises(ConfigError, match="--seeds is a number of seeds"):
        parse_seeds(text)


def test_seeds_that_repeat_are_named():
    with pytest.raises(ConfigError, match="--seeds names 2 more than once"):
        parse_seeds("1,2,3, 02")


def result(model, seed, **changes):
    values = {"valid": {"recall@5": 0.5}, "test": {"recall@5": 0.1 * seed}, **changes}
    return RunResult(model, "toy", seed, **values)


def test_table_means_deviations_and_the_best():
    runs = [result("A", 1), result("A", 3), result("B", 2), result("B", 5)]
    runs.append(result("C", 1, status="failed", test=None, error="why"))
    shown = compare_table(runs, bold=True)
    assert "\033[1m0.3500 ± 0.2121\033[0m" in shown
    assert "0.2000 ± 0.1414" in shown
    assert shown.count("\033[1m") == 1
    assert "failed: C, seed 1: why" in shown
    assert "\033" not in compare_table(runs, bold=False)


def test_a_reconstruction_is_marked():
    runs = [result("TMFUN", 1), result("BPR", 1)]
    shown = compare_table(runs, bold=False).splitlines()
    assert [row.split("  ")[0] for row in shown[3:5]] == ["TMFUN (reconstruction)", "BPR"]
    assert metric_table(runs[0]).startswith("TMFUN (reconstruction)")


def test_smaller_is_better_where_it_is():
    runs = [
        result(name, 1, test={"giniindex@5": value}) for name, value in (("A", 0.2), ("B", 0.4))
    ]
    assert "\033[1m0.2000\033[0m" in compare_table(runs, bold=True)


def test_metric_table_without_test():
    assert metric_table(result("A", 1, test=None)).splitlines()[-1].split() == [
        "recall@5", "0.5000", "-"
    ]  # fmt: skip

"""The command `hyper` on its backends: what it writes, what it refuses, what it reads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recbole_slif import factory, hyper
from recbole_slif.hyper.results import TrialsFile
from recbole_slif.sharing.address import read_address
from recbole_slif.sharing.study import SharedStudy
from tests.running import settings
from tests.sharing.places import GIVEN, NEEDS_DATABASE

ROOT = Path(__file__).resolve().parents[2]
SPACE = "learning_rate choice [0.001, 0.05]\n"


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def words(folder, *options, space=SPACE, **changes):
    """Return the command line of a small search."""
    (folder / "x.hyper").write_text(space)
    chosen = settings(folder, data_path="data", checkpoint_dir="saved", epochs=2, **changes)
    line = ["--model=BPR", "--dataset=toy", "--params_file=x.hyper", "--output_file=out/a.result"]
    return [*line, *options, *(f"--{key}={value}" for key, value in chosen.items())]


def rows():
    return [json.loads(line) for line in Path("out/a.trials.jsonl").read_text().splitlines()]


@pytest.fixture
def calls(monkeypatch):
    """The trainings that were begun."""
    seen = []
    objective = hyper.cli.quick_start.objective

    def counting(values, *rest, **more):
        seen.append(dict(values))
        return objective(values, *rest, **more)

    monkeypatch.setattr(hyper.cli.quick_start, "objective", counting)
    return seen


def test_optuna_writes_what_hyperopt_writes(tmp_path, calls, capsys):
    assert hyper.main(words(tmp_path)) == 0
    theirs = {name: Path(f"out/a.{name}").read_text() for name in ("result", "best.yaml")}
    kept = sorted(rows(), key=str)
    for path in Path("out").iterdir():
        path.unlink()
    assert hyper.main(words(tmp_path, "--backend=optuna")) == 0
    assert {name: Path(f"out/a.{name}").read_text() for name in theirs} == theirs
    assert sorted(rows(), key=str) == kept
    assert "--config_files=out/a.best.yaml" in capsys.readouterr().out
    assert len(calls) == 4
    assert hyper.main(words(tmp_path, "--backend=optuna")) == 0
    assert len(calls) == 4
    # hyperopt goes on from the file that Optuna's trials were written to
    assert hyper.main(words(tmp_path)) == 0
    assert len(calls) == 4


def test_workers_of_the_command_share_the_search(tmp_path, capfd):
    options = ["--backend=optuna", "--workers=2", "--storage=s.db"]
    assert hyper.main(words(tmp_path, *options)) == 0
    assert len(rows()) == 2
    assert yaml.safe_load(Path("out/a.best.yaml").read_text())["learning_rate"] in (0.001, 0.05)
    assert not Path("out/a.journal").exists()


def test_changed_ranges_and_settings_make_a_study_of_their_own(tmp_path, calls, capsys):
    assert hyper.main(words(tmp_path, "--backend=optuna")) == 0
    wider = "learning_rate choice [0.001, 0.05, 0.01]\n"
    assert hyper.main(words(tmp_path, "--backend=optuna", space=wider)) == 0
    assert len(calls) == 5
    told = capsys.readouterr().out
    assert "holds 1 searches of BPR-toy under other settings" in told
    assert "learning_rate (['choice', [0.001, 0.05]], here" in told
    assert hyper.main(words(tmp_path, "--backend=optuna", reg_weight=...)) == 0
    assert len(calls) == 5 + 2 * ("reg_weight" in calls[0])
    assert hyper.main(words(tmp_path, "--backend=optuna", train_batch_size=16)) == 0
    assert "train_batch_size (32, here 16)" in capsys.readouterr().out
    assert len(rows()) == 2
    assert len(list(Path("out").glob("a.trials.*.jsonl"))) == 2
    named = ["--backend=optuna", "--study=mine"]
    assert hyper.main(words(tmp_path, *named)) == 0
    before = len(calls)
    assert hyper.main(words(tmp_path, *named, train_batch_size=16)) == 2
    assert "study 'mine'" in (told := capsys.readouterr().err)
    assert "train_batch_size (32, here 16); name another with --study" in told
    assert len(calls) == before


def test_changed_data_makes_a_study_of_its_own(tmp_path, calls):
    assert hyper.main(words(tmp_path, "--backend=optuna")) == 0
    path = tmp_path / "data" / "toy" / "toy.inter"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], *lines[4:]]))
    assert hyper.main(words(tmp_path, "--backend=optuna")) == 0
    assert len(calls) == 4


@pytest.mark.parametrize("backend", ["hyperopt", "optuna"])
def test_test_split_is_not_read(tmp_path, monkeypatch, backend):
    load, sealed = factory.load_data, []

    def sealing(config):
        bundle = load(config)

        class Sealed(type(bundle.test_data)):
            def __getattribute__(self, name):
                assert name.startswith("__"), f"the test loader was read ({name})"
                return super().__getattribute__(name)

        bundle.test_data.__class__ = Sealed
        sealed.append(bundle)
        return bundle

    monkeypatch.setattr(factory, "load_data", sealing)
    assert hyper.main(words(tmp_path, f"--backend={backend}")) == 0
    assert len(sealed) == 2
    with pytest.raises(AssertionError, match="test loader was read"):
        len(sealed[0].test_data.dataset)
    assert all(set(row) == {"params", "score", "bigger", "valid", "scope"} for row in rows())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--backend=annealing"], "--backend is one of hyperopt, optuna, ray, not 'annealing'"),
        (["--storage=a.db"], "--storage goes with --backend=optuna"),
        (["--study=a"], "--study goes with --backend=optuna"),
        (["--workers=2"], "--workers goes with --backend=optuna or --backend=ray"),
        (["--early_stop=0"], "--early_stop must be at least 1, not 0"),
        (["--backend=optuna", "--workers=0"], "--workers must be from 1 to 1024, not 0"),
        (["--backend=optuna", "--storage=a.txt"], "--storage: 'a.txt' ends in none of"),
        (["--backend=optuna", "--algo=annealing"], "--algo is one of"),
        (["--learning_rate=0.1"], "--learning_rate=0.1 fixes what 'x.hyper' searches; leave"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, options, told):
    assert hyper.main(words(tmp_path, *options)) == 2
    assert told in (found := capsys.readouterr().err)
    assert found.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("learning_rate uniform -0.02,0.01", "learning_rate must be more than 0, not -0.02"),
        ("learning_rate uniform 0,0.01", None),
        ("learning_rate quniform 0,0.01,0.005", "learning_rate must be more than 0, not 0.0"),
        ("learning_rate loguniform -9,-3", None),
        ("embedding_size uniform 8,16", "For whole numbers write `embedding_size quniform LOW,"),
        ("embedding_size quniform 8,16,0.5", "embedding_size must be a whole number, not 8.5"),
        ("embedding_size quniform 8,16,4", None),
        ("learner uniform 0,1", "learner must be a text"),
        ("no_such_key uniform 0,1", "parameter file: key 'no_such_key' is not known"),
    ],
)
def test_ranges_that_the_key_does_not_take_are_refused_before_the_first_trial(
    tmp_path, calls, capsys, line, told
):
    options = ["--algo=random", "--max_evals=1"]
    space = f"{line}\n"
    assert hyper.main(words(tmp_path, *options, space=space, embedding_size=...)) == 2 * bool(told)
    assert len(calls) == (0 if told else 1)
    assert (told or "") in capsys.readouterr().err


def test_trials_of_another_search_are_moved_not_lost(tmp_path):
    path = tmp_path / "a.trials.jsonl"
    file = TrialsFile(path, "here")
    row = {"params": {"a": 1}, "score": 0.5, "bigger": True, "valid": {}}
    other = {**row, "params": {"b": 1}}
    assert file.replace([row, row]) is None
    assert json.loads(path.read_text()) == {**row, "scope": "here"}
    assert file.replace([row, other]) is None
    assert file.replace([other]) == tmp_path / "a.trials.1.jsonl"
    assert file.replace([row]) == tmp_path / "a.trials.2.jsonl"
    assert len((tmp_path / "a.trials.1.jsonl").read_text().splitlines()) == 2
    assert TrialsFile(path, "there").replace([row]) == tmp_path / "a.trials.3.jsonl"


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("there", "--output_file: 'there' is a folder; name a file, there/BPR-toy.result"),
        ("new/", "--output_file: 'new' is a folder; name a file, new/BPR-toy.result"),
        ("a.journal", "--output_file: 'a.journal' is the storage; name another file"),
        ("a.db", "--output_file: 'a.db' is the storage; name another file"),
    ],
)
def test_output_file_that_cannot_be_one_is_refused_before_the_first_trial(
    tmp_path, calls, capsys, output, told
):
    Path("there").mkdir()
    line = words(tmp_path, "--backend=optuna", *(["--storage=a.db"] if output == "a.db" else []))
    line[3] = f"--output_file={output}"
    assert hyper.main(line) == 2
    assert told in capsys.readouterr().err
    assert not calls


def test_number_at_the_end_of_the_output_file_keeps_searches_apart(tmp_path):
    for name in ("lr0.01", "lr0.02"):
        line = words(tmp_path)
        line[3] = f"--output_file=out/{name}"
        assert hyper.main(line) == 0
        assert Path(f"out/{name}.best.yaml").is_file()
        assert len(Path(f"out/{name}.trials.jsonl").read_text().splitlines()) == 2


def test_trial_behind_a_line_that_was_cut_off_is_kept(tmp_path):
    file = TrialsFile(tmp_path / "a.trials.jsonl", "here")
    row = {"params": {"a": 1}, "score": 0.5, "bigger": True, "valid": {}}
    file.append({**row, "params": {"a": 2}})
    file.path.write_text(file.path.read_text()[:-9])
    file.append(row)
    file.append({**row, "params": {"a": 3}})
    assert [one["params"]["a"] for one in file.read().values()] == [1, 3]


@pytest.mark.parametrize("change", [{"learner": "sgd"}, {"seed": 7}, {"valid_metric": "NDCG@5"}])
def test_trials_under_other_settings_or_data_do_not_count(tmp_path, calls, capsys, change):
    assert hyper.main(words(tmp_path)) == 0
    assert hyper.main(words(tmp_path, **change)) == 0
    assert len(calls) == 4
    told = "note: 2 trials in out/a.trials.jsonl were made under other settings or data"
    assert told in capsys.readouterr().out
    assert len(rows()) == 4
    wider = words(tmp_path, space="learning_rate choice [0.001, 0.05, 0.1]\n")
    assert hyper.main(wider) == 0  # a wider range keeps what was tried in the narrower one
    assert len(calls) == 5
    data = Path("data/toy/toy.inter")
    data.write_text(data.read_text("utf-8").replace("u1\t", "u01\t"), "utf-8")
    assert hyper.main(words(tmp_path)) == 0
    assert len(calls) == 7


def test_default_paths_load_neither_ray_nor_optuna():
    code = (
        "import sys\nfrom recbole_slif import cli, hyper\n"
        "import recbole_slif.experiment.cli, recbole_slif.hyper.shared_search\n"
        "try:\n    hyper.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "found = {'ray', 'optuna', 'sqlalchemy'} & set(sys.modules)\nassert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--backend" in done.stdout


@NEEDS_DATABASE
def test_database_is_shared_and_its_password_stays_out_of_everything(tmp_path, capfd):
    address = os.environ[GIVEN]
    options = ["--backend=optuna", "--workers=2", f"--storage={address}"]
    seed = int.from_bytes(os.urandom(3), "big")  # so that the study is a new one
    assert hyper.main(words(tmp_path, *options, seed=seed)) == 0
    assert len(rows()) == 2
    read = read_address(address)
    secret = address.partition("://")[2].partition(":")[2].rpartition("@")[0]
    told = "".join(capfd.readouterr())
    written = [path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()]
    if secret:
        assert secret not in told
        assert read.shown in told
        assert not any(secret.encode() in content for content in written)
    names = [name for name in SharedStudy(read, "toy").names() if name.startswith("BPR-toy")]
    assert names

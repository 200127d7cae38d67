import json
from pathlib import Path

import pytest
import yaml

from recbole_slif import hyper
from recbole_slif.errors import ConfigError, SlifError
from recbole_slif.hyper import Parameter, Search, read_space
from recbole_slif.hyper.results import TrialsFile, table
from tests.running import settings


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(tmp_path, text):
    path = tmp_path / "x.hyper"
    path.write_text(text)
    return path


def test_recboles_format_is_read(tmp_path):
    text = """
    # a comment
    learning_rate loguniform -8,0
    embedding_size choice [64, 96 , 128]
    mlp_hidden_size choice ['[64]', '[64,64]']
    fusion choice [ailf, concat]  # plain words
    dropout uniform 0.0, 0.5
    n_layers quniform 1,4,1
    """
    assert read_space(written(tmp_path, text)) == [
        Parameter("learning_rate", "loguniform", (-8.0, 0.0)),
        Parameter("embedding_size", "choice", (64, 96, 128)),
        Parameter("mlp_hidden_size", "choice", ([64], [64, 64])),
        Parameter("fusion", "choice", ("ailf", "concat")),
        Parameter("dropout", "uniform", (0.0, 0.5)),
        Parameter("n_layers", "quniform", (1.0, 4.0, 1.0)),
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a choice", "line 1: expected 'name type values'"),
        ("\na choise [1]", "line 2: type 'choise'"),
        ("a uniform 1", "line 1: uniform of a needs 2 numbers"),
        ("a uniform 2,1", "low first"),
        ("a uniform nan,1", "needs 2 numbers"),
        ("a uniform 0,inf", "needs 2 numbers"),
        ("a quniform 1,10,inf", "needs 3 numbers"),
        ("a loguniform 0,1000", "natural logarithms, so they lie between -700 and 700"),
        ("a choice 5", "no list"),
        ("a choice [1]\na choice [2]", "names a twice"),
        ("", "names no parameter"),
        ("a choice [__import__('os').mkdir('gone')]", None),
    ],
)
def test_bad_lines_are_named_and_nothing_runs(tmp_path, text, wanted):
    if wanted is None:
        values = read_space(written(tmp_path, text))[0].values
        assert values == ("__import__('os').mkdir('gone')",)
        assert not Path("gone").exists()
        return
    with pytest.raises(ConfigError, match=wanted):
        read_space(written(tmp_path, text))


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.hyper"):
        read_space(tmp_path / "nothing.hyper")


def peak(calls):
    """A score with its best at a=3, b='y'."""

    def train(params):
        calls.append(dict(params))
        score = 1.0 - 0.1 * abs(params["a"] - 3) + (0.05 if params["b"] == "y" else 0.0)
        return {"best_valid_score": score, "valid_score_bigger": True, "best_valid_result": {}}

    return train


GRID = [Parameter("a", "choice", (1, 2, 3, 4)), Parameter("b", "choice", ("x", "y"))]


def test_exhaustive_tries_each_combination_once():
    calls = []
    search = Search(peak(calls), GRID)
    search.run()
    assert len(calls) == 8
    assert len({json.dumps(call) for call in calls}) == 8
    assert search.best_params == {"a": 3, "b": "y"}
    assert search.table().splitlines()[2].split() == ["3", "y", "1.050000"]


@pytest.mark.parametrize("algo", ["random", "bayes"])
def test_random_and_bayes_are_repeatable(algo):
    runs = []
    for _ in range(2):
        calls = []
        space = [Parameter("a", "uniform", (0.0, 6.0)), GRID[1]]
        Search(peak(calls), space, algo, max_evals=6, seed=4, early_stop=100).run()
        runs.append(calls)
    assert runs[0] == runs[1]
    assert len(runs[0]) == 6


def test_lists_and_smaller_metrics():
    def train(params):
        score = float(len(params["sizes"]))
        return {"best_valid_score": score, "valid_score_bigger": False, "best_valid_result": {}}

    search = Search(train, [Parameter("sizes", "choice", ([64, 32], [8]))])
    search.run()
    assert search.best_params == {"sizes": [8]}


def test_search_goes_on_without_repeating(tmp_path):
    trials = TrialsFile(tmp_path / "t.jsonl", "here")
    calls = []

    def dying(params):
        if len(calls) == 3:
            raise KeyboardInterrupt
        return peak(calls)(params)

    with pytest.raises(KeyboardInterrupt):
        Search(dying, GRID, trials=trials).run()
    trials.path.write_text(trials.path.read_text() + '{"params": {"a"')  # cut off by a crash
    again = []
    search = Search(peak(again), GRID, trials=trials)
    search.run()
    assert len(again) == 5
    assert search.best_params == {"a": 3, "b": "y"}
    elsewhere = []
    Search(peak(elsewhere), GRID, trials=TrialsFile(trials.path, "there")).run()
    assert len(elsewhere) == 8


def test_values_stand_below_their_names_whatever_their_order():
    rows = [
        {"params": {"a": 1, "b": 2}, "score": 0.5, "bigger": True},
        {"params": {"b": 4, "a": 3}, "score": 0.4, "bigger": True},
        {"params": {"b": 6, "a": 5}, "score": None, "error": "no"},
    ]
    shown = [line.split() for line in table(rows).splitlines()]
    assert shown[0][:2] == ["a", "b"]
    assert [line[:2] for line in shown[2:]] == [["1", "2"], ["3", "4"], ["5", "6"]]


def test_failed_trials_are_shown_and_do_not_win():
    def train(params):
        if params["a"] == 3:
            raise SlifError("training loss is not finite")
        return peak([])(params)

    search = Search(train, GRID)
    search.run()
    assert search.best_params["a"] in (2, 4)
    assert search.table().count("failed: training loss") == 2


@pytest.mark.parametrize("algo", ["random", "bayes"])
def test_a_failed_trial_does_not_end_a_search_with_patience(algo):
    trained = []

    def train(settings):
        trained.append(settings["a"])
        if len(trained) % 2:
            raise SlifError("training loss is not finite")
        score = 1.0 - abs(settings["a"] - 0.5)
        return {"best_valid_score": score, "valid_score_bigger": True, "best_valid_result": {}}

    search = Search(train, [Parameter("a", "uniform", (0.0, 1.0))], algo, 8, early_stop=8)
    search.run()
    assert len(trained) == 8
    assert search.best_score == max(1.0 - abs(a - 0.5) for a in trained[1::2])


def test_a_search_ends_after_trials_without_progress():
    def train(settings):
        return {"best_valid_score": 0.5, "valid_score_bigger": True, "best_valid_result": {}}

    search = Search(train, [Parameter("a", "uniform", (0.0, 1.0))], "random", 50, early_stop=3)
    search.run()
    assert len(search.rows) == 4  # the best, then three no better


def test_no_result_at_all_is_an_error():
    def train(params):
        raise SlifError("never")

    with pytest.raises(SlifError, match="no trial gave a result; the last one: never"):
        Search(train, GRID).run()


def test_ranges_need_a_drawing_algorithm():
    space = [Parameter("a", "uniform", (0.0, 6.0))]
    with pytest.raises(ConfigError, match="a have ranges"):
        Search(peak([]), space)
    with pytest.raises(ConfigError, match="--algo is one of"):
        Search(peak([]), space, "annealing")


def test_command_writes_table_and_usable_best(tmp_path, capsys):
    path = written(tmp_path, "learning_rate choice [0.001, 0.05]\n")
    chosen = settings(tmp_path, data_path="data", checkpoint_dir="saved", epochs=2)
    argv = ["--model=BPR", "--dataset=toy", f"--params_file={path}", "--output_file=out/a.result"]
    argv += [f"--{key}={value}" for key, value in chosen.items()]
    assert hyper.main(argv) == 0
    best = yaml.safe_load(Path("out/a.best.yaml").read_text())
    assert best["learning_rate"] in (0.001, 0.05)
    rows = [json.loads(line) for line in Path("out/a.trials.jsonl").read_text().splitlines()]
    top = max(rows, key=lambda row: row["score"])
    assert best == top["params"]
    assert "learning_rate" in Path("out/a.result").read_text()
    assert "--config_files=out/a.best.yaml" in capsys.readouterr().out
    before = Path("out/a.trials.jsonl").read_text()
    assert hyper.main(argv) == 0
    assert Path("out/a.trials.jsonl").read_text() == before


def test_mistyped_parameter_is_refused_at_once(tmp_path, capsys):
    path = written(tmp_path, "learnig_rate choice [0.001]\n")
    chosen = settings(tmp_path, data_path="data")
    argv = ["--model=BPR", "--dataset=toy", f"--params_file={path}"]
    argv += [f"--{key}={value}" for key, value in chosen.items()]
    assert hyper.main(argv) == 2
    assert "did you mean 'learning_rate'" in capsys.readouterr().err

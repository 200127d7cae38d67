"""Attacks by settings: YAML, search ranges, experiment files, recipes and the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recbole_slif.config import SlifConfig
from recbole_slif.config_yaml import read_literal, read_settings
from recbole_slif.experiment.definition import read_definition
from recbole_slif.hyper.space import read_space
from reliability.hostile.arena import Arena, Attack, called, refused, require, turned_away


def _yaml(text: Callable[[Arena], str]) -> Callable[[Arena], None]:
    """Attack by a configuration file."""

    def run(arena: Arena) -> None:
        arena.data()
        Path("mine.yaml").write_text(text(arena), "utf-8")
        turned_away([*arena.words(), "--config_files=mine.yaml"], "mine.yaml")

    return run


def _laughs() -> str:
    """A few hundred letters that stand for a billion."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    for level in range(1, 10):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    inside = "\n".join(f"  {line}" for line in lines)
    return f"load_col:\n{inside}\n  a: *a9\n"


def _experiment(text: str, *named: str) -> Callable[[Arena], None]:
    """Attack by an experiment file, planned but not run."""

    def run(arena: Arena) -> None:
        arena.data()
        Path("evil.py").write_text(arena.code, "utf-8")
        Path("mine.yaml").write_text(text.replace("CALL", arena.call), "utf-8")
        words = ["experiment", "mine.yaml", "--dry_run", "--dataset=toy", "--data_path=data"]
        turned_away(words, *named)

    return run


def _hyper(text: str) -> Callable[[Arena], None]:
    """Attack by a file of search ranges."""

    def run(arena: Arena) -> None:
        arena.data()
        Path("mine.hyper").write_text(text.replace("CALL", arena.call), "utf-8")
        turned_away(["hyper", *arena.words(), "--params_file=mine.hyper", "--max_evals=1"])

    return run


def _harmless_choice(arena: Arena) -> None:
    """Code among the choices of a search is text, which the key then refuses."""
    path = Path("mine.hyper")
    path.write_text(f'learning_rate choice ["{arena.call}", 0.1]\n', "utf-8")
    values = read_space(path)[0].values
    require(values[0] == arena.call, f"a text changed: {values!r}")
    arena.data()
    turned_away(["hyper", *arena.words(), "--params_file=mine.hyper"], "learning_rate")


def _option(key: str) -> Callable[[Arena], None]:
    """Attack by code for the value of a key."""

    def run(arena: Arena) -> None:
        arena.data()
        words = [word for word in arena.words() if not word.startswith(f"--{key}=")]
        turned_away([*words, f"--{key}={arena.call}"])
        turned_away([*words, f"--{key}={{'a': {arena.call}}}"])

    return run


def _every_key(arena: Arena) -> None:
    """Whatever key is given code, the value is refused or stays text."""
    arena.data()
    known = SlifConfig("SLIFMR", "toy", overrides={"data_path": "data"}).accepted_keys
    for key in sorted(known):
        try:
            SlifConfig("SLIFMR", "toy", None, {"data_path": "data"}, [f"--{key}={arena.call}"])
        except Exception as error:  # the fuzzing judges which error; here no code may run
            require(not isinstance(error, NameError), f"{key}: {error}")
        require(not arena.canary.exists(), f"--{key} runs code")


def _deep_literals(arena: Arena) -> None:
    """Text nested so deep that parsers give up is text."""
    for text in ("(" * 100_000, "[" * 100_000, "-" * 100_000 + "1", "{" * 5000 + "}" * 5000,
                 "[" * 3000 + "]" * 3000, "1" + "+1" * 50_000, "not " * 50_000 + "1"):  # fmt: skip
        found = read_literal(text)
        require(isinstance(found, str | list | dict), f"read as {type(found)}")
    require(arena.folder.is_dir(), "the folder is gone")


def _climbing(option: str) -> Callable[[Arena], None]:
    """Attack by a name that climbs out of its folder."""

    def run(arena: Arena) -> None:
        arena.data()
        for name in ("../../canary", "../inside/data/toy", str(arena.canary), "..", "toy/../toy"):
            words = [word for word in arena.words() if not word.startswith(f"--{option}=")]
            turned_away([*words, f"--{option}={name}"])

    return run


def _climbing_experiment(arena: Arena) -> None:
    arena.data()
    for name in ("../../canary", str(arena.canary), "../../../etc/passwd"):
        turned_away(["experiment", name, "--dry_run"])
    words = ["experiment", "table1_statistics", "--data_path=data"]
    for name in ("../../canary", "toy,../../canary"):
        turned_away([*words, f"--dataset={name}"])


def _recipe(arena: Arena) -> None:
    from dataset_tools.recipes import load_routes

    path = Path("mine.yaml")
    path.write_text(f"steps: !!python/object/apply:eval ['{arena.code}']\n", "utf-8")
    refused(lambda: load_routes("mine", path), "mine.yaml")


def _plain_text(arena: Arena) -> None:
    """Code as a plain YAML value is text, and the key says what it wants."""
    path = Path("mine.yaml")
    path.write_text(f'epochs: "{arena.call}"\n', "utf-8")
    require(read_settings(path) == {"epochs": arena.call}, "a text changed")
    arena.data()
    turned_away([*arena.words()[:3], "--config_files=mine.yaml"], "epochs")


def _definition(arena: Arena) -> None:
    path = Path("mine.yaml")
    path.write_text("title: !!python/object/new:os.system ['touch canary']\n", "utf-8")
    refused(lambda: read_definition(path), "mine.yaml", "line 1")


def _model_of_a_file(arena: Arena) -> None:
    """A configuration file that names a module does not get it imported."""
    arena.data()
    Path("evil.py").write_text(arena.code, "utf-8")
    Path("mine.yaml").write_text("model: evil:X\ndataset: toy\n", "utf-8")
    refused(lambda: SlifConfig(config_files="mine.yaml", overrides={"data_path": "data"}), "evil:X")


def _resumed_plan(arena: Arena) -> None:
    """The plan that lies in an experiment's folder is JSON, whatever it holds."""
    arena.data()
    Path("out").mkdir()
    Path("out/plan.json").write_text("[" * 100_000, "utf-8")
    words = ["experiment", "table2_overall", "--models=BPR", "--out=out", "--resume", "--dry_run"]
    code, _, told = called([*words, "--dataset=toy", "--data_path=data"])
    require(code == 2 and "plan.json" in told, told[-300:])


HEAD = "title: t\nartefact: a\n"
ATTACKS = [
    Attack("yaml: an object made by a call", _yaml(
        lambda a: f"epochs: !!python/object/apply:eval [\"{a.call}\"]\n")),
    Attack("yaml: an object of a class", _yaml(
        lambda a: "epochs: !!python/object/new:os.system ['touch ../canary']\n")),
    Attack("yaml: the name of a function", _yaml(lambda a: "epochs: !!python/name:os.system\n")),
    Attack("yaml: a module", _yaml(lambda a: "epochs: !!python/module:antigravity\n")),
    Attack("yaml: a tag of one's own", _yaml(lambda a: "epochs: !include /etc/passwd\n")),
    Attack("yaml: a billion laughs", _yaml(lambda a: _laughs())),
    Attack("yaml: a list that holds itself", _yaml(lambda a: "topk: &a [*a]\n")),
    Attack("yaml: nested 3,000 deep", _yaml(lambda a: "topk: " + "[" * 3_000)),
    Attack("yaml: a day that is none", _yaml(lambda a: "epochs: 2020-13-45\n")),
    Attack("yaml: a number of 10,000 digits", _yaml(lambda a: f"epochs: {'9' * 10_000}\n")),
    Attack("yaml: code as plain text", _plain_text),
    Attack("yaml: a file names a module for a model", _model_of_a_file),
    Attack("experiment: a tag that runs code", _definition),
    Attack("experiment: a model is a module", _experiment(
        HEAD + "models: [\"evil:X\"]\n", "evil:X")),
    Attack("experiment: a cell's model is a module", _experiment(
        HEAD + "cells: [{model: \"evil:X\"}]\n", "evil:X")),
    Attack("experiment: code for a setting", _experiment(
        HEAD + "models: [BPR]\nsettings: {epochs: \"CALL\"}\n", "epochs")),
    Attack("experiment: a name that climbs out", _climbing_experiment),
    Attack("experiment: the plan in the folder", _resumed_plan),
    Attack("recipe: a tag that runs code", _recipe),
    Attack("search: code among the choices", _harmless_choice),
    Attack("search: a call for choices", _hyper("learning_rate choice CALL\n")),
    Attack("search: a call for bounds", _hyper("learning_rate uniform CALL,1\n")),
    Attack("search: a call for a type", _hyper("learning_rate CALL 1,2\n")),
    Attack("search: nested 50,000 deep", _hyper("learning_rate choice " + "[" * 50_000 + "\n")),
    Attack("command line: code for epochs", _option("epochs")),
    Attack("command line: code for the split", _option("eval_args")),
    Attack("command line: code for the lists' length", _option("topk")),
    Attack("command line: code for every key", _every_key),
    Attack("command line: literals without end", _deep_literals),
    Attack("command line: a data set that climbs out", _climbing("dataset")),
    Attack("command line: a model that climbs out", _climbing("model")),
]  # fmt: skip

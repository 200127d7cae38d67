"""Fuzzing of settings: YAML, search ranges, experiment files and command lines."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from recbole_slif import quick_start
from recbole_slif.config import SlifConfig, properties_dir
from recbole_slif.experiment.definition import known_experiments, read_definition
from recbole_slif.hyper.space import check_space, read_space
from recbole_slif.registry import MODELS
from recbole_slif.stages import RunResult
from recbole_slif.testing.toy import write_toy
from reliability.fuzz.engine import Draw, FoundFault, damaged, judge, working_in

VALUES: list[Any] = [
    "many", "", "-1", -1, 0, 1e400, float("nan"), 10**30, [], {}, [1, "a"], {"a": 1}, None, True,
    [[[]]], "\u2028", "a" * 500, [None], {"split": 1}, ["Recall", 1], "1,2", "[1", "{", "(",
    "!!python/x", "1e5", "0x10", ".5.", "None", "~", "\x1b[2J", [float("inf")], -0.0, "\ud800x",
]  # fmt: skip
ALPHABET = "abcdefghijklmnopqrstuvwxyz_"


def misspelt(word: str, draw: Draw) -> str:
    """Return a word with one letter wrong: left out, doubled, swapped, replaced or put in."""
    at = draw.randrange(len(word))
    letter = draw.choice(ALPHABET)
    swapped = word[:at] + word[at : at + 2][::-1] + word[at + 2 :]
    forms = [
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        swapped,
        word[:at] + letter + word[at + 1 :],
        word[:at] + letter + word[at:],
    ]
    return draw.choice([form for form in forms if form and form != word] or [f"{word}x"])


class Settings:
    """Sound files of settings, of which each case damages one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "settings"
        self.folder.mkdir()
        write_toy(self.folder / "data", "toy")
        self.base = {"data_path": str(self.folder / "data"), "gpu_id": "", "use_tuned": False,
                     "state": "ERROR"}  # fmt: skip
        texts = [path.read_bytes() for path in sorted(properties_dir().glob("model/*.yaml"))]
        self.models = dict(zip(sorted(MODELS, key=str), texts, strict=True))
        self.hyper = {name: (properties_dir() / f"hyper/{name}.hyper").read_bytes()
                      for name in MODELS}  # fmt: skip
        self.experiments = [
            (properties_dir() / f"experiment/{name}.yaml").read_bytes()
            for name in known_experiments()
        ]
        self.keys = {name: SlifConfig(name, "toy", None, self.base).accepted_keys
                     for name in MODELS}  # fmt: skip

    def _names(self, model: str) -> list[str]:
        return ["mine", *self.keys[model]]

    def yaml_file(self, draw: Draw) -> None:
        """Damage a model's own file and give it as a configuration file."""
        model = draw.choice(list(MODELS))
        text = (properties_dir() / f"model/{model}.yaml").read_bytes()
        path = self.folder / "mine.yaml"
        path.write_bytes(damaged(text, draw))
        told = f"{model} with {path.read_bytes()!r:.300}"
        judge(lambda: SlifConfig(model, "toy", [str(path)], self.base), self._names(model),
              told=told)  # fmt: skip

    def value(self, draw: Draw) -> None:
        """Give any key any value."""
        model = draw.choice(list(MODELS))
        key = draw.choice(sorted(self.keys[model]))
        value = draw.choice(VALUES)
        given = {**self.base, key: value}
        told = f"{model}, {key}: {value!r:.60}"
        judge(lambda: SlifConfig(model, "toy", None, given), [*self._names(model), "toy", "data"],
              told=told)  # fmt: skip

    def option(self, draw: Draw) -> None:
        """Give any key a text on the command line."""
        model = draw.choice(list(MODELS))
        key = draw.choice(sorted(self.keys[model]))
        text = str(draw.choice(VALUES))
        if draw.random() < 0.3:
            text = damaged(text.encode("utf-8", "replace"), draw).decode("utf-8", "replace")
        told = f"{model}, --{key}={text!r:.60}"
        judge(lambda: SlifConfig(model, "toy", None, self.base, [f"--{key}={text}"]),
              [*self._names(model), "toy", "data"], told=told)  # fmt: skip

    def planted_key(self, draw: Draw) -> None:
        """Misspell a key; it must be refused by its name."""
        model = draw.choice(list(MODELS))
        key = draw.choice(sorted(self.keys[model]))
        wrong = misspelt(key, draw)
        if wrong in self.keys[model]:
            return
        told = f"{model}, {wrong}"
        judge(lambda: SlifConfig(model, "toy", None, {**self.base, wrong: 1}), [f"'{wrong}'"],
              True, told)  # fmt: skip

    def hyper_file(self, draw: Draw) -> None:
        """Damage a file of search ranges."""
        model = draw.choice(list(MODELS))
        path = self.folder / "mine.hyper"
        path.write_bytes(damaged(self.hyper[model], draw))
        config = SlifConfig(model, "toy", None, self.base)
        told = f"{model} with {path.read_bytes()!r:.300}"

        def read() -> None:
            check_space(read_space(path), config)

        judge(read, ["mine.hyper", *self.keys[model], "parameter file"], told=told)

    def experiment_file(self, draw: Draw) -> None:
        """Damage an experiment file."""
        path = self.folder / "mine.yaml"
        path.write_bytes(damaged(draw.choice(self.experiments), draw))
        told = f"experiment {path.read_bytes()!r:.300}"
        judge(lambda: read_definition(path, draw.random() < 0.5), ["mine.yaml"], told=told)

    def experiment_value(self, draw: Draw) -> None:
        """Put any value anywhere into an experiment file."""
        content = yaml.safe_load(draw.choice(self.experiments))
        spoil(content, draw)
        path = self.folder / "mine.yaml"
        path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8", errors="replace")
        told = f"experiment {path.read_text('utf-8')!r:.400}"
        judge(lambda: read_definition(path, draw.random() < 0.5), ["mine.yaml"], told=told)

    # ---- command lines -----------------------------------------------------------------------

    def command_line(self, draw: Draw) -> None:
        """Damage a command line; training itself is left out."""
        words = [word.replace("DATA", str(self.folder / "data")) for word in draw.choice(LINES)]
        for _ in range(draw.choice((1, 1, 2))):
            _change_word(words, draw)
        told = " ".join(words)
        code, err = self._called(words, told)
        if code == 0 or code == 1:
            return
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        if len(lines) != 1 or not lines[0].isprintable():
            raise FoundFault(f"{told!r}: exit code {code}, {err[-300:]!r}")

    def _called(self, words: list[str], told: str) -> tuple[int, str]:
        from recbole_slif.__main__ import main

        out, err = io.StringIO(), io.StringIO()
        shown = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
        with _no_training(), working_in(self.folder), shown[0], shown[1]:
            try:
                return int(main(words)), err.getvalue()
            except SystemExit as leave:
                return int(leave.code or 0), err.getvalue()
            except Exception as error:
                raise FoundFault(f"{told!r}: {type(error).__name__}: {error}") from error


LINES = [
    ["--model=BPR", "--dataset=toy", "--data_path=DATA", "--epochs=1", "--topk=[3]",
     "--valid_metric=Recall@3"],
    ["run", "--model", "SLIFMR", "--dataset=toy", "--data_path=DATA", "--n_layers=2"],
    ["--models=Pop,BPR", "--dataset=toy", "--data_path=DATA", "--seeds=2"],
    ["compare", "--models=BPR,LightGCN", "--dataset=toy", "--data_path=DATA", "--seeds=1,2"],
    ["hyper", "--model=BPR", "--dataset=toy", "--data_path=DATA", "--algo=random",
     "--max_evals=0"],
    ["experiment", "table2_overall", "--dataset=toy", "--data_path=DATA", "--models=BPR",
     "--dry_run", "--seeds=2"],
    ["recommend", "--checkpoint=nowhere", "--users=u1,u2", "--topk=5"],
    ["explain", "--checkpoint=nowhere", "--user=u1", "--format=json"],
    ["embed", "--checkpoint=nowhere", "--out=vectors"],
    ["report", "saved/experiments/none", "--no-figures", "--metrics=recall@20"],
    ["models"],
]  # fmt: skip
_WORDS = ["--", "-", "--=", "=x", "--x", "--epochs", "--epochs=", "--debug=1", "\x1b[2J", "--a b",
          "--seeds=-1", "--topk=[", "--config_files=.", "--resume=.", "", " ", "--model=",
          "--dataset=", "--models=", "--workers=x", "--storage=x://y", "--out=/dev/null/x",
          "--model=a:b", "--model=:", "--dataset=toy/..", "\u2028", "--help=1"]  # fmt: skip


def _change_word(words: list[str], draw: Draw) -> None:
    at = draw.randrange(len(words))
    kind = draw.randrange(5)
    if kind == 0:
        words[at] = misspelt(words[at], draw)
    elif kind == 1:
        words.insert(at, draw.choice(_WORDS))
    elif kind == 2:
        words.append(words[at])
    elif kind == 3 and "=" in words[at]:
        key = words[at].partition("=")[0]
        words[at] = f"{key}={str(draw.choice(VALUES)).encode('utf-8', 'replace').decode()}"
    else:
        del words[at]
        words.extend(["--model=BPR"] * (not words))


@contextlib.contextmanager
def _no_training() -> Iterator[None]:
    """Put a run that does nothing in the place of training."""

    def nothing(config: Any, *args: Any, **options: Any) -> RunResult:
        return RunResult(config["model"], config["dataset"], config["seed"])

    before, arguments = quick_start.execute, sys.argv
    quick_start.execute = nothing
    sys.argv = ["recbole-slif"]
    try:
        yield
    finally:
        quick_start.execute, sys.argv = before, arguments


def spoil(content: Any, draw: Draw) -> None:
    """Replace, rename or remove one entry somewhere in a tree."""
    while isinstance(content, dict | list) and content:
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        key = draw.choice(keys)
        inner = content[key]
        if isinstance(inner, dict | list) and inner and draw.random() < 0.6:
            content = inner
            continue
        kind = draw.randrange(3)
        if kind == 0 or isinstance(content, list):
            content[key] = draw.choice([value for value in VALUES if value != "\ud800x"])
        elif kind == 1:
            content[misspelt(str(key), draw)] = content.pop(key)
        else:
            del content[key]
        return

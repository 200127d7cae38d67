"""What the commands share: errors as one line, the argument parser, result tables."""

from __future__ import annotations

import argparse
import math
import os
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import recbole_slif
from recbole_slif.config_keys import command_options, nearest
from recbole_slif.errors import ConfigError, SlifError, printable, without_passwords
from recbole_slif.interrupt import TrainingStoppedError, name_of, sigterm_raised
from recbole_slif.registry import shown_name

# Commands that train nothing must not wait for torch and RecBole to load.
if TYPE_CHECKING:
    from recbole_slif.quick_start import RunResult

EXIT_USAGE = 2
EXIT_STOPPED = 130


class Parser(argparse.ArgumentParser):
    """An argument parser that raises instead of printing usage, and knows `--version`."""

    def __init__(
        self, command: str, description: str, epilog: str = "", program: str = "recbole-slif"
    ) -> None:
        super().__init__(
            prog=f"{program} {command}".strip(),
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        version = f"recbole_slif {recbole_slif.__version__}"
        self.add_argument("--version", action="version", version=version)
        self.add_argument(
            "--debug", action="store_true", help="show the traceback of an error, not one line"
        )

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse words as argparse does, with `~/` read as the home folder also behind a `=`.

        Raises:
            ConfigError: an option of the command is empty, as `--resume=$RUN` is without a `RUN`,
                or given twice, or a switch is misspelt.
        """
        words = list(map(_with_home, sys.argv[1:] if args is None else args))
        command_options[:] = [name.lstrip("-") for name in self._option_string_actions]
        if self.prog.startswith("recbole-slif"):  # recipes of `dataset_tools` may add to a line
            self._refuse_repeats(words)
        options, others = super().parse_known_args(words, namespace)
        for name, action in self._option_string_actions.items():
            if getattr(options, action.dest, None) in ("", [""]):
                raise ConfigError(f"option {name} is empty; give it a value or leave it out")
        for word, following in zip(others, [*others[1:], "--"], strict=False):
            near = nearest(word, self._option_string_actions, 0.75)
            if near and "=" not in word and following.startswith("--"):
                raise ConfigError(f"option {word} is not known{near}")
        return options, others

    def _refuse_repeats(self, words: Sequence[str]) -> None:
        """Refuse an option given twice, of which the last would win unsaid."""
        kept: set[str] = set()
        for name in (word.partition("=")[0] for word in words):
            action = self._option_string_actions.get(name)
            if action is None or action.nargs == 0 or type(action).__name__ == "_AppendAction":
                continue
            if action.dest in kept:
                raise ConfigError(f"option {name} is given twice; keep one of them")
            kept.add(action.dest)

    def error(self, message: str) -> NoReturn:
        """Raise the parser's complaint as a configuration error."""
        switch = re.match(r"argument (--\w+): ignored explicit argument", message)
        if switch:
            message = f"{switch[1]} takes no value; write {switch[1]} alone"
        stray = re.match(r"unrecognized arguments: (--[^\s=]+)", message)
        if stray:
            message += nearest(stray[1], self._option_string_actions)
        raise ConfigError(f"{message}; see {self.prog} --help")


def _with_home(word: str) -> str:
    """Return an option with `~/` written out behind `=` or a comma, where shells leave it."""
    if not word.startswith("--"):
        return word
    return re.sub(r"(?<=[=,])~(?=/)", lambda _: os.path.expanduser("~"), word)


def one_line(error: BaseException) -> str:
    """Return an error's text on one line, without the passwords of addresses in it."""
    return without_passwords(printable(" ".join(str(error).split()))) or type(error).__name__


def guarded(action: Callable[[Sequence[str]], int], words: Sequence[str]) -> int:
    """Run a command; a user's mistake becomes one line on stderr and exit code 2.

    Ctrl-C and SIGTERM become one line and exit code 130. With `--debug` among the words the
    exception of a mistake goes through.
    """
    _open_streams()
    try:
        with sigterm_raised():
            return action(words)
    except TrainingStoppedError as stop:
        _say(one_line(stop))
        return EXIT_STOPPED
    except KeyboardInterrupt as stop:
        _say(f"stopped by {name_of(stop)}")
        return EXIT_STOPPED
    except BrokenPipeError:
        return 0
    except (SlifError, OSError) as error:
        if "--debug" in words:
            raise
        _say(f"error: {one_line(error)}")
        return EXIT_USAGE
    except Exception:
        _may_speak()  # the traceback that follows is what is said
        raise
    finally:
        command_options.clear()


def _open_streams() -> None:
    """Give output that was closed (`2>&-`, a program without a console) a place to vanish in."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _may_speak() -> bool:
    """Tell whether this process is the first of a group to speak on its way out, or alone."""
    group = sys.modules.get("recbole_slif.process_group")
    return group is None or bool(group.may_speak())


def _say(line: str) -> None:
    """Print a command's last words; of several processes one does."""
    if _may_speak():
        print(line, file=sys.stderr)


def usable(path: Path) -> str:
    """Return a path that the next command can take: relative to the working folder if inside it."""
    inside = path.resolve().is_relative_to(Path.cwd())
    return os.path.relpath(path) if inside else str(path)


def metric_table(result: RunResult) -> str:
    """Lay out the validation and test metrics of one run."""
    from tabulate import tabulate

    test = result.test or {}
    rows = [[name, value, test.get(name)] for name, value in result.valid.items()]
    rows += [[name, None, value] for name, value in test.items() if name not in result.valid]
    headers = [shown_name(result.model), "valid", "test"]
    return tabulate(rows, headers, floatfmt=".4f", missingval="-", tablefmt="simple")


def run_summary(result: RunResult) -> str:
    """Say what a run gave and where it lies."""
    from recbole_slif.records import precision_over_recall

    lines = ["", metric_table(result), ""]
    epoch = "not trained" if result.best_epoch < 0 else f"best epoch {result.best_epoch}"
    lines.append(
        f"{shown_name(result.model)} on {result.dataset}, seed {result.seed}: "
        f"{epoch}, {result.seconds:.0f} s"
    )
    ratios = precision_over_recall(result.test)
    if ratios:
        k, ratio = max(ratios.items(), key=lambda entry: int(entry[0]))
        lines.append(f"Precision@{k} / Recall@{k} on test: {ratio:.3f} (check of the split)")
    if result.record is not None and result.folder is not None:
        lines.append(f"record       {usable(result.record)}")
        lines.append(f"checkpoints  {usable(result.folder)}")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.4f}"
    return f"{mean:.4f} ± {statistics.stdev(values):.4f}"


def _best(means: Sequence[float], smaller: bool) -> float:
    known = [value for value in means if not math.isnan(value)]
    return (min if smaller else max)(known) if known else math.nan


def _smaller_is_better(metric: str) -> bool:
    from recbole.evaluator.register import smaller_metrics

    return metric.partition("@")[0] in smaller_metrics


def compare_table(results: Sequence[RunResult], bold: bool | None = None) -> str:
    """Lay out test metrics of several models, mean and sample deviation over seeds.

    Args:
        results: all runs; the failed ones are named below the table.
        bold: mark the best value of each column; None does so on a terminal.
    """
    from tabulate import tabulate

    bold = sys.stdout.isatty() if bold is None else bold
    groups: dict[str, list[RunResult]] = {}
    for result in results:
        groups.setdefault(result.model, []).append(result)
    metrics = list(dict.fromkeys(name for result in results for name in result.test or {}))
    columns = []
    for metric in metrics:
        values = [[run.test[metric] for run in runs if run.test] for runs in groups.values()]
        means = [statistics.fmean(group) if group else math.nan for group in values]
        best = _best(means, _smaller_is_better(metric))
        cells = [_cell(group) if group else "-" for group in values]
        if bold:
            cells = [
                f"\033[1m{cell}\033[0m" if mean == best else cell
                for cell, mean in zip(cells, means, strict=True)
            ]
        columns.append(cells)
    seeds = [sum(run.test is not None for run in runs) for runs in groups.values()]
    names = map(shown_name, groups)
    rows = [list(row) for row in zip(names, seeds, *columns, strict=True)]
    table = tabulate(rows, ["test", "seeds", *metrics], tablefmt="simple", disable_numparse=True)
    return "\n".join(["", table, *_endings(results)])


def _endings(results: Sequence[RunResult]) -> list[str]:
    """Name the folder of the records and every run that failed."""
    folders = {Path(result.record).parent for result in results if result.record}
    lines = ["", *(f"records      {usable(folder)}" for folder in sorted(folders))]
    for result in results:
        if result.status != "finished":
            lines.append(f"{result.status}: {result.model}, seed {result.seed}: {result.error}")
    return lines

"""Bugs planted on purpose, one at a time, in a copy of the tree: does a test see each of them?

The list lies in `reliability/mutants/*.yaml`: a file, an exact old text, a new text, and the tests
that should fail. A text that does not stand exactly once in its file is refused, so the list cannot
rot. Each bug gets a process of its own, forked from one that has the large libraries loaded.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from reliability.frame import Case, Setting

ROOT = Path(__file__).resolve().parents[1]
LISTS = Path(__file__).parent / "mutants"
SECONDS = 600.0
TESTS_FAILED = 1
_LOADED_BEFORE = ("numpy", "scipy.sparse", "pandas", "torch", "sklearn", "hypothesis", "pytest")
_OURS = ("recbole", "recbole_slif", "tests", "benchmarks", "dataset_tools")
_LEFT_OUT = (".*", "__pycache__", "*.egg-info", "build", "dist", "saved", "log", "log_tensorboard")
_FIELDS = {"name", "file", "old", "new", "tests"}


@dataclass(frozen=True)
class Mutant:
    """One planted bug.

    Attributes:
        name: what goes wrong, in words.
        file: path below the root.
        old: text that stands exactly once in the file.
        new: text put in its place.
        tests: arguments of pytest, of which at least one test must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def planted(self, source: str) -> str:
        """Return the file's text with the bug in it.

        Raises:
            ValueError: the old text does not stand exactly once, or nothing changes.
        """
        count = source.count(self.old)
        if count != 1 or self.new == self.old:
            raise ValueError(
                f"planted bug '{self.name}': its old text stands {count} times in {self.file}, "
                "not once; correct the list in reliability/mutants"
            )
        return source.replace(self.old, self.new)


def read_mutants(folder: Path = LISTS) -> list[Mutant]:
    """Read the lists of planted bugs, in the order of files and entries.

    Raises:
        ValueError: an entry lacks a field, has another, or repeats a name.
    """
    found: dict[str, Mutant] = {}
    for path in sorted(folder.glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text("utf-8")):
            if set(entry) != _FIELDS or not entry["tests"]:
                raise ValueError(f"{path.name}: an entry needs {', '.join(sorted(_FIELDS))}")
            mutant = Mutant(**{**entry, "tests": tuple(entry["tests"])})
            if mutant.name in found:
                raise ValueError(f"{path.name}: '{mutant.name}' is there twice")
            found[mutant.name] = mutant
    return list(found.values())


@contextlib.contextmanager
def copied_tree(root: Path = ROOT) -> Iterator[Path]:
    """Copy the tree into a temporary folder, without caches, builds and hidden files."""
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        target = Path(folder) / "tree"
        shutil.copytree(root, target, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        yield target


@contextlib.contextmanager
def planted(mutant: Mutant, tree: Path) -> Iterator[None]:
    """Keep a bug in a tree for as long as the block runs."""
    path = tree / mutant.file
    source = path.read_text("utf-8")
    path.write_text(mutant.planted(source), "utf-8")
    try:
        yield
    finally:
        path.write_text(source, "utf-8")


def run_tests(tree: Path, tests: Sequence[str], seconds: float = SECONDS) -> int | None:
    """Run tests of a tree in a forked process, stopping at the first failure.

    Returns:
        pytest's exit code, or None where it took longer than `seconds` and was ended.
    """
    for name in _LOADED_BEFORE:
        importlib.import_module(name)
    process = multiprocessing.get_context("fork").Process(target=_pytest, args=(tree, list(tests)))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    return process.exitcode


def _pytest(tree: Path, tests: list[str]) -> None:
    """Run pytest on `tree` alone, whatever of the package this process has seen before."""
    import pytest

    os.chdir(tree)
    silent = os.open(tree.parent / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    for name in [name for name in sys.modules if name.split(".")[0] in _OURS]:
        del sys.modules[name]
    sys.path[:] = [str(tree), *(path for path in sys.path if path not in ("", str(ROOT)))]
    sys.dont_write_bytecode = True
    os.environ["PYTHONPATH"] = str(tree)
    code = pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests])
    sys.stdout.flush()
    os._exit(int(code))


def judge(mutant: Mutant, tree: Path, seconds: float = SECONDS) -> None:
    """Plant a bug and require that a test fails.

    Raises:
        AssertionError: every test passed, or pytest could not run them.
    """
    with planted(mutant, tree):
        code = run_tests(tree, mutant.tests, seconds)
    if code in (TESTS_FAILED, None):  # a bug that makes a test hang is seen as well
        return
    told = (tree.parent / "output.txt").read_text("utf-8", errors="replace")[-400:]
    fault = "survived" if code == 0 else f"pytest could not run (exit code {code}): {told}"
    raise AssertionError(f"{mutant.file}: '{mutant.name}' {fault}; tests {' '.join(mutant.tests)}")


def cases(setting: Setting) -> Iterator[Case]:
    """Yield a case that runs the tests without any bug, then one for each planted bug."""
    mutants = read_mutants()
    everything = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    with copied_tree() as tree:
        yield Case("no bug", partial(_require_sound, tree, everything))
        for mutant in mutants[: max(setting.cases - 1, 0)]:
            yield Case(mutant.name, partial(judge, mutant, tree))


def _require_sound(tree: Path, tests: Sequence[str]) -> None:
    """Require that the tests pass without any planted bug, or all of them would be "caught"."""
    code = run_tests(tree, tests, 10 * SECONDS)
    if code != 0:
        told = (tree.parent / "output.txt").read_text("utf-8", errors="replace")[-400:]
        raise AssertionError(f"tests fail without any planted bug: {told}")

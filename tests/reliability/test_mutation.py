"""The list of planted bugs fits the code, and the run tells seen bugs from unseen ones."""

import pytest

from reliability import mutation
from reliability.checks import CHECKS
from reliability.mutation import Mutant, copied_tree, judge, read_mutants

MUTANTS = read_mutants()


def test_there_are_at_least_a_hundred_planted_bugs_in_all_parts():
    assert len(MUTANTS) >= 100
    places = {mutant.file.split("/")[1] for mutant in MUTANTS}
    assert places >= {
        "graph",
        "layers",
        "losses.py",
        "model",
        "trainer.py",
        "evaluation.py",
        "data",
    }


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_planted_bug_fits_its_file(mutant):
    source = (mutation.ROOT / mutant.file).read_text("utf-8")
    compile(mutant.planted(source), mutant.file, "exec")
    for test in mutant.tests:
        assert (mutation.ROOT / test.split("::")[0]).is_file(), test


def test_a_text_that_does_not_stand_once_is_refused():
    mutant = Mutant("x", "a.py", "old", "new", ("tests",))
    for source in ("", "old old"):
        with pytest.raises(ValueError, match=r"stands . times in a\.py, not once"):
            mutant.planted(source)
    with pytest.raises(ValueError, match="not once"):
        Mutant("x", "a.py", "old", "old", ("tests",)).planted("old")


@pytest.mark.parametrize("text", ["- {name: a}", "- {name: a, file: f, old: o, new: n, tests: []}"])
def test_an_entry_that_lacks_something_is_refused(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"x\.yaml"):
        read_mutants(tmp_path)


def test_a_bug_is_caught_survives_or_cannot_be_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(mutation, "_LOADED_BEFORE", ("pytest",))
    root = tmp_path / "root"
    (root / "tests").mkdir(parents=True)
    (root / "code.py").write_text("VALUE = 1\nOTHER = 1\n", "utf-8")
    (root / "tests/test_code.py").write_text("import code\ndef test(): assert True\n", "utf-8")
    test = (
        "from pathlib import Path\ndef test(): assert 'VALUE = 1' in Path('code.py').read_text()\n"
    )
    (root / "tests/test_code.py").write_text(test, "utf-8")
    with copied_tree(root) as tree:
        seen = Mutant("seen", "code.py", "VALUE = 1", "VALUE = 2", ("tests/test_code.py",))
        judge(seen, tree)
        assert (tree / "code.py").read_text("utf-8").startswith("VALUE = 1")
        unseen = Mutant("unseen", "code.py", "OTHER = 1", "OTHER = 2", ("tests/test_code.py",))
        with pytest.raises(AssertionError, match="'unseen' survived"):
            judge(unseen, tree)
        absent = Mutant("absent", "code.py", "OTHER = 1", "OTHER = 2", ("tests/test_none.py",))
        with pytest.raises(AssertionError, match="could not run"):
            judge(absent, tree)
    assert "VALUE = 1" in (root / "code.py").read_text("utf-8")


def test_a_series_plants_every_bug_and_tries_the_tree_without_one():
    wanted = next(check.cases for check in CHECKS if check.name == "mutation")
    assert wanted == len(MUTANTS) + 1

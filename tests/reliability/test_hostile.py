"""Files that attack are refused: no code runs, nothing is unpickled, nothing is written outside."""

import os
import sys

import pytest

from reliability.hostile import ATTACKS
from reliability.hostile.arena import Arena, Attack, require, survive

LONG = {  # the long command makes them all
    "command line: code for every key",
    "page: formulas and links in names",
    "page: groups that climb out",
    "storage: packed zeros",
}
FAST = [attack for attack in ATTACKS if attack.name not in LONG]


def test_there_are_at_least_sixty_attacks_with_names_of_their_own():
    names = {attack.name for attack in ATTACKS}
    assert len(names) == len(ATTACKS) >= 60
    assert names >= LONG


@pytest.mark.parametrize("attack", FAST, ids=lambda attack: attack.name)
def test_attacks_are_survived(attack):
    survive(attack)


# ---- the eye sees ------------------------------------------------------------------------------


def runs_code(arena: Arena) -> None:
    exec(arena.code)  # noqa: S102 - what a reader that evaluates would do


def unpickles(arena: Arena) -> None:
    import pickle

    pickle.loads(pickle.dumps(os.path.join))  # noqa: S301 - harmless, but unpickled


def starts_a_process(arena: Arena) -> None:
    os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", "pass"])  # noqa: S606
    os.system("true")  # noqa: S605, S607 - what an attack would do


def writes_outside(arena: Arena) -> None:
    path = arena.folder.parent / "elsewhere"
    path.write_text("x")
    path.unlink()


def makes_a_folder_outside(arena: Arena) -> None:
    (arena.folder.parent / "elsewhere").mkdir()


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (runs_code, "canary"),
        (unpickles, "unpickled posixpath.join"),
        (starts_a_process, "os.system"),
        (writes_outside, "open .*elsewhere"),
        (makes_a_folder_outside, "elsewhere"),
    ],
)
def test_an_attack_that_gets_through_is_seen(attack, said):
    with pytest.raises(AssertionError, match=said):
        survive(Attack("through", attack))


def test_writing_inside_is_allowed():
    survive(Attack("inside", lambda arena: (arena.folder / "x").write_text("x")))
    with pytest.raises(AssertionError, match="told"):
        require(False, "told")

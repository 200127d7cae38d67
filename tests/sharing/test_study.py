"""One process holds a piece of work; what a dead or silent one left is taken over once."""

import subprocess
import sys
import time

import psutil
import pytest

from recbole_slif.errors import SlifError
from recbole_slif.processes import Mark
from recbole_slif.sharing import study as module
from recbole_slif.sharing.study import (
    FAILED,
    FINISHED,
    GONE,
    LOST,
    RUNNING,
    Piece,
    SharedStudy,
)
from tests.sharing.places import KINDS, address, fresh_name


def once(key, states=(RUNNING, FINISHED)):
    """Return a piece and what forbids it: the same key in these states."""
    return Piece(key), lambda earlier: earlier.key == key and earlier.state in states


@pytest.fixture(params=KINDS)
def join(request, tmp_path):
    """Return a function that joins one and the same study, as a process of its own would."""
    found, name = address(request.param, tmp_path), fresh_name()
    return lambda **changes: SharedStudy(found, name, **changes)


def states(study):
    return [attempt.state for attempt in study.attempts()]


def hand_over(study, held, **changes):
    """Let work be that of another process."""
    holder = {**Mark.own().content(), **changes}
    study.storage.set_trial_user_attr(held.trial_id, "holder", holder)


def test_only_one_gets_a_piece(join):
    mine, theirs = join(), join()
    held = mine.take(Piece("run", attrs={"settings": {"a": [1]}}), lambda earlier: False)
    assert held.holds()
    assert theirs.take(*once("run")) is None
    assert theirs.take(*once("another")) is not None
    assert held.finish({"row": {"score": 0.5}}, 0.5)
    held.release()
    assert theirs.take(*once("run")) is None
    first = theirs.attempts()[0]
    assert (first.state, first.value, first.key) == (FINISHED, 0.5, "run")
    assert first.attrs["settings"] == {"a": [1]}
    assert first.attrs["row"] == {"score": 0.5}
    assert not held.holds()


def test_failed_work_blocks_where_it_is_to_block(join):
    study = join()
    with study.take(*once("run")) as held:
        assert held.finish({"why": "no"}, None)
    assert states(study) == [FAILED]
    assert study.take(*once("run", (RUNNING, FINISHED, FAILED))) is None
    assert study.take(*once("run")) is not None


def test_work_that_was_given_up_is_free(join):
    mine, theirs = join(), join()
    with pytest.raises(KeyboardInterrupt), mine.take(*once("run")):
        raise KeyboardInterrupt
    assert states(theirs) == [LOST]
    assert theirs.take(*once("run")) is not None


def test_limit_counts_what_is_not_lost(join):
    study = join()
    with study.take(*once("a"), limit=2):
        pass
    first = study.take(*once("b"), limit=2)
    second = study.take(*once("c"), limit=2)
    assert first and second
    assert study.take(*once("d"), limit=2) is None
    first.release()
    assert study.take(*once("d"), limit=2) is not None


def test_work_of_a_dead_process_is_free_at_once(join):
    process = subprocess.Popen([sys.executable, "-c", ""])
    started = psutil.Process(process.pid).create_time()
    process.wait()
    dead = join()
    hand_over(dead, dead.take(*once("run")), pid=process.pid, started=started)
    study = join()
    assert states(study) == [LOST]
    assert study.attempts()[0].attrs["lost"] == GONE
    assert study.take(*once("run")) is not None


def test_result_that_a_dead_process_had_recorded_counts(join):
    dead = join()
    close = dead._close
    for key, value in (("good", 0.25), ("bad", None)):
        held = dead.take(*once(key))
        dead._close = lambda *args: True  # killed before the last step
        held.finish({"row": key}, value)
        hand_over(dead, held, pid=2**30)
        dead._close = close
    study = join()
    assert states(study) == [FINISHED, FAILED]
    assert [one.value for one in study.attempts()] == [0.25, None]
    assert [one.attrs["row"] for one in study.attempts()] == ["good", "bad"]


def test_silent_work_is_lost_and_beating_work_is_not(join, monkeypatch):
    other, silent = join(beat=0.05), join(beat=100.0)
    kept, left = other.take(*once("kept")), silent.take(*once("left"))
    for study, held in ((other, kept), (silent, left)):
        hand_over(study, held, place="elsewhere")
    study = join(stale_after=3.0)
    until = time.monotonic() + 60
    while states(study) != [RUNNING, LOST] and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(3.5)
    assert states(study) == [RUNNING, LOST]
    assert kept.holds()
    assert not left.holds()
    # the process was held up, not dead: its result comes too late
    assert not left.finish({"row": 1}, 0.5)
    left.release()
    assert states(study) == [RUNNING, LOST]
    kept.release()


def test_beats_are_told(join):
    told = []
    held = join(beat=0.01, on_beat=lambda: told.append(1)).take(*once("run"))
    until = time.monotonic() + 10
    while not told and time.monotonic() < until:
        time.sleep(0.01)
    held.release()
    assert told


def test_many_processes_race_for_each_piece(join, tmp_path):
    code = """
import sys, time
from pathlib import Path
from recbole_slif.sharing.address import Address
from recbole_slif.sharing.study import FINISHED, RUNNING, Piece, SharedStudy
folder, at, journal, place, name = Path(sys.argv[1]), *sys.argv[2:]
(folder / f"ready-{at}").touch()
while not (folder / "go").exists():
    time.sleep(0.001)
study = SharedStudy(Address(journal == "True", place), name)
won = []
for number in range(12):
    key = str(number)
    held = study.take(Piece(key), lambda one: one.key == key and one.state in (RUNNING, FINISHED))
    if held is not None:
        won.append(str(number))
print(",".join(won), flush=True)
sys.stdin.read()
"""
    study = join()
    words = [str(study.address.journal), study.address.place, study.name]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(at), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for at in range(2)
    ]
    try:
        while len(list(tmp_path.glob("ready-*"))) < len(running):
            time.sleep(0.05)
        (tmp_path / "go").touch()
        won = [name for process in running for name in process.stdout.readline().strip().split(",")]
        won = [name for name in won if name]
        assert sorted(won, key=int) == [str(number) for number in range(12)]
        assert sum(one.state == RUNNING for one in study.attempts()) == 12
    finally:
        for process in running:
            process.stdin.close()
            process.wait()


def test_notes_and_other_studies(join):
    mine, theirs = join(), join()
    mine.note("identity", {"a": [1, 2.5, "x"]})
    assert theirs.notes()["identity"] == {"a": [1, 2.5, "x"]}
    assert mine.name in theirs.names()
    assert theirs.notes(mine.name) == mine.notes()


def test_storage_that_is_away_for_a_while_is_waited_for(tmp_path, monkeypatch):
    import optuna

    study = SharedStudy(address("sqlite", tmp_path), "toy")
    held = study.take(*once("run"))
    real, waited = study.storage.set_trial_state_values, []

    def away(*values):
        if len(waited) < tries:
            raise optuna.exceptions.StorageInternalError("the server closed the connection")
        return real(*values)

    monkeypatch.setattr(module.time, "sleep", waited.append)
    monkeypatch.setattr(study.storage, "set_trial_state_values", away)
    tries = 100
    with pytest.raises(SlifError, match=r"shared\.db' cannot be used: the server closed"):
        held.finish({}, 0.5)
    assert sum(waited) > 60
    del waited[:]
    tries = 3
    assert held.finish({}, 0.5)
    assert len(waited) == 3


def test_damaged_journal_is_named(tmp_path):
    place = address("journal", tmp_path)
    study = SharedStudy(place, "toy")
    study.note("a", 1)
    with open(place.place, "a") as stream:
        stream.write('{"torn\n{"op_code": 1}\n')
    with pytest.raises(SlifError, match=r"shared\.journal' cannot be used"):
        study.attempts()

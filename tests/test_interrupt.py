"""Signals outside of a batch: while data are read, while a model is built, in other commands."""

import os
import signal
from pathlib import Path

import pytest

from recbole_slif import cli, console, factory
from recbole_slif.interrupt import TerminatedError, sigterm_raised
from recbole_slif.records import read_record
from tests.running import settings

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    """Work in a folder, and hear Ctrl-C even where a shell started the tests in the background."""
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def words(tmp_path, **changes):
    chosen = settings(tmp_path, data_path="data", checkpoint_dir="saved", **changes)
    return ["--model=BPR", "--dataset=toy", *(f"--{key}={chosen[key]}" for key in chosen)]


def signalled(monkeypatch, owner, name, number):
    """Let a function send this process a signal before it does anything."""
    original = getattr(owner, name)

    def planted(*args, **options):
        os.kill(os.getpid(), number)
        return original(*args, **options)

    monkeypatch.setattr(owner, name, planted)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", ["load_data", "build_model"])
def test_a_run_stopped_before_its_first_batch_says_so(
    tmp_path, monkeypatch, capsys, moment, number
):
    line = words(tmp_path)
    handlers = [signal.getsignal(one) for one in SIGNALS]
    signalled(monkeypatch, factory, moment, number)
    assert cli.main(line) == console.EXIT_STOPPED
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"stopped by {number.name}; no epoch was finished, nothing is kept"
    assert [signal.getsignal(one) for one in SIGNALS] == handlers


@pytest.mark.parametrize("number", SIGNALS)
def test_a_resumed_run_stopped_while_data_are_read_can_be_resumed(
    tmp_path, monkeypatch, capsys, number
):
    line = words(tmp_path, epochs=1)
    assert cli.main(line) == 0
    (folder,) = {path.parent for path in Path("saved").glob("*/last.pt")}
    with monkeypatch.context() as patched:
        signalled(patched, factory, "load_data", number)
        assert cli.main([f"--resume={folder}", "--epochs=2"]) == console.EXIT_STOPPED
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"stopped by {number.name}; go on with --resume={folder}"
    assert cli.main([said.partition("with ")[2], "--epochs=2"]) == 0
    record = read_record(Path("saved/runs") / f"{folder.name}.json")
    assert len(record["epochs"]) == 2


def test_the_second_signal_stops_inside_a_batch_and_names_the_way_on(tmp_path, monkeypatch, capsys):
    from recbole_slif.model.general.bpr import BPR

    counted, calls = BPR.calculate_loss, []

    def impatient(self, interaction):
        calls.append(len(interaction))
        if len(calls) == 8:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("the batch went on")
        return counted(self, interaction)

    monkeypatch.setattr(BPR, "calculate_loss", impatient)
    assert cli.main(words(tmp_path, epochs=50, train_batch_size=64)) == console.EXIT_STOPPED
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("stopped by SIGINT; ")
    assert "--resume=" in said
    (record,) = Path("saved/runs").iterdir()
    assert read_record(record)["status"] == "interrupted"


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_that_trains_nothing_ends_with_one_line(capsys, number):
    def action(given):
        os.kill(os.getpid(), number)
        raise AssertionError("went on")

    assert console.guarded(action, []) == console.EXIT_STOPPED
    assert capsys.readouterr().err == f"stopped by {number.name}\n"


def test_sigterm_raises_within_the_block_alone():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TerminatedError), sigterm_raised():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before

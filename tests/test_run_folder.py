"""A run folder is one process's at a time; a run can go on although one file is damaged."""

import logging
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from recbole_slif import checkpoint, quick_start, stages
from recbole_slif.checkpoint import Checkpoint
from recbole_slif.errors import CheckpointError, ConfigError
from recbole_slif.interrupt import TrainingStoppedError
from recbole_slif.records import read_record
from recbole_slif.run_folder import RunFolder, folder_of, keep_previous, load_last
from recbole_slif.trainer import PhaseTrainer
from tests.running import build, settings


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(folder, epochs, model="BPR", **changes):
    chosen = settings(folder, epochs=epochs, stopping_step=50, **changes)
    return quick_start.run(model, "toy", None, chosen, verbose=False)


def ends(result):
    """What must be equal about two runs."""
    history = read_record(result.record)["epochs"]
    losses = [entry["loss"] for entry in history]
    state = checkpoint.load(result.folder / "last.pt").state["model"]["parameters"]
    return losses, result.valid, result.test, {key: value.tolist() for key, value in state.items()}


def flip(path):
    """Change one bit of the header's text, which is JSON as before."""
    content = bytearray(path.read_bytes())
    content[content.index(b'"epoch"') + 1] ^= 1
    path.write_bytes(content)


# ---- one process at a time -------------------------------------------------------------------


def test_a_run_that_another_process_is_at_is_refused_and_free_after_its_kill(tmp_path):
    folder = tmp_path / "run"
    code = (
        "import sys, time, pathlib\n"
        "from recbole_slif.run_folder import RunFolder\n"
        "place = pathlib.Path(sys.argv[1])\n"
        "held = RunFolder(place, place).take()\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = {**os.environ, "PYTHONPATH": root}
    words = [sys.executable, "-c", code, str(folder)]
    other = subprocess.Popen(words, stdout=subprocess.PIPE, env=environment)
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(CheckpointError, match=r"'.*run' is in use by another process"):
            RunFolder(folder, folder).take()
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
        other.stdout.close()
    RunFolder(folder, folder).take().release()
    assert not folder.exists()


def test_resuming_a_run_at_work_is_refused(tmp_path):
    result = train(tmp_path, 1)
    held = RunFolder(result.folder, result.record.parent).take()
    with pytest.raises(CheckpointError, match="in use by another process"):
        quick_start.resume(result.folder, {"epochs": 2}, verbose=False)
    held.release()
    quick_start.resume(result.folder, {"epochs": 2}, verbose=False)


def test_folder_that_cannot_be_made_names_the_key(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot be made \(Not a directory\); set checkpoint"):
        RunFolder(tmp_path / "file" / "run", tmp_path).take()


def test_halves_that_a_kill_left_are_removed_and_nothing_else(tmp_path):
    folder, records = tmp_path / "A-toy-1", tmp_path / "runs"
    for path in (folder / ".best.pt.x1", folder / ".last.pt.x2", folder / "last.pt",
                 records / ".A-toy-1.json.x3", records / ".A-toy-2.json.x4"):  # fmt: skip
        path.parent.mkdir(exist_ok=True)
        path.touch()
    RunFolder(folder, records).take().release()
    assert [path.name for path in folder.iterdir()] == ["last.pt"]
    assert [path.name for path in records.iterdir()] == [".A-toy-2.json.x4"]


# ---- one checkpoint in reserve ---------------------------------------------------------------


def test_previous_is_the_epoch_before(tmp_path):
    result = train(tmp_path, 3)
    epochs = [checkpoint.load(result.folder / name).header["epoch"]
              for name in ("previous.pt", "last.pt")]  # fmt: skip
    assert epochs == [1, 2]


def test_keeping_the_same_file_twice_leaves_no_third_name(tmp_path):
    (tmp_path / "last.pt").write_bytes(b"x")
    keep_previous(tmp_path)
    keep_previous(tmp_path)  # a kill came before the new last.pt
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "previous.pt"}


@pytest.mark.parametrize("damage", ["flipped", "torn", "empty"])
def test_damaged_last_epoch_is_made_again(tmp_path, caplog, damage):
    wanted = ends(train(tmp_path, 4))
    first = train(tmp_path, 3)
    path = first.folder / "last.pt"
    if damage == "flipped":
        flip(path)
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:900])
    with caplog.at_level(logging.WARNING):
        resumed = quick_start.resume(first.folder, {"epochs": 4}, verbose=False)
    assert "previous.pt', one epoch earlier" in caplog.text
    assert ends(resumed) == wanted


def test_without_a_reserve_the_damage_is_told(tmp_path):
    first = train(tmp_path, 1)
    flip(first.folder / "last.pt")
    with pytest.raises(CheckpointError, match=r"last\.pt' is .*damaged"):
        load_last(first.folder)
    (first.folder / "previous.pt").write_bytes(b"torn too")
    with pytest.raises(CheckpointError, match=r"last\.pt' is .*damaged"):
        load_last(first.folder)
    assert folder_of(first.folder / "last.pt") == folder_of(first.folder) == first.folder


def test_best_of_the_last_epoch_is_written_again_else_refused_at_once(tmp_path):
    first = train(tmp_path, 1)
    wanted = ends(quick_start.resume(first.folder, {"epochs": 3}, verbose=False))
    first = train(tmp_path, 1)
    (first.folder / "best.pt").write_bytes(b"")
    assert ends(quick_start.resume(first.folder, {"epochs": 3}, verbose=False)) == wanted
    whole = train(tmp_path, 4, learning_rate=1e-9)  # nothing after epoch 0 is better
    assert whole.best_epoch == 0
    (whole.folder / "best.pt").unlink()
    with pytest.raises(CheckpointError, match=r"best epoch so far \(0\).*start the run anew"):
        quick_start.resume(whole.folder, {"epochs": 5}, verbose=False)


def rising(monkeypatch, scores):
    """Let validation find these scores, epoch after epoch."""
    places = iter(scores)
    monkeypatch.setattr(
        PhaseTrainer, "evaluate", lambda *_, **__: {"recall@5": next(places, 0.0), "recall@3": 0.0}
    )


def epoch_of(path):
    return checkpoint.load(path).header["epoch"]


@pytest.mark.parametrize("kept", ["best.pt", "last.pt"])
def test_a_stop_between_the_two_files_leaves_the_best_epoch_its_own(tmp_path, monkeypatch, kept):
    """A write that fails stands for the kill; `kept` is written last, or not at all."""
    save = checkpoint.save

    def failing(path, content):
        if content.header["epoch"] == 2 and path.name != kept:
            raise RuntimeError("killed")
        save(path, content)

    with monkeypatch.context() as within:
        rising(within, [0.1, 0.2, 0.3])
        within.setattr(checkpoint, "save", failing)
        with pytest.raises(RuntimeError, match="killed"):
            train(tmp_path, 3)
    folder = next((tmp_path / "saved").glob("BPR-toy-*"))
    done = epoch_of(folder / "last.pt") + 1
    resumed = quick_start.resume(folder, {"epochs": done}, verbose=False)
    assert resumed.best_epoch == done - 1 == epoch_of(folder / "best.pt")
    assert resumed.valid["recall@5"] == [0.1, 0.2, 0.3][done - 1]


def test_a_best_of_an_epoch_that_does_not_come_again_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as within:
        rising(within, [0.3, 0.2, 0.1, 0.4])
        folder = train(tmp_path, 4).folder
    shutil.copy(folder / "previous.pt", folder / "last.pt")  # of epoch 2, whose best is 0
    with pytest.raises(CheckpointError, match=r"best.pt' is of epoch 3, not 0; the best epoch"):
        quick_start.resume(folder, {"epochs": 3}, verbose=False)
    assert quick_start.resume(folder, {"epochs": 4}, verbose=False).status == "finished"


def test_seconds_of_a_resumed_run_count_its_earlier_epochs(tmp_path):
    path = train(tmp_path, 2).folder / "last.pt"
    kept = checkpoint.load(path)
    for epoch in kept.state["history"]:
        epoch["seconds"] = {"train": 500.0, "evaluate": 100.0}
    checkpoint.save(path, kept)
    done = quick_start.resume(path.parent, {"epochs": 3}, verbose=False)
    assert 1200 < done.seconds < 1700
    assert read_record(done.record)["seconds"] == done.seconds


def test_damaged_best_names_the_file_that_can_be_used(tmp_path):
    result = train(tmp_path, 1)
    flip(result.folder / "best.pt")
    with pytest.raises(CheckpointError, match=r"best\.pt.*last epoch is in '.*last\.pt'"):
        checkpoint.load_model(result.folder)
    checkpoint.load_model(result.folder / "last.pt")


def test_each_flipped_bit_is_found_or_carries_nothing(tmp_path):
    path = tmp_path / "x.pt"
    weights = torch.arange(40.0)
    checkpoint.save(path, Checkpoint({"epoch": 1}, {"weights": weights}))
    whole, refused = path.read_bytes(), 0
    for at in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        try:
            found = checkpoint.load(path)
        except CheckpointError:
            refused += 1
        else:
            assert found.header["epoch"] == 1
            assert torch.equal(found.state["weights"], weights)
    assert refused > 50


# ---- stopping, and what is left behind --------------------------------------------------------


@pytest.mark.parametrize("moment", ["the test", "the last batch"])
def test_signals_outside_the_batches_say_how_to_go_on(tmp_path, monkeypatch, moment):
    wanted = ends(train(tmp_path, 2))
    owner = stages.trainer_class.__globals__["SlifTrainer"]
    name = "evaluate" if moment == "the test" else "_finish_epoch"
    original = getattr(owner, name)

    def signalled(self, *args, **options):
        if self.epochs_done == (2 if moment == "the test" else 1):
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, signalled)
        with pytest.raises(TrainingStoppedError, match=r"SIGTERM; 2 epochs are.*--resume=") as stop:
            train(tmp_path, 2)
    folder = str(stop.value).partition("--resume=")[2]
    assert ends(quick_start.resume(folder, verbose=False)) == wanted


def test_write_that_fails_says_what_is_kept(tmp_path, monkeypatch):
    save = checkpoint.save
    written = []

    def full(path, content):
        written.append(path)
        if len(written) > 3:
            raise CheckpointError("no room")
        save(path, content)

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(CheckpointError, match=r"no room; 2 epochs are kept.*--resume="):
        train(tmp_path, 4)


def test_failed_record_does_not_hide_the_reason(tmp_path, monkeypatch):
    def full(path, content):
        raise CheckpointError("the checkpoint had no room")

    def unwritable(self):
        raise ConfigError("the record had none either")

    monkeypatch.setattr(checkpoint, "save", full)
    write = stages.RunRecord.write
    monkeypatch.setattr(stages.RunRecord, "write",
                        lambda self: unwritable(self) if self.content["status"] == "failed"
                        else write(self))  # fmt: skip
    with pytest.raises(CheckpointError, match="the checkpoint had no room"):
        train(tmp_path, 1)


def test_a_run_closes_its_log(tmp_path):
    before = list(logging.getLogger().handlers)
    quick_start.run("BPR", "toy", None, settings(tmp_path, epochs=1, state="ERROR"))
    assert logging.getLogger().handlers == before


def test_loading_processes_change_no_batch(tmp_path):
    found = []
    for worker in (0, 2):
        _, _, bundle = build(tmp_path, "KGAT", worker=worker)
        loader = bundle.train_data
        epochs = [[batch["neg_item_id"].tolist() for batch in loader] for _ in range(2)]
        assert epochs[0] != epochs[1]
        found.append(epochs)
    assert found[0] == found[1]

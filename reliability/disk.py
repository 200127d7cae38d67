"""Disks that fill up or cannot be written, files damaged or gone, two runs in one folder."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from recbole_slif import checkpoint
from recbole_slif.console import EXIT_USAGE
from recbole_slif.errors import CheckpointError
from recbole_slif.testing.toy import MODALITIES
from reliability import runs
from reliability.forks import Child, Ended, run_child
from reliability.frame import Case, Setting
from reliability.kills import Ground
from reliability.mounts import resize, set_writable, small_disk
from reliability.plants import Plant

_PLENTY = 65536  # KiB


def cases(setting: Setting) -> Iterator[Case]:
    """Yield every kind of trouble in turn, each with another model."""
    ground = Ground(setting.folder)
    kinds = list(TROUBLES)
    for number in range(setting.cases):
        kind = kinds[number % len(kinds)]
        turn = number + number // len(kinds)  # each round meets the models shifted by one
        model = setting.models[turn % len(setting.models)]
        rng = np.random.default_rng([setting.seed, 3, number])
        run = partial(TROUBLES[kind], ground, ground.place(number), model, rng)
        yield Case(f"#{number} {model}: {kind}", run)


def _require_line(ended: Ended, *wanted: str) -> str:
    """Return the one line that a refused command printed; it must hold the words.

    Raises:
        AssertionError: there is a traceback, no line, or a line that says something else.
    """
    lines = [line for line in ended.err.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("error: ")]
    if ended.status != EXIT_USAGE or len(said) != 1 or "Traceback" in ended.err:
        raise AssertionError(f"ended with {ended.status}, said '{ended.err[-500:]}'")
    for word in wanted:
        if word not in said[0]:
            raise AssertionError(f"'{word}' is not in '{said[0]}'")
    return said[0]


def _kept(place: Path) -> Path:
    """Return the only run folder below `place`; its last good checkpoint must load.

    Raises:
        AssertionError: there is none.
    """
    folders = [folder for folder in runs.run_folders(place / "saved") if any(folder.glob("l*.pt"))]
    if len(folders) != 1:
        raise AssertionError(f"{len(folders)} run folders with a checkpoint")
    checkpoint.load(folders[0] / "last.pt")
    return folders[0]


def _go_on(
    ground: Ground,
    place: Path,
    model: str,
    folder: Path,
    warned: str = "",
    but: str | None = None,
) -> None:
    """Resume in `folder` and require the end of the untouched run, `but` for an entry."""
    line = [f"--resume={folder.relative_to(place)}", "--state=WARNING"]
    found = run_child(partial(runs.trained, line), place, ground.notes)
    found.require_status(what="did not go on, ended")
    if warned not in found.err + found.out:
        raise AssertionError(f"'{warned}' was not said: '{found.err[-300:]}'")
    wanted = ground.reference(model).answer["outcome"]
    found.answer["outcome"]["record"]["config"]["state"] = wanted["record"]["config"]["state"]
    if but is not None:
        found.answer["outcome"]["record"][but] = wanted["record"][but]
    runs.require_equal(found.answer["outcome"], wanted)


def _stopped(ground: Ground, place: Path, model: str, epochs: int = 2) -> Path:
    """Train some epochs of a run that is to have more, and kill it; return its folder."""
    child = run_child(
        partial(_killed_after, epochs, ground.line(model)), place, ground.notes
    )  # fmt: skip
    child.require_status(-signal.SIGKILL)
    return _kept(place)


def _killed_after(epochs: int, line: list[str]) -> None:
    from recbole_slif.epochs import EpochMixin

    finish = EpochMixin._finish_epoch

    def stop(trainer: EpochMixin, epoch: int) -> None:
        finish(trainer, epoch)
        if epoch + 1 == epochs:
            os.kill(os.getpid(), signal.SIGKILL)

    EpochMixin._finish_epoch = stop  # type: ignore[method-assign, assignment]
    runs.command(line)


def full_disk(ground: Ground, place: Path, model: str, rng: np.random.Generator) -> None:
    """The disk with the checkpoints is full at some write; room is made; the run goes on."""
    with small_disk(place / "saved", _PLENTY):
        folder = _stopped(ground, place, model, epochs=1)
        used = sum(path.stat().st_blocks for path in (place / "saved").rglob("*")) // 2
        resize(place / "saved", used + int(rng.integers(1, 48)))
        line = [f"--resume={folder.relative_to(place)}"]
        ended = run_child(partial(runs.command, line), place, ground.notes)
        if ended.status != 0:
            _require_line(ended, "No space left on device", str(folder.relative_to(place)))
        resize(place / "saved", _PLENTY)
        if _kept(place) != folder:
            raise AssertionError("the run went on in another folder")
        _go_on(ground, place, model, folder)


def everything_full(ground: Ground, place: Path, model: str, rng: np.random.Generator) -> None:
    """Everything the run writes, logs too, lies on a disk with no room from the start."""
    with small_disk(place, int(rng.integers(8, 40))):
        ended = run_child(partial(runs.command, ground.line(model)), place, ground.notes)
        _require_line(ended, "No space left on device")
        resize(place, _PLENTY)
        again = run_child(partial(runs.trained, ground.line(model)), place, ground.notes)
        runs.require_equal(again.answer["outcome"], ground.reference(model).answer["outcome"])


def no_space_at(ground: Ground, place: Path, model: str, rng: np.random.Generator) -> None:
    """The system refuses a write at any call inside any save."""
    calls = ground.reference(model).answer["calls"]["save"]
    at = 1 + int(rng.integers(calls // 4, calls * 0.97))
    action = partial(_refused_write, at, ground.line(model))
    ended = run_child(action, place, ground.notes)
    if ended.status == 0:  # what was refused was being written to make sure, and was not needed
        folder = _kept(place)
    else:
        said = _require_line(ended, "No space left on device")
        kept = [path for path in runs.run_folders(place / "saved") if (path / "last.pt").exists()]
        if not kept:
            return
        folder = _kept(place)
        if "checkpoint" in said and f"--resume={folder.relative_to(place)}" not in said:
            raise AssertionError(f"does not say how to go on: '{said}'")
    _go_on(ground, place, model, folder)


def _refused_write(at: int, line: list[str]) -> dict[str, int]:
    def refuse() -> None:
        raise OSError(28, "No space left on device")

    Plant("save", at, refuse).set()
    return runs.command(line)


def read_only(ground: Ground, place: Path, model: str, rng: np.random.Generator) -> None:
    """The disk turns read-only between two parts of a run, and back."""
    with small_disk(place / "saved", _PLENTY):
        folder = _stopped(ground, place, model, 1 + int(rng.integers(2)))
        set_writable(place / "saved", False)
        line = [f"--resume={folder.relative_to(place)}"]
        ended = run_child(partial(runs.command, line), place, ground.notes)
        _require_line(ended, "Read-only file system", "saved")
        fresh = run_child(partial(runs.command, ground.line(model)), place, ground.notes)
        _require_line(fresh, "Read-only file system", "checkpoint_dir")
        set_writable(place / "saved", True)
        _go_on(ground, place, model, folder)


def _damaged(
    change: Callable[[bytes, np.random.Generator], bytes],
    ground: Ground,
    place: Path,
    model: str,
    rng: np.random.Generator,
) -> None:
    """Damage last.pt of a stopped run: it goes on from the epoch before, and says so."""
    folder = _stopped(ground, place, model, 2)
    path = folder / "last.pt"
    wanted = runs.tensor_digests(path)
    path.write_bytes(change(path.read_bytes(), rng))
    try:
        found = runs.tensor_digests(path)
    except CheckpointError:
        _go_on(ground, place, model, folder, "going on from")
    else:  # a byte that carries nothing
        runs.require_equal(found, wanted)


def _torn(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(1, len(content)))]


def _emptied(content: bytes, rng: np.random.Generator) -> bytes:
    return b""


def _flipped(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def damaged_best(ground: Ground, place: Path, model: str, rng: np.random.Generator) -> None:
    """Damage best.pt: lists name the file to use; resuming mends it or says it cannot."""
    folder = _stopped(ground, place, model, 2)
    path = folder / "best.pt"
    change = (_torn, _emptied, _flipped)[int(rng.integers(3))]
    wanted = runs.tensor_digests(path)
    path.write_bytes(change(path.read_bytes(), rng))
    try:
        runs.require_equal(runs.tensor_digests(path), wanted)
        return
    except CheckpointError:
        pass
    line = ["recommend", "--users=all", f"--checkpoint={folder.relative_to(place)}"]
    asked = run_child(partial(runs.command, line), place, ground.notes)
    _require_line(asked, "best.pt", "last.pt")
    named = run_child(partial(runs.command, [*line[:2], f"{line[2]}/last.pt"]), place,
                      ground.notes)  # fmt: skip
    if named.status != 0:
        raise AssertionError(f"last.pt is of no use: {named.err[-300:]}")
    found = run_child(
        partial(runs.command, [f"--resume={folder.relative_to(place)}"]), place, ground.notes
    )
    if found.status != 0:
        _require_line(found, "best.pt", "start the run anew", "last.pt")
    else:
        _go_on(ground, place, model, folder)


def vanished(ground: Ground, place: Path, model: str, rng: np.random.Generator) -> None:
    """A file of the data is gone, or another, when the run is to go on; it comes back."""
    data = place / "data"
    shutil.copytree(ground.data, data)
    line = [word for word in ground.line(model) if not word.startswith("--data_path")]
    line.append(f"--data_path={data}")
    child = run_child(partial(_killed_after, 2, line), place, ground.notes)
    child.require_status(-signal.SIGKILL)
    folder = _kept(place)
    names = [f"{modality}.npy" for modality in MODALITIES]
    names += [f"{modality}.ids" for modality in MODALITIES] + ["kg", "link", "train.inter"]
    gone = data / runs.DATASET / f"{runs.DATASET}.{names[int(rng.integers(len(names)))]}"
    aside = gone.with_name("aside")
    gone.rename(aside)
    resume = [f"--resume={folder.relative_to(place)}"]
    ended = run_child(partial(runs.command, resume), place, ground.notes)
    but: str | None = "statistics"  # what a model that reads no such file finds in the data now
    if ended.status != 0:
        stem, but = ".".join(gone.name.split(".")[:2]), None
        said = _require_line(ended)
        if stem not in said and "features" not in said and "graph" not in said:
            raise AssertionError(f"does not name {gone.name}: '{said}'")
        aside.rename(gone)
    _go_on(ground, place, model, folder, but=but)


def two_at_once(ground: Ground, place: Path, model: str, rng: np.random.Generator) -> None:
    """Two runs share the folder of checkpoints; a third that resumes the first is refused."""
    notes = [ground.notes / name for name in ("first", "second")]
    first = Child(partial(runs.trained, ground.line(model)), place, notes[0])
    until = time.monotonic() + 60
    while not list(place.glob("saved/*/last.pt")) and time.monotonic() < until:
        time.sleep(0.005)
    (last,) = place.glob("saved/*/last.pt")
    first.kill(signal.SIGSTOP)
    try:
        resume = [f"--resume={last.parent.relative_to(place)}"]
        refused = run_child(partial(runs.command, resume), place, ground.notes)
        second = Child(partial(runs.trained, ground.line(model)), place, notes[1])
        other = second.wait()
    finally:
        first.kill(signal.SIGCONT)
        ended = first.wait()
    _require_line(refused, "in use by another process", last.parent.name)
    wanted = ground.reference(model).answer["outcome"]
    runs.require_equal(other.answer["outcome"], wanted)
    if ended.status != 0:
        raise AssertionError(f"the first run was disturbed: {ended.err[-300:]}")
    _go_on(ground, place, model, last.parent)


TROUBLES: Mapping[str, Callable[[Ground, Path, str, np.random.Generator], None]] = {
    "disk of checkpoints full": full_disk,
    "whole disk full": everything_full,
    "a write refused": no_space_at,
    "disk turned read-only": read_only,
    "last.pt torn": partial(_damaged, _torn),
    "last.pt empty": partial(_damaged, _emptied),
    "last.pt with a flipped bit": partial(_damaged, _flipped),
    "best.pt damaged": damaged_best,
    "a data file vanished": vanished,
    "two runs in one folder": two_at_once,
}

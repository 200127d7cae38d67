"""Several processes that train one model: who they are, and what they say to one another.

`torchrun` starts the processes and describes them in the environment. Here they meet at its store,
connect (gloo on the CPU, nccl between GPUs), sum tensors, and end together: what stops one of them
stops all, with one message. Without `torchrun` there is one process, and nothing here costs it
anything.
"""

from __future__ import annotations

import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from recbole_slif.errors import CheckpointError, ConfigError, SlifError
from recbole_slif.interrupt import InterruptGuard, TrainingStoppedError

_ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_FINE, _FAILED, _SIGNAL = 0, 1, 100
_Result = TypeVar("_Result")

# The two threads of gloo may still hold what was summed last when the group is undone. Were it
# gone in Python, they would need the interpreter to free it, which the thread that undoes the group
# and waits for them does not give away in torch 2.5: both would wait for ever.
_summed_last: deque[Tensor] = deque(maxlen=2)


class PeerError(SlifError):
    """Another process of the run failed."""


@dataclass
class _Meeting:
    """The processes of this run.

    Attributes:
        rank: this one's number, from 0.
        size: how many there are.
        store: keys and texts that all of them see.
        visible_gpus: `CUDA_VISIBLE_DEVICES` as the user set it.
        words: how often a text was handed round.
        connections: how often the processes connected.
    """

    rank: int
    size: int
    store: Any
    visible_gpus: str | None
    words: int = 0
    connections: int = 0


_meeting: _Meeting | None = None


def started_together() -> bool:
    """Tell whether the environment says that this is one of several processes."""
    return all(os.environ.get(name) for name in _ENVIRONMENT) and _number("WORLD_SIZE") > 1


def _number(name: str) -> int:
    try:
        return int(os.environ[name])
    except ValueError:
        raise ConfigError(
            f"environment: {name} is '{os.environ[name]}', not a number; let torchrun set it"
        ) from None


def begin() -> None:
    """Meet the other processes, if there are any; only the first of them logs from here on.

    Raises:
        ConfigError: the environment is not what torchrun makes, or the others cannot be reached.
    """
    global _meeting
    if _meeting is not None or not started_together():
        return
    if not dist.is_available():
        raise ConfigError("this build of torch has no torch.distributed: start without torchrun")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        store, rank, size = next(dist.rendezvous("env://"))
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"the processes of the run do not find one another: {reason}") from error
    _meeting = _Meeting(rank, size, dist.PrefixStore("recbole_slif", store), visible)
    if rank:
        logging.disable(logging.WARNING)


def rank() -> int:
    """Return this process's number, from 0."""
    return 0 if _meeting is None else _meeting.rank


def world_size() -> int:
    """Return the number of processes."""
    return 1 if _meeting is None else _meeting.size


def leads() -> bool:
    """Tell whether this process is the one that logs and writes."""
    return rank() == 0


def may_speak() -> bool:
    """Tell whether this process is the first with something to say on its way out."""
    if _meeting is None:
        return True
    try:
        return _meeting.store.add("spoken", 1) == 1
    except RuntimeError:  # the store went with the process that held it
        return True


def require_one(what: str) -> None:
    """Refuse to do in several processes what only one can do.

    Raises:
        ConfigError: there are several.
    """
    if started_together():
        raise ConfigError(
            f"{what} runs in one process: start it without torchrun; several processes "
            "train one model (run --model=NAME, or --resume=FOLDER)"
        )


@cache
def _gpu_count() -> int:
    return torch.cuda.device_count()


@contextmanager
def own_gpu(settings: dict[str, Any], chosen: bool) -> Iterator[None]:
    """Within `with`, let `gpu_id` name the GPUs of this process: of several, one for each.

    Args:
        settings: `gpu_id` is a text parted by commas, a number or a tuple; `use_gpu` is read.
        chosen: the user named the GPUs. Otherwise `CUDA_VISIBLE_DEVICES` does, as it was set
            outside, else several processes take all that are there.

    Raises:
        ConfigError: there are more processes on this machine than GPUs.
    """
    several = _meeting is not None
    visible = _meeting.visible_gpus if _meeting else os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible and not chosen:
        settings["gpu_id"], chosen = visible, True  # a scheduler's choice, not to be undone
    named = settings["gpu_id"]
    if several and settings["use_gpu"]:
        settings["gpu_id"] = _one_of(named, chosen)
    yield
    if several:
        settings["gpu_id"] = ",".join(map(str, named)) if isinstance(named, tuple) else str(named)


def _one_of(gpu_id: Any, chosen: bool) -> str:
    """Return the GPU of this process, or an empty text for the CPU."""
    parts = gpu_id if isinstance(gpu_id, tuple) else str(gpu_id).split(",")
    ids = [str(part).strip() for part in parts if str(part).strip()]
    if not ids or not _gpu_count():
        return ""
    ids = ids if chosen else [str(number) for number in range(_gpu_count())]
    place = int(os.environ.get("LOCAL_RANK", rank()))
    needed = int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))
    if len(ids) < needed:
        raise ConfigError(
            f"gpu_id: {needed} processes on this machine need as many GPUs, but there is "
            f"{','.join(ids)} alone; name more (--gpu_id=0,1), start fewer processes, or take the "
            "CPU (--gpu_id='')"
        )
    return ids[place]


def connect(device: torch.device) -> None:
    """Connect the processes for a run on `device`; does nothing for a single one.

    Raises:
        PeerError: another process is gone.
    """
    if _meeting is None or dist.is_initialized():
        return
    _meeting.connections += 1
    store = dist.PrefixStore(f"run-{_meeting.connections}", _meeting.store)
    # what the processes agree on lies in memory; only gradients lie on the GPUs
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, store=store, rank=rank(), world_size=world_size())
    except RuntimeError as error:
        raise _lost(error) from error


def disconnect() -> None:
    """Undo `connect`."""
    if _meeting is not None and dist.is_initialized():
        dist.destroy_process_group()
        _summed_last.clear()


def _lost(error: Exception) -> PeerError:
    reason = " ".join(str(error).split())[:200]
    return PeerError(f"another process of this run has ended, killed or failed ({reason})")


def total(tensor: Tensor, operation: Any = None) -> Tensor:
    """Sum a tensor over all processes, in place, or join it by another operation.

    Args:
        tensor: of the same shape and type in each process.
        operation: one of `torch.distributed.ReduceOp`; None sums.

    Raises:
        PeerError: another process is gone.
    """
    _summed_last.append(tensor)
    try:
        dist.all_reduce(tensor, op=dist.ReduceOp.SUM if operation is None else operation)
    except RuntimeError as error:
        raise _lost(error) from error
    return tensor


def hand_round(text: str) -> str:
    """Return the first process's text in every process.

    Raises:
        PeerError: the first process is gone.
    """
    if _meeting is None:
        return text
    _meeting.words += 1
    key = f"word-{_meeting.words}"
    try:
        if leads():
            _meeting.store.set(key, text)
        return _meeting.store.get(key).decode()
    except RuntimeError as error:
        raise _lost(error) from error


def together(action: Callable[[], _Result], guard: InterruptGuard | None = None) -> _Result:
    """Do something in each process and go on only if all of them can.

    Args:
        action: what to do; it may differ between processes, but must not talk to the others.
        guard: knows whether a signal has come, after which all are to stop.

    Raises:
        TrainingStoppedError: a signal has come to one of the processes.
        PeerError: another process failed; the text is that process's.
        Exception: whatever `action` raised here.
    """
    own: Exception | None = None
    try:
        result = action()
    except Exception as error:
        own = error
        _confess(error)
    state = _FINE if own is None else _FAILED
    if guard is not None and guard.received is not None:
        state = _SIGNAL + guard.received
    worst = int(total(torch.tensor([state]), dist.ReduceOp.MAX).item())
    if own is not None:
        raise own
    if worst >= _SIGNAL:
        raise TrainingStoppedError(f"stopped by {signal.Signals(worst - _SIGNAL).name}")
    if worst == _FAILED:
        raise PeerError(_confession())
    return result


def _confess(error: Exception) -> None:
    """Leave a failure's text where the others find it."""
    text = str(error) if isinstance(error, SlifError) else f"{type(error).__name__}: {error}"
    if _meeting is not None:
        _meeting.store.set("failure", f"process {rank()}: {' '.join(text.split())}")


def _confession() -> str:
    return "" if _meeting is None else _meeting.store.get("failure").decode()


def description(config: Any) -> dict[str, int]:
    """Return how many processes train, and how many training pairs they take a step together."""
    size = world_size()
    return {"world_size": size, "global_batch": size * int(config["train_batch_size"])}


def require_same_batch(path: Path | str, header: Mapping[str, Any], config: Any) -> None:
    """Check that a run goes on with the steps it began with.

    Another number of processes is fine where together they take as many pairs a step as before;
    a batch that is changed on purpose, with as many processes, is the user's choice.

    Raises:
        CheckpointError: the steps would silently become larger or smaller.
    """
    here = description(config)
    saved = header.get("processes")
    if saved is None:
        batch = header["config"].get("train_batch_size", config["train_batch_size"])
        saved = {"world_size": 1, "global_batch": batch}
    if here["world_size"] == saved["world_size"] or here["global_batch"] == saved["global_batch"]:
        return
    each, rest = divmod(saved["global_batch"], here["world_size"])
    way = f"go on with {_counted(saved['world_size'])}"
    if not rest:
        way += f", or with {here['world_size']} and --train_batch_size={each}"
    raise CheckpointError(
        f"checkpoint '{path}' was trained with {saved['global_batch']} pairs a step by "
        f"{_counted(saved['world_size'])}, here {_counted(here['world_size'])} would take "
        f"{here['global_batch']}: {way}"
    )


def _counted(number: int) -> str:
    return f"{number} process" + "es" * (number != 1)

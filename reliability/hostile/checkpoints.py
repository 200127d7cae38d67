"""Attacks by checkpoints: pickles, archives, headers that name code, sizes without end."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from recbole_slif import checkpoint
from recbole_slif.checkpoint import Checkpoint
from reliability.hostile.arena import Arena, Attack, refused, turned_away

MIB = 1 << 20
GiB = 1 << 30


def _loaded(make: Callable[[Arena], Any], **options: Any) -> Callable[[Arena], None]:
    """Attack by what `torch.save` writes of an object."""

    def run(arena: Arena) -> None:
        torch.save(make(arena), "last.pt", **options)
        refused(lambda: checkpoint.load("last.pt"), "last.pt")

    return run


def _raw_pickle(arena: Arena) -> None:
    Path("last.pt").write_bytes(pickle.dumps({"header": arena.bomb}))
    refused(lambda: checkpoint.load("last.pt"), "last.pt")
    turned_away(["--resume=last.pt"], "last.pt")
    turned_away(["recommend", "--checkpoint=last.pt", "--users=all"], "last.pt")


def _headed(**entries: Any) -> bytes:
    """Return a checkpoint whose header holds these entries."""
    header = {"format": checkpoint.FORMAT, "schema": checkpoint.SCHEMA, "state": {"$items": []}}
    stream = io.BytesIO()
    torch.save({"header": json.dumps({**header, **entries}), "tensors": {}}, stream)
    return stream.getvalue()


def _header(**entries: Any) -> Callable[[Arena], None]:
    """Attack by a header that is refused on reading."""

    def run(arena: Arena) -> None:
        Path("last.pt").write_bytes(_headed(**entries))
        refused(lambda: checkpoint.load("last.pt"), "last.pt")

    return run


def _nested(arena: Arena) -> None:
    header = '{"format": "recbole_slif", "schema": 1, "state": ' + "[" * 100_000 + "]" * 100_000
    torch.save({"header": header + "}", "tensors": {}}, "last.pt")
    refused(lambda: checkpoint.load("last.pt"), "last.pt")


def _names_code(names: Mapping[str, str]) -> Callable[[Arena], None]:
    def run(arena: Arena) -> None:
        Path("evil.py").write_text(arena.code, "utf-8")
        header = {"dataset": "toy", "config": {"data_path": "data"}, "identity": {}, **names}
        arena.data()
        checkpoint.save("x.pt", Checkpoint(header))
        refused(lambda: checkpoint.load_model("x.pt"))
        turned_away(["--resume=x.pt"])

    return run


def _climbing_data(arena: Arena) -> None:
    config = {"data_path": "../../../../../../etc", "checkpoint_dir": str(arena.canary)}
    header = {"model": "BPR", "class": "BPR", "dataset": "../../passwd", "identity": {}}
    checkpoint.save("x.pt", Checkpoint({**header, "config": config}))
    refused(lambda: checkpoint.load_model("x.pt"), "../../passwd")


def _packed_bomb(arena: Arena) -> None:
    """A gigabyte of zeros in a file of a megabyte, in the layout of `torch.save`."""
    sound = io.BytesIO()
    storage = torch.zeros(GiB // 4 // 64)
    torch.save({"header": "{}", "tensors": {"w": storage}}, sound)
    with (
        zipfile.ZipFile(sound) as source,
        zipfile.ZipFile("last.pt", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target,
    ):
        for info in source.infolist():
            target.writestr(info.filename, source.read(info.filename))
    refused(lambda: checkpoint.load("last.pt"), "last.pt")


def _climbing_members(arena: Arena) -> None:
    sound = io.BytesIO()
    torch.save({"header": "{}", "tensors": {}}, sound)
    with zipfile.ZipFile(sound) as source, zipfile.ZipFile("last.pt", "w") as target:
        for info in source.infolist():
            target.writestr(info.filename, source.read(info.filename))
        target.writestr("../canary", b"written")
        target.writestr(str(arena.canary), b"written")
    refused(lambda: checkpoint.load("last.pt"), "last.pt")


def _device(arena: Arena) -> None:
    Path("last.pt").symlink_to("/dev/zero")
    refused(lambda: checkpoint.load("last.pt"), "last.pt")


def _recboles_own(arena: Arena) -> None:
    torch.save({"config": arena.bomb, "state_dict": {}, "epoch": 1}, "BPR.pth")
    line = turned_away(["recommend", "--checkpoint=BPR.pth", "--users=all"], "BPR.pth")
    refused(lambda: checkpoint.import_recbole_checkpoint("BPR.pth", None), "BPR.pth", "trust")
    arena.data()
    turned_away(["import", "BPR.pth", *arena.words()], "BPR.pth", "--trust_pickle")
    assert "import" in line  # noqa: S101 - the message says what to do


def _pretrained(model: str, *keys: str) -> Callable[[Arena], None]:
    """Attack by a file of weights that one of RecBole's own models reads."""

    def run(arena: Arena) -> None:
        arena.data()
        torch.save({"state_dict": arena.bomb}, "weights.pth")
        words = [word for word in arena.words(model) if not word.startswith("--embedding")]
        turned_away([*words, *keys], "weights.pth")

    return run


def _teacher(arena: Arena) -> None:
    """RecBole's KD_DAGFM evaluates the name of its teacher."""
    arena.data()
    words = [word for word in arena.words("KD_DAGFM") if not word.startswith("--embedding")]
    turned_away([*words, f"--teacher={arena.call}", "--train_neg_sample_args={}"], "teacher")


ATTACKS = [
    Attack("checkpoint: an object that runs code", _loaded(lambda arena: arena.bomb)),
    Attack("checkpoint: a bomb for a header", _loaded(lambda a: {"header": a.bomb, "tensors": {}})),
    Attack(
        "checkpoint: a bomb among the tensors",
        _loaded(lambda a: {"header": "{}", "tensors": {"w": a.bomb}}),
    ),
    Attack(
        "checkpoint: torch's old format",
        _loaded(lambda arena: arena.bomb, _use_new_zipfile_serialization=False),
    ),
    Attack("checkpoint: a bare pickle", _raw_pickle),
    Attack("checkpoint: members that climb out", _climbing_members),
    Attack("checkpoint: packed zeros", _packed_bomb),
    Attack("checkpoint: a link to a device", _device),
    Attack("checkpoint: model names a module", _names_code({"model": "evil:X", "class": "evil:X"})),
    Attack("checkpoint: class names a module", _names_code({"model": "X", "class": "evil:X"})),
    Attack(
        "checkpoint: class pretends to be RecBole's",
        _names_code({"model": "X", "class": "recbole.model.x:evil"}),
    ),
    Attack("checkpoint: data set climbs out", _climbing_data),
    Attack("checkpoint: header nested 100,000 deep", _nested),
    Attack(
        "checkpoint: a sparse matrix of 10^15 rows",
        _header(
            state={
                "$items": [
                    [
                        "m",
                        {
                            "$sparse": {"row": [], "col": [], "data": []},
                            "format": "csr",
                            "shape": [10**15, 1],
                        },
                    ]
                ]
            }
        ),
    ),
    Attack(
        "checkpoint: an array of objects",
        _header(state={"$items": [["a", {"$array": "x", "dtype": "|O", "shape": [9]}]]}),
    ),
    Attack("checkpoint: RecBole's own, pickled", _recboles_own),
    Attack(
        "weights that NeuMF reads",
        _pretrained(
            "NeuMF",
            "--use_pretrain=True",
            "--mf_pretrain_path=weights.pth",
            "--mlp_pretrain_path=weights.pth",
            "--mf_embedding_size=4",
        ),
    ),
    Attack("the name of a teacher is code", _teacher),
]

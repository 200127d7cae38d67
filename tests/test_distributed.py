"""Several processes train as one does with their joint batch."""

import json
import os
import re
import subprocess
import sys
import weakref

import pytest
import torch
import torch.distributed as dist

from recbole_slif import process_group
from recbole_slif.batch_parts import BatchPart, own_rows, whole_batch
from recbole_slif.config import find_model_class
from recbole_slif.distributed import SharedTraining, require_shareable, shares_batches
from recbole_slif.errors import CheckpointError, ConfigError
from recbole_slif.model.general.lightgcn import LightGCN
from recbole_slif.registry import MODELS
from recbole_slif.testing.trial import Bench
from tests.shared_runs import ROOT, Troubled, free_port, outcome, saved_folder, start

# Of 113 train pairs the last batch of 2 * 15 holds 23, that of 2 * 14 one: process 1 has it alone.
BATCH, LONELY, N_TRAIN = 15, 14, 113
# float32 sums are made in another order: 4e-7 is seen after these epochs
CLOSE, EXACT = 3e-5, 1e-10

SLIF = {"model": "SLIFMR", "settings": {"epochs": 4, "learning_rate": 0.005, "sge_n": 3}}
LOOP = {"beta": 0.1, "gamma": 0.05, "prune_ui": 0.2, "prune_kg": 0.2, "sge_start": 1}
KGAT = {"model": "KGAT", "settings": {"layers": [8, 4], "mess_dropout": 0.1}}


def case(base, dtype="float64", block=4, batch=BATCH, **changes):
    chosen = {**base["settings"], "train_batch_size": batch, **changes}
    return {**base, "dtype": dtype, "block": block, "settings": chosen}


def plain(model, **changes):
    return case({"model": model, "settings": {}}, **changes)


SAME = {
    "positives": case(SLIF, cl_scope="positives", **LOOP),
    "single": case(SLIF, dtype="float32", cl_scope="positives", **LOOP),
    "batch": case(
        SLIF, cl_scope="batch", attn_refresh="epoch", kge_loss_weight=0.1, block=256, **LOOP
    ),
    "all": case(SLIF, batch=LONELY, cl_scope="all", reg_scope="all", **LOOP),
    "LightGCN": plain("LightGCN", batch=LONELY, epochs=4, clip_grad_norm={"max_norm": 0.002}),
    "root": plain("LightGCN", require_pow=False, reg_weight=0.01),
    "KGAT": case(KGAT, epochs=3),
    "KGAT root": case(KGAT, require_pow=False),
    "BPR": plain("BPR", train_neg_sample_args={"sample_num": 2}),
    **{name: plain(name) for name in ("NGCF", "KGIN", "KGRec")},
    **{name: plain(name, dtype="float32") for name in ("FREEDOM", "TMFUN")},
}
TROUBLE = {
    name: case({"model": "Troubled", "settings": {}}, trouble=name, epochs=3)
    for name in ("signal", "error", "nan", "drift")
}
RESUMED = {"model": "Troubled", "resume": "signal", "settings": {"epochs": 3}, "dtype": "float64"}
OTHERS = {"KGCL": plain("KGCL"), "never stopped": plain("LightGCN", epochs=3)}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The folder and the results of both processes."""
    folder = tmp_path_factory.mktemp("shared")
    cases = {**SAME, **TROUBLE, "resumed": RESUMED, **OTHERS}
    from tests.running import settings

    settings(folder)  # writes the data before two processes would
    (folder / "cases.json").write_text(json.dumps(cases))
    start(folder, 2)
    return folder, [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


def alone(folder, name, **changes):
    """Make a run of the list in this process, with the joint batch."""
    joint = 2 * SAME[name]["settings"]["train_batch_size"]
    chosen = {**SAME[name]["settings"], "train_batch_size": joint, **changes}
    return outcome(folder, {**SAME[name], "settings": chosen})


def gap(first, second):
    """Largest difference of two tensors, numbers, or trees of them, by the larger of size and 1."""
    if isinstance(first, dict):
        assert list(first) == list(second)
        return max([gap(first[key], second[key]) for key in first], default=0.0)
    if isinstance(first, list | tuple):
        assert len(first) == len(second)
        return max([gap(*pair) for pair in zip(first, second, strict=True)], default=0.0)
    first, second = (torch.as_tensor(each, dtype=torch.float64) for each in (first, second))
    assert first.shape == second.shape
    scale = max(1.0, float(second.abs().max()))
    return float((first - second).abs().max()) / scale


@pytest.mark.parametrize("name", SAME)
def test_two_processes_learn_what_one_learns_with_the_joint_batch(shared, name, monkeypatch):
    folder, ranks = shared
    monkeypatch.chdir(folder)
    one = alone(folder, name)
    assert "error" not in one and len(one["weights"]) == SAME[name]["settings"].get("epochs", 2)
    limit = CLOSE if SAME[name]["dtype"] == "float32" else EXACT
    for rank in ranks:
        two = rank[name]
        assert "error" not in two, two.get("error")
        # losses and validation metrics of each epoch, then all parameters after each
        assert gap(two["history"], one["history"]) <= limit
        assert gap(two["weights"], one["weights"]) <= limit
        assert two["best_epoch"] == one["best_epoch"]
        assert two["test"] == one["test"] and two["valid"] == one["valid"]
        assert all(torch.equal(two["users"][key], one["users"][key]) for key in one["users"])


def test_the_data_part_unevenly_and_leave_a_process_without_rows(shared):
    folder, _ = shared
    record = json.loads(next((folder / "saved/runs").glob("LightGCN*.json")).read_text())
    assert record["statistics"]["split"][0] == N_TRAIN
    assert N_TRAIN % (2 * BATCH) == 23 and N_TRAIN % (2 * LONELY) == 1


def test_one_process_writes_and_the_record_says_how_many_there_were(shared):
    folder, (first, second) = shared
    assert second["LightGCN"]["record"] is None
    assert first["LightGCN"]["folder"] == second["LightGCN"]["folder"]
    record = json.loads((folder / first["LightGCN"]["record"]).read_text())
    assert record["processes"] == {"world_size": 2, "global_batch": 2 * LONELY}
    assert record["status"] == "finished" and record["config"]["train_batch_size"] == LONELY
    assert len(list((folder / "saved/runs").glob("KGRec-*.json"))) <= 2  # this one and `alone`'s


def test_what_ends_one_process_ends_both_with_one_word(shared):
    _, (first, second) = shared
    assert first["error"]["error"] == "PeerError: process 1: ValueError: no more memory"
    assert second["error"]["error"] == "ValueError: no more memory"
    for rank in (first, second):
        assert "loss is not finite in epoch 1, batch 1" in rank["nan"]["error"]
        assert "parameters differ after epoch 1" in rank["drift"]["error"]
        assert "stopped by SIGTERM; 1 epochs are kept" in rank["signal"]["error"]


def test_a_stopped_run_goes_on_in_two_processes_or_in_one(shared, monkeypatch):
    folder, ranks = shared
    monkeypatch.chdir(folder)
    for rank in ranks:
        assert gap(rank["resumed"]["history"], rank["never stopped"]["history"]) == 0.0
        assert gap(rank["resumed"]["weights"], rank["never stopped"]["weights"][1:]) == 0.0


def test_another_number_of_processes_goes_on_with_the_same_joint_batch_only(shared, monkeypatch):
    folder, ranks = shared
    monkeypatch.chdir(folder)
    half = {**SAME["LightGCN"], "resume": saved_folder(ranks[0]["LightGCN"])}
    refused = outcome(folder, {**half, "settings": {"epochs": 6}})
    assert "with 2 processes, or with 1 and --train_batch_size=28" in refused["error"]
    assert refused["error"].startswith("CheckpointError")
    resumed = outcome(folder, {**half, "settings": {"epochs": 6, "train_batch_size": 2 * LONELY}})
    longer = alone(folder, "LightGCN", epochs=6)
    assert gap(resumed["weights"], longer["weights"][4:]) <= EXACT
    assert gap(resumed["history"], longer["history"]) <= EXACT


def test_other_models_are_refused_by_name(shared):
    for rank in shared[1]:
        assert rank["KGCL"]["error"] == (
            "ConfigError: model 'KGCL' cannot be trained by several processes, since its loss is "
            "not known to add up over parts of a batch; start it without torchrun. Those that "
            "can: SLIFMR, BPR, LightGCN, NGCF, KGAT, KGIN, KGRec, FREEDOM, TMFUN"
        )


# ---- without other processes -----------------------------------------------------------------


def test_the_first_process_alone_looks_at_the_best_file(monkeypatch):
    # it may write the file anew before another has read it, and would then wait for that one
    monkeypatch.setattr(process_group, "leads", lambda: False)
    monkeypatch.setattr(process_group, "hand_round", lambda text: text or "it is empty")
    assert SharedTraining._fault_of_best(object.__new__(SharedTraining)) == "it is empty"


def test_which_models_share_batches():
    able = {name for name, entry in MODELS.items() if shares_batches(entry.load())}
    assert able == {SAME[name]["model"] for name in SAME}
    assert not shares_batches(find_model_class("DMF")[1])


def test_a_class_with_a_loss_of_its_own_must_say_so_anew():
    class Heir(LightGCN):
        def forward(self):
            return super().forward()

    class Rebel(Heir):
        def calculate_loss(self, interaction):
            return super().calculate_loss(interaction) ** 2

    class Passing(Heir):
        shares_batches = True

        def phases_before(self, epoch):
            return ()

    assert shares_batches(Heir) and shares_batches(Troubled)
    assert not shares_batches(Rebel) and not shares_batches(Passing)
    with pytest.raises(ConfigError, match="model 'Rebel' cannot be trained by several"):
        require_shareable({"model": "Rebel"}, Rebel)


def test_parts_cover_a_batch_and_weigh_what_they_hold(tmp_path):
    loader = Bench("LightGCN", tmp_path, {"train_batch_size": 5}).trial().bundle.train_data
    whole = next(iter(loader))
    for size in (1, 2, 3, 7):
        parts = [BatchPart(whole, rank, size) for rank in range(size)]
        assert sum(part.share for part in parts) == pytest.approx(1.0)
        for name in whole:
            kept = torch.cat([part[name] for part in parts if part.share])
            assert torch.equal(kept, whole[name])
        assert all(len(part) for part in parts)
        assert all(whole_batch(part) is whole for part in parts)
        (rows,) = zip(*(own_rows(part, torch.arange(8)) for part in parts), strict=True)
        assert torch.cat(rows).tolist() == list(range(8))
    assert whole_batch(whole) is whole and own_rows(whole, rows[0]) == (rows[0],)


def meeting(monkeypatch, size=2, rank=0, visible=None, gpus=2):
    monkeypatch.setattr(
        process_group, "_meeting", process_group._Meeting(rank, size, None, visible)
    )
    monkeypatch.setattr(process_group, "_gpu_count", lambda: gpus)
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(size))


@pytest.mark.parametrize(
    ("gpu_id", "chosen", "visible", "gpus", "own"),
    [
        ("0", False, None, 2, "1"),
        ("0", False, "4,7", 2, "7"),
        ((3, 5), True, "4,7", 8, "5"),
        ("3, 5", True, None, 8, "5"),
        ("", True, None, 2, ""),
        ("0", False, None, 0, ""),
    ],
)
def test_each_process_takes_one_gpu(monkeypatch, gpu_id, chosen, visible, gpus, own):
    meeting(monkeypatch, rank=1, visible=visible, gpus=gpus)
    chosen_settings = {"gpu_id": gpu_id, "use_gpu": True}
    with process_group.own_gpu(chosen_settings, chosen):
        assert chosen_settings["gpu_id"] == own
    # what is kept names the GPUs of all
    assert chosen_settings["gpu_id"] in ("0", "4,7", "3,5", "3, 5", "")


def test_too_few_gpus_are_refused(monkeypatch):
    meeting(monkeypatch, gpus=1)
    with (
        pytest.raises(ConfigError, match=r"2 processes .* there is 0 alone; name more"),
        process_group.own_gpu({"gpu_id": "0", "use_gpu": True}, False),
    ):
        pass


def test_a_checkpoint_of_one_process_goes_on_in_two_with_half_the_batch(monkeypatch):
    meeting(monkeypatch)
    old = {"config": {"train_batch_size": 64}}
    process_group.require_same_batch("last.pt", old, {"train_batch_size": 32})
    with pytest.raises(CheckpointError, match="2 and --train_batch_size=32"):
        process_group.require_same_batch("last.pt", old, {"train_batch_size": 64})
    odd = {"processes": {"world_size": 1, "global_batch": 33}}
    with pytest.raises(CheckpointError, match=r"go on with 1 process$"):
        process_group.require_same_batch("last.pt", odd, {"train_batch_size": 33})


# ---- the command line ------------------------------------------------------------------------


def torchrun(folder, *words):
    """Start `run_recbole_slif.py` in two processes; returns what they print and the exit code."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    launcher += ["--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    command = [*launcher, str(ROOT / "run_recbole_slif.py"), *words]
    run = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    return run.stdout + run.stderr, run.returncode


def test_torchrun_trains_from_the_command_line(shared):
    folder = shared[0]
    words = ["--model=LightGCN", "--dataset=toy", f"--data_path={folder / 'data'}", "--epochs=2"]
    words += ["--topk=[3,5]", "--valid_metric=Recall@5", "--gpu_id=", "--train_batch_size=14"]
    words += ["--checkpoint_dir=cli", "--embedding_size=8", "--use_tuned=False"]
    said, code = torchrun(folder, *words)
    assert code == 0, said
    for line in ("epoch 1 training", "LightGCN on toy, seed", "Loaded the best model"):
        assert len(re.findall(line, said)) == 1, said
    (record,) = (folder / "cli/runs").glob("*.json")
    assert json.loads(record.read_text())["processes"]["global_batch"] == 28
    assert len(list((folder / "log_tensorboard").glob("LightGCN-toy*"))) <= 1
    assert not list((folder / "log_tensorboard").glob("model-*/events*.rank1"))


def test_a_mistake_is_said_once(shared):
    folder = shared[0]
    said, code = torchrun(folder, "--models=LightGCN,BPR", "--dataset=toy")
    assert code != 0
    assert len(re.findall("error: a comparison runs in one process", said)) == 1, said
    assert "Traceback" not in said.partition("ChildFailedError")[0].partition("error: a")[2][:200]


def test_what_was_summed_last_stays_until_the_group_is_undone(monkeypatch):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    monkeypatch.setattr(process_group, "_meeting", object())
    undo, there = dist.destroy_process_group, []
    own = torch.ones(1)
    kept = weakref.ref(own)
    process_group.total(own)
    del own
    monkeypatch.setattr(dist, "destroy_process_group", lambda: there.append(kept()) or undo())
    process_group.disconnect()
    assert there[0] is not None
    there.clear()
    assert kept() is None and not dist.is_initialized()

"""Every model on a GPU: losses, gradients and scores of the CPU, and a checkpoint that moves."""

import pytest
import torch
import yaml
from recbole.utils import init_seed

from recbole_slif import checkpoint, quick_start
from recbole_slif.config import properties_dir
from recbole_slif.records import read_record
from recbole_slif.registry import MODELS
from recbole_slif.testing import CHECKS, check_recommender
from recbole_slif.testing.trial import Bench
from tests.running import settings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

# The others take minutes, or ask for the same bits, which sums in no fixed order do not give.
CHECKED = {
    "gradients_reach_every_parameter",
    "gaps_in_the_data_are_survived",
    "both_predictions_agree",
    "parts_of_a_batch_add_up",
}
# What is dropped from rows is drawn with 64 bits for four entries on a CPU alone.
DROPOUT_OF_ROWS = (
    "dropout",
    "mess_dropout",
    "mess_dropout_rate",
    "message_dropout",
    "feat_dropout",
)


def still(name):
    """Switch off the dropout of a model's rows."""
    path = properties_dir() / "model" / f"{name}.yaml"
    known = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {key: 0.0 for key in DROPOUT_OF_ROWS if key in known}


@pytest.fixture
def cpu_draws(monkeypatch):
    """Draw from the CPU's generator what is drawn where the rows lie."""

    def normal(rows, mean=0.0, std=1.0, generator=None):
        return rows.copy_(torch.randn(rows.shape, dtype=rows.dtype) * std + mean)

    def dropout(rows, rate=0.5, training=True, inplace=False):
        kept = torch.rand(rows.shape, dtype=rows.dtype).to(rows.device) >= rate
        return rows * kept / (1.0 - rate) if training else rows

    monkeypatch.setattr(torch.Tensor, "normal_", normal)
    monkeypatch.setattr(
        torch, "rand_like", lambda rows: torch.rand(rows.shape, dtype=rows.dtype).to(rows.device)
    )
    monkeypatch.setattr(torch.nn.functional, "dropout", dropout)


def course(trial, epochs=2):
    """Train with plain steps; return the losses, the first step's gradients and the scores."""
    init_seed(1, True)
    optimizer = torch.optim.SGD(trial.model.parameters(), lr=0.01)
    losses, gradients = [], {}
    for epoch in range(epochs):
        for loss, chosen in trial.steps(epoch, optimizer):
            chosen.zero_grad()
            loss.backward()
            if not losses:
                named = trial.model.named_parameters()
                gradients = {n: p.grad.cpu().clone() for n, p in named if p.grad is not None}
            chosen.step()
            losses.append(float(loss.detach()))
    return losses, gradients, trial.scores()


@pytest.mark.parametrize("name", MODELS)
def test_a_course_of_training_is_that_of_the_cpu(name, tmp_path, cpu_draws):
    on_cpu = Bench(name, tmp_path, still(name)).trial()
    on_gpu = Bench(name, tmp_path, {**still(name), "use_gpu": True}).trial()
    assert next(on_gpu.model.parameters()).is_cuda
    wanted, found = course(on_cpu), course(on_gpu)
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-3, atol=1e-5)
    assert found[1].keys() == wanted[1].keys()
    for parameter, gradient in wanted[1].items():
        torch.testing.assert_close(found[1][parameter], gradient, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found[2], wanted[2], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_passes_the_checklist(name):
    skipped = set(CHECKS) - CHECKED
    assert set(check_recommender(name, overrides={"use_gpu": True}, skip=skipped)) == CHECKED


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_of_a_gpu_scores_the_same_on_the_cpu(name, tmp_path):
    on_gpu = Bench(name, tmp_path, {"use_gpu": True}).trial()
    on_gpu.train(2)
    path = tmp_path / "gpu.pt"
    state = {"model": checkpoint.model_state(on_gpu.model)}
    checkpoint.save(path, checkpoint.Checkpoint({}, state))
    on_cpu = Bench(name, tmp_path, {}).trial(seed=2)
    checkpoint.restore_model(on_cpu.model, checkpoint.load(path).state["model"], path)
    torch.testing.assert_close(on_cpu.scores(), on_gpu.scores(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["BPR", "SLIFMR", "KACL", "DiffKG"])
def test_a_run_goes_on_after_a_stop(name, tmp_path):
    half = quick_start.run(name, "toy", overrides=settings(tmp_path, gpu_id="0", epochs=1))
    done = quick_start.resume(half.folder, {"epochs": 3})
    record = read_record(done.record)
    assert [epoch["epoch"] for epoch in record["epochs"]] == [0, 1, 2]
    assert record["device"]["type"] == "cuda"


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains_under_mixed_precision(name, tmp_path):
    chosen = settings(tmp_path, gpu_id="0", epochs=2, enable_amp=True, enable_scaler=True)
    record = read_record(quick_start.run(name, "toy", overrides=chosen).record)
    assert record["status"] == "finished" and len(record["epochs"]) == 2

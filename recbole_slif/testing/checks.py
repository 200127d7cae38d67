"""The checks themselves: each takes a bench, builds what it needs, and fails with one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recbole_slif import checkpoint, random_state
from recbole_slif.batch_parts import BatchPart
from recbole_slif.distributed import shares_batches
from recbole_slif.testing.trial import Bench, Trial, require, summed

OVERFIT_EPOCHS = 300
OVERFIT_RECALL = 0.9
# Without negatives nothing tells a user's train items from others like them. To know each user's
# taste and no more gives two thirds here, to draw at random one third.
OVERFIT_RECALL_POSITIVES = 0.75
TOLERANCE = 1e-5


def gradients_reach_every_parameter(bench: Bench) -> None:
    """Two epochs give a finite, non-zero gradient to each parameter that is not frozen."""
    trial = bench.trial()
    optimizer = trial.optimizer(0.02)
    reached: set[str] = set()
    for epoch in range(2):
        for loss, chosen in trial.steps(epoch, optimizer):
            chosen.zero_grad()
            loss.backward()
            reached |= _with_gradient(trial)
            chosen.step()
    frozen = set(getattr(trial.model, "frozen_parameters", ()))
    idle = [name for name, _ in trial.model.named_parameters() if name not in reached | frozen]
    require(
        not idle,
        f"no gradient reached {', '.join(idle)} in two epochs; use them in the loss, remove them, "
        "or list them in the class attribute `frozen_parameters`",
    )


def _with_gradient(trial: Trial) -> set[str]:
    found = set()
    for name, parameter in trial.model.named_parameters():
        if parameter.grad is not None:
            require(bool(parameter.grad.isfinite().all()), f"the gradient of {name} is not finite")
            if bool(parameter.grad.any()):
                found.add(name)
    return found


def tiny_set_is_overfitted(bench: Bench) -> None:
    """Training brings the train items of a tiny set to the top of each user's list."""
    trial = bench.trial()
    needed = OVERFIT_RECALL_POSITIVES if trial.positives_alone else OVERFIT_RECALL
    wanted = trial.train_matrix()
    optimizer = trial.optimizer(0.02)
    best = 0.0
    for epoch in range(OVERFIT_EPOCHS):
        trial.epoch(epoch, optimizer)
        if epoch % 10 == 9:
            best = max(best, _train_recall(trial.scores(), wanted))
        if best >= needed:
            return
    require(
        False,
        f"after {OVERFIT_EPOCHS} epochs only {best:.0%} of the train items lead their users' "
        f"lists, less than {needed:.0%}; the loss does not teach the scores",
    )


def _train_recall(scores: Tensor, wanted: Tensor) -> float:
    """Mean share of each user's train items among as many first places."""
    shares = []
    for user in range(1, len(scores)):
        count = int(wanted[user].sum())
        first = scores[user, 1:].topk(count).indices + 1
        shares.append(float(wanted[user, first].float().mean()))
    return sum(shares) / len(shares)


def saved_scores_are_identical(bench: Bench) -> None:
    """A fresh model that loads a checkpoint scores as the saved one, to the bit."""
    trial = bench.trial()
    trial.train(2)
    expected = trial.scores()
    path = bench.folder / "checked.pt"
    checkpoint.save(path, checkpoint.Checkpoint({}, {"model": checkpoint.model_state(trial.model)}))
    fresh = bench.trial(seed=2)
    before = fresh.scores()
    checkpoint.restore_model(fresh.model, checkpoint.load(path).state["model"], path)
    found = fresh.scores()
    require(not torch.equal(before, expected), "a fresh model with another seed scores the same")
    require(
        torch.equal(found, expected),
        f"scores differ by up to {_gap(found, expected):.3g} after saving and loading; what they "
        "depend on besides parameters belongs in `epoch_state` and `load_epoch_state`",
    )


def same_seed_repeats(bench: Bench) -> None:
    """Two runs with one seed agree to the bit; another seed gives another result."""
    first, second, other = (bench.trial(seed=seed) for seed in (1, 1, 2))
    losses = [trial.train(2) for trial in (first, second, other)]
    require(losses[0] == losses[1], f"the same seed gave the losses {losses[0]} and {losses[1]}")
    require(
        torch.equal(first.scores(), second.scores()),
        "the same seed gave two different score tables",
    )
    require(losses[0] != losses[2], "another seed gave the same losses: the seed is not used")


def evaluation_is_deterministic(bench: Bench) -> None:
    """Scoring twice, with every cache forgotten in between, gives the same scores."""
    trial = bench.trial()
    trial.train(2)
    first = trial.scores()
    trial.forget()
    torch.manual_seed(12345)
    gap = _gap(trial.scores(), first)
    require(gap == 0.0, f"two evaluations of one model differ by up to {gap:.3g}")


def gaps_in_the_data_are_survived(bench: Bench) -> None:
    """Losses, gradients and scores stay finite whatever features and links are missing."""
    for lacking, unlinked in ((0.0, 0), (0.8, 12)):
        trial = bench.trial(lacking=lacking, unlinked=unlinked)
        where = f"with {lacking:.0%} of the features missing and {unlinked} items unlinked"
        values = torch.tensor(trial.train(2))
        require(bool(values.isfinite().all()), f"the loss is not finite {where}")
        require(
            not [name for name, p in trial.model.named_parameters() if _broken(p)],
            f"a parameter or its gradient is not finite {where}",
        )
        require(bool(trial.scores().isfinite().all()), f"a score is not finite {where}")


def _broken(parameter: Tensor) -> bool:
    tensors = [parameter.detach()]
    if parameter.grad is not None:
        tensors.append(parameter.grad)
    return not all(bool(tensor.isfinite().all()) for tensor in tensors)


def tables_equal_forward(bench: Bench) -> None:
    """`score_tables` holds what `forward` gives in evaluation mode and keeps the mode as it was."""
    trial = bench.trial()
    trial.train(2)
    model = trial.model
    if not hasattr(model, "score_tables"):
        return
    model.train()
    trial.forget()
    tables = model.score_tables()
    require(model.training, "score_tables left the model in evaluation mode")
    model.eval()
    with torch.no_grad():
        expected = model.forward()
    for name, found, wanted in zip(("user", "item"), tables, expected, strict=True):
        require(
            torch.equal(found, wanted),
            f"score_tables' {name} table differs from forward's by up to {_gap(found, wanted):.3g}",
        )


def training_clears_cached_scores(bench: Bench) -> None:
    """Scores follow the parameters: an optimiser's step is never followed by old scores."""
    trial = bench.trial()
    trial.train(1)
    before = trial.scores()
    trial.model.train()
    optimizer = trial.optimizer(0.1)
    next(iter(trial.losses())).backward()
    optimizer.step()
    after = trial.scores()
    trial.forget()
    require(
        not torch.equal(before, after),
        "a training step left the scores as they were: a stale cache",
    )
    require(
        torch.equal(after, trial.scores()), "scores after a training step mix old and new tables"
    )


def both_predictions_agree(bench: Bench) -> None:
    """`predict` on a pair gives what `full_sort_predict` gives for it."""
    trial = bench.trial()
    trial.train(1)
    table = trial.scores()
    places = table.numel()
    fields = (trial.config["USER_ID_FIELD"], trial.config["ITEM_ID_FIELD"])
    numbers = torch.arange(places, device=trial.config["device"])
    pairs = (numbers // table.shape[1], numbers % table.shape[1])
    with torch.no_grad():
        single = trial.model.predict(dict(zip(fields, pairs, strict=True))).cpu().view_as(table)
    gap = _gap(single, table)
    require(gap <= TOLERANCE, f"predict and full_sort_predict differ by up to {gap:.3g}")


def parts_of_a_batch_add_up(bench: Bench) -> None:
    """A batch shared out to processes gives its own loss and gradient; left out if never shared."""
    trial = bench.trial()
    if not shares_batches(type(trial.model)):
        return
    trial.model.train()
    trial.hook("pre_epoch", 0)
    drawn = random_state.capture()
    for calculate, whole in trial.batches():
        wanted = _loss_and_gradient(trial, drawn, calculate, whole, 1)
        scale = max(1.0, max(float(each.abs().max()) for each in wanted))
        for size in (2, 3):
            found = _loss_and_gradient(trial, drawn, calculate, whole, size)
            off = max(_gap(*pair) for pair in zip(found, wanted, strict=True)) / scale
            require(
                off <= TOLERANCE,
                f"{calculate.__name__} of a batch in {size} parts differs by {off:.3g}, loss or "
                "gradient: take what is no mean over rows from `batch_parts.whole_batch`, or do "
                "without `shares_batches`",
            )


def _loss_and_gradient(
    trial: Trial, drawn: Any, calculate: Callable[[Any], Any], whole: Any, size: int
) -> list[Tensor]:
    """Return the loss of a batch in `size` parts and its gradient by each parameter."""
    parameters = [each for each in trial.model.parameters() if each.requires_grad]
    nothing = torch.zeros((), device=trial.config["device"])
    total = [nothing, *(torch.zeros_like(each) for each in parameters)]
    for part in [BatchPart(whole, rank, size) for rank in range(size)] if size > 1 else [whole]:
        random_state.restore(drawn)
        loss = summed(calculate(part)) * getattr(part, "share", 1.0)
        steps = torch.autograd.grad(loss, parameters, allow_unused=True)
        for sum_, step in zip(total, (loss.detach(), *steps), strict=True):
            if step is not None:
                sum_ += step
    return total


def _gap(found: Tensor, wanted: Tensor) -> float:
    """Largest absolute difference."""
    return float((found - wanted).detach().abs().max())

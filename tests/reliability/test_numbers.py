"""A share of the extreme data on every run, and proof that a number that is not finite is seen."""

from pathlib import Path

import pytest
import torch

from recbole_slif.errors import DataError
from recbole_slif.model.general.bpr import BPR
from recbole_slif.registry import MODELS
from reliability import leakage, numbers
from reliability.apart import CaseFailed, apart
from reliability.checks import CHECKS
from reliability.frame import Setting

# each model meets one kind here, each kind two models; the long command makes all pairs
PAIRS = [
    (model, list(numbers.EXTREMES)[(7 * at + 3) % len(numbers.EXTREMES)])
    for at, model in enumerate([*MODELS, "SLIFMR", "FREEDOM", "KGAT", "KACL", "DiffMM"])
]


@pytest.mark.parametrize(("model", "extreme"), PAIRS)
def test_extreme_data_gives_finite_numbers_or_a_named_error(model, extreme, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    numbers.train(model, extreme, tmp_path)


def test_all_pairs_are_cases(tmp_path):
    found = [case.name for case in numbers.cases(Setting(0, tmp_path, tuple(MODELS), 1000))]
    assert len(found) == len(set(found)) == len(MODELS) * len(numbers.EXTREMES)
    assert next(check.cases for check in CHECKS if check.name == "numbers") == len(found)


class Exploding(BPR):
    """Its loss is finite, its gradient is not."""

    def calculate_loss(self, interaction):
        root = self.user_embedding.weight.sum() * 0.0
        return super().calculate_loss(interaction) + root.abs().sqrt()


class Overflowing(BPR):
    """Scores what no number holds."""

    def full_sort_predict(self, interaction):
        return super().full_sort_predict(interaction) * torch.inf


@pytest.mark.parametrize(
    ("model", "said"),
    [(Exploding, "gradients are not finite: user_embedding"), (Overflowing, "scores are not")],
)
def test_what_is_not_finite_is_seen(model, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match=said):
        numbers.train(model, "a batch of one", tmp_path)


def test_broken_features_are_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    real = numbers._train

    def spied(config):
        try:
            real(config)
        except DataError as error:
            seen.append(str(error))
            raise

    monkeypatch.setattr(numbers, "_train", spied)
    numbers.train("FREEDOM", "a NaN among the features", tmp_path)
    numbers.train("KGAT", "no graph", tmp_path)
    assert "toy.text.npy: row 3" in seen[0] and "add toy.kg and toy.link" in seen[1]


def test_a_case_apart_tells_what_went_wrong():
    apart(lambda: None)
    with pytest.raises(CaseFailed, match=r"ValueError: so \(.*test_numbers"):
        apart(lambda: (_ for _ in ()).throw(ValueError("so")))
    with pytest.raises(CaseFailed, match="ended with 3"):
        apart(lambda: __import__("os")._exit(3))
    with pytest.raises(CaseFailed, match="took too long"):
        apart(lambda: __import__("time").sleep(30), seconds=0.2)


# ---- leakage ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["BPR", "KGAT"])
def test_what_a_model_learns_from_is_the_same_whatever_is_held_out(model, tmp_path):
    leakage.sources_are_the_same(leakage.Bench(model, tmp_path, {}))


def test_a_batch_that_depends_on_held_out_pairs_is_seen(tmp_path, monkeypatch):
    real = leakage.factory.load_data

    def leaking(config):
        bundle = real(config)
        keys = bundle.pairs.table("test").keys
        matrix = bundle.train_data._dataset.features["text"].matrix
        matrix[1, 0] = float((keys * range(len(keys))).sum())
        return bundle

    monkeypatch.setattr(leakage.factory, "load_data", leaking)
    with pytest.raises(AssertionError, match="depend on held-out pairs"):
        leakage.sources_are_the_same(leakage.Bench("KGAT", Path(tmp_path), {}))


def test_every_model_and_variant_is_a_case(tmp_path):
    names = [case.name for case in leakage.cases(Setting(0, tmp_path, tuple(MODELS), 99))]
    assert {name.split()[0] for name in names} == set(MODELS)
    assert next(check.cases for check in CHECKS if check.name == "leakage") == len(names)
